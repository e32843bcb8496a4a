//! How well one objective is met.

use crate::catalog::ObjectiveState;
use crate::units::format_duration;
use jiff::Timestamp;
use std::time::Duration;

/// A point may be so much newer than now: clocks of hosts differ a little.
const CLOCK_SLACK: Duration = Duration::from_secs(60);
/// So much of the objective may pass when nothing is known that will begin, in percent.
const IDLE_PERCENT: u32 = 80;
/// So much of it may pass while nothing is allowed to begin, or runs fail one after the other.
const TROUBLE_PERCENT: u32 = 50;
/// So many failures in a row are one after the other.
const FAILURES: u32 = 2;

/// What is known of a machine or replica that has an objective.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectiveFacts {
    /// How old what could be brought back may get.
    pub rpo: Duration,
    /// The instant that the newest point holds, or the point that the replica is at; `None`: there
    /// is none.
    pub newest: Option<Timestamp>,
    /// Why it is not known, or may not count.
    pub problem: Option<String>,
    /// Since when there is the objective, as far as is known.
    pub counts_from: Option<Timestamp>,
    /// What makes it younger: `afterimage backup now web01`.
    pub command: String,
    /// How long the last runs took that did all, the newest first.
    pub durations: Vec<Duration>,
    /// How many runs in a row failed since.
    pub failures: u32,
    /// Why the last one did.
    pub failure: Option<String>,
    /// What is under way or comes next.
    pub coming: Coming,
    /// What a replica is fed from; `None`: the running machine itself.
    pub feed: Option<Feed>,
}

/// What makes it younger next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Coming {
    /// Nothing is known of it.
    Unknown,
    /// Nothing begins by itself, for this reason.
    Held(String),
    /// A run is under way since then.
    UnderWay(Timestamp),
    /// A run waits for its turn.
    Waits,
    /// A run begins then.
    Due(Timestamp),
    /// It follows each new point.
    Follows,
}

/// What a replica is fed from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Feed {
    /// Whether there is a newer point than the one that it is at.
    pub has_newer: bool,
    /// When the next point is expected to be there.
    pub next: Option<Timestamp>,
}

/// How well an objective is met, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// How well.
    pub state: ObjectiveState,
    /// How old what could be brought back is.
    pub lag: Option<Duration>,
    /// Why, where it is not simply met.
    pub reason: Option<String>,
    /// When something younger is expected to be there.
    pub expected: Option<Timestamp>,
}

/// How well an objective is met at `now`.
pub fn judge(facts: &ObjectiveFacts, now: Timestamp) -> Judgement {
    let expected = expected(facts, now);
    let judged = |state, lag, reason| Judgement { state, lag, reason, expected };
    if let Some(problem) = &facts.problem {
        return judged(ObjectiveState::Unknown, None, Some(problem.clone()));
    }
    let Some(newest) = facts.newest else {
        return judged(never(facts, now), None, Some(nothing_yet(facts)));
    };
    let lag = between(newest, now);
    if between(now, newest) > CLOCK_SLACK {
        let reason = format!(
            "what there is was made at {newest}, which is still to come: the clock of this host or \
             of the one that made it is wrong; run `date` on both, then `{}`",
            facts.command
        );
        return judged(ObjectiveState::Unknown, None, Some(reason));
    }
    if lag > facts.rpo {
        return judged(ObjectiveState::Missed, Some(lag), Some(missed(facts, lag)));
    }
    match risk(facts, newest, lag, expected) {
        Some(reason) => judged(ObjectiveState::AtRisk, Some(lag), Some(reason)),
        None => judged(ObjectiveState::Met, Some(lag), None),
    }
}

/// Of something that there is no point of: it has as long as it would have had with one.
fn never(facts: &ObjectiveFacts, now: Timestamp) -> ObjectiveState {
    match facts.counts_from {
        Some(from) if between(from, now) <= facts.rpo => ObjectiveState::AtRisk,
        _ => ObjectiveState::Missed,
    }
}

fn nothing_yet(facts: &ObjectiveFacts) -> String {
    let so_far = match &facts.failure {
        Some(failure) => format!("the last try failed: {failure}"),
        None => "there is nothing yet that could be brought back".to_owned(),
    };
    format!("{so_far}; {}", way_on(facts))
}

fn missed(facts: &ObjectiveFacts, lag: Duration) -> String {
    let over = format_duration(lag.saturating_sub(facts.rpo));
    let (lag, rpo) = (format_duration(lag), format_duration(facts.rpo));
    let why = match (&facts.failure, facts.failures) {
        (Some(failure), 1) => format!("; the last try failed: {failure}"),
        (Some(failure), 2..) => {
            format!("; the last {} tries failed, the last one: {failure}", facts.failures)
        }
        _ => String::new(),
    };
    format!("{lag} old, {over} more than the objective of {rpo}{why}; {}", way_on(facts))
}

/// What is to be done, or what is done already.
fn way_on(facts: &ObjectiveFacts) -> String {
    match &facts.coming {
        Coming::UnderWay(since) => format!("a run is under way since {}", whole(*since)),
        Coming::Waits => "a run waits for its turn".to_owned(),
        Coming::Held(why) => format!("nothing begins by itself ({why}); run `{}`", facts.command),
        _ => format!("run `{}`", facts.command),
    }
}

/// Why an objective that is met will not be for long.
fn risk(
    facts: &ObjectiveFacts,
    newest: Timestamp,
    lag: Duration,
    expected: Option<Timestamp>,
) -> Option<String> {
    let gone = |percent: u32| lag > facts.rpo.saturating_mul(percent) / 100;
    let deadline = newest.saturating_add(jiff::SignedDuration::try_from(facts.rpo).ok()?).ok()?;
    let by = format!("needed by {}", whole(deadline));
    let command = &facts.command;
    if let Coming::Held(why) = &facts.coming {
        return gone(TROUBLE_PERCENT)
            .then(|| format!("nothing begins by itself ({why}), {by}; run `{command}`"));
    }
    if let Some(expected) = expected.filter(|expected| *expected > deadline) {
        let expected = whole(expected);
        return Some(match &facts.coming {
            Coming::UnderWay(_) => {
                format!(
                    "the run under way is expected to end at {expected}, {by}; see `afterimage runs`"
                )
            }
            Coming::Waits => {
                format!(
                    "the run that waits is expected to end at {expected}, {by}; see `afterimage runs`"
                )
            }
            _ => format!("the next run is expected to end at {expected}, {by}; run `{command}`"),
        });
    }
    if facts.failures >= FAILURES && gone(TROUBLE_PERCENT) {
        let failure = facts.failure.as_deref().unwrap_or("no reason is known");
        return Some(format!(
            "the last {} tries failed, {by}; the last one: {failure}; run `{command}`",
            facts.failures
        ));
    }
    let is_idle = !matches!(facts.coming, Coming::UnderWay(_) | Coming::Waits);
    (expected.is_none() && is_idle && gone(IDLE_PERCENT))
        .then(|| format!("no run is known that will begin in time, {by}; run `{command}`"))
}

/// When something younger is expected to be there.
pub(super) fn expected(facts: &ObjectiveFacts, now: Timestamp) -> Option<Timestamp> {
    let lasts = expected_duration(&facts.durations);
    // A replica can only get what is there.
    let ready = match facts.feed {
        Some(Feed { has_newer: false, next }) => next?.max(now),
        _ => now,
    };
    let begins = match (&facts.coming, facts.feed) {
        (Coming::Unknown | Coming::Held(_), _) => return None,
        // The run under way has nothing to bring: what counts is the one after the next point.
        (Coming::UnderWay(since), _) if ready == now => *since,
        (Coming::UnderWay(_) | Coming::Waits, _) => ready,
        (Coming::Due(at), _) => (*at).max(ready),
        // What failed to follow is tried again after the next point.
        (Coming::Follows, Some(Feed { has_newer: true, next })) => next?.max(now),
        (Coming::Follows, Some(_)) => ready,
        (Coming::Follows, None) => return None,
    };
    let end = begins.saturating_add(jiff::SignedDuration::try_from(lasts).ok()?).ok()?;
    // One that should have ended needs as long again as it is late.
    now.saturating_add(jiff::SignedDuration::try_from(between(end, now)).ok()?)
        .ok()
        .map(|late| late.max(end))
}

/// How long the next run will take: the median of the last ones; while each takes longer than the
/// one before it, as much longer again.
fn expected_duration(durations: &[Duration]) -> Duration {
    let mut sorted = durations.to_vec();
    sorted.sort_unstable();
    let median = sorted.get(sorted.len() / 2).copied().unwrap_or_default();
    match *durations {
        [last, before, first, ..] if last > before && before > first => {
            median.max(last.saturating_add(last.saturating_sub(before)))
        }
        _ => median,
    }
}

/// How long after `earlier` `later` is; 0 if it is not.
fn between(earlier: Timestamp, later: Timestamp) -> Duration {
    later.duration_since(earlier).try_into().unwrap_or_default()
}

/// Without parts of a second.
fn whole(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + second).unwrap()
    }

    fn minutes(minutes: u64) -> Duration {
        Duration::from_secs(minutes * 60)
    }

    fn facts() -> ObjectiveFacts {
        ObjectiveFacts {
            rpo: HOUR,
            newest: Some(at(0)),
            problem: None,
            counts_from: None,
            command: "afterimage backup now web01".to_owned(),
            durations: vec![minutes(5); 3],
            failures: 0,
            failure: None,
            coming: Coming::Due(at(3000)),
            feed: None,
        }
    }

    #[track_caller]
    fn is(facts: &ObjectiveFacts, second: i64, state: ObjectiveState) -> String {
        let found = judge(facts, at(second));
        assert_eq!(found.state, state, "{found:?}");
        found.reason.unwrap_or_default()
    }

    #[test]
    fn it_is_met_until_it_is_exactly_as_old_as_it_may_get() {
        let facts = facts();
        is(&facts, 0, ObjectiveState::Met);
        assert_eq!(judge(&facts, at(600)).lag, Some(minutes(10)));
        is(&ObjectiveFacts { durations: vec![], ..facts.clone() }, 3600, ObjectiveState::Met);
        let reason = is(&facts, 3601, ObjectiveState::Missed);
        assert!(reason.contains("run `afterimage backup now web01`"), "{reason}");
    }

    #[test]
    fn it_is_at_risk_as_soon_as_the_next_run_is_known_to_end_too_late() {
        let due = |second| ObjectiveFacts { coming: Coming::Due(at(second)), ..facts() };
        is(&due(3300), 1, ObjectiveState::Met);
        let reason = is(&due(3301), 1, ObjectiveState::AtRisk);
        assert!(reason.contains("is expected to end at"), "{reason}");
        // A retry that cannot make it is a run that is due too late.
        let retry = ObjectiveFacts { failures: 1, ..due(3500) };
        is(&retry, 10, ObjectiveState::AtRisk);
    }

    #[test]
    fn a_run_under_way_that_takes_too_long_is_a_risk() {
        let under_way = |since| ObjectiveFacts { coming: Coming::UnderWay(at(since)), ..facts() };
        is(&under_way(3300), 3400, ObjectiveState::Met);
        is(&under_way(3400), 3400, ObjectiveState::AtRisk);
        let slow = ObjectiveFacts { durations: vec![minutes(50)], ..under_way(1200) };
        is(&slow, 1300, ObjectiveState::AtRisk);
        // It should have ended at 2100, and does not.
        is(&under_way(1800), 2850, ObjectiveState::Met);
        is(&under_way(1800), 2851, ObjectiveState::AtRisk);
        let waits = ObjectiveFacts { coming: Coming::Waits, ..facts() };
        is(&waits, 3300, ObjectiveState::Met);
        is(&waits, 3301, ObjectiveState::AtRisk);
    }

    #[test]
    fn durations_that_grow_are_thought_on() {
        let of = |list: &[u64]| {
            expected_duration(&list.iter().map(|it| minutes(*it)).collect::<Vec<_>>())
        };
        assert_eq!(of(&[]), Duration::ZERO);
        assert_eq!(of(&[5, 5, 90, 5, 5]), minutes(5));
        assert_eq!(of(&[40, 30, 20, 10, 10]), minutes(50));
        assert_eq!(of(&[40, 30]), minutes(40));
        let grows = vec![minutes(28), minutes(20), minutes(12)];
        let facts = ObjectiveFacts { durations: grows, coming: Coming::Due(at(1500)), ..facts() };
        is(&facts, 0, ObjectiveState::AtRisk);
    }

    #[test]
    fn nothing_that_will_begin_is_a_risk_when_most_of_the_time_is_gone() {
        let unknown = ObjectiveFacts { coming: Coming::Unknown, ..facts() };
        is(&unknown, 2880, ObjectiveState::Met);
        is(&unknown, 2881, ObjectiveState::AtRisk);
        let held = ObjectiveFacts { coming: Coming::Held("paused".into()), ..facts() };
        is(&held, 1800, ObjectiveState::Met);
        assert!(is(&held, 1801, ObjectiveState::AtRisk).contains("paused"));
    }

    #[test]
    fn failures_one_after_the_other_are_a_risk_when_half_of_the_time_is_gone() {
        let fails = |failures| ObjectiveFacts {
            failures,
            failure: Some("no room".into()),
            coming: Coming::Due(at(2000)),
            ..facts()
        };
        is(&fails(2), 1800, ObjectiveState::Met);
        is(&fails(1), 1801, ObjectiveState::Met);
        assert!(is(&fails(2), 1801, ObjectiveState::AtRisk).contains("no room"));
        let reason = is(&fails(3), 4000, ObjectiveState::Missed);
        assert!(reason.contains("the last 3 tries failed, the last one: no room"), "{reason}");
    }

    #[test]
    fn what_was_never_backed_up_has_as_long_as_the_objective_says() {
        let never = |counts_from| ObjectiveFacts { newest: None, counts_from, ..facts() };
        is(&never(Some(at(0))), 3600, ObjectiveState::AtRisk);
        is(&never(Some(at(0))), 3601, ObjectiveState::Missed);
        let reason = is(&never(None), 0, ObjectiveState::Missed);
        assert!(reason.contains("nothing yet"), "{reason}");
    }

    #[test]
    fn a_clock_that_was_set_back_is_not_held_against_it() {
        let facts = facts();
        is(&facts, -60, ObjectiveState::Met);
        let reason = is(&facts, -61, ObjectiveState::Unknown);
        assert!(reason.contains("still to come"), "{reason}");
        let doubt = ObjectiveFacts { problem: Some("the clock jumped".into()), ..facts };
        assert_eq!(is(&doubt, 999_999, ObjectiveState::Unknown), "the clock jumped");
    }

    #[test]
    fn a_replica_that_has_the_newest_point_waits_for_the_next_one() {
        let fed = |coming, has_newer, next: Option<i64>| ObjectiveFacts {
            coming,
            feed: Some(Feed { has_newer, next: next.map(at) }),
            ..facts()
        };
        is(&fed(Coming::Follows, false, Some(3300)), 10, ObjectiveState::Met);
        is(&fed(Coming::Follows, false, Some(3301)), 10, ObjectiveState::AtRisk);
        // Its own schedule does not help before there is something to bring.
        is(&fed(Coming::Due(at(100)), false, Some(3301)), 10, ObjectiveState::AtRisk);
        is(&fed(Coming::Due(at(100)), true, Some(3301)), 10, ObjectiveState::Met);
        is(&fed(Coming::UnderWay(at(0)), false, Some(3301)), 10, ObjectiveState::AtRisk);
        is(&fed(Coming::UnderWay(at(0)), true, Some(3301)), 10, ObjectiveState::Met);
        // It did not follow the point that is there.
        is(&fed(Coming::Follows, true, Some(3301)), 10, ObjectiveState::AtRisk);
        is(&fed(Coming::Follows, false, None), 2881, ObjectiveState::AtRisk);
    }
}

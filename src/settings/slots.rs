//! What can be said of a schedule's times without a clock. Everything here counts in UTC, because
//! the zone of a schedule changes at most two of its days in a year.

use std::collections::BTreeMap;
use std::time::Duration;

use super::crosscheck::Drafts;
use super::findings::Findings;
use super::reader::Located;
use super::timing::{MissedPolicy, TimingDraft};
use super::types::{Schedule, Trigger};
use crate::cron::Pattern;
use crate::units::{DAY_MINUTES, Window};

/// Where schedules are looked at from, in seconds since 1970: a Monday that begins a month and a year.
const FROM_S: i64 = 978_307_200;
/// And how far: everything that is meant at all has come by then.
const UNTIL_S: i64 = FROM_S + 60 * 366 * DAY_S;
const DAY_S: i64 = 60 * DAY_MINUTES as i64;
/// Steps through a schedule that one question may take.
const STEPS_MAX: u32 = 400;
/// Steps that all questions about a file may take: the file may be large, and its check is not.
const STEPS_TOTAL_MAX: u32 = 40_000;

/// A schedule and what else says when its runs may begin.
pub(super) struct Timed<'d> {
    /// What runs, such as "the backup of `web01`".
    pub(super) what: String,
    /// Its name in the file.
    pub(super) name: &'d str,
    pub(super) schedule: &'d Schedule,
    pub(super) timing: &'d TimingDraft,
}

/// Everything in the file that has a schedule.
pub(super) fn timed(drafts: &Drafts) -> Vec<Timed<'_>> {
    let mut all = Vec::new();
    for machine in &drafts.machines {
        let name = machine.name.value.as_str();
        if let Some(schedule) = &machine.schedule {
            let what = format!("the backup of `{name}`");
            all.push(Timed { what, name, schedule: &schedule.value, timing: &machine.timing });
        }
    }
    for replica in &drafts.replicas {
        let (name, timing) = (replica.name.value.as_str(), &replica.timing);
        if let Some(Located { value: Trigger::Schedule(schedule), .. }) = &replica.trigger {
            all.push(Timed { what: format!("replica `{name}`"), name, schedule, timing });
        }
        if let Some(schedule) = &replica.verify {
            let what = format!("the verification of `{name}`");
            all.push(Timed { what, name, schedule: &schedule.value, timing });
        }
    }
    for repository in &drafts.repositories {
        let (name, timing) = (repository.name.value.as_str(), &repository.upkeep.timing);
        for (command, schedule) in repository.upkeep.schedules() {
            let what = format!("`{command}` of repository `{name}`");
            all.push(Timed { what, name, schedule: &schedule.value, timing });
        }
    }
    all
}

/// Reports what would never run.
pub(super) fn check(drafts: &Drafts, findings: &mut Findings<'_>) {
    for one in timed(drafts) {
        let settings = &one.timing.settings;
        let Some(at) = &one.timing.allowed_at else { continue };
        if settings.missed == MissedPolicy::Skip && !falls_into(one.schedule, &settings.allowed) {
            let message = format!("{} would never run: `allowed` has no time of it", one.what);
            let hint = "change one of the two, or write missed = \"run\": then it runs when the \
                        allowed time begins";
            findings.wrong_hint(at, message, hint);
        }
    }
}

/// Whether a time of the schedule is in one of the parts of the day; of no parts, that is so.
pub(super) fn falls_into(schedule: &Schedule, allowed: &[Window]) -> bool {
    if allowed.is_empty() {
        return true;
    }
    let Ok(pattern) = Pattern::parse(&schedule.expression) else { return true };
    let Some(first) = pattern.first_in(FROM_S..UNTIL_S) else { return true };
    // Cron's days do not depend on its minutes and hours: one day that has times has all of them.
    let midnight = first - first % DAY_S;
    let second_of = |minute: u16| midnight + 60 * i64::from(minute);
    let mut segments = allowed.iter().flat_map(|window| segments(*window));
    segments.any(|(from, to)| pattern.first_in(second_of(from)..second_of(to)).is_some())
}

/// The parts of a window that do not go over midnight, as minutes of the day.
fn segments(window: Window) -> Vec<(u16, u16)> {
    match window.from_min < window.to_min {
        true => vec![(window.from_min, window.to_min)],
        false => vec![(window.from_min, DAY_MINUTES), (0, window.to_min)],
    }
}

/// The longest part of a day in which nothing is allowed; 0 for no windows.
pub(super) fn longest_closed(allowed: &[Window]) -> Duration {
    if allowed.is_empty() {
        return Duration::ZERO;
    }
    let (mut longest, mut now) = (0_u64, 0_u64);
    // Twice around, for what goes over midnight.
    for minute in (0..DAY_MINUTES).chain(0..DAY_MINUTES) {
        let is_open = allowed.iter().any(|window| window.contains(minute));
        now = if is_open { 0 } else { now + 1 };
        longest = longest.max(now);
    }
    Duration::from_secs(longest.min(u64::from(DAY_MINUTES)) * 60)
}

/// Answers questions about schedules in bounded time, and remembers the answers: most machines of a
/// large file have the same schedules.
#[derive(Debug)]
pub(super) struct Slots {
    steps_left: u32,
    pauses: BTreeMap<(String, Duration), bool>,
    shortest: BTreeMap<String, Option<Duration>>,
}

impl Slots {
    pub(super) fn new() -> Self {
        Self { steps_left: STEPS_TOTAL_MAX, pauses: BTreeMap::new(), shortest: BTreeMap::new() }
    }

    /// Whether more time than `most` passes between two of the next times. `false` where that would
    /// take too long to find out.
    pub(super) fn pauses_longer_than(&mut self, schedule: &Schedule, most: Duration) -> bool {
        let key = (schedule.expression.clone(), most);
        if let Some(known) = self.pauses.get(&key) {
            return *known;
        }
        let found = self.find_pause(schedule, most).unwrap_or(false);
        self.pauses.insert(key, found);
        found
    }

    fn find_pause(&mut self, schedule: &Schedule, most: Duration) -> Option<bool> {
        let pattern = Pattern::parse(&schedule.expression).ok()?;
        let most_s = i64::try_from(most.as_secs()).ok()?;
        let mut time = pattern.first_in(FROM_S..UNTIL_S)?;
        for _ in 0..STEPS_MAX {
            self.steps_left = self.steps_left.checked_sub(1)?;
            // The last time within reach: there are steps only where time passes, not where a
            // schedule is dense.
            match pattern.last_in(time + 1..time.checked_add(most_s)?.checked_add(1)?) {
                Some(last) => time = last,
                None => return Some(true),
            }
        }
        Some(false)
    }

    /// The shortest time between two of the next times.
    pub(super) fn shortest_pause(&mut self, schedule: &Schedule) -> Option<Duration> {
        if let Some(known) = self.shortest.get(&schedule.expression) {
            return *known;
        }
        let found = self.find_shortest(schedule);
        self.shortest.insert(schedule.expression.clone(), found);
        found
    }

    fn find_shortest(&mut self, schedule: &Schedule) -> Option<Duration> {
        // A day of a schedule with a time each half hour.
        const TIMES: u32 = 48;
        let pattern = Pattern::parse(&schedule.expression).ok()?;
        let mut shortest = None;
        let mut time = pattern.first_in(FROM_S..UNTIL_S)?;
        for _ in 0..TIMES {
            self.steps_left = self.steps_left.checked_sub(1)?;
            let next = pattern.first_in(time + 1..UNTIL_S)?;
            let pause = Duration::from_secs(next.abs_diff(time));
            shortest = Some(shortest.map_or(pause, |least: Duration| least.min(pause)));
            time = next;
        }
        shortest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(expression: &str) -> Schedule {
        Schedule { expression: expression.to_owned(), timezone: "UTC".to_owned() }
    }

    fn window(from_min: u16, to_min: u16) -> Window {
        Window { from_min, to_min }
    }

    #[test]
    fn the_beginning_is_a_monday_new_year() {
        let beginning = jiff::Timestamp::from_second(FROM_S).unwrap();
        assert_eq!(beginning.to_string(), "2001-01-01T00:00:00Z");
        let date = beginning.to_zoned(jiff::tz::TimeZone::UTC).date();
        assert_eq!(date.weekday(), jiff::civil::Weekday::Monday);
    }

    #[test]
    fn a_schedule_falls_into_the_parts_of_the_day_that_hold_a_time_of_it() {
        let night = window(1320, 360);
        for (expression, is_in) in [
            ("0 2 * * *", true),
            ("59 5 29 2 *", true),
            ("0 6 * * *", false),
            ("0 22 * * SUN", true),
            ("59 21 * * *", false),
            ("*/15 8-20 * * *", false),
            ("@daily", true),
            ("30 59 21 * * *", false),
        ] {
            assert_eq!(falls_into(&schedule(expression), &[night]), is_in, "{expression}");
        }
        assert!(falls_into(&schedule("0 12 * * *"), &[]));
        assert!(falls_into(&schedule("0 12 * * *"), &[night, window(720, 721)]));
    }

    #[test]
    fn the_longest_pause_of_a_schedule_is_found_behind_its_first_times() {
        let hour = Duration::from_secs(3600);
        for (expression, most, is_longer) in [
            ("*/15 * * * *", hour, false),
            ("*/15 * * * *", hour / 5, true),
            ("0 * * * *", hour, false),
            ("*/5 8-18 * * MON-FRI", 14 * hour, true),
            ("*/5 8-18 * * MON-FRI", 62 * hour, false),
            ("0 0 1 * *", 30 * 24 * hour, true),
            ("0 0 1 * *", 31 * 24 * hour, false),
            ("* * * * * *", hour, false),
        ] {
            let found = Slots::new().pauses_longer_than(&schedule(expression), most);
            assert_eq!(found, is_longer, "{expression}, {most:?}");
        }
    }

    #[test]
    fn questions_stop_when_they_took_too_long() {
        let mut slots = Slots::new();
        for minutes in 1..1000 {
            slots.pauses_longer_than(&schedule("* * * * *"), Duration::from_secs(60 * minutes));
        }
        assert_eq!(slots.steps_left, 0);
        assert_eq!(slots.shortest_pause(&schedule("0 * * * *")), None);
        let shortest = Slots::new().shortest_pause(&schedule("0,5 * * * *"));
        assert_eq!(shortest, Some(Duration::from_secs(300)));
    }

    #[test]
    fn the_longest_closed_time_may_go_over_midnight() {
        let hours = |hours: u64| Duration::from_secs(hours * 3600);
        assert_eq!(longest_closed(&[]), hours(0));
        assert_eq!(longest_closed(&[window(0, DAY_MINUTES)]), hours(0));
        assert_eq!(longest_closed(&[window(480, 1080)]), hours(14));
        assert_eq!(longest_closed(&[window(1320, 360)]), hours(16));
        assert_eq!(longest_closed(&[window(480, 600), window(1080, 1200)]), hours(12));
    }
}

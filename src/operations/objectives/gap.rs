//! How well an objective was met while nobody looked, by what is known of points.

use crate::catalog::ObjectiveState;
use jiff::{SignedDuration, Timestamp};
use std::time::Duration;

/// A point that was there, or that a replica was at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Durable {
    /// The instant that it holds.
    pub instant: Timestamp,
    /// From when on it could be brought back.
    pub since: Timestamp,
}

/// For how long the objective was met and missed between two instants: parts that follow each other
/// and cover the time, no two neighbours of the same state. It was missed while no point was there
/// that was young enough.
pub fn account(
    points: &[Durable],
    rpo: Duration,
    from: Timestamp,
    to: Timestamp,
) -> Vec<(ObjectiveState, Timestamp, Timestamp)> {
    let rpo = SignedDuration::try_from(rpo).unwrap_or(SignedDuration::MAX);
    let mut points = points.to_vec();
    points.sort_unstable_by_key(|point| point.since);
    let mut parts: Vec<(ObjectiveState, Timestamp, Timestamp)> = Vec::new();
    let mut add = |state, from: Timestamp, to: Timestamp| {
        match parts.last_mut() {
            _ if from >= to => {}
            Some(last) if last.0 == state => last.2 = to,
            _ => parts.push((state, from, to)),
        };
    };
    let mut at = from;
    let mut newest: Option<Timestamp> = None;
    let mut points = points.into_iter().peekable();
    while at < to {
        while let Some(point) = points.next_if(|point| point.since <= at) {
            newest = newest.max(Some(point.instant));
        }
        let next = points.peek().map_or(to, |point| point.since.min(to));
        let met_until = newest.and_then(|newest| newest.saturating_add(rpo).ok());
        let met_until = met_until.map_or(at, |until| until.clamp(at, next));
        add(ObjectiveState::Met, at, met_until);
        add(ObjectiveState::Missed, met_until, next);
        at = next;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    proptest! {
        #[test]
        fn the_parts_are_what_a_look_at_each_second_says(
            points in prop::collection::vec((0_i64..100, 0_i64..30), 0..8),
            rpo in 0_u64..60,
            from in 0_i64..100,
            more in 0_i64..100,
        ) {
            let durable: Vec<Durable> = points
                .iter()
                .map(|(instant, after)| Durable { instant: at(*instant), since: at(instant + after) })
                .collect();
            let to = from + more;
            let parts = account(&durable, Duration::from_secs(rpo), at(from), at(to));
            let mut expected_from = at(from);
            for (index, (_, from, to)) in parts.iter().enumerate() {
                prop_assert_eq!(*from, expected_from);
                prop_assert!(from < to);
                prop_assert!(index == 0 || parts[index - 1].0 != parts[index].0);
                expected_from = *to;
            }
            prop_assert_eq!(expected_from, at(to));
            for second in from..to {
                let is_met = points.iter().any(|(instant, after)| {
                    instant + after <= second && second < instant + rpo as i64
                });
                let part = parts.iter().find(|part| part.1 <= at(second) && at(second) < part.2);
                let state = if is_met { ObjectiveState::Met } else { ObjectiveState::Missed };
                prop_assert_eq!(part.unwrap().0, state);
            }
        }
    }
}

//! The policy, held against calendars and against its own promises.

mod calendars;
mod promises;

use super::policy::{Candidate, Decision, Protection, decide};
use crate::units::{Keep, PointId, Sequence};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::collections::{BTreeMap, BTreeSet};

type Protected = BTreeMap<PointId, BTreeSet<Protection>>;

fn time(text: &str) -> Timestamp {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn id(number: u64) -> PointId {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    PointId(bytes)
}

/// Points with these times, numbered from 1.
fn candidates(times: &[Timestamp]) -> Vec<Candidate> {
    let numbered = times.iter().zip(1..);
    numbered.map(|(&time, n)| Candidate { id: id(n), sequence: Sequence(n), time }).collect()
}

fn words(decision: &Decision, zone: &TimeZone) -> String {
    let reasons: Vec<String> = decision.reasons.iter().map(|why| why.describe(zone)).collect();
    if reasons.is_empty() { "goes".to_owned() } else { reasons.join("; ") }
}

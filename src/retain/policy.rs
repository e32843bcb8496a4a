//! What is kept and why; a pure function of its arguments.
//!
//! - Points that something protects (they are the newest, a replica's, pinned or locked) are kept
//!   whatever the rules say, and no rule counts them: the rules see only the other points.
//! - A rule of the calendar keeps the newest point of each of the most recent hours, days, ISO
//!   weeks, months or years *that have points*: a gap uses up nothing.
//! - The calendar is that of the machine's zone. A day is one whether it has 23, 24 or 25 hours; the
//!   hour that comes twice in autumn is two.
//!
//! Invariants: with the removed points gone the same decision follows for those that are left; a
//! larger number in a rule removes nothing more.

use crate::units::{Keep, Name, PointId, Sequence};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, Zoned};
use std::collections::{BTreeMap, BTreeSet};

/// How far a clock may be behind what was recorded before nothing is removed any more, in
/// seconds: clocks of two hosts differ, and a clock that is set right steps back a little.
pub const CLOCK_TOLERANCE_S: i64 = 5 * 60;

/// A point that is decided on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Its name.
    pub id: PointId,
    /// Its position in the machine's history.
    pub sequence: Sequence,
    /// The instant that it holds.
    pub time: Timestamp,
}

/// What keeps a point whatever the rules say.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protection {
    /// It is the machine's newest one.
    Newest,
    /// A replica is at it, or on its way from it or to it.
    SyncPoint {
        /// The replica.
        replica: Name,
    },
    /// A replica is being worked on at this moment, and may need it.
    InUse {
        /// The replica.
        replica: Name,
    },
    /// A user pinned it.
    Pinned {
        /// Why, in the user's words.
        note: Option<String>,
    },
    /// It cannot be removed before a date.
    Locked {
        /// The date; from then on this protects nothing.
        until: Timestamp,
    },
}

/// A unit of the calendar that a rule counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unit {
    /// An hour of the day, at one offset from UTC.
    Hour,
    /// A day.
    Day,
    /// An ISO week, of its week-year.
    Week,
    /// A month.
    Month,
    /// A year.
    Year,
}

/// Why a point is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// Something protects it.
    Protected(Protection),
    /// It is one of the last that `last` keeps, counted from 1.
    Last(u32),
    /// It is the newest in a unit of the calendar, such as the day `2026-11-20`.
    Newest(Unit, String),
    /// It is younger than `within`.
    Within,
}

/// What becomes of a point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The point.
    pub point: Candidate,
    /// All that keeps it; nothing: it goes.
    pub reasons: Vec<Reason>,
}

/// A point is dated in the future: the clock that made it or the clock now is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FuturePoint {
    /// The point.
    pub point: Candidate,
    /// The time now.
    pub now: Timestamp,
}

impl Decision {
    /// Whether the point stays.
    pub fn is_kept(&self) -> bool {
        !self.reasons.is_empty()
    }

    /// Whether it stays whatever the rules say.
    pub fn is_protected(&self) -> bool {
        matches!(self.reasons.first(), Some(Reason::Protected(_)))
    }
}

impl Reason {
    /// The reason in words; dates are in `zone`.
    pub fn describe(&self, zone: &TimeZone) -> String {
        match self {
            Self::Protected(Protection::Newest) => "newest".to_owned(),
            Self::Protected(Protection::SyncPoint { replica }) => {
                format!("sync point of {replica}")
            }
            Self::Protected(Protection::InUse { replica }) => {
                format!("{replica} is being worked on and may need it")
            }
            Self::Protected(Protection::Pinned { note: None }) => "pinned".to_owned(),
            Self::Protected(Protection::Pinned { note: Some(note) }) => format!("pinned: {note}"),
            Self::Protected(Protection::Locked { until }) => {
                let until = until.to_zoned(zone.clone());
                format!("locked until {}", until.strftime("%Y-%m-%d %H:%M"))
            }
            Self::Last(number) => format!("last {number}"),
            Self::Newest(unit, label) => format!("{} {label}", unit.word()),
            Self::Within => "within".to_owned(),
        }
    }
}

impl Unit {
    /// The name of its rule.
    pub fn word(self) -> &'static str {
        match self {
            Self::Hour => "hourly",
            Self::Day => "daily",
            Self::Week => "weekly",
            Self::Month => "monthly",
            Self::Year => "yearly",
        }
    }

    /// What the unit that holds `time` is called. Two instants have the same name exactly when
    /// they are in the same unit.
    fn label(self, time: &Zoned) -> String {
        match self {
            Self::Hour => time.strftime("%Y-%m-%d %H:00 %:z").to_string(),
            Self::Day => time.strftime("%Y-%m-%d").to_string(),
            Self::Week => {
                let week = time.date().iso_week_date();
                format!("{}-W{:02}", week.year(), week.week())
            }
            Self::Month => time.strftime("%Y-%m").to_string(),
            Self::Year => time.strftime("%Y").to_string(),
        }
    }
}

/// Decides on all points of one machine, in any order; the decisions are the oldest first.
///
/// # Errors
/// [`FuturePoint`] when a point is dated later than `now`, beyond the tolerance: who counts from
/// a wrong "now" removes what is needed.
pub fn decide(
    points: &[Candidate],
    keep: &Keep,
    protected: &BTreeMap<PointId, BTreeSet<Protection>>,
    zone: &TimeZone,
    now: Timestamp,
) -> Result<Vec<Decision>, Box<FuturePoint>> {
    let mut points = points.to_vec();
    points.sort_by_key(|point| (point.time, point.sequence, point.id));
    if let Some(&point) = points.last()
        && is_future(point.time, now)
    {
        return Err(Box::new(FuturePoint { point, now }));
    }
    let newest = newest(&points);
    let mut decisions: Vec<Decision> = points
        .into_iter()
        .map(|point| {
            let is_newest = newest.contains(&point.id).then_some(Protection::Newest);
            let given = protected.get(&point.id).into_iter().flatten().cloned();
            let all = is_newest.into_iter().chain(given);
            let reasons = all.filter(|one| one.holds(now)).map(Reason::Protected).collect();
            Decision { point, reasons }
        })
        .collect();
    // What is protected is counted by no rule.
    let mut free: Vec<&mut Decision> =
        decisions.iter_mut().rev().filter(|decision| !decision.is_kept()).collect();
    apply(&mut free, keep, zone, now);
    Ok(decisions)
}

/// Whether `time` is later than a clock that shows `now` can have made it.
pub(super) fn is_future(time: Timestamp, now: Timestamp) -> bool {
    time.duration_since(now) > SignedDuration::from_secs(CLOCK_TOLERANCE_S)
}

impl Protection {
    fn holds(&self, now: Timestamp) -> bool {
        match self {
            Self::Locked { until } => now < *until,
            _ => true,
        }
    }
}

/// The newest by time, and the one that replicas and the next backup go by, which is another one
/// when a clock was wrong in between.
fn newest(points: &[Candidate]) -> BTreeSet<PointId> {
    let by_time = points.last();
    let by_sequence = points.iter().max_by_key(|point| (point.sequence, point.time, point.id));
    by_time.into_iter().chain(by_sequence).map(|point| point.id).collect()
}

/// Adds to each decision the rules that keep its point; the newest one is the first.
fn apply(free: &mut [&mut Decision], keep: &Keep, zone: &TimeZone, now: Timestamp) {
    for (decision, number) in free.iter_mut().zip(1..=keep.last) {
        decision.reasons.push(Reason::Last(number));
    }
    let rules = [
        (Unit::Hour, keep.hourly),
        (Unit::Day, keep.daily),
        (Unit::Week, keep.weekly),
        (Unit::Month, keep.monthly),
        (Unit::Year, keep.yearly),
    ];
    for (unit, count) in rules {
        let mut seen = BTreeSet::new();
        for decision in free.iter_mut() {
            if seen.len() >= count as usize {
                break;
            }
            // Not only compared with the one before: where a clock was set back over midnight, a
            // day comes twice.
            let label = unit.label(&decision.point.time.to_zoned(zone.clone()));
            if seen.insert(label.clone()) {
                decision.reasons.push(Reason::Newest(unit, label));
            }
        }
    }
    // A length of time that no clock can count keeps everything.
    let Some(within) = keep.within.map(SignedDuration::try_from) else { return };
    for decision in free.iter_mut() {
        let age = now.duration_since(decision.point.time);
        if within.as_ref().map_or(true, |within| age < *within) {
            decision.reasons.push(Reason::Within);
        }
    }
}

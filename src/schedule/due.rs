//! When a schedule is due: a cron expression in a time zone, right across changes of its clocks.
//!
//! The instants of a zone are cut where its clocks are changed. Within such a segment, a clock
//! shows the instant and a constant, so what is due follows from the [`Pattern`] alone. Where one
//! segment meets the next, the clock has left something out (a gap) or shows it again (a fold):
//!
//! - A time in a gap is due at the first instant after it, once, however many times are in it. Of
//!   an expression that means every hour alike, nothing is: the time that passes goes on.
//! - A time in a fold is due when it comes first. Of an interval (`*` as the hour or the minute,
//!   `*/15`, or every hour), both are due.
//!
//! Invariant: everything ends. No search goes further than [`HORIZON_S`], and counting no further
//! than [`COUNT_S_MAX`].

use std::ops::Range;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::ScheduleError;
use crate::cron::Pattern;
use crate::settings::{Schedule, TIMEZONE_LOCAL};

/// How far is looked, in seconds: 60 years. A 29th of February that must also be a certain weekday
/// can be 40 years away.
const HORIZON_S: i64 = 60 * 366 * 86_400;
/// How long a time is counted over, in seconds: 11 years.
const COUNT_S_MAX: i64 = 11 * 366 * 86_400;

/// The time zone called `name` in the settings.
///
/// # Errors
/// When there is none.
pub fn zone(name: &str) -> Result<TimeZone, ScheduleError> {
    let failed = |error: jiff::Error| ScheduleError::Zone {
        name: name.to_owned(),
        reason: error.to_string(),
    };
    match name {
        TIMEZONE_LOCAL => Ok(TimeZone::system()),
        name => TimeZone::get(name).map_err(failed),
    }
}

/// When a schedule is due. All due instants are whole seconds.
#[derive(Debug, Clone)]
pub struct DueTimes {
    pattern: Pattern,
    zone: TimeZone,
    text: String,
}

impl DueTimes {
    /// Of a schedule of the settings.
    ///
    /// # Errors
    /// When the expression or the zone is none.
    pub fn new(schedule: &Schedule) -> Result<Self, ScheduleError> {
        let pattern = Pattern::parse(&schedule.expression).map_err(|reason| {
            ScheduleError::Expression { expression: schedule.expression.clone(), reason }
        })?;
        let text = format!("{} in {}", schedule.expression, schedule.timezone);
        Ok(Self { pattern, zone: zone(&schedule.timezone)?, text })
    }

    /// The expression and the zone, as they were written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The first due instant after `instant`; `None` when there is none in 60 years.
    pub fn next_after(&self, instant: Timestamp) -> Option<Timestamp> {
        let from = instant_s(instant).checked_add(1)?;
        self.first_in(from..from.saturating_add(HORIZON_S))
    }

    /// The last due instant after `after` and up to `until`.
    pub fn latest_between(&self, after: Timestamp, until: Timestamp) -> Option<Timestamp> {
        self.last_in(range(after, until))
    }

    /// The last due instant up to `until`; `None` when there was none in 60 years.
    pub fn latest_until(&self, until: Timestamp) -> Option<Timestamp> {
        let end = instant_s(until) + 1;
        self.last_in(end.saturating_sub(HORIZON_S)..end)
    }

    /// The first `max` due instants after `after` and up to `until`.
    pub fn due_between(&self, after: Timestamp, until: Timestamp, max: usize) -> Vec<Timestamp> {
        let mut left = range(after, until);
        let mut found = Vec::new();
        while found.len() < max
            && let Some(due) = self.first_in(left.clone())
        {
            left.start = due.as_second() + 1;
            found.push(due);
        }
        found
    }

    /// How many due instants lie after `after` and up to `until`. Of a time that is longer than
    /// eleven years, only the last eleven count.
    pub fn count_between(&self, after: Timestamp, until: Timestamp) -> u64 {
        let mut left = range(after, until);
        left.start = left.start.max(left.end - COUNT_S_MAX);
        let mut count = 0;
        while !left.is_empty() {
            let Some(segment) = Segment::at(&self.zone, left.start) else { break };
            let part = left.start..left.end.min(segment.end);
            count += self.pattern.count_in(self.readings(&segment, &part));
            count += u64::from(self.is_made_up_for_apart(&segment, &part));
            left.start = part.end;
        }
        count
    }

    fn first_in(&self, mut left: Range<i64>) -> Option<Timestamp> {
        while !left.is_empty() {
            let segment = Segment::at(&self.zone, left.start)?;
            let part = left.start..left.end.min(segment.end);
            if self.is_made_up_for(&segment, &part) {
                return Timestamp::from_second(segment.start).ok();
            }
            if let Some(reading) = self.pattern.first_in(self.readings(&segment, &part)) {
                return Timestamp::from_second(reading - segment.offset_s).ok();
            }
            left.start = part.end;
        }
        None
    }

    fn last_in(&self, mut left: Range<i64>) -> Option<Timestamp> {
        while !left.is_empty() {
            let segment = Segment::at(&self.zone, left.end - 1)?;
            let part = left.start.max(segment.start)..left.end;
            if let Some(reading) = self.pattern.last_in(self.readings(&segment, &part)) {
                return Timestamp::from_second(reading - segment.offset_s).ok();
            }
            if self.is_made_up_for(&segment, &part) {
                return Timestamp::from_second(segment.start).ok();
            }
            left.end = part.start;
        }
        None
    }

    /// What the clock shows in a part of a segment, without what is not due for a second time.
    fn readings(&self, segment: &Segment, part: &Range<i64>) -> Range<i64> {
        let readings = part.start + segment.offset_s..part.end + segment.offset_s;
        if self.pattern.is_interval() {
            return readings;
        }
        readings.start.max(segment.start.saturating_add(segment.offset_before_s))..readings.end
    }

    /// Whether the first instant of a segment, which must be in `part`, is due for a time that the
    /// clock left out before it.
    fn is_made_up_for(&self, segment: &Segment, part: &Range<i64>) -> bool {
        part.contains(&segment.start)
            && segment.offset_before_s < segment.offset_s
            && !self.pattern.is_hourly()
            && self.pattern.first_in(segment.gap()).is_some()
    }

    /// The same, when that instant is not due anyway.
    fn is_made_up_for_apart(&self, segment: &Segment, part: &Range<i64>) -> bool {
        let first = segment.start.saturating_add(segment.offset_s);
        self.is_made_up_for(segment, part)
            && self.pattern.first_in(first..first.saturating_add(1)).is_none()
    }
}

/// A time in which the clocks of a zone are not changed, in seconds since 1970.
#[derive(Debug, Clone, Copy)]
pub(super) struct Segment {
    /// Its first second; far away when the clocks were never changed before it.
    pub start: i64,
    /// The first second after it.
    pub end: i64,
    /// By how much the clocks are ahead of UTC.
    pub offset_s: i64,
    /// By how much they were before it.
    pub offset_before_s: i64,
}

/// Before and after all instants that there are, with room to add an offset.
const LONG_AGO: i64 = i64::MIN / 4;
const NEVER: i64 = i64::MAX / 4;

impl Segment {
    /// The one that an instant lies in.
    pub fn at(zone: &TimeZone, instant: i64) -> Option<Self> {
        let timestamp = Timestamp::from_second(instant).ok()?;
        let offset_s = i64::from(zone.to_offset(timestamp).seconds());
        let next = Timestamp::from_second(instant.checked_add(1)?).ok()?;
        let start = zone.preceding(next).next().map(|change| change.timestamp());
        let end = zone.following(timestamp).next().map(|change| change.timestamp().as_second());
        let before = start.and_then(|start| Timestamp::from_second(start.as_second() - 1).ok());
        Some(Self {
            start: start.map_or(LONG_AGO, Timestamp::as_second),
            end: end.unwrap_or(NEVER),
            offset_s,
            offset_before_s: before
                .map_or(offset_s, |before| i64::from(zone.to_offset(before).seconds())),
        })
    }

    /// What the clock left out before it; empty when it left out nothing.
    pub fn gap(&self) -> Range<i64> {
        self.start + self.offset_before_s..self.start + self.offset_s
    }
}

/// The whole seconds since 1970, rounded down also before it.
pub(super) fn instant_s(instant: Timestamp) -> i64 {
    instant.as_nanosecond().div_euclid(1_000_000_000) as i64
}

/// The seconds after `after` and up to `until`.
fn range(after: Timestamp, until: Timestamp) -> Range<i64> {
    let end = instant_s(until) + 1;
    (instant_s(after) + 1).min(end)..end
}

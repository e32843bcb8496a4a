//! The parts of the day in which a run may begin, in a time zone.
//!
//! The clock on the wall decides: what it shows twice is within a window twice. A window that lies
//! wholly in what the clock leaves out comes right after it, with its length: a day on which it
//! would not open at all is a day without a backup.

use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use super::ScheduleError;
use super::due::{Segment, zone};
use crate::units::{RateRule, Window};

/// Any window opens within so many days, also where a day is left out.
const DAYS_AHEAD: i64 = 3;

/// The parts of the day in which a run may begin.
#[derive(Debug, Clone)]
pub struct Windows {
    windows: Vec<Window>,
    zone: TimeZone,
}

impl Windows {
    /// These windows of the settings, by the clocks of the zone called `timezone`. Without any,
    /// every instant is within.
    ///
    /// # Errors
    /// When there is no such zone.
    pub fn new(windows: &[Window], timezone: &str) -> Result<Self, ScheduleError> {
        Ok(Self { windows: windows.to_vec(), zone: zone(timezone)? })
    }

    /// Whether a run may begin at `at`.
    pub fn is_open(&self, at: Timestamp) -> bool {
        if self.windows.is_empty() {
            return true;
        }
        let minute = minute_at(&self.zone, at);
        self.windows.iter().any(|window| window.contains(minute)) || self.is_made_up_for(at)
    }

    /// The first instant from `at` on at which a run may begin.
    pub fn next_open(&self, at: Timestamp) -> Option<Timestamp> {
        if self.is_open(at) {
            return Some(at);
        }
        let today = at.to_zoned(self.zone.clone()).date();
        let mut candidates = Vec::new();
        for days in -1..=DAYS_AHEAD {
            let Ok(date) = today.checked_add(days.days()) else { continue };
            for window in &self.windows {
                candidates.extend(self.openings(date, window));
            }
        }
        let last = at.checked_add((DAYS_AHEAD * 24).hours()).ok()?;
        let changes = self.zone.following(at).map(|change| change.timestamp());
        candidates.extend(changes.take_while(|change| *change <= last));
        candidates.into_iter().filter(|it| *it > at && self.is_open(*it)).min()
    }

    /// When the clock shows that a window opens on a day: once, twice, or instead of it what comes
    /// as long after a gap as the opening lies within it.
    fn openings(&self, date: Date, window: &Window) -> [Timestamp; 2] {
        let minute = window.from_min.min(24 * 60 - 1);
        // Both fit: the minute is one of a day.
        let (hour, minute) = ((minute / 60) as i8, (minute % 60) as i8);
        let time = Time::new(hour, minute, 0, 0).unwrap_or_default();
        let shown = self.zone.to_ambiguous_timestamp(date.to_datetime(time));
        let never = Timestamp::MIN;
        [shown.compatible().unwrap_or(never), shown.later().unwrap_or(never)]
    }

    /// Whether `at` lies in a window that the clock left out, moved behind what it left out.
    fn is_made_up_for(&self, at: Timestamp) -> bool {
        let Some(segment) = Segment::at(&self.zone, at.as_second()) else { return false };
        let gap = segment.gap();
        let shifted = at.as_second() + segment.offset_before_s;
        if !gap.contains(&shifted) {
            return false;
        }
        let day_start = shifted.div_euclid(86_400) * 86_400;
        self.windows.iter().any(|window| {
            let from = day_start + i64::from(window.from_min) * 60;
            let over_midnight = if window.from_min < window.to_min { 0 } else { 86_400 };
            let to = day_start + over_midnight + i64::from(window.to_min) * 60;
            gap.start <= from && to <= gap.end && (from..to).contains(&shifted)
        })
    }
}

/// What a clock of `zone` shows at `at`, in minutes of the day.
fn minute_at(zone: &TimeZone, at: Timestamp) -> u16 {
    let shown = zone.to_datetime(at);
    u16::from(shown.hour().unsigned_abs()) * 60 + u16::from(shown.minute().unsigned_abs())
}

/// How many bytes may flow in a second at `at`: by the first rule that fits; `None`: any number.
pub fn rate_at(rules: &[RateRule], zone: &TimeZone, at: Timestamp) -> Option<u64> {
    let minute = minute_at(zone, at);
    let fits = |rule: &&RateRule| rule.at.is_none_or(|window| window.contains(minute));
    rules.iter().find(fits).map(|rule| rule.bytes_per_s)
}

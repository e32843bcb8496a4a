//! Which readings of a clock a cron expression means, apart from any time zone.
//!
//! The expression is parsed by croner. What follows from it is found here, because croner takes
//! `30 2,14 * * *` for an interval and loses its 02:30 when the clocks go forward.
//!
//! A *reading* is what a clock on the wall shows, as seconds since 1970-01-01 00:00:00 on that
//! clock. All ranges include their start and not their end.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use croner::Cron;
use croner::parser::{CronParser, Year};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::Offset;

const DAY_S: i64 = 86_400;
const HOUR_S: i64 = 3600;
const MINUTE_S: i64 = 60;
/// The bits of all hours of a day.
const ALL_HOURS: u64 = (1 << 24) - 1;

/// After so many years the calendar begins again, with the same days of the week.
const CALENDAR_S: i64 = 400 * 365 * DAY_S + 97 * DAY_S;
/// How many expressions are remembered.
const REMEMBERED_MAX: usize = 256;

/// Expressions that were parsed lately: a large site has thousands of schedules, but few different
/// ones, and parsing one takes longer than all else that is done with it.
static PARSED: Mutex<BTreeMap<String, Pattern>> = Mutex::new(BTreeMap::new());

/// What an expression says.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    cron: Arc<Cron>,
    /// Bit N: at that hour, minute or second.
    hours: u64,
    minutes: u64,
    seconds: u64,
    /// Whether there is any day that it means.
    pub ever_comes: bool,
}

impl Pattern {
    /// The pattern of an expression of five fields, or of six of which the first are seconds.
    ///
    /// # Errors
    /// What the parser says.
    pub fn parse(expression: &str) -> Result<Self, String> {
        // What is in there is whole, whoever panicked.
        let parsed = || PARSED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = parsed().get(expression) {
            return Ok(known.clone());
        }
        let pattern = Self::parse_anew(expression)?;
        let mut parsed = parsed();
        if parsed.len() >= REMEMBERED_MAX {
            parsed.clear();
        }
        parsed.insert(expression.to_owned(), pattern.clone());
        Ok(pattern)
    }

    fn parse_anew(expression: &str) -> Result<Self, String> {
        let parser = CronParser::builder().year(Year::Disallowed).build();
        let cron = parser.parse(expression).map_err(|error| error.to_string())?;
        let bits = |values: Vec<u16>| values.into_iter().fold(0, |bits, value| bits | 1 << value);
        let hours = bits(cron.pattern.hours.values());
        let minutes = bits(cron.pattern.minutes.values());
        let seconds = bits(cron.pattern.seconds.values());
        let cron = Arc::new(cron);
        let mut pattern = Self { cron, hours, minutes, seconds, ever_comes: false };
        pattern.ever_comes = pattern.first_in(0..CALENDAR_S).is_some();
        Ok(pattern)
    }

    /// Whether it means each hour of a day in the same way.
    pub fn is_hourly(&self) -> bool {
        self.hours == ALL_HOURS
    }

    /// Whether it says how much time lies between, rather than when.
    pub fn is_interval(&self) -> bool {
        let fields = &self.cron.pattern;
        self.is_hourly() || fields.hours.from_wildcard || fields.minutes.from_wildcard
    }

    /// The first reading within `range` that is meant.
    pub fn first_in(&self, range: Range<i64>) -> Option<i64> {
        let mut day = range.start.div_euclid(DAY_S);
        let mut date = date_of(day)?;
        while day * DAY_S < range.end {
            if !self.month_matches(date) {
                let next = date.last_of_month().tomorrow().ok()?;
                day += i64::from(date.last_of_month().day() - date.day()) + 1;
                date = next;
                continue;
            }
            if self.day_matches(date) {
                let from_s = (range.start - day * DAY_S).max(0);
                if let Some(time) = self.time_from(from_s) {
                    return Some(day * DAY_S + time).filter(|reading| *reading < range.end);
                }
            }
            day += 1;
            date = date.tomorrow().ok()?;
        }
        None
    }

    /// The last reading within `range` that is meant.
    pub fn last_in(&self, range: Range<i64>) -> Option<i64> {
        let mut day = (range.end - 1).div_euclid(DAY_S);
        let mut date = date_of(day)?;
        while (day + 1) * DAY_S > range.start {
            if !self.month_matches(date) {
                day -= i64::from(date.day());
                date = date.first_of_month().yesterday().ok()?;
                continue;
            }
            if self.day_matches(date) {
                let until_s = (range.end - 1 - day * DAY_S).min(DAY_S - 1);
                if let Some(time) = self.time_until(until_s) {
                    return Some(day * DAY_S + time).filter(|reading| *reading >= range.start);
                }
            }
            day -= 1;
            date = date.yesterday().ok()?;
        }
        None
    }

    /// How many readings within `range` are meant.
    pub fn count_in(&self, range: Range<i64>) -> u64 {
        let mut count = 0;
        let mut day = range.start.div_euclid(DAY_S);
        let Some(mut date) = date_of(day).filter(|_| !range.is_empty()) else { return 0 };
        while day * DAY_S < range.end {
            if self.month_matches(date) && self.day_matches(date) {
                let from_s = (range.start - day * DAY_S).max(0);
                let to_s = (range.end - day * DAY_S).min(DAY_S);
                count += self.times_before(to_s) - self.times_before(from_s);
            }
            day += 1;
            match date.tomorrow() {
                Ok(next) => date = next,
                Err(_) => break,
            }
        }
        count
    }

    fn month_matches(&self, date: Date) -> bool {
        self.cron.pattern.month_match(u32::from(date.month().unsigned_abs())).unwrap_or(false)
    }

    fn day_matches(&self, date: Date) -> bool {
        use croner::Weekday;
        let weekday = match date.weekday() {
            jiff::civil::Weekday::Sunday => Weekday::Sunday,
            jiff::civil::Weekday::Monday => Weekday::Monday,
            jiff::civil::Weekday::Tuesday => Weekday::Tuesday,
            jiff::civil::Weekday::Wednesday => Weekday::Wednesday,
            jiff::civil::Weekday::Thursday => Weekday::Thursday,
            jiff::civil::Weekday::Friday => Weekday::Friday,
            jiff::civil::Weekday::Saturday => Weekday::Saturday,
        };
        let month = u32::from(date.month().unsigned_abs());
        let day = u32::from(date.day().unsigned_abs());
        self.cron.pattern.day_match(i32::from(date.year()), month, day, weekday).unwrap_or(false)
    }

    /// The first time of the day that is meant, from second `from` on.
    fn time_from(&self, from: i64) -> Option<i64> {
        let (hour, minute, second) = split(from);
        let join = |hour, minute, second| hour * HOUR_S + minute * MINUTE_S + second;
        let first_minute = lowest(self.minutes, 0)?;
        let first_second = lowest(self.seconds, 0)?;
        if is_set(self.hours, hour) {
            if is_set(self.minutes, minute)
                && let Some(second) = lowest(self.seconds, second)
            {
                return Some(join(hour, minute, second));
            }
            if let Some(minute) = lowest(self.minutes, minute + 1) {
                return Some(join(hour, minute, first_second));
            }
        }
        Some(join(lowest(self.hours, hour + 1)?, first_minute, first_second))
    }

    /// The last time of the day that is meant, up to second `until`.
    fn time_until(&self, until: i64) -> Option<i64> {
        let (hour, minute, second) = split(until);
        let join = |hour, minute, second| hour * HOUR_S + minute * MINUTE_S + second;
        let last_minute = highest(self.minutes, 64)?;
        let last_second = highest(self.seconds, 64)?;
        if is_set(self.hours, hour) {
            if is_set(self.minutes, minute)
                && let Some(second) = highest(self.seconds, second + 1)
            {
                return Some(join(hour, minute, second));
            }
            if let Some(minute) = highest(self.minutes, minute) {
                return Some(join(hour, minute, last_second));
            }
        }
        Some(join(highest(self.hours, hour)?, last_minute, last_second))
    }

    /// How many times of a day that are meant lie before second `end`.
    fn times_before(&self, end: i64) -> u64 {
        let (hour, minute, second) = split(end);
        let mut count = below(self.hours, hour) * below(self.minutes, 64) * below(self.seconds, 64);
        if is_set(self.hours, hour) {
            count += below(self.minutes, minute) * below(self.seconds, 64);
            if is_set(self.minutes, minute) {
                count += below(self.seconds, second);
            }
        }
        count
    }
}

fn date_of(day: i64) -> Option<Date> {
    let midnight = Timestamp::from_second(day.checked_mul(DAY_S)?).ok()?;
    Some(Offset::UTC.to_datetime(midnight).date())
}

fn split(time: i64) -> (i64, i64, i64) {
    (time / HOUR_S, time % HOUR_S / MINUTE_S, time % MINUTE_S)
}

fn is_set(bits: u64, at: i64) -> bool {
    at < 64 && bits >> at & 1 == 1
}

/// The lowest bit that is set, from `from` on.
fn lowest(bits: u64, from: i64) -> Option<i64> {
    let left = if from < 64 { bits >> from << from } else { 0 };
    (left != 0).then(|| i64::from(left.trailing_zeros()))
}

/// The highest bit that is set, below `end`.
fn highest(bits: u64, end: i64) -> Option<i64> {
    let left = keep_below(bits, end);
    (left != 0).then(|| 63 - i64::from(left.leading_zeros()))
}

/// How many bits below `end` are set.
fn below(bits: u64, end: i64) -> u64 {
    u64::from(keep_below(bits, end).count_ones())
}

fn keep_below(bits: u64, end: i64) -> u64 {
    if end < 64 { bits & ((1 << end) - 1) } else { bits }
}

//! An independent, slow calendar: it looks at what the clock on the wall shows, minute by minute.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Zones with changes of every kind: at night and at midnight, by 30 minutes and two hours, back
/// for a month in the middle of summer time, ended, and none.
pub const ZONES: [&str; 17] = [
    "Europe/Berlin",
    "Europe/London",
    "Europe/Dublin",
    "America/New_York",
    "America/St_Johns",
    "America/Sao_Paulo",
    "America/Santiago",
    "America/Havana",
    "Australia/Lord_Howe",
    "Antarctica/Troll",
    "Africa/Casablanca",
    "Africa/Cairo",
    "Asia/Tehran",
    "Asia/Gaza",
    "Asia/Beirut",
    "Pacific/Apia",
    "UTC",
];

/// A cron expression of five fields with numbers, `*`, lists, ranges and steps.
#[derive(Debug, Clone)]
pub struct Expression {
    fields: [Vec<bool>; 5],
    is_any_day: bool,
    is_any_weekday: bool,
    pub is_hourly: bool,
    pub is_interval: bool,
}

impl Expression {
    pub fn parse(text: &str) -> Self {
        let fields: Vec<&str> = text.split_whitespace().collect();
        assert_eq!(fields.len(), 5, "{text}");
        let sizes = [60, 24, 32, 13, 8];
        let parsed: Vec<Vec<bool>> =
            fields.iter().zip(sizes).map(|(field, size)| parse_field(field, size)).collect();
        let is_hourly = parsed[1].iter().all(|hour| *hour);
        Self {
            is_hourly,
            is_interval: is_hourly || fields[0].contains('*') || fields[1].contains('*'),
            is_any_day: fields[2] == "*",
            is_any_weekday: fields[4] == "*",
            fields: parsed.try_into().unwrap(),
        }
    }

    fn fits(&self, shown: Shown) -> bool {
        let [minutes, hours, days, months, weekdays] = &self.fields;
        let minute = shown.rem_euclid(1440);
        if !minutes[(minute % 60) as usize] || !hours[(minute / 60) as usize] {
            return false;
        }
        let first = jiff::civil::date(1970, 1, 1);
        let date = first + jiff::Span::new().days(shown.div_euclid(1440));
        let sunday = date.weekday() == jiff::civil::Weekday::Sunday;
        let weekday = date.weekday().to_sunday_zero_offset() as usize;
        let day = days[date.day() as usize];
        let weekday = weekdays[weekday] || (sunday && weekdays[7]);
        let day = match (self.is_any_day, self.is_any_weekday) {
            (true, _) => weekday,
            (_, true) => day,
            _ => day || weekday,
        };
        day && months[date.month() as usize]
    }
}

fn parse_field(text: &str, size: usize) -> Vec<bool> {
    let mut set = vec![false; size];
    for part in text.split(',') {
        let (range, step) = part.split_once('/').unwrap_or((part, "1"));
        let (from, to) = match range.split_once('-') {
            Some((from, to)) => (from.parse().unwrap(), to.parse().unwrap()),
            None if range == "*" => (0, size - 1),
            None => (range.parse().unwrap(), range.parse().unwrap()),
        };
        // Days and months begin with 1.
        let first = if range == "*" && (size == 32 || size == 13) { 1 } else { from };
        (first..=to).step_by(step.parse().unwrap()).for_each(|at| set[at] = true);
    }
    set
}

/// What a clock shows: minutes since 1970-01-01 00:00 on that clock.
pub type Shown = i64;

pub fn shown(zone: &TimeZone, minute: i64) -> Shown {
    let at = Timestamp::from_second(minute * 60).unwrap();
    minute + i64::from(zone.to_offset(at).seconds()) / 60
}

/// Walks minute by minute over `minutes` (since 1970, UTC), with what the clock shows, what it
/// showed before and the most that it ever showed.
pub fn walk(
    zone: &TimeZone,
    minutes: std::ops::Range<i64>,
    mut visit: impl FnMut(i64, Shown, Shown, Shown),
) {
    // A day before it, to know what was shown already.
    let mut before = shown(zone, minutes.start - 1441);
    let mut most = before;
    for minute in minutes.start - 1440..minutes.end {
        let now = shown(zone, minute);
        if minute >= minutes.start {
            visit(minute, now, before, most);
        }
        before = now;
        most = most.max(now);
    }
}

/// Whether an expression is due at a minute, as the documentation says.
pub fn is_due(it: &Expression, now: Shown, before: Shown, most: Shown) -> bool {
    let is_again = now <= most;
    let left_out = before + 1..now;
    (it.fits(now) && (it.is_interval || !is_again))
        || (!it.is_hourly && left_out.into_iter().any(|shown| it.fits(shown)))
}

/// All due minutes within a range.
pub fn due(it: &Expression, zone: &TimeZone, minutes: std::ops::Range<i64>) -> Vec<i64> {
    let mut found = Vec::new();
    walk(zone, minutes, |minute, now, before, most| {
        if is_due(it, now, before, most) {
            found.push(minute);
        }
    });
    found
}

/// The changes of a zone's clocks from 2020 to 2040, in minutes since 1970.
pub fn changes(zone: &TimeZone) -> Vec<i64> {
    let from: Timestamp = "2020-01-01T00:00:00Z".parse().unwrap();
    let to: Timestamp = "2041-01-01T00:00:00Z".parse().unwrap();
    let changes = zone.following(from).map(|change| change.timestamp());
    changes.take_while(|it| *it < to).map(|it| it.as_second() / 60).collect()
}

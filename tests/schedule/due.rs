use crate::reference::{Expression, ZONES, changes, due, is_due, walk};
use afterimage::schedule::DueTimes;
use afterimage::settings::Schedule;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use proptest::prelude::*;

const EXPRESSIONS: [&str; 22] = [
    "* * * * *",
    "*/15 * * * *",
    "*/20 * * * *",
    "5 * * * *",
    "0 */2 * * *",
    "0 */6 * * *",
    "30 2 * * *",
    "15 1 * * *",
    "0 0 * * *",
    "0 3 * * *",
    "59 23 * * *",
    "30 2,14 * * *",
    "0,30 1-3 * * *",
    "*/10 2 * * *",
    "*/15 22-23 * * *",
    "45 0-23 * * *",
    "30 2 * * 0",
    "30 1 25-31 3,10 *",
    "10 0 1 * *",
    "30 0-4 * * 6,0",
    "20 2 */2 * 7",
    "0 0,12 * 1-12/3 *",
];

fn times(expression: &str, zone: &str) -> DueTimes {
    let schedule = Schedule { expression: expression.to_owned(), timezone: zone.to_owned() };
    DueTimes::new(&schedule).unwrap()
}

fn at(minute: i64) -> Timestamp {
    Timestamp::from_second(minute * 60).unwrap()
}

fn minutes(found: &[Timestamp]) -> Vec<i64> {
    found.iter().map(|it| it.as_second() / 60).collect()
}

/// Holds every way to ask against what is expected within a range of minutes.
fn check(times: &DueTimes, range: std::ops::Range<i64>, expected: &[i64], what: &str) {
    let (after, until) = (at(range.start - 1), at(range.end - 1));
    let all = times.due_between(after, until, usize::MAX);
    assert_eq!(minutes(&all), expected, "{what}");
    assert_eq!(times.count_between(after, until), expected.len() as u64, "{what}");
    let mut instant = after;
    for due in &all {
        assert_eq!(times.next_after(instant), Some(*due), "{what}");
        assert_eq!(times.latest_between(after, *due), Some(*due), "{what}");
        assert_eq!(times.latest_until(*due), Some(*due), "{what}");
        let before = *due - jiff::Span::new().nanoseconds(1);
        assert_eq!(times.latest_between(after, before), Some(instant).filter(|it| *it > after));
        assert_eq!(times.next_after(before), Some(*due), "{what}");
        instant = *due;
    }
    assert!(times.next_after(instant).is_some_and(|next| next > until), "{what}");
    assert_eq!(times.latest_between(instant, until), None, "{what}");
}

#[test]
fn every_change_of_clocks_from_2020_to_2040_is_right_in_every_zone() {
    let mut seen = 0;
    for name in ZONES {
        let zone = TimeZone::get(name).unwrap();
        let changes = changes(&zone);
        let expressions = EXPRESSIONS.map(Expression::parse);
        let all = EXPRESSIONS.map(|text| (text, times(text, name)));
        seen += changes.len();
        for change in &changes {
            let range = change - 26 * 60..change + 26 * 60;
            let mut readings = Vec::new();
            walk(&zone, range.clone(), |minute, now, before, most| {
                readings.push((minute, now, before, most));
            });
            for (expression, (text, times)) in expressions.iter().zip(&all) {
                let due = readings.iter().filter(|it| is_due(expression, it.1, it.2, it.3));
                let expected: Vec<i64> = due.map(|it| it.0).collect();
                let what = format!("{text} in {name} at {}", at(*change));
                check(times, range.clone(), &expected, &what);
            }
        }
    }
    assert!(seen > 400, "only {seen} changes");
}

/// The lines of `docs/scheduling.md`.
#[test]
fn the_documented_nights_are_as_documented() {
    for (expression, zone, day, expected) in [
        // Forward, 02:00 to 03:00.
        ("30 2 * * *", "Europe/Berlin", "2026-03-29", "03:00"),
        ("0,30 2 * * *", "Europe/Berlin", "2026-03-29", "03:00"),
        ("30 2,14 * * *", "Europe/Berlin", "2026-03-29", "03:00 14:30"),
        ("0 */6 * * *", "Europe/Berlin", "2026-03-29", "00:00 06:00 12:00 18:00"),
        ("0 */2 * * *", "Europe/Berlin", "2026-03-29", "00:00 03:00 04:00 06:00"),
        ("30 * * * *", "Europe/Berlin", "2026-03-29", "00:30 01:30 03:30 04:30"),
        (
            "*/20 * * * *",
            "Europe/Berlin",
            "2026-03-29",
            "00:00 00:20 00:40 01:00 01:20 01:40 03:00",
        ),
        ("*/20 2 * * *", "Europe/Berlin", "2026-03-29", "03:00"),
        // Back, 03:00 to 02:00.
        ("30 2 * * *", "Europe/Berlin", "2026-10-25", "02:30"),
        ("30 2,14 * * *", "Europe/Berlin", "2026-10-25", "02:30 14:30"),
        ("30 * * * *", "Europe/Berlin", "2026-10-25", "00:30 01:30 02:30 02:30 03:30"),
        ("*/30 2 * * *", "Europe/Berlin", "2026-10-25", "02:00 02:30 02:00 02:30"),
        // Forward at midnight.
        ("15 0 * * *", "Asia/Beirut", "2026-03-29", "01:00"),
        // Forward by 30 minutes.
        ("10 2 * * *", "Australia/Lord_Howe", "2026-10-04", "02:30"),
        ("40 2 * * *", "Australia/Lord_Howe", "2026-10-04", "02:40"),
    ] {
        let tz = TimeZone::get(zone).unwrap();
        let day: jiff::civil::Date = day.parse().unwrap();
        let from = day.to_zoned(tz.clone()).unwrap().timestamp();
        let to = day.tomorrow().unwrap().to_zoned(tz.clone()).unwrap().timestamp();
        let before = from - jiff::Span::new().seconds(1);
        let last = to - jiff::Span::new().seconds(1);
        let found = times(expression, zone).due_between(before, last, 100);
        let found: Vec<String> =
            found.iter().map(|it| it.to_zoned(tz.clone()).strftime("%H:%M").to_string()).collect();
        let expected: Vec<&str> = expected.split(' ').collect();
        let found: Vec<&str> = found.iter().map(String::as_str).take(expected.len()).collect();
        assert_eq!(found, expected, "{expression} in {zone} on {day}");
    }
}

#[test]
fn a_schedule_that_never_comes_ends_the_search() {
    let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    for zone in ["Europe/Berlin", "UTC"] {
        let never = times("0 0 30 2 *", zone);
        assert_eq!(never.next_after(now), None);
        assert_eq!(never.latest_until(now), None);
        assert_eq!(never.count_between(Timestamp::MIN, Timestamp::MAX), 0);
        assert!(never.due_between(Timestamp::MIN, Timestamp::MAX, 5).is_empty());
        // The 29th of February that is a Sunday: every 28 years.
        let rare = times("0 0 29 2 +0", zone);
        let next = rare.next_after(now).unwrap();
        assert_eq!(
            next.to_zoned(TimeZone::get(zone).unwrap()).date(),
            jiff::civil::date(2032, 2, 29)
        );
    }
}

#[test]
fn the_ends_of_time_are_no_trouble() {
    for expression in ["* * * * * *", "*/15 * * * *", "30 2 * * *", "0 0 29 2 *"] {
        let times = times(expression, "Europe/Berlin");
        for instant in [Timestamp::MIN, Timestamp::MAX, Timestamp::UNIX_EPOCH] {
            let _ = times.next_after(instant);
            let _ = times.latest_until(instant);
            assert!(times.due_between(instant, Timestamp::MAX, 3).len() <= 3);
            let _ = times.count_between(instant, Timestamp::MAX);
            assert_eq!(times.count_between(Timestamp::MAX, instant), 0);
        }
    }
}

#[test]
fn ten_years_of_slots_are_counted_without_a_walk_over_them() {
    let from: Timestamp = "2020-01-01T00:00:00Z".parse().unwrap();
    let to: Timestamp = "2030-01-01T00:00:00Z".parse().unwrap();
    let days = 3653;
    let second = times("* * * * * *", "UTC");
    assert_eq!(second.count_between(from, to), days * 86_400);
    assert_eq!(times("*/15 * * * *", "UTC").count_between(from, to), days * 96);
    assert_eq!(times("30 2 * * *", "Europe/Berlin").count_between(from, to), days);
    // Every hour that passes, whatever the clocks show.
    assert_eq!(times("0 * * * *", "Europe/Berlin").count_between(from, to), days * 24);
}

#[test]
fn seconds_and_short_forms_are_due() {
    let now: Timestamp = "2026-05-01T10:00:07.5Z".parse().unwrap();
    let next = |text| times(text, "UTC").next_after(now).unwrap().to_string();
    assert_eq!(next("*/5 * * * * *"), "2026-05-01T10:00:10Z");
    assert_eq!(next("7 * * * * *"), "2026-05-01T10:01:07Z");
    assert_eq!(next("@hourly"), "2026-05-01T11:00:00Z");
    assert_eq!(next("@monthly"), "2026-06-01T00:00:00Z");
    assert_eq!(next("0 0 L * *"), "2026-05-31T00:00:00Z");
    assert_eq!(next("0 0 * * 5#2"), "2026-05-08T00:00:00Z");
    assert_eq!(next("0 0 1W 8 *"), "2026-08-03T00:00:00Z");
}

fn field(most: u32, least: u32) -> impl Strategy<Value = String> {
    prop_oneof![
        3 => Just("*".to_owned()),
        3 => (least..=most).prop_map(|it| it.to_string()),
        2 => (2..=most / 2).prop_map(|it| format!("*/{it}")),
        2 => (least..=most, least..=most)
            .prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))),
        1 => (least..=most, least..=most).prop_map(|(a, b)| format!("{a},{b}")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn any_expression_is_due_when_the_slow_calendar_says_so(
        fields in (field(59, 0), field(23, 0), field(28, 1), field(12, 1), field(7, 0)),
        zone in 0..ZONES.len(),
        start in 26_297_280_i64..37_000_000,
    ) {
        let (minute, hour, day, month, weekday) = fields;
        let text = format!("{minute} {hour} {day} {month} {weekday}");
        let range = start..start + 20 * 1440;
        let zone_name = ZONES[zone];
        let zone = TimeZone::get(zone_name).unwrap();
        let expected = due(&Expression::parse(&text), &zone, range.clone());
        let times = times(&text, zone_name);
        let found = times.due_between(at(range.start - 1), at(range.end - 1), usize::MAX);
        prop_assert_eq!(minutes(&found), &expected[..], "{} in {}", text, zone_name);
        let count = times.count_between(at(range.start - 1), at(range.end - 1));
        prop_assert_eq!(count, expected.len() as u64);
        let last = times.latest_between(at(range.start - 1), at(range.end - 1));
        prop_assert_eq!(last.map(|it| it.as_second() / 60), expected.last().copied());
    }
}

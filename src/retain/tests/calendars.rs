//! Calendars, with what must become of each point written out by hand.

use super::*;

/// Each row is a point, and why it stays or that it goes. The last one is the newest, and "now" is
/// a minute after it.
#[track_caller]
fn check(zone: &str, keep: Keep, rows: &[(&str, &str)]) {
    check_protected(zone, keep, &Protected::new(), rows);
}

#[track_caller]
fn check_protected(zone: &str, keep: Keep, protected: &Protected, rows: &[(&str, &str)]) {
    let zone = TimeZone::get(zone).unwrap();
    let times: Vec<Timestamp> = rows.iter().map(|(text, _)| time(text)).collect();
    let now = *times.last().unwrap() + jiff::SignedDuration::from_mins(1);
    let found = decide(&candidates(&times), &keep, protected, &zone, now).unwrap();
    let found: Vec<(Timestamp, String)> =
        found.iter().map(|decision| (decision.point.time, words(decision, &zone))).collect();
    let expected: Vec<(Timestamp, String)> =
        rows.iter().map(|(text, words)| (time(text), (*words).to_owned())).collect();
    assert_eq!(found, expected);
}

#[test]
fn the_hour_that_comes_twice_in_autumn_is_two() {
    let keep = Keep { hourly: 3, ..Keep::default() };
    check(
        "Europe/Berlin",
        keep,
        &[
            ("2026-10-25T01:30+02:00", "goes"),
            ("2026-10-25T02:15+02:00", "goes"),
            ("2026-10-25T02:45+02:00", "hourly 2026-10-25 02:00 +02:00"),
            ("2026-10-25T02:15+01:00", "goes"),
            ("2026-10-25T02:45+01:00", "hourly 2026-10-25 02:00 +01:00"),
            ("2026-10-25T03:30+01:00", "hourly 2026-10-25 03:00 +01:00"),
            ("2026-10-25T04:30+01:00", "newest"),
        ],
    );
    let keep = Keep { hourly: 4, daily: 2, ..Keep::default() };
    check(
        "America/New_York",
        keep,
        &[
            ("2026-11-01T00:10-04:00", "goes"),
            ("2026-11-01T01:30-04:00", "hourly 2026-11-01 01:00 -04:00"),
            ("2026-11-01T01:30-05:00", "hourly 2026-11-01 01:00 -05:00"),
            ("2026-11-01T23:50-05:00", "hourly 2026-11-01 23:00 -05:00; daily 2026-11-01"),
            ("2026-11-02T00:05-05:00", "hourly 2026-11-02 00:00 -05:00; daily 2026-11-02"),
            ("2026-11-02T08:00-05:00", "newest"),
        ],
    );
}

#[test]
fn a_clock_that_moves_by_half_an_hour_makes_two_hours_of_one() {
    let keep = Keep { hourly: 3, ..Keep::default() };
    check(
        "Australia/Lord_Howe",
        keep,
        &[
            ("2026-04-05T00:45+11:00", "goes"),
            ("2026-04-05T01:45+11:00", "hourly 2026-04-05 01:00 +11:00"),
            ("2026-04-05T01:45+10:30", "hourly 2026-04-05 01:00 +10:30"),
            ("2026-04-05T02:10+10:30", "hourly 2026-04-05 02:00 +10:30"),
            ("2026-04-05T05:00+10:30", "newest"),
        ],
    );
}

#[test]
fn a_day_of_23_hours_is_one_day() {
    let keep = Keep { daily: 2, ..Keep::default() };
    check(
        "Europe/Berlin",
        keep,
        &[
            ("2026-03-28T23:30+01:00", "goes"),
            ("2026-03-29T00:30+01:00", "goes"),
            ("2026-03-29T01:59+01:00", "goes"),
            ("2026-03-29T03:00+02:00", "goes"),
            ("2026-03-29T23:59+02:00", "daily 2026-03-29"),
            ("2026-03-30T00:10+02:00", "daily 2026-03-30"),
            ("2026-03-30T12:00+02:00", "newest"),
        ],
    );
    let keep = Keep { hourly: 2, daily: 2, ..Keep::default() };
    check(
        "America/New_York",
        keep,
        &[
            ("2026-03-07T23:59-05:00", "daily 2026-03-07"),
            ("2026-03-08T00:01-05:00", "goes"),
            ("2026-03-08T01:59-05:00", "hourly 2026-03-08 01:00 -05:00"),
            ("2026-03-08T03:00-04:00", "hourly 2026-03-08 03:00 -04:00; daily 2026-03-08"),
            ("2026-03-08T20:00-04:00", "newest"),
        ],
    );
}

#[test]
fn a_clock_that_changes_at_midnight_makes_days_of_25_and_23_hours() {
    let keep = Keep { hourly: 3, daily: 2, ..Keep::default() };
    check(
        "America/Santiago",
        keep,
        &[
            ("2026-04-03T23:30-03:00", "goes"),
            ("2026-04-04T23:30-03:00", "hourly 2026-04-04 23:00 -03:00"),
            ("2026-04-04T23:30-04:00", "hourly 2026-04-04 23:00 -04:00; daily 2026-04-04"),
            ("2026-04-05T00:10-04:00", "hourly 2026-04-05 00:00 -04:00; daily 2026-04-05"),
            ("2026-04-05T10:00-04:00", "newest"),
        ],
    );
    // The day has no first hour.
    let keep = Keep { daily: 2, ..Keep::default() };
    check(
        "America/Santiago",
        keep,
        &[
            ("2026-09-04T12:00-04:00", "goes"),
            ("2026-09-05T23:59-04:00", "daily 2026-09-05"),
            ("2026-09-06T01:00-03:00", "goes"),
            ("2026-09-06T01:20-03:00", "daily 2026-09-06"),
            ("2026-09-06T09:00-03:00", "newest"),
        ],
    );
}

#[test]
fn a_day_that_comes_twice_is_one_day() {
    // At a minute past midnight the clock went back to the day before.
    let keep = Keep { daily: 3, ..Keep::default() };
    check(
        "America/St_Johns",
        keep,
        &[
            ("2010-11-04T12:00-02:30", "goes"),
            ("2010-11-05T12:00-02:30", "daily 2010-11-05"),
            ("2010-11-06T23:30-02:30", "goes"),
            ("2010-11-07T00:00:30-02:30", "goes"),
            ("2010-11-06T23:30-03:30", "daily 2010-11-06"),
            ("2010-11-07T00:30-03:30", "daily 2010-11-07"),
            ("2010-11-07T09:00-03:30", "newest"),
        ],
    );
}

#[test]
fn a_leap_day_is_a_day_of_its_month_and_year() {
    let keep = Keep { daily: 3, monthly: 2, yearly: 2, ..Keep::default() };
    check(
        "Europe/Berlin",
        keep,
        &[
            ("2027-02-28T10:00+01:00", "yearly 2027"),
            ("2028-02-27T10:00+01:00", "goes"),
            ("2028-02-28T10:00+01:00", "daily 2028-02-28"),
            ("2028-02-29T00:00+01:00", "goes"),
            ("2028-02-29T23:59:59+01:00", "daily 2028-02-29; monthly 2028-02"),
            ("2028-03-01T00:00+01:00", "daily 2028-03-01; monthly 2028-03; yearly 2028"),
            ("2028-03-02T10:00+01:00", "newest"),
        ],
    );
}

#[test]
fn week_53_belongs_to_the_year_in_which_it_began() {
    let keep = Keep { weekly: 3, yearly: 2, ..Keep::default() };
    check(
        "Europe/Berlin",
        keep,
        &[
            ("2026-12-20T12:00+01:00", "goes"),
            ("2026-12-27T23:59+01:00", "weekly 2026-W52"),
            ("2026-12-28T00:00+01:00", "goes"),
            ("2026-12-31T12:00+01:00", "yearly 2026"),
            ("2027-01-01T12:00+01:00", "goes"),
            ("2027-01-03T23:59+01:00", "weekly 2026-W53"),
            ("2027-01-04T00:00+01:00", "weekly 2027-W01; yearly 2027"),
            ("2027-01-05T12:00+01:00", "newest"),
        ],
    );
    // The last days of a year may lie in the first week of the next one.
    let keep = Keep { weekly: 2, ..Keep::default() };
    check(
        "Europe/Berlin",
        keep,
        &[
            ("2024-12-29T12:00+01:00", "weekly 2024-W52"),
            ("2024-12-30T12:00+01:00", "goes"),
            ("2025-01-02T12:00+01:00", "weekly 2025-W01"),
            ("2025-01-06T12:00+01:00", "newest"),
        ],
    );
}

#[test]
fn gaps_use_up_nothing() {
    let keep = Keep { daily: 3, monthly: 4, ..Keep::default() };
    check(
        "UTC",
        keep,
        &[
            ("2019-03-05T12:00Z", "goes"),
            ("2024-12-31T12:00Z", "monthly 2024-12"),
            ("2026-01-01T08:00Z", "goes"),
            ("2026-01-01T12:00Z", "daily 2026-01-01; monthly 2026-01"),
            ("2026-05-10T12:00Z", "daily 2026-05-10; monthly 2026-05"),
            ("2026-06-01T12:00Z", "daily 2026-06-01; monthly 2026-06"),
            ("2026-11-01T12:00Z", "newest"),
        ],
    );
}

#[test]
fn the_zone_decides_what_a_month_is() {
    let keep = || Keep { monthly: 2, ..Keep::default() };
    check(
        "UTC",
        keep(),
        &[
            ("2026-05-31T12:00Z", "monthly 2026-05"),
            ("2026-06-30T12:00Z", "goes"),
            ("2026-06-30T22:30Z", "monthly 2026-06"),
            ("2026-07-02T12:00Z", "newest"),
        ],
    );
    check(
        "Europe/Berlin",
        keep(),
        &[
            ("2026-05-31T12:00Z", "goes"),
            ("2026-06-30T12:00Z", "monthly 2026-06"),
            ("2026-06-30T22:30Z", "monthly 2026-07"),
            ("2026-07-02T12:00Z", "newest"),
        ],
    );
}

#[test]
fn the_newest_point_takes_no_place_of_last() {
    let keep = Keep { last: 2, ..Keep::default() };
    check(
        "UTC",
        keep,
        &[
            ("2026-11-20T10:00Z", "goes"),
            ("2026-11-20T11:00Z", "last 2"),
            ("2026-11-20T12:00Z", "last 1"),
            ("2026-11-20T12:00:01Z", "newest"),
        ],
    );
}

#[test]
fn a_rule_passes_over_what_is_protected() {
    let replica = || "web01-standby".parse().unwrap();
    let pinned = Protection::Pinned { note: Some("before the upgrade".to_owned()) };
    let expired = Protection::Locked { until: time("2026-11-21T10:01Z") };
    let locked = Protection::Locked { until: time("2026-11-21T10:01:01Z") };
    let protected: Protected = [
        (id(2), [Protection::SyncPoint { replica: replica() }].into()),
        (id(3), [Protection::InUse { replica: replica() }].into()),
        (id(4), [expired].into()),
        (id(6), [pinned, Protection::Pinned { note: None }, locked].into()),
    ]
    .into();
    let keep = Keep { last: 1, daily: 1, weekly: 1, ..Keep::default() };
    check_protected(
        "Europe/Berlin",
        keep,
        &protected,
        &[
            ("2026-11-15T20:00Z", "goes"),
            ("2026-11-18T20:00Z", "sync point of web01-standby"),
            ("2026-11-19T20:00Z", "web01-standby is being worked on and may need it"),
            ("2026-11-20T08:00Z", "goes"),
            ("2026-11-20T12:00Z", "last 1; daily 2026-11-20; weekly 2026-W47"),
            (
                "2026-11-20T18:00Z",
                "pinned; pinned: before the upgrade; locked until 2026-11-21 11:01",
            ),
            ("2026-11-21T10:00Z", "newest"),
        ],
    );
}

#[test]
fn within_keeps_what_is_younger() {
    let within = Some(std::time::Duration::from_secs(2 * 86_400));
    check(
        "UTC",
        Keep { within, ..Keep::default() },
        &[
            ("2026-11-18T12:01Z", "goes"),
            ("2026-11-18T12:01:01Z", "within"),
            ("2026-11-20T11:00Z", "within"),
            ("2026-11-20T12:00Z", "newest"),
        ],
    );
    let within = Some(std::time::Duration::MAX);
    check(
        "UTC",
        Keep { within, ..Keep::default() },
        &[("1990-01-01T00:00Z", "within"), ("2026-11-20T12:00Z", "newest")],
    );
}

#[test]
fn the_newest_by_number_and_the_newest_by_date_both_stay() {
    let keep = Keep { last: 1, ..Keep::default() };
    let times =
        ["2026-11-20T10:00Z", "2026-11-20T15:00Z", "2026-11-20T11:00Z", "2026-11-20T12:00Z"];
    let points = candidates(&times.map(time));
    let now = time("2026-11-20T16:00Z");
    let found = decide(&points, &keep, &Protected::new(), &TimeZone::UTC, now).unwrap();
    let found: Vec<(u64, String)> =
        found.iter().map(|it| (it.point.sequence.0, words(it, &TimeZone::UTC))).collect();
    let expected = [(1, "goes"), (3, "last 1"), (4, "newest"), (2, "newest")];
    assert_eq!(found, expected.map(|(number, why)| (number, why.to_owned())));
}

#[test]
fn a_point_of_the_future_stops_everything_but_clocks_differ_a_little() {
    let keep = Keep { last: 1, ..Keep::default() };
    let points = candidates(&[time("2026-11-20T10:00Z"), time("2026-11-20T12:00Z")]);
    let decide = |now| decide(&points, &keep, &Protected::new(), &TimeZone::UTC, time(now));
    assert!(decide("2026-11-20T11:55Z").is_ok());
    let stop = decide("2026-11-20T11:54:59Z").unwrap_err();
    assert_eq!(stop.point, points[1]);
}

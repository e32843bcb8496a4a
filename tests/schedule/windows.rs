use crate::reference::{ZONES, changes, shown};
use afterimage::schedule::{Windows, rate_at};
use afterimage::units::{RateRule, Window};
use jiff::Timestamp;
use jiff::tz::TimeZone;

fn window(text: &str) -> Window {
    let (from, to) = text.split_once('-').unwrap();
    let minutes = |text: &str| {
        let (hour, minute) = text.split_once(':').unwrap();
        hour.parse::<u16>().unwrap() * 60 + minute.parse::<u16>().unwrap()
    };
    Window { from_min: minutes(from), to_min: minutes(to) }
}

fn windows(texts: &[&str], zone: &str) -> Windows {
    let windows: Vec<Window> = texts.iter().map(|text| window(text)).collect();
    Windows::new(&windows, zone).unwrap()
}

fn at(minute: i64) -> Timestamp {
    Timestamp::from_second(minute * 60).unwrap()
}

/// The minutes of `range` that a window lets pass, by what the clock shows, and where it never
/// shows a part of the window that begins on a day, by what it shows when it goes on.
fn open_minutes(window: Window, zone: &TimeZone, range: std::ops::Range<i64>) -> Vec<i64> {
    let all = range.start - 3000..range.end + 3000;
    let readings: Vec<(i64, i64)> = all.map(|minute| (minute, shown(zone, minute))).collect();
    let first_day = readings[0].1.div_euclid(1440) + 1;
    let last_day = readings[readings.len() - 1].1.div_euclid(1440) - 2;
    let mut open = Vec::new();
    for day in first_day..=last_day {
        let from = day * 1440 + i64::from(window.from_min);
        let over = if window.from_min < window.to_min { 0 } else { 1440 };
        let to = day * 1440 + over + i64::from(window.to_min);
        let fit: Vec<i64> = readings
            .iter()
            .filter(|(_, shown)| (from..to).contains(shown))
            .map(|(minute, _)| *minute)
            .collect();
        if fit.is_empty() {
            let after = readings.iter().position(|(_, shown)| *shown >= to).unwrap();
            let gap_start = readings[after - 1].1 + 1;
            open.extend((from..to).map(|shown| readings[after].0 + shown - gap_start));
        }
        open.extend(fit);
    }
    open.retain(|minute| range.contains(minute));
    open.sort_unstable();
    open.dedup();
    open
}

#[test]
fn windows_open_as_the_clock_on_the_wall_says_across_every_change() {
    let texts =
        ["22:00-06:00", "02:00-03:00", "02:10-02:20", "00:00-00:30", "01:30-02:30", "23:30-24:00"];
    for name in ZONES {
        let zone = TimeZone::get(name).unwrap();
        // The rules repeat: some years show all of it.
        for change in changes(&zone).into_iter().take(8) {
            for text in texts {
                let range = change - 2000..change + 2000;
                let windows = windows(&[text], name);
                let expected = open_minutes(window(text), &zone, range.clone());
                let found: Vec<i64> =
                    range.clone().filter(|minute| windows.is_open(at(*minute))).collect();
                assert_eq!(found, expected, "{text} in {name} at {}", at(change));
                for minute in range.clone().step_by(97) {
                    let next = windows.next_open(at(minute)).unwrap();
                    let expected = expected.iter().find(|open| **open >= minute);
                    if let Some(expected) = expected {
                        assert_eq!(next, at(*expected), "{text} in {name} from {}", at(minute));
                    }
                }
            }
        }
    }
}

#[test]
fn several_windows_are_open_when_one_is_and_none_means_always() {
    let some = windows(&["01:00-02:00", "12:00-13:00"], "UTC");
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    assert!(some.is_open(at("2026-01-01T01:30:00Z")) && some.is_open(at("2026-01-01T12:59:59Z")));
    assert!(!some.is_open(at("2026-01-01T02:00:00Z")));
    let open = some.next_open(at("2026-01-01T02:00:00.5Z"));
    assert_eq!(open, Some(at("2026-01-01T12:00:00Z")));
    let always = windows(&[], "UTC");
    assert!(always.is_open(at("2026-01-01T02:00:00Z")));
    assert!(Windows::new(&[], "Europe/Atlantis").is_err());
}

#[test]
fn the_first_rate_that_fits_the_time_of_the_day_holds() {
    let zone = TimeZone::get("Europe/Berlin").unwrap();
    let day = RateRule { bytes_per_s: 20, at: Some(window("08:00-18:00")) };
    let rest = RateRule { bytes_per_s: 200, at: None };
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    assert_eq!(rate_at(&[day, rest], &zone, at("2026-07-01T06:00:00Z")), Some(20));
    assert_eq!(rate_at(&[day, rest], &zone, at("2026-07-01T05:59:59Z")), Some(200));
    assert_eq!(rate_at(&[day], &zone, at("2026-07-01T16:00:00Z")), None);
    assert_eq!(rate_at(&[], &zone, at("2026-07-01T16:00:00Z")), None);
}

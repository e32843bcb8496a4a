//! Times as they are typed: an instant, or how long from now.

use super::failure::Failure;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, Zoned};

/// On which side of now a duration lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// `2h` is two hours ago.
    Before,
    /// `2h` is in two hours.
    After,
}

/// The instant that is meant. A time that names no zone is one of the system's zone.
pub(super) fn instant(typed: &str, side: Side) -> Result<Timestamp, Failure> {
    read(typed, side, &Timestamp::now().to_zoned(TimeZone::system())).ok_or_else(|| {
        Failure::usage(format!(
            "`{}` is no time; write one such as `2026-11-22 09:30`, or a duration such as `2h`",
            typed.chars().take(80).collect::<String>()
        ))
    })
}

fn read(typed: &str, side: Side, now: &Zoned) -> Option<Timestamp> {
    if let Ok(instant) = typed.parse::<Timestamp>() {
        return Some(instant);
    }
    if let Ok(civil) = typed.parse::<jiff::civil::DateTime>() {
        return civil.to_zoned(now.time_zone().clone()).ok().map(|zoned| zoned.timestamp());
    }
    let span: Span = typed.parse().ok()?;
    if span.is_negative() {
        return None;
    }
    let moved = match side {
        Side::Before => now.checked_sub(span),
        Side::After => now.checked_add(span),
    };
    moved.ok().map(|zoned| zoned.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_and_durations_are_understood() {
        let now: Zoned = "2026-11-22T12:00:00+01:00[Europe/Berlin]".parse().unwrap();
        let read = |typed, side| read(typed, side, &now).map(|instant| instant.to_string());
        let is = |text: &str| Some(text.to_owned());
        assert_eq!(read("2h", Side::Before), is("2026-11-22T09:00:00Z"));
        assert_eq!(read("3 days", Side::After), is("2026-11-25T11:00:00Z"));
        assert_eq!(read("2026-11-22 09:30", Side::After), is("2026-11-22T08:30:00Z"));
        assert_eq!(read("2026-11-22", Side::Before), is("2026-11-21T23:00:00Z"));
        assert_eq!(read("2026-11-22T09:30:00Z", Side::Before), is("2026-11-22T09:30:00Z"));
        for wrong in ["", "soon", "-2h", "2 parsecs", "99999999999y"] {
            assert_eq!(read(wrong, Side::After), None, "{wrong}");
        }
    }
}

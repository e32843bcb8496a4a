//! Parts of the day and lengths of time within bounds.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::findings::{Findings, quoted};
use super::reader::Field;
use super::values;
use crate::units::{DAY_MINUTES, Window};

/// Most parts of the day, or rules, that one key may hold.
pub(super) const LIST_MAX: usize = 48;

/// One day, for bounds.
pub(super) const DAY: Duration = Duration::from_secs(86_400);

const WINDOW_HINT: &str = "write two times of day, such as \"22:00-06:00\"; the second may be \
                           on the next day, and \"24:00\" is midnight at the end of a day";

/// A time of day, in minutes since midnight.
pub(super) fn minute_of_day(field: &Field<'_>, findings: &mut Findings<'_>) -> Option<u16> {
    let example = format!("{} = \"07:00\"", field.key);
    let text = field.text(&example, findings)?;
    let minute = parse_minute(text).filter(|minute| *minute < DAY_MINUTES);
    if minute.is_none() {
        let message = format!("{} is not a time of day", quoted(text));
        findings.wrong_hint(&field.at, message, format!("for example: {example}"));
    }
    minute
}

/// `HH:MM`, up to `24:00`.
fn parse_minute(text: &str) -> Option<u16> {
    let (hour, minute) = text.trim().split_once(':')?;
    let number = |text: &str| {
        let is_number = matches!(text.len(), 1..=2) && text.bytes().all(|c| c.is_ascii_digit());
        if is_number { text.parse::<u16>().ok() } else { None }
    };
    // `7:5` could be five past seven or half past seven.
    let (hour, minute) = (number(hour)?, number(minute).filter(|_| minute.len() == 2)?);
    let minutes = hour * 60 + minute;
    (minute < 60 && minutes <= DAY_MINUTES).then_some(minutes)
}

/// A part of the day such as `22:00-06:00`.
pub(super) fn window(field: &Field<'_>, findings: &mut Findings<'_>) -> Option<Window> {
    let text = field.text(&format!("{} = \"22:00-06:00\"", field.key), findings)?;
    let window = parse_window(text);
    match window {
        None => {
            let message = format!("{} is not a part of the day", quoted(text));
            findings.wrong_hint(&field.at, message, WINDOW_HINT);
        }
        Some(window) if window.from_min == window.to_min => {
            let message = format!("{} begins when it ends", quoted(text));
            findings.wrong_hint(&field.at, message, "the whole day is \"00:00-24:00\"");
            return None;
        }
        Some(_) => {}
    }
    window
}

fn parse_window(text: &str) -> Option<Window> {
    let (from, to) = text.split_once('-')?;
    let from_min = parse_minute(from).filter(|minute| *minute < DAY_MINUTES)?;
    Some(Window { from_min, to_min: parse_minute(to)? })
}

/// A part of the day, or a list of them.
pub(super) fn windows(field: &Field<'_>, findings: &mut Findings<'_>) -> Vec<Window> {
    match (field.as_str(), elements(field, "part of the day", findings)) {
        (Some(_), _) => window(field, findings).into_iter().collect(),
        (None, Some(elements)) => {
            elements.iter().filter_map(|element| window(element, findings)).collect()
        }
        (None, None) => Vec::new(),
    }
}

/// The elements of a list that has some, and not too many. What is neither text nor such a list is
/// reported.
pub(super) fn elements<'a>(
    field: &Field<'a>,
    one: &str,
    findings: &mut Findings<'_>,
) -> Option<Vec<Field<'a>>> {
    if field.as_str().is_some() {
        return None;
    }
    let Some(elements) = field.elements() else {
        let example = match one {
            "part of the day" => format!("{} = \"22:00-06:00\"", field.key),
            _ => format!("{} = [\"…\", \"…\"]", field.key),
        };
        field.wrong_type(&format!("a {one} or a list of them"), &example, findings);
        return None;
    };
    match elements.len() {
        0 => {
            let message = format!("`{}` is an empty list", field.key);
            findings.wrong_hint(&field.at, message, format!("name a {one}"));
            None
        }
        count if count > LIST_MAX => {
            let message = format!("`{}` lists {count}; {LIST_MAX} are possible", field.key);
            findings.wrong(&field.at, message);
            None
        }
        _ => Some(elements),
    }
}

/// A length of time within bounds; `bounds` says which they are, such as "a second to a day".
pub(super) fn duration_within(
    field: &Field<'_>,
    allowed: &RangeInclusive<Duration>,
    bounds: &str,
    findings: &mut Findings<'_>,
) -> Option<Duration> {
    let duration = values::duration(field, findings)?;
    if allowed.contains(&duration) {
        return Some(duration);
    }
    findings.wrong(&field.at, format!("`{}` can be {bounds}", field.key));
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_day_has_hours_and_two_digits_of_minutes() {
        for (text, minute) in
            [("00:00", 0), ("7:05", 425), (" 23:59 ", 1439), ("24:00", DAY_MINUTES)]
        {
            assert_eq!(parse_minute(text), Some(minute), "{text}");
        }
        for text in
            ["", "7", "7:5", "24:01", "12:60", "-1:00", "+1:00", "12:00:00", "1２:00", "012:00"]
        {
            assert_eq!(parse_minute(text), None, "{text}");
        }
    }

    #[test]
    fn a_part_of_the_day_begins_before_midnight() {
        let window = |from_min, to_min| Some(Window { from_min, to_min });
        assert_eq!(parse_window("22:00-06:00"), window(1320, 360));
        assert_eq!(parse_window("00:00 - 24:00"), window(0, DAY_MINUTES));
        for text in ["22:00", "22:00-", "24:00-01:00", "1-2", "08:00-12:00-14:00"] {
            assert_eq!(parse_window(text), None, "{text}");
        }
    }
}

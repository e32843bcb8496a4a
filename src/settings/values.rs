//! Values that are written as text: paths, names, choices, sizes, durations and schedules.

use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use super::findings::{Findings, quoted};
use super::reader::{Field, Located, nearest};
use super::types::Schedule;
use super::{CHUNK_BYTES_MAX, CHUNK_BYTES_MIN, TIMEZONE_LOCAL};
use crate::cron::Pattern;
use crate::units::{Name, format_bytes, parse_bytes};

/// Longest path that Linux takes, in bytes, without the byte that ends it.
const PATH_BYTES_MAX: usize = 4095;

/// Longest cron expression, in bytes.
const CRON_BYTES_MAX: usize = 200;

/// "… is not supported by this version of afterimage (1.2.3)".
pub(super) fn unsupported(what: &str) -> String {
    format!("{what} is not supported by this version of afterimage ({})", env!("CARGO_PKG_VERSION"))
}

/// `path` without `.` and `..`, as far as that can be known without looking at the disk.
pub(super) fn normalised(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                // `..` of the root is the root: `pop` leaves it.
                normal.pop();
            }
            other => normal.push(other),
        }
    }
    normal
}

fn example_path(key: &str) -> &'static str {
    match key {
        "state_dir" => "/var/lib/afterimage",
        "image" => "/srv/vm/web01.raw",
        "device" => "/dev/vg0/web01",
        "definition" => "web01.xml",
        "journal_dir" => "/srv/standby/journal",
        "key_file" => "/etc/afterimage/main.key",
        "passphrase_file" => "/etc/afterimage/main.passphrase",
        _ => "/srv/afterimage",
    }
}

/// A path, resolved against `folder`.
pub(super) fn path(
    field: &Field<'_>,
    folder: &Path,
    findings: &mut Findings<'_>,
) -> Option<Located<PathBuf>> {
    let text = field.text(&format!("{} = \"{}\"", field.key, example_path(field.key)), findings)?;
    if text.is_empty() {
        findings.wrong(&field.at, format!("`{}` is an empty path", field.key));
    } else if text.len() > PATH_BYTES_MAX {
        let message = format!("`{}` is longer than {PATH_BYTES_MAX} bytes", field.key);
        findings.wrong(&field.at, message);
    } else if text.chars().any(char::is_control) {
        let message = format!("the path {} holds a control character", quoted(text));
        findings.wrong_hint(&field.at, message, "in double quotes, write `\\\\` for a backslash");
    } else if text == "~" || text.starts_with("~/") {
        let message = format!("`~` is not expanded in the path {}", quoted(text));
        findings.wrong_hint(&field.at, message, "write the home folder out: /home/NAME/…");
    } else {
        return Some(Located { value: folder.join(text), at: field.at.clone() });
    }
    None
}

/// The name of something in this file.
pub(super) fn name(
    field: &Field<'_>,
    example: &str,
    findings: &mut Findings<'_>,
) -> Option<Located<Name>> {
    let text = field.text(&format!("{} = \"{example}\"", field.key), findings)?;
    match text.parse() {
        Ok(value) => Some(Located { value, at: field.at.clone() }),
        Err(error) => {
            findings.wrong(&field.at, format!("{error}"));
            None
        }
    }
}

/// One of several words.
pub(super) fn choice<T: Clone>(
    field: &Field<'_>,
    choices: &[(&'static str, T)],
    findings: &mut Findings<'_>,
) -> Option<T> {
    let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
    let listed = words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(" or ");
    let Some(text) = field.as_str() else {
        field.wrong_type(&listed, &format!("{} = \"{}\"", field.key, words[0]), findings);
        return None;
    };
    if let Some((_, value)) = choices.iter().find(|(word, _)| *word == text) {
        return Some(value.clone());
    }
    let message = format!("`{}` must be {listed}, not {}", field.key, quoted(text));
    match nearest(text, &words) {
        Some(near) => {
            findings.wrong_hint(&field.at, message, format!("did you mean \"{near}\"?"));
        }
        None => findings.wrong(&field.at, message),
    }
    None
}

/// Average size of a chunk, in bytes.
pub(super) fn chunk_bytes(field: &Field<'_>, findings: &mut Findings<'_>) -> Option<u64> {
    const EXAMPLE: &str = "chunk_size = \"16 KiB\"";
    let bytes = match (field.as_str(), field.as_integer()) {
        (Some(text), _) => {
            let bytes = parse_bytes(text);
            if bytes.is_none() {
                let message = format!("{} is not a size", quoted(text));
                findings.wrong_hint(&field.at, message, format!("for example: {EXAMPLE}"));
            }
            bytes?
        }
        (None, Some(number)) => match u64::try_from(number) {
            Ok(bytes) => bytes,
            Err(_) => {
                let message = "this is not the size of a chunk";
                findings.wrong_hint(&field.at, message, format!("for example: {EXAMPLE}"));
                return None;
            }
        },
        (None, None) => {
            field.wrong_type("a size", EXAMPLE, findings);
            return None;
        }
    };
    if bytes.is_power_of_two() && (CHUNK_BYTES_MIN..=CHUNK_BYTES_MAX).contains(&bytes) {
        return Some(bytes);
    }
    let sizes: Vec<String> = std::iter::successors(Some(CHUNK_BYTES_MIN), |size| Some(size * 2))
        .take_while(|size| *size <= CHUNK_BYTES_MAX)
        .map(|size| format!("{} KiB", size / 1024))
        .collect();
    let message = format!("a chunk size of {} is not possible", format_bytes(bytes));
    findings.wrong_hint(&field.at, message, format!("choose one of {}", sizes.join(", ")));
    None
}

/// A length of time such as `36h`, `14 days` or `2 weeks`.
pub(super) fn duration(field: &Field<'_>, findings: &mut Findings<'_>) -> Option<Duration> {
    let example = format!("{} = \"14 days\"", field.key);
    let text = field.text(&example, findings)?;
    let parsed = parse_duration(text);
    if parsed.is_none() {
        let message = format!("{} is not a length of time", quoted(text));
        let hint =
            format!("for example: {example}; units are seconds, minutes, hours, days and weeks");
        findings.wrong_hint(&field.at, message, hint);
    }
    parsed
}

fn parse_duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let number: u64 = text[..digits].parse().ok()?;
    let unit_s: u64 = match text[digits..].trim() {
        "s" | "second" | "seconds" => 1,
        "min" | "minute" | "minutes" => 60,
        "h" | "hour" | "hours" => 3600,
        "d" | "day" | "days" => 86_400,
        "w" | "week" | "weeks" => 7 * 86_400,
        _ => return None,
    };
    number.checked_mul(unit_s).filter(|seconds| *seconds > 0).map(Duration::from_secs)
}

/// A time zone, by its canonical name.
pub(super) fn timezone(field: &Field<'_>, findings: &mut Findings<'_>) -> Option<String> {
    let text = field.text("timezone = \"Europe/Berlin\"", findings)?;
    if text == TIMEZONE_LOCAL {
        return Some(text.to_owned());
    }
    match jiff::tz::db().get(text) {
        Ok(zone) => Some(zone.iana_name().unwrap_or(text).to_owned()),
        Err(_) => {
            let message = format!("there is no time zone {}", quoted(text));
            let names: Vec<String> =
                jiff::tz::db().available().map(|name| name.as_str().to_owned()).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let hint = match nearest(text, &names) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!(
                    "for example: \"Europe/Berlin\", \"UTC\", or \"{TIMEZONE_LOCAL}\" for the host's own"
                ),
            };
            findings.wrong_hint(&field.at, message, hint);
            None
        }
    }
}

/// A cron expression, in the zone `timezone`.
pub(super) fn schedule(
    field: &Field<'_>,
    timezone: &str,
    findings: &mut Findings<'_>,
) -> Option<Schedule> {
    const HINT: &str = "five fields: minute 0-59, hour 0-23, day 1-31, month 1-12, weekday 0-7; \
                        \"*/15 * * * *\" is every 15 minutes, \"30 2 * * *\" is each night at 02:30";
    let text = field.text(&format!("{} = \"*/15 * * * *\"", field.key), findings)?.trim();
    match check_cron(text) {
        Ok(()) => Some(Schedule { expression: text.to_owned(), timezone: timezone.to_owned() }),
        Err(reason) => {
            let message = format!("{} is not a schedule: {reason}", quoted(text));
            findings.wrong_hint(&field.at, message, HINT);
            None
        }
    }
}

fn check_cron(text: &str) -> Result<(), String> {
    const FIELDS: [&str; 6] = ["second", "minute", "hour", "day", "month", "weekday"];
    if text.len() > CRON_BYTES_MAX {
        return Err(format!("it is longer than {CRON_BYTES_MAX} bytes"));
    }
    if text.starts_with('@') {
        return Pattern::parse(text).map(|_| ()).map_err(|_| {
            "of the short forms, there are @hourly, @daily, @weekly, @monthly and @yearly".into()
        });
    }
    let fields: Vec<&str> = text.split_whitespace().collect();
    let names = match fields.len() {
        5 => &FIELDS[1..],
        6 => &FIELDS[..],
        1 => return Err("it has 1 field instead of 5 or 6".into()),
        count => return Err(format!("it has {count} fields instead of 5 or 6")),
    };
    match Pattern::parse(text) {
        Err(_) => Err(at_fault(&fields, names)),
        Ok(pattern) if pattern.ever_comes => Ok(()),
        Ok(_) => Err("no such day ever comes".into()),
    }
}

/// Which field of an expression is refused: the parser does not say.
fn at_fault(fields: &[&str], names: &[&str]) -> String {
    for (index, name) in names.iter().enumerate() {
        let mut alone = vec!["*"; fields.len()];
        alone[index] = fields[index];
        if Pattern::parse(&alone.join(" ")).is_err() {
            return format!("{} cannot be its {name}", quoted(fields[index]));
        }
    }
    "its fields do not fit together".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_normalised_without_looking_at_the_disk() {
        for (given, normal) in [
            ("/srv/./a/../b/", "/srv/b"),
            ("/../../etc", "/etc"),
            ("/a//b", "/a/b"),
            ("/a/b/../..", "/"),
        ] {
            assert_eq!(normalised(Path::new(given)), Path::new(normal), "{given}");
        }
    }

    #[test]
    fn durations_need_a_unit_and_are_not_nothing() {
        assert_eq!(parse_duration("36h"), Some(Duration::from_secs(36 * 3600)));
        assert_eq!(parse_duration(" 2 weeks "), Some(Duration::from_secs(14 * 86_400)));
        for text in ["", "14", "0 days", "-1 d", "1 month", "99999999999999999999 d", "é"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
        assert_eq!(parse_duration(&format!("{} w", u64::MAX)), None);
    }

    #[test]
    fn schedules_are_those_that_can_come_true() {
        for text in ["*/15 * * * *", "0 30 2 * * MON-FRI", "@daily", "0 0 29 2 *", "0 2 L * *"] {
            assert_eq!(check_cron(text), Ok(()), "{text}");
        }
        for text in ["", "daily", "* * * *", "* * * * * * *", "0 25 * * *", "0 0 30 2 *", "@noon"] {
            assert!(check_cron(text).is_err(), "{text}");
        }
        assert!(check_cron("0 25 * * *").is_err_and(|reason| reason.contains("hour")));
        assert!(check_cron(&"1,".repeat(5000)).is_err());
    }
}

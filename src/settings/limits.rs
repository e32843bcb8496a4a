//! Reads `[limits]`.

use super::findings::{Findings, quoted};
use super::named;
use super::reader::{Field, TableReader};
use super::times::{self, LIST_MAX};
use crate::units::{GIB, KIB, MIB, RateRule};

/// How fast data may flow, in all runs together. Of each list, the first rule that fits the time of
/// the day holds; where none fits, there is no limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitSettings {
    /// IANA name of the zone of the rules' times; [`super::TIMEZONE_LOCAL`] is the host's.
    pub timezone: String,
    /// From sources.
    pub read: Vec<RateRule>,
    /// Over the network.
    pub network: Vec<RateRule>,
}

/// The smallest rate: less would look as if nothing went on, in bytes per second.
const RATE_MIN: u64 = 1000;
/// The largest rate, in bytes per second.
const RATE_MAX: u64 = 1_000_000_000_000;

const EXAMPLE: &str = "\"200 MB/s\", or [{ rate = \"20 MB/s\", at = \"08:00-18:00\" }]";

/// Reads `[limits]`; the times are in `zone`.
pub(super) fn read(
    root: &mut TableReader<'_>,
    zone: &str,
    findings: &mut Findings<'_>,
) -> LimitSettings {
    let mut limits =
        LimitSettings { timezone: zone.to_owned(), read: Vec::new(), network: Vec::new() };
    if let Some(mut reader) = named::section(root, "limits", findings) {
        for (key, rules) in [("read", &mut limits.read), ("network", &mut limits.network)] {
            if let Some(field) = reader.field(key) {
                *rules = read_rules(&field, findings);
            }
        }
        reader.finish(findings);
    }
    limits
}

fn read_rules(field: &Field<'_>, findings: &mut Findings<'_>) -> Vec<RateRule> {
    if field.as_str().is_some() {
        return rate(field, findings)
            .map(|bytes_per_s| RateRule { bytes_per_s, at: None })
            .into_iter()
            .collect();
    }
    let Some(elements) = field.elements() else {
        field.wrong_type("a rate or a list of them", EXAMPLE, findings);
        return Vec::new();
    };
    if elements.is_empty() || elements.len() > LIST_MAX {
        let count = elements.len();
        let message = format!("`{}` has {count} rules; 1 to {LIST_MAX} are possible", field.key);
        findings.wrong_hint(&field.at, message, "leave it out for no limit");
        return Vec::new();
    }
    let mut rules: Vec<RateRule> = Vec::new();
    for element in &elements {
        if rules.last().is_some_and(|rule| rule.at.is_none()) {
            let message = "this rule never holds: the one before it holds at any time";
            findings.wrong_hint(&element.at, message, "put the rule without `at` last");
            break;
        }
        rules.extend(rule(element, findings));
    }
    rules
}

fn rule(field: &Field<'_>, findings: &mut Findings<'_>) -> Option<RateRule> {
    if field.as_str().is_some() {
        return rate(field, findings).map(|bytes_per_s| RateRule { bytes_per_s, at: None });
    }
    let what = format!("a rule of `{}`", field.key);
    let mut reader = field.table(what, EXAMPLE, findings)?;
    let rate = reader
        .required("rate", "say how much may flow, such as rate = \"20 MB/s\"")
        .map(|field| rate(&field, findings));
    let at = reader.field("at").map(|field| times::window(&field, findings));
    reader.finish(findings);
    Some(RateRule { bytes_per_s: rate??, at: at.map_or(Some(None), |at| at.map(Some))? })
}

fn rate(field: &Field<'_>, findings: &mut Findings<'_>) -> Option<u64> {
    let text = field.text(EXAMPLE, findings)?;
    let Some(rate) = parse_rate(text) else {
        let message = format!("{} is not a rate", quoted(text));
        let hint = "for example: \"200 MB/s\"; units are kB/s, MB/s, GB/s (decimal), KiB/s, MiB/s, \
                    GiB/s (binary) and kbit/s, Mbit/s, Gbit/s";
        findings.wrong_hint(&field.at, message, hint);
        return None;
    };
    if (RATE_MIN..=RATE_MAX).contains(&rate) {
        return Some(rate);
    }
    let message = format!("{} cannot be a limit: it can be 1 kB/s to 1000 GB/s", quoted(text));
    let hint = "to keep runs from beginning at a time, use `allowed` of machines and replicas";
    findings.wrong_hint(&field.at, message, hint);
    None
}

/// Bytes per second of a text such as `200 MB/s`.
fn parse_rate(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let number: u64 = text[..digits].parse().ok()?;
    let (factor, divisor) = match text[digits..].trim_start() {
        "B/s" => (1, 1),
        "kB/s" | "KB/s" => (1000, 1),
        "MB/s" => (1_000_000, 1),
        "GB/s" => (1_000_000_000, 1),
        "KiB/s" => (KIB, 1),
        "MiB/s" => (MIB, 1),
        "GiB/s" => (GIB, 1),
        "kbit/s" => (1000, 8),
        "Mbit/s" => (1_000_000, 8),
        "Gbit/s" => (1_000_000_000, 8),
        _ => return None,
    };
    number.checked_mul(factor).map(|rate| rate / divisor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_says_of_what_it_is_the_number() {
        for (text, bytes_per_s) in [
            ("200 MB/s", 200_000_000),
            ("1GiB/s", 1 << 30),
            (" 100 Mbit/s ", 12_500_000),
            ("0 B/s", 0),
            ("1000 kB/s", 1_000_000),
        ] {
            assert_eq!(parse_rate(text), Some(bytes_per_s), "{text}");
        }
        for text in ["", "200", "200 MB", "1.5 MB/s", "-1 MB/s", "MB/s", "200 MB / s", "9 XB/s"] {
            assert_eq!(parse_rate(text), None, "{text}");
        }
        assert_eq!(parse_rate(&format!("{} GB/s", u64::MAX)), None);
    }
}

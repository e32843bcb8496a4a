//! Reads typed values out of a TOML table, and remembers which keys were asked for, so that all
//! others can be reported.

use std::ops::RangeInclusive;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::findings::{Findings, quoted, ticked};
use super::page::Span;

/// Something read from the file, and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Located<T> {
    pub(super) value: T,
    pub(super) at: Span,
}

/// Keys that TOML takes for those of the table above, when they are written below its header.
const TOP_KEYS: [&str; 2] = ["state_dir", "timezone"];

/// Keys that hold secrets in other programs' files. Here they stand in files of their own.
const SECRET_KEYS: [&str; 5] = ["secret", "password", "passphrase", "token", "key"];

/// A table that is being read. [`Self::finish`] must be called, or unknown keys go unnoticed.
#[derive(Debug)]
pub(super) struct TableReader<'a> {
    /// What this table describes, for messages: "machine `web01`".
    pub(super) what: String,
    /// Where to point when something is missing.
    pub(super) at: Span,
    table: &'a DeTable<'a>,
    known: Vec<&'static str>,
    /// Keys that are required and not there, each with a hint.
    missing: Vec<(&'static str, &'static str)>,
}

impl<'a> TableReader<'a> {
    pub(super) fn new(what: String, at: Span, table: &'a DeTable<'a>) -> Self {
        Self { what, at, table, known: Vec::new(), missing: Vec::new() }
    }

    /// The value of a key that may be left out.
    pub(super) fn field(&mut self, key: &'static str) -> Option<Field<'a>> {
        self.known.push(key);
        let (name, value) = self.table.get_key_value(key)?;
        Some(Field { key, key_at: name.span(), at: value.span(), value: value.get_ref() })
    }

    /// The value of a key that has to be there; `hint` shows how to write it.
    pub(super) fn required(&mut self, key: &'static str, hint: &'static str) -> Option<Field<'a>> {
        let field = self.field(key);
        if field.is_none() {
            self.missing.push((key, hint));
        }
        field
    }

    /// Whether a key is there, without making it a known one.
    pub(super) fn has(&self, key: &str) -> Option<Span> {
        self.table.get_key_value(key).map(|(name, _)| name.span())
    }

    /// The entries, sorted by position.
    pub(super) fn entries(
        &self,
    ) -> Vec<(&'a Spanned<toml::de::DeString<'a>>, &'a Spanned<DeValue<'a>>)> {
        let mut entries: Vec<_> = self.table.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        entries
    }

    /// Whether there are keys that nobody asked for until now.
    pub(super) fn has_unknown(&self) -> bool {
        self.table.keys().any(|key| !self.known.iter().any(|known| known == key.get_ref()))
    }

    /// Whether there is a table, or a list of tables, that nobody asked for until now.
    pub(super) fn has_unknown_table(&self) -> bool {
        self.table.iter().any(|(key, value)| {
            let is_known = self.known.iter().any(|known| known == key.get_ref());
            !is_known && matches!(value.get_ref(), DeValue::Table(_) | DeValue::Array(_))
        })
    }

    /// Reports the keys that nobody asked for and those that are missing.
    pub(super) fn finish(mut self, findings: &mut Findings<'_>) {
        for (key, value) in self.entries() {
            let given: &str = key.get_ref();
            if self.known.contains(&given) {
                continue;
            }
            let is_secret = SECRET_KEYS.contains(&given.to_lowercase().as_str());
            if is_secret {
                findings.hide(&value.span());
            }
            let message = format!("unknown key {} in {}", ticked(given), self.what);
            let hint = match nearest(given, &self.known) {
                Some(near) if is_secret && near.ends_with("_file") => {
                    format!("write it into a file, and name that: {near} = \"…\"")
                }
                Some(near) => {
                    // The key is not missing: it is the misspelt one.
                    self.missing.retain(|(missing, _)| *missing != near);
                    format!("did you mean `{near}`?")
                }
                None if TOP_KEYS.contains(&given) => {
                    format!(
                        "move `{given}` to the beginning of the file, before the first [header]"
                    )
                }
                None => format!("known keys: {}", self.known.join(", ")),
            };
            findings.wrong_hint(&key.span(), message, hint);
        }
        for (key, hint) in &self.missing {
            let message = format!("{} has no `{key}`", self.what);
            findings.absent(&self.at, message, *hint);
        }
    }
}

/// The candidate that `given` was probably meant to be.
pub(crate) fn nearest<'k>(given: &str, candidates: &[&'k str]) -> Option<&'k str> {
    const GIVEN_BYTES_MAX: usize = 64;
    // More than there are time zones; comparing with each takes time.
    const CANDIDATES_MAX: usize = 1000;
    if given.len() > GIVEN_BYTES_MAX || candidates.len() > CANDIDATES_MAX {
        return None;
    }
    let folded = given.to_lowercase().replace('-', "_");
    let distance = |candidate: &str| {
        let typos = strsim::damerau_levenshtein(&folded, &candidate.replace('-', "_"));
        // A beginning of at least three letters is a guess as good as one wrong letter.
        let begun = folded.len() >= 3 && candidate.starts_with(&folded);
        if begun { typos.min(1) } else { typos }
    };
    let allowed = folded.chars().count() / 4 + 1;
    candidates
        .iter()
        .map(|candidate| (distance(candidate), *candidate))
        .filter(|(typos, candidate)| *typos <= allowed && *typos < candidate.len())
        .min()
        .map(|(_, candidate)| candidate)
}

/// A value and the key that holds it.
#[derive(Debug)]
pub(super) struct Field<'a> {
    pub(super) key: &'a str,
    pub(super) key_at: Span,
    /// Where the value stands.
    pub(super) at: Span,
    value: &'a DeValue<'a>,
}

impl<'a> Field<'a> {
    pub(super) fn as_str(&self) -> Option<&'a str> {
        self.value.as_str()
    }

    /// Reports that the value is not `expected`; `example` shows one that would do.
    pub(super) fn wrong_type(&self, expected: &str, example: &str, findings: &mut Findings<'_>) {
        let found = describe(self.value);
        let message = format!("{} must be {expected}, not {found}", ticked(self.key));
        findings.wrong_hint(&self.at, message, format!("for example: {example}"));
    }

    pub(super) fn text(&self, example: &str, findings: &mut Findings<'_>) -> Option<&'a str> {
        let text = self.as_str();
        if text.is_none() {
            self.wrong_type("text in quotes", example, findings);
        }
        text
    }

    pub(super) fn boolean(&self, findings: &mut Findings<'_>) -> Option<bool> {
        let truth = self.value.as_bool();
        if truth.is_none() {
            self.wrong_type("true or false", &format!("{} = true", self.key), findings);
        }
        truth
    }

    /// The integer, of whatever size; `None` when it is none.
    pub(super) fn as_integer(&self) -> Option<i128> {
        match self.value {
            // Longer ones are as good as the largest: no setting allows either.
            DeValue::Integer(number) => {
                Some(i128::from_str_radix(number.as_str(), number.radix()).unwrap_or(i128::MAX))
            }
            _ => None,
        }
    }

    pub(super) fn whole_number<N>(
        &self,
        allowed: RangeInclusive<N>,
        findings: &mut Findings<'_>,
    ) -> Option<N>
    where
        N: TryFrom<i128> + PartialOrd + std::fmt::Display,
    {
        let (low, high) = (allowed.start(), allowed.end());
        // Every range of this file holds 1.
        let example = format!("{} = 1", self.key);
        let Some(number) = self.as_integer() else {
            self.wrong_type(&format!("a whole number from {low} to {high}"), &example, findings);
            return None;
        };
        match N::try_from(number) {
            Ok(number) if allowed.contains(&number) => Some(number),
            _ => {
                let key = ticked(self.key);
                findings.wrong(&self.at, format!("{key} must be from {low} to {high}"));
                None
            }
        }
    }

    /// A reader of the table; it points to the value when something is missing.
    pub(super) fn table(
        &self,
        what: String,
        example: &str,
        findings: &mut Findings<'_>,
    ) -> Option<TableReader<'a>> {
        match self.value {
            DeValue::Table(table) => Some(TableReader::new(what, self.at.clone(), table)),
            _ => {
                self.wrong_type("a table", example, findings);
                None
            }
        }
    }

    /// The elements, when the value is an array.
    pub(super) fn elements(&self) -> Option<Vec<Field<'a>>> {
        let elements = self.value.as_array()?.iter().map(|element| Field {
            key: self.key,
            key_at: self.key_at.clone(),
            at: element.span(),
            value: element.get_ref(),
        });
        Some(elements.collect())
    }

    /// Readers of the tables in an array of tables.
    pub(super) fn tables(
        &self,
        what: &str,
        example: &str,
        findings: &mut Findings<'_>,
    ) -> Option<Vec<TableReader<'a>>> {
        let Some(elements) = self.elements() else {
            let found = describe(self.value);
            let message = format!("{} must be a list of tables, not {found}", ticked(self.key));
            findings.wrong_hint(&self.key_at, message, example);
            return None;
        };
        elements.iter().map(|element| element.table(what.to_owned(), example, findings)).collect()
    }
}

/// What a value is, for "not …".
pub(super) fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("the text {}", quoted(text)),
        DeValue::Integer(number) => format!("the number {}", short(number.as_str())),
        DeValue::Float(number) => format!("the number {}", short(number.as_str())),
        DeValue::Boolean(truth) => truth.to_string(),
        DeValue::Datetime(_) => "a date or time".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

fn short(number: &str) -> String {
    match number.char_indices().nth(24) {
        Some((end, _)) => format!("{}…", &number[..end]),
        None => number.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_near_key_is_suggested() {
        let known = ["repository", "schedule", "disk", "url", "keep", "state_dir"];
        for (given, near) in [
            ("shedule", Some("schedule")),
            ("repo", Some("repository")),
            ("disks", Some("disk")),
            ("uri", Some("url")),
            ("State-Dir", Some("state_dir")),
            ("colour", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(given, &known), near, "{given}");
        }
        assert_eq!(nearest(&"k".repeat(100_000), &known), None);
    }
}

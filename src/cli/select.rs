//! Names that were typed become names of the settings.

use super::failure::Failure;
use crate::operations::known;
use crate::recover::PointChoice;
use crate::settings::Settings;
use crate::units::Name;
use jiff::tz::TimeZone;
use std::collections::BTreeMap;

/// The names of `table` that were typed, in that order and each once; all, if none was.
pub(super) fn names<T>(
    settings: &Settings,
    kind: &'static str,
    table: &BTreeMap<Name, T>,
    typed: &[String],
) -> Result<Vec<Name>, Failure> {
    if typed.is_empty() {
        if table.is_empty() {
            let file = settings.file.display();
            return Err(Failure::usage(format!("there is no {kind} in {file}; add one")));
        }
        return Ok(table.keys().cloned().collect());
    }
    let mut names = Vec::with_capacity(typed.len());
    for text in typed {
        let (name, _) = known(settings, kind, table, text)?;
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    Ok(names)
}

/// A point as it was typed. A time that names no zone is one of the system's zone, which another
/// process may not share: it becomes an instant.
pub(super) fn point(typed: &str) -> String {
    match PointChoice::parse(typed, &TimeZone::system()) {
        Ok(PointChoice::At(instant)) => instant.to_string(),
        // What is none is refused by whoever looks for it, in the words that were typed.
        _ => typed.to_owned(),
    }
}

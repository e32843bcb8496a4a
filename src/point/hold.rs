//! What keeps a point from being removed: a user's pin, or a lock until a date. Each is a sealed
//! document of its own, and a point may have several.
//!
//! Invariants: the lock of a point is the latest of its locks, so nothing that is added can
//! shorten it; a lock is never removed before its point is; a lock that is made with a point is
//! durable before the point exists.

use super::document::DocumentKind;
use crate::store::{Damage, Repository, StoreError, WriterSession};
use crate::units::{HoldId, PointId, RunId};
use jiff::Timestamp;
use std::collections::BTreeMap;

const KIND: DocumentKind = DocumentKind { magic: b"AIHOLD\0\0", word: "pin or lock" };

/// What keeps a point.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum HoldKind {
    /// A user, until the pin is taken away.
    Pin {
        /// Why.
        note: Option<String>,
    },
    /// A date: nobody can remove the point before.
    Lock {
        /// From then on it can be removed.
        until: Timestamp,
    },
}

/// A pin or lock of a point.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hold {
    /// The point.
    pub point: PointId,
    /// What keeps it.
    pub kind: HoldKind,
    /// When it was made.
    pub created: Timestamp,
    /// The run that made it: while its writer lives, the point may still be about to come.
    pub run: RunId,
    /// The host that made it.
    pub host: String,
}

/// Longest note of a pin, in characters.
const NOTE_CHARS_MAX: usize = 200;

/// Whether a text can be the note of a pin: one short line, which disturbs no terminal.
///
/// # Errors
/// What is wrong with it, in words.
pub fn check_note(note: &str) -> Result<(), String> {
    if note.trim().is_empty() {
        Err("it is empty".to_owned())
    } else if note.chars().any(char::is_control) {
        Err("it holds a control character".to_owned())
    } else if note.chars().count() > NOTE_CHARS_MAX {
        Err(format!("it is longer than {NOTE_CHARS_MAX} characters"))
    } else {
        Ok(())
    }
}

/// All pins and locks of a repository.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holds {
    by_point: BTreeMap<PointId, Vec<(HoldId, Hold)>>,
}

impl Holds {
    /// Those of a point, in the order in which they were made.
    pub fn of(&self, point: PointId) -> &[(HoldId, Hold)] {
        self.by_point.get(&point).map_or(&[], Vec::as_slice)
    }

    /// Until when the point is locked; the latest date of all its locks.
    pub fn locked_until(&self, point: PointId) -> Option<Timestamp> {
        let dates = self.of(point).iter().map(|(_, hold)| match hold.kind {
            HoldKind::Lock { until } => Some(until),
            HoldKind::Pin { .. } => None,
        });
        dates.max().flatten()
    }

    /// The pins of a point.
    pub fn pins(&self, point: PointId) -> impl Iterator<Item = (HoldId, &Hold, Option<&str>)> {
        self.of(point).iter().filter_map(|(id, hold)| match &hold.kind {
            HoldKind::Pin { note } => Some((*id, hold, note.as_deref())),
            HoldKind::Lock { .. } => None,
        })
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (HoldId, &Hold)> {
        self.by_point.values().flatten().map(|(id, hold)| (*id, hold))
    }
}

/// Makes a pin or lock durable.
///
/// # Errors
/// When it cannot be written.
pub fn commit_hold(
    repository: &Repository,
    session: &WriterSession,
    hold: &Hold,
) -> Result<HoldId, StoreError> {
    KIND.commit(repository, session, &repository.layout().holds(), hold).map(HoldId)
}

/// Reads all pins and locks.
///
/// # Errors
/// [`StoreError::Damaged`] when any of them cannot be read: it may be about any point.
pub fn list_holds(repository: &Repository) -> Result<Holds, StoreError> {
    let (holds, damages) = readable_holds(repository)?;
    damages.into_iter().next().map_or(Ok(holds), |damage| Err(damage.into()))
}

/// The pins and locks that can be read, and those that are damaged.
///
/// # Errors
/// When they cannot be listed.
pub fn readable_holds(repository: &Repository) -> Result<(Holds, Vec<Damage>), StoreError> {
    let (mut holds, mut damages) = (Holds::default(), Vec::new());
    for found in KIND.list::<Hold>(repository, &repository.layout().holds())? {
        let (name, hold) = match found {
            Ok(found) => found,
            Err(damage) => {
                damages.push(damage);
                continue;
            }
        };
        if let HoldKind::Pin { note: Some(note) } = &hold.kind
            && let Err(reason) = check_note(note)
        {
            let (name, reason) = (HoldId(name).to_string(), format!("its note: {reason}"));
            damages.push(Damage::Document { kind: KIND.word, name, reason });
            continue;
        }
        holds.by_point.entry(hold.point).or_default().push((HoldId(name), hold));
    }
    for of_point in holds.by_point.values_mut() {
        of_point.sort_by_key(|(id, hold)| (hold.created, *id));
    }
    Ok((holds, damages))
}

/// Removes a pin, or what held a point that is gone.
///
/// # Errors
/// When the file system refuses. One that is gone already is no error.
pub fn remove_hold(repository: &Repository, id: HoldId) -> Result<(), StoreError> {
    let fs = repository.file_system();
    match fs.remove_file(&repository.layout().hold(id)) {
        Err(error) if !error.not_found() => return Err(error.into()),
        _ => {}
    }
    Ok(fs.sync_dir(&repository.layout().holds())?)
}

//! The key slots as they are found, held against their index.

use super::{Change, Flaw, IndexState, SLOT_BYTES_MAX, Slot, SlotLabel, digest, read_index};
use crate::fsio::{self, DirEntry, FileKind, FileSystem};
use crate::store::header::{HEADER_BYTES_MAX, Header};
use crate::store::{Encryption, Keys, Layout, StoreError};
use crate::units::{Hex, SlotId, readable};
use std::collections::{BTreeMap, BTreeSet};

/// What opens a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SlotKind {
    /// A key file.
    KeyFile,
    /// A pass phrase.
    Passphrase,
    /// A recovery key.
    RecoveryKey,
}

impl SlotKind {
    /// In words.
    pub fn describe(self) -> &'static str {
        match self {
            Self::KeyFile => "key file",
            Self::Passphrase => "pass phrase",
            Self::RecoveryKey => "recovery key",
        }
    }
}

/// A key slot, as far as it is readable without a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotInfo {
    /// Its identity.
    pub id: SlotId,
    /// What opens it.
    pub kind: SlotKind,
    /// When it was made.
    pub created: jiff::Timestamp,
    /// What people call it.
    pub label: Option<SlotLabel>,
}

/// What is not as it should be with the key slots. None of it keeps a good slot from opening.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SlotProblem {
    /// There is no index.
    #[error(
        "there is no index of key slots, as in repositories made before there was one: a slot that \
         was removed or added would not show; `afterimage key list --repair` writes it"
    )]
    IndexMissing,
    /// The index cannot be believed.
    #[error(
        "the index of key slots is damaged ({reason}): look at the slots, remove those that nobody \
         knows, then write it anew with `afterimage key list --repair`, or bring it back with \
         `afterimage key recover --from`"
    )]
    IndexDamaged {
        /// What is wrong.
        reason: String,
    },
    /// A change was begun; it goes on, or was cut off.
    #[error(
        "{change} was begun and not finished: if no other key command runs, the next one settles \
         it (a rotation: `afterimage key rotate`)"
    )]
    Unfinished {
        /// In words.
        change: &'static str,
    },
    /// A slot's file is not what it should be.
    #[error(
        "key slot {slot} is damaged: {reason}; bring it back with `afterimage key recover --from`, \
         or remove it with `afterimage key remove`"
    )]
    Damaged {
        /// The slot.
        slot: SlotId,
        /// What is wrong.
        reason: String,
    },
    /// A slot that the index lists is not there.
    #[error(
        "key slot {slot} is missing: it was lost or removed by other means; bring it back with \
         `afterimage key recover --from`, or take it from the index with `afterimage key remove`"
    )]
    Missing {
        /// The slot.
        slot: SlotId,
    },
    /// A slot that the index does not list is there.
    #[error(
        "key slot {slot} is not in the index: it was put there by other means; remove it with \
         `afterimage key remove`, or accept it with `afterimage key list --repair`"
    )]
    Unlisted {
        /// The slot.
        slot: SlotId,
    },
    /// A file among the slots is none.
    #[error("keys/{} is no key slot; nothing of afterimage put it there", readable(name))]
    Foreign {
        /// Its name.
        name: String,
    },
    /// No slot is left.
    #[error(
        "no key slot is left, so no key opens the repository; bring the slots back from an export \
         with `afterimage key recover --from`, or from a copy of the repository"
    )]
    NoSlots,
}

impl SlotProblem {
    /// Whether something is lost, changed or foreign. What is not is in order by itself, or by the
    /// next key command.
    pub fn is_damage(&self) -> bool {
        !matches!(self, Self::IndexMissing | Self::Unfinished { .. })
    }

    /// The slot that it is about.
    pub fn slot(&self) -> Option<SlotId> {
        match self {
            Self::Damaged { slot, .. } | Self::Missing { slot } | Self::Unlisted { slot } => {
                Some(*slot)
            }
            _ => None,
        }
    }
}

/// The slots that are readable and have their own names, sorted by id.
///
/// # Errors
/// When the folder cannot be listed.
pub fn list_slots(fs: &dyn FileSystem, layout: &Layout) -> Result<Vec<SlotInfo>, StoreError> {
    let files = Files::read(fs, layout)?;
    let readable = files.slots.iter().filter_map(|(id, file)| {
        let slot = Slot::decode(file.as_ref().ok()?).ok().filter(|slot| slot.id == *id)?;
        let Slot { id, created, label, wrapping, .. } = slot;
        Some(SlotInfo { id, kind: wrapping.kind(), created, label })
    });
    Ok(readable.collect())
}

/// Holds the slots against the index. Without keys the index is believed as it stands, so that
/// damage shows, but not what somebody changed on purpose.
///
/// # Errors
/// When the folder cannot be listed.
pub fn check_slots(
    fs: &dyn FileSystem,
    layout: &Layout,
    keys: Option<&Keys>,
) -> Result<Vec<SlotProblem>, StoreError> {
    let files = Files::read(fs, layout)?;
    let index = read_index(fs, layout, keys)?;
    let foreign = files.foreign.iter();
    let mut problems: Vec<_> =
        foreign.map(|name| SlotProblem::Foreign { name: name.clone() }).collect();
    if files.slots.is_empty() && index == IndexState::Missing && !is_encrypted(fs, layout, keys) {
        return Ok(problems);
    }
    if files.slots.is_empty() {
        problems.push(SlotProblem::NoSlots);
    }
    let (listed, change) = match index {
        IndexState::Good(index) => (Some(index.slots), index.change),
        IndexState::Missing => {
            problems.push(SlotProblem::IndexMissing);
            (None, None)
        }
        IndexState::Damaged(reason) => {
            problems.push(SlotProblem::IndexDamaged { reason });
            (None, None)
        }
    };
    if let Some(change) = &change {
        problems.push(SlotProblem::Unfinished { change: change.describe() });
    }
    problems.extend(files.problems(listed.as_ref(), &change.unwrap_or_default()));
    Ok(problems)
}

fn is_encrypted(fs: &dyn FileSystem, layout: &Layout, keys: Option<&Keys>) -> bool {
    if let Some(keys) = keys {
        return keys.is_encrypted();
    }
    let path = layout.header();
    let header = fsio::read_whole(fs, &path, HEADER_BYTES_MAX).ok();
    // Of a header that cannot be read the worse is assumed.
    header
        .and_then(|text| Header::decode(&text, &path).ok())
        .is_none_or(|header| header.peek().encryption != Encryption::None)
}

/// The files in the folder of slots.
pub(in crate::store) struct Files {
    /// Those with names of slots: their content, or why it cannot be read.
    pub slots: BTreeMap<SlotId, Result<Vec<u8>, String>>,
    foreign: BTreeSet<String>,
}

impl Files {
    pub fn read(fs: &dyn FileSystem, layout: &Layout) -> Result<Self, StoreError> {
        let mut files = Self { slots: BTreeMap::new(), foreign: BTreeSet::new() };
        let entries = match fs.list(&layout.slots()) {
            // A copy tool may leave an empty folder out.
            Err(error) if error.not_found() => Vec::new(),
            listed => listed?,
        };
        // All of them: what lies among the slots and is none was put there by somebody.
        for DirEntry { name, kind, .. } in entries {
            let path = layout.slots().join(&name);
            if path == layout.slot_index() {
                continue;
            }
            if kind != FileKind::File {
                files.foreign.insert(name);
                continue;
            }
            let id = name.strip_suffix(".json").and_then(|id| id.parse::<SlotId>().ok());
            match id.filter(|id| layout.slot(*id) == path) {
                Some(id) => {
                    let text = fsio::read_whole(fs, &path, SLOT_BYTES_MAX);
                    files.slots.insert(id, text.map_err(|error| error.to_string()));
                }
                None => {
                    files.foreign.insert(name);
                }
            }
        }
        Ok(files)
    }

    /// Digests of the slots that are good ones, or may be.
    pub fn good(&self) -> BTreeMap<SlotId, Hex<32>> {
        let good = self.slots.iter().filter(|(id, _)| self.flaw(**id).is_none());
        good.filter_map(|(id, file)| Some((*id, digest(file.as_ref().ok()?)))).collect()
    }

    /// What is wrong with a slot in itself.
    fn flaw(&self, id: SlotId) -> Option<String> {
        match self.slots.get(&id)? {
            Err(reason) => Some(reason.clone()),
            Ok(text) => match Slot::decode(text) {
                Ok(slot) if slot.id == id => None,
                Ok(slot) => Some(format!("it holds slot {}", slot.id)),
                Err(Flaw::Newer(_)) => None,
                Err(Flaw::Damaged(reason)) => Some(reason),
            },
        }
    }

    fn problems(
        &self,
        listed: Option<&BTreeMap<SlotId, Hex<32>>>,
        change: &Change,
    ) -> Vec<SlotProblem> {
        let mut problems = Vec::new();
        for (&slot, file) in &self.slots {
            let expected = match listed {
                Some(listed) => listed.get(&slot).or_else(|| change.adding.get(&slot)),
                None => None,
            };
            let is_changed = expected
                .is_some_and(|expected| file.as_ref().is_ok_and(|text| digest(text) != *expected));
            match self.flaw(slot) {
                Some(reason) => problems.push(SlotProblem::Damaged { slot, reason }),
                None if is_changed => {
                    let reason = "it is not the slot that the index lists".to_owned();
                    problems.push(SlotProblem::Damaged { slot, reason });
                }
                None if listed.is_some() && expected.is_none() => {
                    problems.push(SlotProblem::Unlisted { slot });
                }
                None => {}
            }
        }
        let listed = listed.into_iter().flat_map(BTreeMap::keys);
        let lost =
            listed.filter(|id| !self.slots.contains_key(id) && !change.removing.contains(id));
        problems.extend(lost.map(|&slot| SlotProblem::Missing { slot }));
        problems
    }
}

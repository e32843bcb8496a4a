//! Key slots: the master key, wrapped under a key file, a pass phrase or a recovery key.
//!
//! Invariant: every slot has a fresh random salt, from which its wrapping key is derived and with
//! which exactly one thing is ever sealed; so the fixed nonce 0 never repeats under a key.

mod check;
mod index;
mod label;
mod recovery;
mod secret;
mod stretch;
#[cfg(test)]
mod tests;

pub(super) use check::Files;
pub use check::{SlotInfo, SlotKind, SlotProblem, check_slots, list_slots};
pub(super) use index::{Change, Index, IndexState, digest, read_index};
pub use label::{InvalidLabel, SlotLabel};
pub use recovery::{RecoveryKey, RecoveryKeyError};
pub(super) use secret::{SECRET_BYTES_MAX, new_key_text, write_in_place};
pub use secret::{Secret, SecretError, generate_key_file};

use super::keys::{KEY_BYTES, SecretKey, derive};
use super::seal::{Sealer, TAG_BYTES};
use super::{Layout, StoreError, WriterSession};
use crate::fsio::{self, FileKind, FileSystem};
use crate::units::{Hex, RepositoryId, SlotId, fill_random, readable};
use std::path::PathBuf;
use stretch::Cost;
use zeroize::Zeroizing;

/// The first format: key files and pass phrases, no label.
const SLOT_FORMAT_FIRST: u64 = 1;
/// Adds recovery keys and labels. Slots that have neither are still written in the first format,
/// so that the programs that only know that one open them.
const SLOT_FORMAT: u64 = 2;
pub(super) const SLOT_BYTES_MAX: u64 = 16 * 1024;
/// More slots than this were not made by people.
pub(super) const SLOTS_MAX: usize = 64;
/// Argon2id cost of new slots: 64 MiB and three passes, the second recommendation of RFC 9106.
const ARGON2_KIB: u32 = 64 * 1024;
const ARGON2_PASSES: u32 = 3;
/// The most memory that a slot from outside may ask for.
const ARGON2_KIB_MAX: u32 = 256 * 1024;
const ARGON2_PASSES_MAX: u32 = 64;

pub(super) fn random() -> Result<[u8; KEY_BYTES], StoreError> {
    let mut bytes = [0; KEY_BYTES];
    fill_random(&mut bytes).map_err(StoreError::Random)?;
    Ok(bytes)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "method", rename_all = "kebab-case", deny_unknown_fields)]
enum Wrapping {
    KeyFile {},
    Argon2id { memory_kib: u32, passes: u32 },
    RecoveryKey {},
}

impl Wrapping {
    fn kind(self) -> SlotKind {
        match self {
            Self::KeyFile {} => SlotKind::KeyFile,
            Self::Argon2id { .. } => SlotKind::Passphrase,
            Self::RecoveryKey {} => SlotKind::RecoveryKey,
        }
    }
}

impl Secret {
    /// The kind of slot that it opens.
    pub fn kind(&self) -> SlotKind {
        match self {
            Self::KeyFile(_) => SlotKind::KeyFile,
            Self::Passphrase(_) => SlotKind::Passphrase,
            Self::RecoveryKey(_) => SlotKind::RecoveryKey,
        }
    }

    fn new_wrapping(&self) -> Wrapping {
        match self {
            Self::KeyFile(_) => Wrapping::KeyFile {},
            Self::Passphrase(_) => {
                Wrapping::Argon2id { memory_kib: ARGON2_KIB, passes: ARGON2_PASSES }
            }
            Self::RecoveryKey(_) => Wrapping::RecoveryKey {},
        }
    }

    fn wrapping_key(&self, slot: &Slot) -> Option<SecretKey> {
        let (salt, context) = (&slot.salt.0, slot.id.0);
        match (self, slot.wrapping) {
            (Self::KeyFile(bytes), Wrapping::KeyFile {}) => {
                Some(derive(bytes, salt, "afterimage key file", &context))
            }
            (Self::RecoveryKey(key), Wrapping::RecoveryKey {}) => {
                Some(derive(key.bytes(), salt, "afterimage recovery key", &context))
            }
            (Self::Passphrase(text), Wrapping::Argon2id { memory_kib, passes }) => {
                if memory_kib > ARGON2_KIB_MAX || passes > ARGON2_PASSES_MAX {
                    return None;
                }
                let stretched = stretch::stretch(text, salt, Cost { memory_kib, passes })?;
                Some(derive(stretched.as_ref(), salt, "afterimage pass phrase", &context))
            }
            _ => None,
        }
    }
}

/// The content of a slot's file. `wrapped` and `tag` are the sealed master key.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Slot {
    format: u64,
    id: SlotId,
    created: jiff::Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    label: Option<SlotLabel>,
    wrapping: Wrapping,
    salt: Hex<KEY_BYTES>,
    wrapped: Hex<KEY_BYTES>,
    tag: Hex<TAG_BYTES>,
}

/// What can be read of a slot of any format.
#[derive(serde::Deserialize)]
struct AnySlot {
    format: u64,
}

/// Why a slot's file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Flaw {
    /// Written by a later version: it may be a good one.
    Newer(u64),
    /// In words.
    Damaged(String),
}

impl Slot {
    fn decode(text: &[u8]) -> Result<Self, Flaw> {
        let damaged = |error: serde_json::Error| Flaw::Damaged(readable(error));
        let AnySlot { format } = serde_json::from_slice(text).map_err(damaged)?;
        if format > SLOT_FORMAT {
            return Err(Flaw::Newer(format));
        }
        let slot: Self = serde_json::from_slice(text).map_err(damaged)?;
        if slot.least_format() > format || format == 0 {
            return Err(Flaw::Damaged(format!("what it holds is not of format {format}")));
        }
        Ok(slot)
    }

    fn least_format(&self) -> u64 {
        match (self.wrapping, &self.label) {
            (Wrapping::KeyFile {} | Wrapping::Argon2id { .. }, None) => SLOT_FORMAT_FIRST,
            _ => SLOT_FORMAT,
        }
    }

    /// What the sealed master key is bound to. The label is what people go by when they remove a
    /// slot.
    fn bound(&self, repository: RepositoryId) -> Vec<u8> {
        let Self { id, label, .. } = self;
        if self.format == SLOT_FORMAT_FIRST {
            return [b"afterimage key slot\0".as_slice(), &repository.0, &id.0].concat();
        }
        let label = label.as_ref().map_or("", SlotLabel::as_str).as_bytes();
        [b"afterimage key slot 2\0".as_slice(), &repository.0, &id.0, label].concat()
    }

    fn open(&self, repository: RepositoryId, secret: &Secret) -> Option<SecretKey> {
        let key = secret.wrapping_key(self)?;
        let mut sealed = Zeroizing::new([self.wrapped.0.as_slice(), &self.tag.0].concat());
        let plain = Sealer::new(&key).open(0, &self.bound(repository), &mut sealed)?;
        let mut master = SecretKey::default();
        if plain.len() != KEY_BYTES {
            return None;
        }
        master.copy_from_slice(plain);
        Some(master)
    }
}

/// A slot that is not in the repository yet.
pub(super) struct NewSlot {
    pub id: SlotId,
    pub text: Vec<u8>,
}

/// Wraps the master key so that `secret` opens it.
pub(super) fn wrap(
    repository: RepositoryId,
    secret: &Secret,
    label: Option<SlotLabel>,
    master: &SecretKey,
    now: jiff::Timestamp,
) -> Result<NewSlot, StoreError> {
    let mut slot = Slot {
        format: SLOT_FORMAT_FIRST,
        id: SlotId::random().map_err(StoreError::Random)?,
        created: now,
        label,
        wrapping: secret.new_wrapping(),
        salt: Hex(random()?),
        wrapped: Hex([0; KEY_BYTES]),
        tag: Hex([0; TAG_BYTES]),
    };
    slot.format = slot.least_format();
    let key = secret.wrapping_key(&slot).ok_or(StoreError::MemoryFault)?;
    let mut sealed = master.to_vec();
    if !Sealer::new(&key).seal(0, &slot.bound(repository), &mut sealed, 0) {
        return Err(StoreError::MemoryFault);
    }
    let (wrapped, tag) = sealed.split_at(KEY_BYTES);
    slot.wrapped.0.copy_from_slice(wrapped);
    slot.tag.0.copy_from_slice(tag);
    // Slots hold nothing that could fail to be written as JSON.
    let text = serde_json::to_vec_pretty(&slot).map_err(|_| StoreError::MemoryFault)?;
    Ok(NewSlot { id: slot.id, text })
}

/// Adds a slot, durably.
pub(super) fn publish(session: &WriterSession, slot: &NewSlot) -> Result<(), StoreError> {
    let file = session.create()?;
    file.handle().write_all_at(&slot.text, 0)?;
    Ok(file.publish(&session.layout().slot(slot.id))?)
}

/// Removes all slots and their index: what a creation that was interrupted has left.
pub(super) fn remove_all(fs: &dyn FileSystem, layout: &Layout) -> Result<(), StoreError> {
    let names = file_names(fs, layout)?;
    let mut paths: Vec<_> = names.iter().map(|name| layout.slots().join(name)).collect();
    paths.extend(fs.stat(&layout.slot_index())?.is_some().then(|| layout.slot_index()));
    remove_files(fs, &paths)
}

/// Removes those of the files that are there, durably. All lie in one folder.
pub(super) fn remove_files(fs: &dyn FileSystem, paths: &[PathBuf]) -> Result<(), StoreError> {
    for path in paths {
        match fs.remove_file(path) {
            Err(error) if error.not_found() => {}
            removed => removed?,
        }
    }
    // Also when nothing was there: an earlier process may have been killed before it came to this.
    Ok(paths.first().map_or(Ok(()), |path| fs.sync_dir(&fsio::parent_dir(path)))?)
}

/// Names of the files in the folder of slots that may be slots, sorted.
fn file_names(fs: &dyn FileSystem, layout: &Layout) -> Result<Vec<String>, StoreError> {
    let index = layout.slot_index();
    let is_slot = |name: &str| name.ends_with(".json") && !index.ends_with(name);
    let mut names: Vec<_> = match fs.list(&layout.slots()) {
        // A copy tool may leave an empty folder out.
        Err(error) if error.not_found() => Vec::new(),
        listed => listed?
            .into_iter()
            .filter(|entry| entry.kind == FileKind::File && is_slot(&entry.name))
            .map(|entry| entry.name)
            .collect(),
    };
    names.sort();
    Ok(names)
}

/// The master key, from the first slot that `secret` opens. Slots of other kinds, and damaged
/// ones, are passed over: one good slot is enough.
pub(super) fn unlock(
    fs: &dyn FileSystem,
    layout: &Layout,
    repository: RepositoryId,
    secret: &Secret,
) -> Result<SecretKey, StoreError> {
    let mut tried = 0;
    for name in file_names(fs, layout)?.into_iter().take(SLOTS_MAX) {
        let Ok(text) = fsio::read_whole(fs, &layout.slots().join(name), SLOT_BYTES_MAX) else {
            continue;
        };
        let Ok(slot) = Slot::decode(&text) else { continue };
        if slot.wrapping.kind() != secret.kind() {
            continue;
        }
        tried += 1;
        if let Some(master) = slot.open(repository, secret) {
            return Ok(master);
        }
    }
    let path = layout.root().to_owned();
    Err(StoreError::WrongKey { path, given: secret.describe(), tried })
}

/// The master key, if the text of a slot's file is that of a slot and `secret` opens it.
pub(super) fn open_text(
    text: &[u8],
    repository: RepositoryId,
    secret: &Secret,
) -> Option<SecretKey> {
    Slot::decode(text).ok()?.open(repository, secret)
}

/// All slots that `secret` opens, of those whose files have their own names.
pub(super) fn opened_by(
    fs: &dyn FileSystem,
    layout: &Layout,
    repository: RepositoryId,
    secret: &Secret,
) -> Result<Vec<SlotId>, StoreError> {
    let mut opened = Vec::new();
    for found in list_slots(fs, layout)?.into_iter().filter(|slot| slot.kind == secret.kind()) {
        let text = fsio::read_whole(fs, &layout.slot(found.id), SLOT_BYTES_MAX)?;
        if open_text(&text, repository, secret).is_some() {
            opened.push(found.id);
        }
    }
    Ok(opened)
}

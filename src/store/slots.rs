//! Key slots: the master key, wrapped under a pass phrase or a key file.
//!
//! Invariant: every slot has a fresh random salt, from which its wrapping key is derived and with
//! which exactly one thing is ever sealed; so the fixed nonce 0 never repeats under a key.

use super::keys::{KEY_BYTES, SecretKey, derive};
use super::seal::{Sealer, TAG_BYTES};
use super::{Layout, StoreError, WriterSession};
use crate::fsio::{self, FileError, FileKind, FileSystem};
use crate::units::{Hex, RepositoryId, SlotId};
use argon2::{Algorithm, Argon2, Params, Version};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zeroize::Zeroizing;

const SLOT_FORMAT: u64 = 1;
const SLOT_BYTES_MAX: u64 = 16 * 1024;
/// More slots than this were not made by people.
const SLOTS_MAX: usize = 64;
const SECRET_BYTES_MAX: u64 = 64 * 1024;
const KEY_FILE_BYTES_MIN: usize = 32;
/// Argon2id cost of new slots: 64 MiB and three passes, the second recommendation of RFC 9106.
const ARGON2_KIB: u32 = 64 * 1024;
const ARGON2_PASSES: u32 = 3;
/// The most memory that a slot from outside may ask for.
const ARGON2_KIB_MAX: u32 = 256 * 1024;
const ARGON2_PASSES_MAX: u32 = 64;

/// Why a pass phrase or key file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// It cannot be read.
    #[error("cannot use the {kind}: {source}; without it the repository cannot be opened")]
    File {
        /// `key file` or `pass phrase file`.
        kind: &'static str,
        /// The reason.
        #[source]
        source: FileError,
    },
    /// It is too short.
    #[error("the {kind} {} is {problem}", path.display())]
    Unfit {
        /// `key file` or `pass phrase file`.
        kind: &'static str,
        /// Its path.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
}

/// What opens a key slot.
pub enum Secret {
    /// The bytes of a key file.
    KeyFile(Zeroizing<Vec<u8>>),
    /// A pass phrase, without the newline at its end.
    Passphrase(Zeroizing<Vec<u8>>),
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.describe())
    }
}

impl Secret {
    /// Reads a key file: at least 32 bytes of anything.
    ///
    /// # Errors
    /// When it cannot be read or is too short.
    pub fn from_key_file(fs: &dyn FileSystem, path: &Path) -> Result<Self, SecretError> {
        let kind = "key file";
        let bytes = read_secret(fs, path, kind)?;
        if bytes.len() < KEY_FILE_BYTES_MIN {
            let problem = "shorter than 32 bytes, too short to be a key";
            return Err(SecretError::Unfit { kind, path: path.to_owned(), problem });
        }
        Ok(Self::KeyFile(bytes))
    }

    /// Reads a pass phrase from a file; a newline at its end does not count.
    ///
    /// # Errors
    /// When it cannot be read or is empty.
    pub fn from_passphrase_file(fs: &dyn FileSystem, path: &Path) -> Result<Self, SecretError> {
        let kind = "pass phrase file";
        let mut bytes = read_secret(fs, path, kind)?;
        while bytes.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
            bytes.pop();
        }
        if bytes.is_empty() {
            return Err(SecretError::Unfit { kind, path: path.to_owned(), problem: "empty" });
        }
        Ok(Self::Passphrase(bytes))
    }

    /// In words, for messages.
    pub fn describe(&self) -> &'static str {
        match self {
            Self::KeyFile(_) => "key file",
            Self::Passphrase(_) => "pass phrase",
        }
    }

    fn wrapping_key(&self, slot: &Slot) -> Option<SecretKey> {
        let context = slot.id.0;
        match (self, &slot.wrapping) {
            (Self::KeyFile(bytes), Wrapping::KeyFile {}) => {
                Some(derive(bytes, &slot.salt.0, "afterimage key file", &context))
            }
            (Self::Passphrase(text), Wrapping::Argon2id { memory_kib, passes }) => {
                if *memory_kib > ARGON2_KIB_MAX || *passes > ARGON2_PASSES_MAX {
                    return None;
                }
                let params = Params::new(*memory_kib, *passes, 1, Some(KEY_BYTES)).ok()?;
                let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
                let mut stretched = SecretKey::default();
                argon2.hash_password_into(text, &slot.salt.0, stretched.as_mut()).ok()?;
                Some(derive(stretched.as_ref(), &slot.salt.0, "afterimage pass phrase", &context))
            }
            _ => None,
        }
    }

    fn fits(&self, wrapping: &Wrapping) -> bool {
        matches!(
            (self, wrapping),
            (Self::KeyFile(_), Wrapping::KeyFile {})
                | (Self::Passphrase(_), Wrapping::Argon2id { .. })
        )
    }
}

fn read_secret(
    fs: &dyn FileSystem,
    path: &Path,
    kind: &'static str,
) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    fsio::read_whole(fs, path, SECRET_BYTES_MAX)
        .map(Zeroizing::new)
        .map_err(|source| SecretError::File { kind, source })
}

/// Writes a new key file of 32 random bytes, as 64 hexadecimal digits, mode 0600.
///
/// # Errors
/// An existing file is an error: it is never overwritten.
pub fn generate_key_file(fs: &Arc<dyn FileSystem>, path: &Path) -> Result<(), StoreError> {
    let key = Hex(random()?);
    let text = Zeroizing::new(format!("{key}\n"));
    let mut temporary = path.as_os_str().to_owned();
    // A name of its own: what an earlier run left when it was killed is not in the way.
    temporary.push(format!(".{}.tmp", SlotId::random().map_err(StoreError::Random)?));
    fs.create_dir_all(&fsio::parent_dir(path))?;
    fsio::write_new(fs, temporary.into(), path, text.as_bytes())?;
    Ok(())
}

pub(super) fn random() -> Result<[u8; KEY_BYTES], StoreError> {
    let mut bytes = [0; KEY_BYTES];
    getrandom::fill(&mut bytes).map_err(|e| StoreError::Random(std::io::Error::other(e)))?;
    Ok(bytes)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "method", rename_all = "kebab-case", deny_unknown_fields)]
enum Wrapping {
    KeyFile {},
    Argon2id { memory_kib: u32, passes: u32 },
}

/// The content of a slot's file. `wrapped` and `tag` are the sealed master key.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Slot {
    format: u64,
    id: SlotId,
    created: jiff::Timestamp,
    wrapping: Wrapping,
    salt: Hex<KEY_BYTES>,
    wrapped: Hex<KEY_BYTES>,
    tag: Hex<TAG_BYTES>,
}

fn bound(repository: RepositoryId, slot: SlotId) -> Vec<u8> {
    [b"afterimage key slot\0".as_slice(), &repository.0, &slot.0].concat()
}

/// Adds a slot that opens with `secret`.
pub(super) fn add(
    session: &WriterSession,
    repository: RepositoryId,
    secret: &Secret,
    master: &SecretKey,
    now: jiff::Timestamp,
) -> Result<SlotId, StoreError> {
    let wrapping = match secret {
        Secret::KeyFile(_) => Wrapping::KeyFile {},
        Secret::Passphrase(_) => {
            Wrapping::Argon2id { memory_kib: ARGON2_KIB, passes: ARGON2_PASSES }
        }
    };
    let mut slot = Slot {
        format: SLOT_FORMAT,
        id: SlotId::random().map_err(StoreError::Random)?,
        created: now,
        wrapping,
        salt: Hex(random()?),
        wrapped: Hex([0; KEY_BYTES]),
        tag: Hex([0; TAG_BYTES]),
    };
    let key = secret.wrapping_key(&slot).ok_or(StoreError::MemoryFault)?;
    let mut sealed = master.to_vec();
    if !Sealer::new(&key).seal(0, &bound(repository, slot.id), &mut sealed, 0) {
        return Err(StoreError::MemoryFault);
    }
    let (wrapped, tag) = sealed.split_at(KEY_BYTES);
    slot.wrapped.0.copy_from_slice(wrapped);
    slot.tag.0.copy_from_slice(tag);
    let path = session.layout().slot(slot.id);
    let text = serde_json::to_vec_pretty(&slot)
        .map_err(|e| FileError::new("write to", &path, std::io::Error::other(e)))?;
    let file = session.create()?;
    file.handle().write_all_at(&text, 0)?;
    file.publish(&path)?;
    Ok(slot.id)
}

/// Files that are no slots as they are written, and why.
pub(super) fn check(
    fs: &dyn FileSystem,
    layout: &Layout,
) -> Result<Vec<(String, String)>, StoreError> {
    let mut found = Vec::new();
    for entry in fs.list(&layout.slots())? {
        if let Some(reason) = fault(fs, layout, &entry.name) {
            found.push((entry.name, reason));
        }
    }
    found.sort();
    Ok(found)
}

fn fault(fs: &dyn FileSystem, layout: &Layout, file: &str) -> Option<String> {
    let text = match fsio::read_whole(fs, &layout.slots().join(file), SLOT_BYTES_MAX) {
        Ok(text) => text,
        Err(error) => return Some(error.to_string()),
    };
    let slot: Slot = match serde_json::from_slice(&text) {
        Ok(slot) => slot,
        Err(error) => return Some(format!("it is no key slot: {error}")),
    };
    if format!("{}.json", slot.id) != file {
        return Some("it does not belong under this name".to_owned());
    }
    match serde_json::to_vec_pretty(&slot) {
        Ok(written) if written == text => None,
        _ => Some("its bytes are not those that were written".to_owned()),
    }
}

/// The master key, from the first slot that `secret` opens. Slots of the other kind, and damaged
/// ones, are passed over: one good slot is enough.
pub(super) fn unlock(
    fs: &dyn FileSystem,
    layout: &Layout,
    repository: RepositoryId,
    secret: &Secret,
) -> Result<SecretKey, StoreError> {
    let mut tried = 0;
    let mut names: Vec<_> = fs
        .list(&layout.slots())?
        .into_iter()
        .filter(|entry| entry.kind == FileKind::File && entry.name.ends_with(".json"))
        .map(|entry| entry.name)
        .collect();
    names.sort();
    for name in names.into_iter().take(SLOTS_MAX) {
        let Ok(text) = fsio::read_whole(fs, &layout.slots().join(name), SLOT_BYTES_MAX) else {
            continue;
        };
        let Ok(slot) = serde_json::from_slice::<Slot>(&text) else { continue };
        if slot.format != SLOT_FORMAT || !secret.fits(&slot.wrapping) {
            continue;
        }
        tried += 1;
        if let Some(master) = open(&slot, repository, secret) {
            return Ok(master);
        }
    }
    let path = layout.root().to_owned();
    Err(StoreError::WrongKey { path, given: secret.describe(), tried })
}

fn open(slot: &Slot, repository: RepositoryId, secret: &Secret) -> Option<SecretKey> {
    let key = secret.wrapping_key(slot)?;
    let mut sealed = Zeroizing::new([slot.wrapped.0.as_slice(), &slot.tag.0].concat());
    let plain = Sealer::new(&key).open(0, &bound(repository, slot.id), &mut sealed)?;
    let mut master = SecretKey::default();
    if plain.len() != KEY_BYTES {
        return None;
    }
    master.copy_from_slice(plain);
    Some(master)
}

//! What opens a key slot: a key file, a pass phrase or a recovery key.

use super::{RecoveryKey, RecoveryKeyError};
use crate::fsio::{self, FileError, FileSystem, OpenMode};
use crate::store::{StoreError, slots};
use crate::units::{Breakage, Hex, SlotId, is_broken};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zeroize::Zeroizing;

pub(in crate::store) const SECRET_BYTES_MAX: u64 = 64 * 1024;
const KEY_FILE_BYTES_MIN: usize = 32;

/// Why a pass phrase or key file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// It cannot be read.
    #[error(
        "cannot use the {kind}: {source}; without it the repository opens only with another key, \
         such as its recovery key: `afterimage key recover`"
    )]
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
    /// The recovery key is mistyped.
    #[error(transparent)]
    RecoveryKey(#[from] RecoveryKeyError),
}

/// What opens a key slot.
pub enum Secret {
    /// The bytes of a key file.
    KeyFile(Zeroizing<Vec<u8>>),
    /// A pass phrase, without the newline at its end.
    Passphrase(Zeroizing<Vec<u8>>),
    /// A recovery key.
    RecoveryKey(RecoveryKey),
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
            Self::RecoveryKey(_) => "recovery key",
        }
    }
}

impl RecoveryKey {
    /// Reads a recovery key from a file that holds nothing else.
    ///
    /// # Errors
    /// When it cannot be read or is mistyped.
    pub fn read(fs: &dyn FileSystem, path: &Path) -> Result<Self, SecretError> {
        let kind = "file with the recovery key";
        let bytes = read_secret(fs, path, kind)?;
        match str::from_utf8(&bytes) {
            Ok(text) => Ok(Self::parse(text)?),
            Err(_) => {
                let problem = "no text";
                Err(SecretError::Unfit { kind, path: path.to_owned(), problem })
            }
        }
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
    let text = new_key_text()?;
    let mut temporary = path.as_os_str().to_owned();
    // A name of its own: what an earlier run left when it was killed is not in the way.
    temporary.push(format!(".{}.tmp", SlotId::random().map_err(StoreError::Random)?));
    fs.create_dir_all(&fsio::parent_dir(path))?;
    fsio::write_new(fs, temporary.into(), path, &text)?;
    Ok(())
}

/// The content of a new key file.
pub(in crate::store) fn new_key_text() -> Result<Zeroizing<Vec<u8>>, StoreError> {
    let key = Hex(slots::random()?);
    Ok(Zeroizing::new(format!("{key}\n").into_bytes()))
}

/// Writes a file that must not exist, durably, under its final name at once: for a file that is
/// used only after it was read back whole.
pub(in crate::store) fn write_in_place(
    fs: &dyn FileSystem,
    path: &Path,
    bytes: &[u8],
) -> Result<(), FileError> {
    let file = fs.open(path, OpenMode::CreateNew)?;
    file.write_all_at(bytes, 0)?;
    if !is_broken(Breakage::KeyUnsynced) {
        file.sync()?;
    }
    fs.sync_dir(&fsio::parent_dir(path))
}

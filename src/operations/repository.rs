//! Creating a repository.

use super::OperationError;
use super::error::known;
use super::open::secret;
use super::run::now;
use crate::catalog::{Catalog, check_local_folder};
use crate::chunk::CutParameters;
use crate::fsio::{FileSystem, RealFileSystem};
use crate::settings::{EncryptionSettings, RepositorySettings, Settings};
use crate::store::{InitOptions, Layout, RecoveryKey, Repository, StoreError, generate_key_file};
use crate::units::{KIB, Name, RepositoryId};
use std::path::PathBuf;
use std::sync::Arc;

/// Average size of a chunk, in bytes, when the settings say nothing. Smaller chunks find more of
/// what is the same, larger ones need less memory and a smaller catalog.
pub const CHUNK_BYTES_DEFAULT: u32 = 16 * KIB as u32;

/// How a repository is created, beside what the settings say.
#[derive(Debug, Clone, Copy)]
pub struct InitChoice {
    /// Whether an encrypted one gets a recovery key.
    pub recovery_key: bool,
}

/// A new repository.
#[derive(Debug, Clone)]
pub struct Initialised {
    /// Its identity.
    pub id: RepositoryId,
    /// Its folder.
    pub path: PathBuf,
    /// The key file that was generated for it. Whoever loses it loses the repository.
    pub generated_key_file: Option<PathBuf>,
    /// The recovery key, which is kept nowhere else.
    pub recovery_key: Option<RecoveryKey>,
}

/// Creates the repository `name` of the settings. A key file that does not exist is generated.
///
/// # Errors
/// When there is one already, or the folder holds something else.
pub fn init(
    settings: &Settings,
    name: &Name,
    choice: InitChoice,
) -> Result<Initialised, OperationError> {
    let (_, place) = known(settings, "repository", &settings.repositories, name.as_str())?;
    check_local_folder(&settings.state_dir)?;
    let made = init_on(&RealFileSystem::shared(), place, choice)?;
    // Its catalog, too: later a missing one means that it was lost.
    Catalog::open(&settings.state_dir, made.id)?;
    Ok(made)
}

pub(super) fn init_on(
    fs: &Arc<dyn FileSystem>,
    place: &RepositorySettings,
    choice: InitChoice,
) -> Result<Initialised, OperationError> {
    // Before a key is generated: a new key beside an old repository would look like its own.
    if fs.stat(&Layout::new(place.path.clone()).header())?.is_some() {
        return Err(StoreError::Exists { path: place.path.clone() }.into());
    }
    let average = match place.chunk_bytes {
        None => CHUNK_BYTES_DEFAULT,
        Some(bytes) => u32::try_from(bytes).unwrap_or(u32::MAX),
    };
    let cut = CutParameters::with_average(average).map_err(StoreError::from)?;
    let generated_key_file = match &place.encryption {
        EncryptionSettings::KeyFile(path) if fs.stat(path)?.is_none() => {
            generate_key_file(fs, path)?;
            Some(path.clone())
        }
        EncryptionSettings::PassphraseFile(path) if fs.stat(path)?.is_none() => {
            let advice = "write a pass phrase to it first, and keep a copy of it elsewhere";
            return Err(OperationError::NoKeyFile { path: path.clone(), advice });
        }
        _ => None,
    };
    let secret = secret(fs.as_ref(), &place.encryption)?;
    let recovery_key = match secret {
        Some(_) if choice.recovery_key => Some(RecoveryKey::random()?),
        _ => None,
    };
    let options = InitOptions {
        cut,
        secret: secret.as_ref(),
        recovery_key: recovery_key.as_ref(),
        now: now(),
    };
    let id = Repository::init(fs, &place.path, &options)?;
    Ok(Initialised { id, path: place.path.clone(), generated_key_file, recovery_key })
}

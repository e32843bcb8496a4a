//! Creating a repository.

use super::OperationError;
use super::error::known;
use super::open::secret;
use super::run::now;
use crate::catalog::{Catalog, check_local_folder};
use crate::chunk::CutParameters;
use crate::fsio::RealFileSystem;
use crate::settings::{EncryptionSettings, Settings};
use crate::store::{InitOptions, Layout, Repository, StoreError, generate_key_file};
use crate::units::{KIB, Name, RepositoryId};
use std::path::PathBuf;

/// Average size of a chunk, in bytes, when the settings say nothing. Smaller chunks find more of
/// what is the same, larger ones need less memory and a smaller catalog.
pub const CHUNK_BYTES_DEFAULT: u32 = 16 * KIB as u32;

/// A new repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Initialised {
    /// Its identity.
    pub id: RepositoryId,
    /// Its folder.
    pub path: PathBuf,
    /// The key file that was generated for it. Whoever loses it loses the repository.
    pub generated_key_file: Option<PathBuf>,
}

/// Creates the repository `name` of the settings. A key file that does not exist is generated.
///
/// # Errors
/// When there is one already, or the folder holds something else.
pub fn init(settings: &Settings, name: &Name) -> Result<Initialised, OperationError> {
    let (_, place) = known(settings, "repository", &settings.repositories, name.as_str())?;
    check_local_folder(&settings.state_dir)?;
    let fs = RealFileSystem::shared();
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
            generate_key_file(&fs, path)?;
            Some(path.clone())
        }
        _ => None,
    };
    let secret = secret(fs.as_ref(), &place.encryption)?;
    let options = InitOptions { cut, secret: secret.as_ref(), now: now() };
    let id = Repository::init(&fs, &place.path, &options)?;
    // Its catalog, too: later a missing one means that it was lost.
    Catalog::open(&settings.state_dir, id)?;
    Ok(Initialised { id, path: place.path.clone(), generated_key_file })
}

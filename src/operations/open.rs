//! Opening a repository as the settings say, with its catalog.

use super::OperationError;
use super::error::known;
use crate::catalog::{self, Catalog};
use crate::fsio::{FileSystem, RealFileSystem};
use crate::settings::{EncryptionSettings, PlaceKind, RepositorySettings, Settings};
use crate::source::{ImageFormat, SourceSpec};
use crate::store::{Layout, Repository, Secret, StoreError};
use crate::units::Name;
use std::sync::Arc;

/// More threads than this only wait for disks.
const WORKERS_MAX: usize = 8;

/// A repository and the catalog of it.
#[derive(Debug)]
pub struct OpenRepository {
    /// The repository.
    pub repository: Repository,
    /// Its catalog, as it was left; [`Catalog::sync`] brings it up to date.
    pub catalog: Catalog,
}

/// Threads that a verb works with.
pub fn workers() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(WORKERS_MAX)
}

/// Opens the repository `name` of the settings and its catalog.
///
/// # Errors
/// When there is none, its key does not fit, or the catalog cannot be used.
pub fn open_repository(settings: &Settings, name: &Name) -> Result<OpenRepository, OperationError> {
    let (_, place) = known(settings, "repository", &settings.repositories, name.as_str())?;
    catalog::check_local_folder(&settings.state_dir)?;
    let fs = RealFileSystem::shared();
    let repository = open_place(&fs, place)?;
    let catalog = Catalog::open(&settings.state_dir, repository.header().id)?;
    Ok(OpenRepository { repository, catalog })
}

/// Opens a repository without its catalog.
pub(super) fn open_place(
    fs: &Arc<dyn FileSystem>,
    place: &RepositorySettings,
) -> Result<Repository, StoreError> {
    // Before the key: where there is no repository, the way on is to create one, with its key.
    if fs.stat(&Layout::new(place.path.clone()).header())?.is_none() {
        return Err(Repository::missing(fs.as_ref(), &place.path));
    }
    let secret = secret(fs.as_ref(), &place.encryption)?;
    Repository::open(fs, &place.path, secret.as_ref(), place.compression_level)
}

pub(super) fn secret(
    fs: &dyn FileSystem,
    encryption: &EncryptionSettings,
) -> Result<Option<Secret>, StoreError> {
    Ok(match encryption {
        EncryptionSettings::None => None,
        EncryptionSettings::KeyFile(path) => Some(Secret::from_key_file(fs, path)?),
        EncryptionSettings::PassphraseFile(path) => Some(Secret::from_passphrase_file(fs, path)?),
    })
}

/// The disks of a machine, as the sources that they are read from.
pub(super) fn source_specs(
    settings: &Settings,
    machine: &Name,
) -> Result<Vec<(Name, SourceSpec)>, OperationError> {
    let (_, machine) = known(settings, "machine", &settings.machines, machine.as_str())?;
    let specs = machine.disks.iter().map(|disk| {
        let source = &disk.source;
        let is_device = source.kind == PlaceKind::Device;
        let spec = SourceSpec {
            path: source.path.clone(),
            // A device is read as it is, whatever its guest made its content look like.
            format: if is_device { Some(ImageFormat::Raw) } else { source.format },
            must_be_device: is_device,
            quiesced: source.quiesced,
        };
        (disk.name.clone(), spec)
    });
    Ok(specs.collect())
}

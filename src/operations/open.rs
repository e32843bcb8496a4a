//! Opening a repository as the settings say, with its catalog.

use super::OperationError;
use super::error::known;
use super::reasons::CatalogProblem;
use crate::catalog::{self, Catalog, CatalogError, History};
use crate::fsio::{FileLock, FileSystem, RealFileSystem};
use crate::settings::{EncryptionSettings, RepositorySettings, Settings};
use crate::store::{Layout, Repository, Secret, StoreError};
use crate::units::{Name, RepositoryId};
use std::path::{Path, PathBuf};
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
    state_dir: PathBuf,
    /// Meanwhile no other catalog takes its place.
    _in_use: FileLock,
}

impl Drop for OpenRepository {
    fn drop(&mut self) {
        // What is not noted of the last changes only makes an older copy harder to find.
        let _ = note_generation(&self.state_dir, self.repository.header().id, &self.catalog);
    }
}

/// Threads that a verb works with: as the settings say, else as many as there are processors.
pub fn workers(settings: &Settings) -> usize {
    if let Some(workers) = settings.daemon.workers {
        return (workers as usize).clamp(1, WORKERS_MAX);
    }
    std::thread::available_parallelism().map_or(1, usize::from).min(WORKERS_MAX)
}

/// Opens the repository `name` of the settings and its catalog.
///
/// # Errors
/// When there is none, its key does not fit, or the catalog cannot be used.
pub fn open_repository(settings: &Settings, name: &Name) -> Result<OpenRepository, OperationError> {
    let (name, place) = known(settings, "repository", &settings.repositories, name.as_str())?;
    catalog::check_local_folder(&settings.state_dir)?;
    let fs = RealFileSystem::shared();
    let repository = open_place(&fs, place)?;
    open_catalog(settings, name, repository)
}

/// A catalog that is only looked into, while its repository is not opened.
pub(super) struct OpenCatalog {
    pub catalog: Catalog,
    /// Meanwhile no other catalog takes its place.
    in_use: FileLock,
}

/// Opens the catalog of a repository, if it can be relied on.
pub(super) fn open_catalog(
    settings: &Settings,
    name: &Name,
    repository: Repository,
) -> Result<OpenRepository, OperationError> {
    let id = repository.header().id;
    let OpenCatalog { catalog, in_use } =
        open_catalog_alone(settings, name, id, || holds_anything(&repository))?;
    let state_dir = settings.state_dir.clone();
    Ok(OpenRepository { repository, catalog, state_dir, _in_use: in_use })
}

/// Opens the catalog of the repository `id` alone, if it can be relied on. Where there is none, that
/// is no fault if the repository holds nothing.
pub(super) fn open_catalog_alone(
    settings: &Settings,
    name: &Name,
    id: RepositoryId,
    holds_anything: impl FnOnce() -> Result<bool, StoreError>,
) -> Result<OpenCatalog, OperationError> {
    let state_dir = &settings.state_dir;
    let path = Catalog::path(state_dir, id);
    let unfit = |problem| OperationError::CatalogUnfit {
        repository: name.clone(),
        path: path.clone(),
        problem,
    };
    let in_use = Catalog::lock_in_use(state_dir, id)?;
    if RealFileSystem.stat(&path)?.is_none() && holds_anything()? {
        return Err(unfit(CatalogProblem::Missing));
    }
    // First what the history has seen: others note more at any moment, and the catalog is further
    // than what they note. Without the history nothing says how far it has been; its own commands
    // tell what is wrong with the history.
    let seen = History::open(state_dir).and_then(|history| history.generation(id)).unwrap_or(0);
    let opened = Catalog::open(state_dir, id).and_then(|catalog| {
        catalog.probe()?;
        let found = catalog.generation()?;
        Ok((catalog, found))
    });
    let (catalog, found) = opened.map_err(|error| match problem(&error) {
        Some(problem) => unfit(problem),
        None => error.into(),
    })?;
    if found < seen {
        return Err(unfit(CatalogProblem::Older { found, seen }));
    }
    Ok(OpenCatalog { catalog, in_use })
}

/// What an error says of the catalog; `None`: nothing.
pub(super) fn problem(error: &CatalogError) -> Option<CatalogProblem> {
    match error {
        CatalogError::Foreign { found, .. } => {
            Some(CatalogProblem::Foreign { found: found.clone() })
        }
        CatalogError::Damaged { reason, .. } => {
            Some(CatalogProblem::Damaged { reason: reason.clone() })
        }
        CatalogError::Sqlite { source, .. } if is_damage(source) => {
            Some(CatalogProblem::Damaged { reason: source.to_string() })
        }
        _ => None,
    }
}

/// Whether SQLite failed because of what the file holds; not because it is locked, full, …
fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase, Unknown};
    match error.sqlite_error_code() {
        // Unknown: a table or a column is missing.
        Some(code) => matches!(code, DatabaseCorrupt | NotADatabase | Unknown),
        // A row that cannot be.
        None => true,
    }
}

fn holds_anything(repository: &Repository) -> Result<bool, StoreError> {
    Ok(!repository.list_points()?.is_empty() || !repository.list_packs()?.is_empty())
}

/// Notes how far the catalog has come, as far as no power cut can take that back.
fn note_generation(
    state_dir: &Path,
    id: RepositoryId,
    catalog: &Catalog,
) -> Result<(), CatalogError> {
    let history = History::open(state_dir)?;
    if catalog.generation()? > history.generation(id)?
        && let Some(generation) = catalog.durable_generation()?
    {
        history.note_generation(id, generation)?;
    }
    Ok(())
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

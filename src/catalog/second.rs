//! A second catalog of a repository, in a temporary file beside the live one: to compare the two,
//! or to take its place.
//!
//! Invariants: a temporary file belongs to whoever holds the lock of its name, so whoever takes
//! the lock may remove what an earlier holder left; the live catalog is replaced by one rename,
//! while nobody has it open and its log is empty or gone, so that a kill leaves the old one or the
//! new one, whole.

use super::database::settle;
use super::{Catalog, CatalogError};
use crate::fsio::{
    FileError, FileLock, FileSystem, LockError, LockHolder, LockMode, OpenMode, RealFileSystem,
    parent_dir,
};
use crate::units::RepositoryId;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often, and how long, is waited for a lock that others hold for moments.
const TRIES: u32 = 300;
const WAIT: Duration = Duration::from_millis(10);

/// A catalog in a temporary file, which goes with it.
#[derive(Debug)]
pub struct SecondCatalog {
    // Closed before its file is removed.
    catalog: Catalog,
    place: Place,
}

/// The temporary file, and the right to have it.
#[derive(Debug)]
struct Place {
    state_dir: PathBuf,
    repository: RepositoryId,
    _lock: FileLock,
}

impl SecondCatalog {
    /// An empty one. What a killed process left of such a file is removed.
    ///
    /// # Errors
    /// Busy while another process has one.
    pub fn begin(state_dir: &Path, repository: RepositoryId) -> Result<Self, CatalogError> {
        let lock = state_dir.join(format!("catalog-{repository}.second.lock"));
        let holder = LockHolder::this_process("building a second catalog");
        let lock = FileLock::try_take(&RealFileSystem, &lock, LockMode::Exclusive, &holder)?;
        let place = Place { state_dir: state_dir.to_owned(), repository, _lock: lock };
        remove(&place.path())?;
        Ok(Self { catalog: Catalog::open_at(&place.path(), repository)?, place })
    }

    /// The catalog.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Puts it in the place of the live one.
    ///
    /// # Errors
    /// Busy while a command goes on that has the live one open. The live one is then as it was.
    pub fn replace_live(self) -> Result<(), CatalogError> {
        let Self { catalog, place } = self;
        if !catalog.database.checkpoint()? {
            // What stays in its log would be lost with it.
            return Err(catalog.database.busy());
        }
        // Closing the last connection removes the log.
        drop(catalog);
        let (fs, new) = (RealFileSystem, place.path());
        let live = Catalog::path(&place.state_dir, place.repository);
        fs.open(&new, OpenMode::Write)?.sync()?;
        let _alone = lock_use(&place.state_dir, place.repository, LockMode::Exclusive)?;
        // The old log goes into the old database, where that can still be done: until the rename,
        // a kill leaves the old one. A log that stayed would be taken for the new one's.
        settle(&live);
        for beside in beside(&live) {
            remove_one(&beside)?;
        }
        fs.rename(&new, &live)?;
        Ok(fs.sync_dir(&parent_dir(&live))?)
    }
}

impl Place {
    fn path(&self) -> PathBuf {
        self.state_dir.join(format!("catalog-{}.second.sqlite", self.repository))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Best effort: the next one removes what stays.
        let _ = remove(&self.path());
    }
}

impl Catalog {
    /// Held while the live catalog is open: meanwhile no other one takes its place. Waited for,
    /// as that takes moments.
    ///
    /// # Errors
    /// Busy when it took longer.
    pub fn lock_in_use(
        state_dir: &Path,
        repository: RepositoryId,
    ) -> Result<FileLock, CatalogError> {
        lock_use(state_dir, repository, LockMode::Shared)
    }
}

fn lock_use(
    state_dir: &Path,
    repository: RepositoryId,
    mode: LockMode,
) -> Result<FileLock, CatalogError> {
    let path = state_dir.join(format!("catalog-{repository}.lock"));
    let holder = LockHolder::this_process("replacing the catalog");
    for _ in 0..TRIES {
        match FileLock::try_take(&RealFileSystem, &path, mode, &holder) {
            Err(LockError::Busy { .. }) => std::thread::sleep(WAIT),
            other => return Ok(other?),
        }
    }
    Ok(FileLock::try_take(&RealFileSystem, &path, mode, &holder)?)
}

/// SQLite's files beside a database: the log and its index.
fn beside(path: &Path) -> [PathBuf; 2] {
    ["-wal", "-shm"].map(|suffix| {
        let mut file = path.to_owned().into_os_string();
        file.push(suffix);
        file.into()
    })
}

/// Removes a database with the files beside it, which go first: they must never be left alone.
pub(super) fn remove(path: &Path) -> Result<(), CatalogError> {
    for beside in beside(path) {
        remove_one(&beside)?;
    }
    remove_one(path)
}

fn remove_one(path: &Path) -> Result<(), CatalogError> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(FileError::new("remove", path, e).into())
        }
        _ => Ok(()),
    }
}

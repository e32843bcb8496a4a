//! The right to use a repository: shared by all who read it or add to it.
//!
//! Invariant: whoever holds a lease of an epoch has seen the list of condemned packs of that epoch
//! or a later one, and is waited for before anything that a later list condemns is removed. So
//! nothing that a reader can still reach, or a writer may still refer to, disappears.

use super::condemned::CurrentList;
use super::{Layout, Repository, StoreError};
use crate::fsio::{FileLock, LockError, LockHolder, LockMode};
use crate::units::{Breakage, ListId, is_broken};
use std::path::PathBuf;

/// How often, and how long, a lease is tried for while the epoch changes, in milliseconds.
const EPOCH_TRIES: u32 = 200;
const EPOCH_WAIT_MS: u64 = 10;

/// The lock file of those who began before there was any list.
const FIRST_EPOCH: &str = "epoch-first.lock";

/// Held while a repository is used.
#[derive(Debug)]
pub struct Lease {
    current: CurrentList,
    // Released in this order: whoever sees the epoch free may take the repository alone.
    _epoch: FileLock,
    _repository: FileLock,
}

impl Lease {
    /// The list of condemned packs of the lease's epoch.
    pub fn condemned(&self) -> &CurrentList {
        &self.current
    }
}

fn lock_name(id: Option<ListId>) -> String {
    id.map_or(FIRST_EPOCH.to_owned(), |id| format!("epoch-{id}.lock"))
}

impl Layout {
    fn epoch_lock(&self, id: Option<ListId>) -> PathBuf {
        self.root().join("locks").join(lock_name(id))
    }
}

impl Repository {
    /// A lease for whoever adds to the repository.
    ///
    /// # Errors
    /// Busy while the repository is used by one alone; damaged when the list of condemned packs
    /// cannot be read: what a new point may refer to is then not known.
    pub fn lock_shared(&self, work: &str) -> Result<Lease, StoreError> {
        self.lease(work, Self::condemned)
    }

    /// A lease for whoever only reads. A repository that is mounted read-only has no lock to take,
    /// nothing can be removed from it, and it must still give back what it holds.
    ///
    /// # Errors
    /// Busy while the repository is used by one alone.
    pub fn lock_for_reading(&self, work: &str) -> Result<Option<Lease>, StoreError> {
        // With a list that cannot be read nothing is removed at all.
        let lenient = |repository: &Self| match repository.condemned() {
            Err(StoreError::Damaged(_)) => Ok(CurrentList::default()),
            other => other,
        };
        match self.lease(work, lenient) {
            Err(StoreError::Lock(LockError::File(error)))
                if error.source.kind() == std::io::ErrorKind::ReadOnlyFilesystem =>
            {
                Ok(None)
            }
            other => other.map(Some),
        }
    }

    fn lease(
        &self,
        work: &str,
        current: impl Fn(&Self) -> Result<CurrentList, StoreError>,
    ) -> Result<Lease, StoreError> {
        let (fs, holder) = (self.file_system().as_ref(), LockHolder::this_process(work));
        let take = |path: PathBuf| FileLock::try_take(fs, &path, LockMode::Shared, &holder);
        let repository = take(self.layout().repository_lock())?;
        let mut last = None;
        for attempt in 0..EPOCH_TRIES {
            if attempt > 0 {
                std::thread::sleep(std::time::Duration::from_millis(EPOCH_WAIT_MS));
            }
            let before = current(self)?;
            match take(self.layout().epoch_lock(before.id)) {
                Ok(epoch) => {
                    // Only now it is certain that the collector waits for this one.
                    if current(self)?.id == before.id {
                        return Ok(Lease {
                            current: before,
                            _epoch: epoch,
                            _repository: repository,
                        });
                    }
                }
                Err(busy @ LockError::Busy { .. }) => last = Some(busy),
                Err(error) => return Err(error.into()),
            }
        }
        let path = self.layout().epoch_lock(None);
        Err(last.unwrap_or(LockError::Busy { path, holder: None }).into())
    }

    /// Whether anyone still holds a lease of another epoch than that of `current`. Locks that are
    /// free are tidied away.
    ///
    /// # Errors
    /// When the locks cannot be looked at.
    pub fn has_older_leases(&self, current: &CurrentList) -> Result<bool, StoreError> {
        let fs = self.file_system().as_ref();
        let holder = LockHolder::this_process("a collector's look at older work");
        let (folder, own) = (self.layout().root().join("locks"), lock_name(current.id));
        let mut any = false;
        if is_broken(Breakage::LeasesIgnored) {
            return Ok(false);
        }
        for entry in fs.list(&folder)? {
            let is_epoch = entry.name.starts_with("epoch-") && entry.name.ends_with(".lock");
            if !is_epoch || entry.name == own {
                continue;
            }
            let path = folder.join(&entry.name);
            match FileLock::try_take(fs, &path, LockMode::Exclusive, &holder) {
                Ok(_free) if entry.name != FIRST_EPOCH => {
                    // A list never counts again: who opened its lock meanwhile sees that and
                    // turns to the new one.
                    match fs.remove_file(&path) {
                        Err(error) if !error.not_found() => return Err(error.into()),
                        _ => {}
                    }
                }
                Ok(_free) => {}
                Err(LockError::Busy { .. }) => any = true,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(any)
    }
}

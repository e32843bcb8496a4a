//! Which snapshots exist, or may: recorded before a snapshot is made, until it is certainly gone.
//!
//! Only the user's commands reach the snapshots, so afterimage cannot look which ones there are. One
//! folder for each disk holds an empty file for each snapshot, by its name.

use super::SnapshotError;
use crate::capture::Mark;
use crate::fsio::{FileLock, FileSystem, LockHolder, LockMode, OpenMode, RealFileSystem};
use crate::units::{Hex, RunId};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Longest list of names that is read.
const NAMES_MAX: usize = 10_000;

/// The records of one disk's snapshots. While they are open, nobody else makes any.
#[derive(Debug)]
pub(super) struct Records {
    fs: Arc<dyn FileSystem>,
    folder: PathBuf,
    mark: Mark,
    _lock: FileLock,
}

impl Records {
    /// Opens those of `mark` in `folder`, which is made when it is missing.
    pub(super) fn open(folder: &Path, mark: Mark) -> Result<Self, SnapshotError> {
        let fs = RealFileSystem::shared();
        let folder = folder.join(mark.to_string());
        fs.create_dir_all(&folder)?;
        let holder = LockHolder::this_process("a snapshot of the same disk");
        let lock =
            FileLock::try_take(fs.as_ref(), &folder.join("lock"), LockMode::Exclusive, &holder)?;
        Ok(Self { fs, folder, mark, _lock: lock })
    }

    /// A name for the snapshot of a run.
    pub(super) fn name_for(&self, run: RunId) -> String {
        format!("afterimage-{}-{run}", self.mark)
    }

    /// Whether it can be the name of a snapshot of this disk.
    pub(super) fn is_name(&self, text: &str) -> bool {
        let run = text.strip_prefix(&format!("afterimage-{}-", self.mark));
        run.is_some_and(|run| run.parse::<Hex<16>>().is_ok() && run == run.to_lowercase())
    }

    /// The names of all snapshots that exist, or may.
    pub(super) fn names(&self) -> Result<Vec<String>, SnapshotError> {
        let entries = self.fs.list(&self.folder)?;
        let names = entries.into_iter().map(|entry| entry.name);
        Ok(names.filter(|name| self.is_name(name)).take(NAMES_MAX).collect())
    }

    /// Records that the snapshot may exist from now on.
    pub(super) fn add(&self, name: &str) -> Result<(), SnapshotError> {
        match self.fs.open(&self.folder.join(name), OpenMode::CreateNew) {
            Ok(file) => file.sync()?,
            Err(error) if error.already_exists() => {}
            Err(error) => return Err(error.into()),
        }
        Ok(self.fs.sync_dir(&self.folder)?)
    }

    /// Records that the snapshot is gone.
    pub(super) fn forget(&self, name: &str) -> Result<(), SnapshotError> {
        match self.fs.remove_file(&self.folder.join(name)) {
            Err(error) if !error.not_found() => Err(error.into()),
            // Not synced: at worst it is removed once more.
            _ => Ok(()),
        }
    }

    /// Where they are, for messages.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }
}

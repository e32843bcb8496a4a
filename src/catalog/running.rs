//! Which runs are under way.
//!
//! Each holds a lock of its own while it is, which the kernel drops when its process dies. A run
//! whose record says `running` and whose lock is free was cut off.

use super::CatalogError;
use crate::fsio::{FileError, FileLock, FileSystem, LockHolder, LockMode, RealFileSystem};
use crate::units::RunId;
use std::path::{Path, PathBuf};

fn path(state_dir: &Path, run: RunId) -> PathBuf {
    state_dir.join("running").join(format!("{run}.lock"))
}

/// Held while a run is under way.
#[derive(Debug)]
pub struct RunLock {
    path: PathBuf,
    _lock: FileLock,
}

impl RunLock {
    /// Makes it known that a run is under way.
    ///
    /// # Errors
    /// When the folder cannot be written to.
    pub fn take(state_dir: &Path, run: RunId) -> Result<Self, CatalogError> {
        let path = path(state_dir, run);
        let holder = LockHolder::this_process(format!("run {}", run.short()));
        let lock = FileLock::try_take(&RealFileSystem, &path, LockMode::Exclusive, &holder)?;
        Ok(Self { path, _lock: lock })
    }
}

impl Drop for RunLock {
    fn drop(&mut self) {
        // Nobody else takes the lock of this run. One that stays behind is free all the same.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Whether a run is under way. One that cannot be looked at is taken to be.
pub fn is_running(state_dir: &Path, run: RunId) -> bool {
    let path = path(state_dir, run);
    if matches!(RealFileSystem.stat(&path), Ok(None)) {
        return false;
    }
    let holder = LockHolder::this_process("a look");
    FileLock::try_take(&RealFileSystem, &path, LockMode::Shared, &holder).is_err()
}

/// Removes what runs that were cut off left behind.
///
/// # Errors
/// When the folder cannot be listed.
pub fn sweep_run_locks(state_dir: &Path) -> Result<(), CatalogError> {
    let folder = state_dir.join("running");
    if RealFileSystem.stat(&folder)?.is_none() {
        return Ok(());
    }
    let entries = std::fs::read_dir(&folder).map_err(|e| FileError::new("list", &folder, e))?;
    for entry in entries.flatten() {
        let name = entry.file_name();
        let run = name.to_str().and_then(|name| name.strip_suffix(".lock")?.parse().ok());
        if let Some(run) = run
            && !is_running(state_dir, run)
        {
            let _ = std::fs::remove_file(entry.path());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_under_way_until_its_lock_goes() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunId([7; 16]);
        let held = RunLock::take(folder.path(), run).unwrap();
        assert!(is_running(folder.path(), run));
        sweep_run_locks(folder.path()).unwrap();
        assert!(is_running(folder.path(), run));
        drop(held);
        assert!(!is_running(folder.path(), run));
        std::fs::write(path(folder.path(), run), "").unwrap();
        assert!(!is_running(folder.path(), run));
        sweep_run_locks(folder.path()).unwrap();
        assert!(!path(folder.path(), run).exists());
    }
}

//! Something else that happens between two operations on files, as another process would do it.

use crate::fsio::{DirEntry, FileHandle, FileStat, FileSystem, OpenMode, Result};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

type Act = Box<dyn FnOnce() + Send>;

/// Passes everything to another file system; before one of the operations on names, something else
/// happens, once.
pub struct BetweenFileSystem {
    inner: Arc<dyn FileSystem>,
    act: Mutex<(u64, Option<Act>)>,
}

impl std::fmt::Debug for BetweenFileSystem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BetweenFileSystem")
    }
}

impl BetweenFileSystem {
    /// Lets `count` operations through, then does `act`.
    pub fn new(inner: Arc<dyn FileSystem>, count: u64, act: Act) -> Arc<Self> {
        Arc::new(Self { inner, act: Mutex::new((count, Some(act))) })
    }

    fn step(&self) {
        let mut state = self.act.lock().unwrap_or_else(PoisonError::into_inner);
        if state.0 > 0 {
            state.0 -= 1;
            return;
        }
        let act = state.1.take();
        drop(state);
        if let Some(act) = act {
            act();
        }
    }
}

impl FileSystem for BetweenFileSystem {
    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn FileHandle>> {
        self.step();
        self.inner.open(path, mode)
    }

    fn rename_no_replace(&self, from: &Path, to: &Path) -> Result<()> {
        self.step();
        self.inner.rename_no_replace(from, to)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.step();
        self.inner.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> Result<()> {
        self.step();
        self.inner.remove_file(path)
    }

    fn create_dir_all(&self, path: &Path) -> Result<()> {
        self.inner.create_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> Result<()> {
        self.inner.sync_dir(path)
    }

    fn list(&self, path: &Path) -> Result<Vec<DirEntry>> {
        self.step();
        self.inner.list(path)
    }

    fn stat(&self, path: &Path) -> Result<Option<FileStat>> {
        self.step();
        self.inner.stat(path)
    }

    fn lock_path(&self, path: &Path) -> Result<PathBuf> {
        self.inner.lock_path(path)
    }

    fn free_bytes(&self, path: &Path) -> Result<u64> {
        self.inner.free_bytes(path)
    }
}

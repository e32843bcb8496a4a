//! A process that is killed after a given number of changes to its files.
//!
//! Invariant: once the cut has come, nothing succeeds any more, reads included: a killed process
//! sees nothing, and its destructors must not be able to tidy up.

use crate::fsio::{DirEntry, FileError, FileHandle, FileStat, FileSystem, OpenMode, Result};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What is left of the operation during which the process is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastOperation {
    /// Nothing of it happened.
    Absent,
    /// If it writes or zeroes a range, the first half of the range is done.
    Torn,
}

#[derive(Debug)]
struct Cut {
    ops_left: AtomicU64,
    ops_done: AtomicU64,
    dead: AtomicBool,
    last: LastOperation,
}

fn killed(action: &'static str, path: &Path) -> FileError {
    FileError::new(action, path, std::io::Error::other("the process was killed (test)"))
}

impl Cut {
    fn alive(&self, action: &'static str, path: &Path) -> Result<()> {
        if self.dead.load(Ordering::SeqCst) { Err(killed(action, path)) } else { Ok(()) }
    }

    /// Counts one change. `Ok(false)` means: this is the one that the kill interrupts.
    fn change(&self, action: &'static str, path: &Path) -> Result<bool> {
        self.alive(action, path)?;
        let left =
            self.ops_left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        if left.is_err() {
            self.dead.store(true, Ordering::SeqCst);
            return Ok(false);
        }
        self.ops_done.fetch_add(1, Ordering::SeqCst);
        Ok(true)
    }

    /// Counts one change that has no half-done form.
    fn whole_change(&self, action: &'static str, path: &Path) -> Result<()> {
        if self.change(action, path)? { Ok(()) } else { Err(killed(action, path)) }
    }
}

/// Passes everything to another file system until its operations are used up; from then on
/// everything fails.
#[derive(Debug)]
pub struct CutFileSystem {
    inner: Arc<dyn FileSystem>,
    cut: Arc<Cut>,
}

impl CutFileSystem {
    /// Lets `ops_left` changes through (create, write, zero, resize, sync, rename, remove, new
    /// folder, sync of a folder; reads are free), and interrupts the next one.
    pub fn new(inner: Arc<dyn FileSystem>, ops_left: u64, last: LastOperation) -> Arc<Self> {
        let cut = Cut {
            ops_left: AtomicU64::new(ops_left),
            ops_done: AtomicU64::new(0),
            dead: AtomicBool::new(false),
            last,
        };
        Arc::new(Self { inner, cut: Arc::new(cut) })
    }

    /// One that is never cut: a dry run, to learn the total.
    pub fn counting(inner: Arc<dyn FileSystem>) -> Arc<Self> {
        Self::new(inner, u64::MAX, LastOperation::Absent)
    }

    /// Changes that were let through.
    pub fn ops_done(&self) -> u64 {
        self.cut.ops_done.load(Ordering::SeqCst)
    }

    /// Whether the cut has come.
    pub fn is_cut(&self) -> bool {
        self.cut.dead.load(Ordering::SeqCst)
    }
}

impl FileSystem for CutFileSystem {
    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn FileHandle>> {
        match mode {
            OpenMode::CreateNew => self.cut.whole_change("create", path)?,
            OpenMode::Read | OpenMode::Write => self.cut.alive("open", path)?,
        }
        let inner = self.inner.open(path, mode)?;
        Ok(Arc::new(CutFile { inner, cut: Arc::clone(&self.cut) }))
    }

    fn rename_no_replace(&self, from: &Path, to: &Path) -> Result<()> {
        self.cut.whole_change("rename to", to)?;
        self.inner.rename_no_replace(from, to)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.cut.whole_change("rename to", to)?;
        self.inner.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> Result<()> {
        self.cut.whole_change("remove", path)?;
        self.inner.remove_file(path)
    }

    fn create_dir_all(&self, path: &Path) -> Result<()> {
        self.cut.whole_change("create", path)?;
        self.inner.create_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> Result<()> {
        self.cut.whole_change("sync", path)?;
        self.inner.sync_dir(path)
    }

    fn list(&self, path: &Path) -> Result<Vec<DirEntry>> {
        self.cut.alive("list", path)?;
        self.inner.list(path)
    }

    fn stat(&self, path: &Path) -> Result<Option<FileStat>> {
        self.cut.alive("look at", path)?;
        self.inner.stat(path)
    }

    fn lock_path(&self, path: &Path) -> Result<PathBuf> {
        self.cut.alive("lock", path)?;
        self.inner.lock_path(path)
    }

    fn free_bytes(&self, path: &Path) -> Result<u64> {
        self.cut.alive("ask the free space of", path)?;
        self.inner.free_bytes(path)
    }
}

#[derive(Debug)]
struct CutFile {
    inner: Arc<dyn FileHandle>,
    cut: Arc<Cut>,
}

impl FileHandle for CutFile {
    fn path(&self) -> &Path {
        self.inner.path()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        self.cut.alive("read", self.path())?;
        self.inner.read_at(buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        if self.cut.change("write to", self.path())? {
            return self.inner.write_all_at(bytes, offset);
        }
        if self.cut.last == LastOperation::Torn {
            let (first, _) = bytes.split_at(bytes.len() / 2);
            self.inner.write_all_at(first, offset)?;
        }
        Err(killed("write to", self.path()))
    }

    fn zero_range(&self, offset: u64, len_bytes: u64) -> Result<()> {
        if self.cut.change("punch a hole in", self.path())? {
            return self.inner.zero_range(offset, len_bytes);
        }
        if self.cut.last == LastOperation::Torn {
            self.inner.zero_range(offset, len_bytes / 2)?;
        }
        Err(killed("punch a hole in", self.path()))
    }

    fn set_len(&self, len_bytes: u64) -> Result<()> {
        self.cut.whole_change("resize", self.path())?;
        self.inner.set_len(len_bytes)
    }

    fn sync(&self) -> Result<()> {
        self.cut.whole_change("sync", self.path())?;
        self.inner.sync()
    }

    fn stat(&self) -> Result<FileStat> {
        self.cut.alive("look at", self.path())?;
        self.inner.stat()
    }

    fn size(&self) -> Result<u64> {
        self.cut.alive("ask the size of", self.path())?;
        self.inner.size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fsio::{RealFileSystem, read_whole, write_new};

    #[test]
    fn nothing_succeeds_after_the_cut_and_a_torn_write_is_half_done() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let cut = CutFileSystem::new(RealFileSystem::shared(), 1, LastOperation::Torn);
        let file = cut.open(&path, OpenMode::CreateNew).unwrap();
        assert!(!cut.is_cut());
        assert!(file.write_all_at(b"abcd", 0).is_err());
        assert!(cut.is_cut());
        assert!(file.read_at(&mut [0], 0).is_err());
        assert!(cut.remove_file(&path).is_err());
        assert_eq!(read_whole(&RealFileSystem, &path, 9).unwrap(), b"ab");
    }

    #[test]
    fn a_dry_run_counts_every_change() {
        let folder = tempfile::tempdir().unwrap();
        let counting = CutFileSystem::counting(RealFileSystem::shared());
        let fs: Arc<dyn FileSystem> = counting.clone();
        write_new(&fs, folder.path().join("t"), &folder.path().join("a"), b"x").unwrap();
        // Create, write, sync, rename, sync of the folder.
        assert_eq!(counting.ops_done(), 5);
    }
}

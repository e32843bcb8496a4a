//! A file system that runs out of space at a given operation, once or for ever.
//!
//! Invariant: only what needs space fails: new files, writes and growing. A write that fails has
//! written its first half, as a file system does that fills up on the way.

use crate::fsio::{DirEntry, FileError, FileHandle, FileStat, FileSystem, OpenMode, Result};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How long it stays full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// For one operation: someone frees space.
    Once,
    /// From then on.
    ForEver,
}

#[derive(Debug)]
struct Room {
    at: u64,
    full: Full,
    done: AtomicU64,
    failed: AtomicU64,
}

impl Room {
    fn take(&self, action: &'static str, path: &Path) -> Result<()> {
        let number = self.done.fetch_add(1, Ordering::SeqCst);
        let fails = match self.full {
            Full::Once => number == self.at,
            Full::ForEver => number >= self.at,
        };
        if !fails {
            return Ok(());
        }
        self.failed.fetch_add(1, Ordering::SeqCst);
        Err(FileError::new(action, path, std::io::Error::from(std::io::ErrorKind::StorageFull)))
    }
}

/// Passes everything to another file system, except what it has no space for.
#[derive(Debug)]
pub struct FullFileSystem {
    inner: Arc<dyn FileSystem>,
    room: Arc<Room>,
}

impl FullFileSystem {
    /// Lets `at` operations that need space through; the next one fails.
    pub fn new(inner: Arc<dyn FileSystem>, at: u64, full: Full) -> Arc<Self> {
        let (done, failed) = (AtomicU64::new(0), AtomicU64::new(0));
        Arc::new(Self { inner, room: Arc::new(Room { at, full, done, failed }) })
    }

    /// Whether an operation found no space.
    pub fn was_full(&self) -> bool {
        self.room.failed.load(Ordering::SeqCst) > 0
    }
}

impl FileSystem for FullFileSystem {
    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn FileHandle>> {
        if mode == OpenMode::CreateNew {
            self.room.take("create", path)?;
        }
        let inner = self.inner.open(path, mode)?;
        Ok(Arc::new(FullFile { inner, room: Arc::clone(&self.room) }))
    }

    fn rename_no_replace(&self, from: &Path, to: &Path) -> Result<()> {
        self.inner.rename_no_replace(from, to)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.inner.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> Result<()> {
        self.inner.remove_file(path)
    }

    fn create_dir_all(&self, path: &Path) -> Result<()> {
        if self.inner.stat(path)?.is_none() {
            self.room.take("create", path)?;
        }
        self.inner.create_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> Result<()> {
        self.inner.sync_dir(path)
    }

    fn list(&self, path: &Path) -> Result<Vec<DirEntry>> {
        self.inner.list(path)
    }

    fn stat(&self, path: &Path) -> Result<Option<FileStat>> {
        self.inner.stat(path)
    }

    fn lock_path(&self, path: &Path) -> Result<PathBuf> {
        self.inner.lock_path(path)
    }

    fn free_bytes(&self, path: &Path) -> Result<u64> {
        self.inner.free_bytes(path)
    }
}

#[derive(Debug)]
struct FullFile {
    inner: Arc<dyn FileHandle>,
    room: Arc<Room>,
}

impl FileHandle for FullFile {
    fn path(&self) -> &Path {
        self.inner.path()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        self.inner.read_at(buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        if let Err(full) = self.room.take("write to", self.path()) {
            self.inner.write_all_at(&bytes[..bytes.len() / 2], offset)?;
            return Err(full);
        }
        self.inner.write_all_at(bytes, offset)
    }

    fn zero_range(&self, offset: u64, len_bytes: u64) -> Result<()> {
        self.inner.zero_range(offset, len_bytes)
    }

    fn set_len(&self, len_bytes: u64) -> Result<()> {
        if len_bytes > self.inner.size()? {
            self.room.take("resize", self.path())?;
        }
        self.inner.set_len(len_bytes)
    }

    fn sync(&self) -> Result<()> {
        self.inner.sync()
    }

    fn stat(&self) -> Result<FileStat> {
        self.inner.stat()
    }

    fn size(&self) -> Result<u64> {
        self.inner.size()
    }

    fn next_data(&self, offset: u64) -> Result<Option<u64>> {
        self.inner.next_data(offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fsio::RealFileSystem;

    #[test]
    fn only_what_needs_space_fails_and_a_write_half_way() {
        for (full, later_is_ok) in [(Full::Once, true), (Full::ForEver, false)] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("a");
            let fs = FullFileSystem::new(RealFileSystem::shared(), 1, full);
            let file = fs.open(&path, OpenMode::CreateNew).unwrap();
            assert!(
                file.write_all_at(b"abcd", 0).unwrap_err().source.kind()
                    == std::io::ErrorKind::StorageFull
            );
            assert!(fs.was_full());
            assert_eq!(std::fs::read(&path).unwrap(), b"ab");
            assert_eq!(file.write_all_at(b"abcd", 0).is_ok(), later_is_ok);
            file.set_len(1).unwrap();
            fs.remove_file(&path).unwrap();
        }
    }
}

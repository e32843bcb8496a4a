//! A power cut: what was not synced is gone.
//!
//! Invariant: after [`UnsyncedFileSystem::power_cut`] the files are as if the changes of the kinds
//! that it names, since the last sync of each file or folder, had never been made. Files that were
//! removed or replaced come back with the content that they had then.

use crate::fsio::{
    DirEntry, FileHandle, FileStat, FileSystem, OpenMode, Result, parent_dir, read_whole,
};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Files that are removed or replaced are kept in memory: tests have small ones.
const SAVED_BYTES_MAX: u64 = 64 << 20;

/// Which unsynced changes a power cut takes. File systems may order them in any way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// Content and length of files; names stay (a file that is there and empty).
    Content,
    /// Names in folders; content stays.
    Names,
    /// Both.
    Everything,
}

#[derive(Debug)]
enum Undo {
    Content { handle: Arc<dyn FileHandle>, offset: u64, old: Vec<u8>, old_len: u64 },
    Create { path: PathBuf },
    Rename { from: PathBuf, to: PathBuf },
    Remove { path: PathBuf, content: Vec<u8> },
}

impl Undo {
    fn is_of(&self, handle: &dyn FileHandle) -> Result<bool> {
        match self {
            Self::Content { handle: own, .. } => Ok(is_same(own.as_ref(), handle)?),
            _ => Ok(false),
        }
    }

    fn is_in(&self, folder: &Path) -> bool {
        match self {
            Self::Content { .. } => false,
            Self::Create { path } | Self::Remove { path, .. } => parent_dir(path) == folder,
            Self::Rename { to, .. } => parent_dir(to) == folder,
        }
    }

    fn is_lost(&self, lost: Lost) -> bool {
        match self {
            Self::Content { .. } => lost != Lost::Names,
            _ => lost != Lost::Content,
        }
    }

    fn undo(self, fs: &dyn FileSystem) -> Result<()> {
        match self {
            Self::Content { handle, offset, old, old_len } => {
                handle.set_len(old_len)?;
                handle.write_all_at(&old, offset)
            }
            Self::Create { path } => match fs.remove_file(&path) {
                // It went to another folder since, durably.
                Err(error) if error.not_found() => Ok(()),
                other => other,
            },
            Self::Rename { from, to } => fs.rename(&to, &from),
            Self::Remove { path, content } => {
                fs.open(&path, OpenMode::CreateNew)?.write_all_at(&content, 0)
            }
        }
    }
}

fn is_same(a: &dyn FileHandle, b: &dyn FileHandle) -> Result<bool> {
    let (a, b) = (a.stat()?, b.stat()?);
    Ok((a.device, a.inode) == (b.device, b.inode))
}

type Log = Arc<Mutex<Vec<Undo>>>;

fn locked(log: &Log) -> MutexGuard<'_, Vec<Undo>> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Passes everything to another file system, and remembers how to undo what is not synced.
#[derive(Debug)]
pub struct UnsyncedFileSystem {
    inner: Arc<dyn FileSystem>,
    log: Log,
}

impl UnsyncedFileSystem {
    /// Around `inner`, whose files all count as synced.
    pub fn new(inner: Arc<dyn FileSystem>) -> Arc<Self> {
        Arc::new(Self { inner, log: Log::default() })
    }

    /// Undoes what is not synced, the latest change first.
    pub fn power_cut(&self, lost: Lost) -> Result<()> {
        let log = std::mem::take(&mut *locked(&self.log));
        for undo in log.into_iter().rev().filter(|undo| undo.is_lost(lost)) {
            undo.undo(self.inner.as_ref())?;
        }
        Ok(())
    }

    fn save(&self, path: &Path) -> Result<Option<Undo>> {
        if self.inner.stat(path)?.is_none() {
            return Ok(None);
        }
        let content = read_whole(self.inner.as_ref(), path, SAVED_BYTES_MAX)?;
        Ok(Some(Undo::Remove { path: path.to_owned(), content }))
    }
}

impl FileSystem for UnsyncedFileSystem {
    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn FileHandle>> {
        let inner = self.inner.open(path, mode)?;
        if mode == OpenMode::CreateNew {
            locked(&self.log).push(Undo::Create { path: path.to_owned() });
        }
        Ok(Arc::new(UnsyncedFile { inner, log: Arc::clone(&self.log) }))
    }

    fn rename_no_replace(&self, from: &Path, to: &Path) -> Result<()> {
        self.inner.rename_no_replace(from, to)?;
        locked(&self.log).push(Undo::Rename { from: from.to_owned(), to: to.to_owned() });
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        let replaced = self.save(to)?;
        self.inner.rename(from, to)?;
        let mut log = locked(&self.log);
        log.extend(replaced);
        log.push(Undo::Rename { from: from.to_owned(), to: to.to_owned() });
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> Result<()> {
        let removed = self.save(path)?;
        self.inner.remove_file(path)?;
        locked(&self.log).extend(removed);
        Ok(())
    }

    fn create_dir_all(&self, path: &Path) -> Result<()> {
        // Its contract: each new name is synced.
        self.inner.create_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> Result<()> {
        self.inner.sync_dir(path)?;
        locked(&self.log).retain(|undo| !undo.is_in(path));
        Ok(())
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
struct UnsyncedFile {
    inner: Arc<dyn FileHandle>,
    log: Log,
}

impl UnsyncedFile {
    /// Remembers the range before it changes.
    fn remember(&self, offset: u64, len_bytes: u64) -> Result<()> {
        let old_len = self.inner.size()?;
        let end = offset.saturating_add(len_bytes).min(old_len);
        let mut old = vec![0; end.saturating_sub(offset) as usize];
        self.inner.read_exact_at(&mut old, offset)?;
        let handle = Arc::clone(&self.inner);
        locked(&self.log).push(Undo::Content { handle, offset, old, old_len });
        Ok(())
    }
}

impl FileHandle for UnsyncedFile {
    fn path(&self) -> &Path {
        self.inner.path()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        self.inner.read_at(buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.remember(offset, bytes.len() as u64)?;
        self.inner.write_all_at(bytes, offset)
    }

    fn zero_range(&self, offset: u64, len_bytes: u64) -> Result<()> {
        self.remember(offset, len_bytes)?;
        self.inner.zero_range(offset, len_bytes)
    }

    fn set_len(&self, len_bytes: u64) -> Result<()> {
        self.remember(len_bytes, u64::MAX)?;
        self.inner.set_len(len_bytes)
    }

    fn sync(&self) -> Result<()> {
        self.inner.sync()?;
        let mut log = locked(&self.log);
        let mut kept = Vec::new();
        for undo in log.drain(..) {
            if !undo.is_of(self.inner.as_ref())? {
                kept.push(undo);
            }
        }
        *log = kept;
        Ok(())
    }

    fn stat(&self) -> Result<FileStat> {
        self.inner.stat()
    }

    fn size(&self) -> Result<u64> {
        self.inner.size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fsio::{RealFileSystem, write_new};

    #[test]
    fn a_power_cut_takes_what_was_not_synced_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let unsynced = UnsyncedFileSystem::new(RealFileSystem::shared());
        let fs: Arc<dyn FileSystem> = unsynced.clone();
        let path = |name: &str| folder.path().join(name);
        let content = |name: &str| std::fs::read(path(name)).ok();
        write_new(&fs, path("t"), &path("a"), b"durable").unwrap();
        let file = fs.open(&path("a"), OpenMode::Write).unwrap();
        file.write_all_at(b"DUR", 0).unwrap();
        file.set_len(3).unwrap();
        file.write_all_at(b"able?", 3).unwrap();
        unsynced.power_cut(Lost::Content).unwrap();
        assert_eq!(content("a").unwrap(), b"durable");
        let new = fs.open(&path("b"), OpenMode::CreateNew).unwrap();
        new.write_all_at(b"new", 0).unwrap();
        new.sync().unwrap();
        fs.rename(&path("b"), &path("a")).unwrap();
        unsynced.power_cut(Lost::Everything).unwrap();
        assert_eq!((content("a").unwrap().as_slice(), content("b")), (&b"durable"[..], None));
        fs.remove_file(&path("a")).unwrap();
        unsynced.power_cut(Lost::Names).unwrap();
        assert_eq!(content("a").unwrap(), b"durable");
        fs.remove_file(&path("a")).unwrap();
        fs.sync_dir(folder.path()).unwrap();
        unsynced.power_cut(Lost::Everything).unwrap();
        assert_eq!(content("a"), None);
    }
}

//! Files that appear whole or not at all.

use super::{FileError, FileHandle, FileSystem, OpenMode, Result, parent_dir};
use crate::units::{Breakage, is_broken};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file under construction. Its name is temporary until [`TemporaryFile::publish`]; dropped
/// before that, it is removed (after a crash, the owner of the folder sweeps it).
#[derive(Debug)]
pub struct TemporaryFile {
    fs: Arc<dyn FileSystem>,
    handle: Arc<dyn FileHandle>,
    path: PathBuf,
    published: bool,
}

impl TemporaryFile {
    /// Creates `path`, which must not exist.
    pub fn create(fs: &Arc<dyn FileSystem>, path: PathBuf) -> Result<Self> {
        let handle = fs.open(&path, OpenMode::CreateNew)?;
        Ok(Self { fs: Arc::clone(fs), handle, path, published: false })
    }

    /// The open file.
    pub fn handle(&self) -> &Arc<dyn FileHandle> {
        &self.handle
    }

    /// Syncs the content, gives it its name without replacing another file, and syncs the folder.
    /// When this returns, the file is durable under `to`; the rename is the commit.
    ///
    /// # Errors
    /// [`FileError::already_exists`] when `to` exists; after any error before the rename, `to`
    /// is as it was.
    pub fn publish(mut self, to: &Path) -> Result<()> {
        if !is_broken(Breakage::NewContentUnsynced) {
            let synced = self.handle.sync();
            if !is_broken(Breakage::SyncFailureIgnored) {
                synced?;
            }
        }
        self.fs.rename_no_replace(&self.path, to)?;
        self.published = true;
        self.finish_rename(to)
    }

    /// Like [`TemporaryFile::publish`], but replaces `to` atomically when it exists.
    pub fn publish_replacing(mut self, to: &Path) -> Result<()> {
        if !is_broken(Breakage::ReplacingContentUnsynced) {
            self.handle.sync()?;
        }
        self.fs.rename(&self.path, to)?;
        self.published = true;
        self.finish_rename(to)
    }

    // Sync the folders too: otherwise a power cut can undo the rename.
    fn finish_rename(&self, to: &Path) -> Result<()> {
        if is_broken(Breakage::NewNameUnsynced) {
            return Ok(());
        }
        self.fs.sync_dir(&parent_dir(to))
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        if !self.published {
            // Best effort: a leftover is swept by its owner later, and the first error matters more.
            let _ = self.fs.remove_file(&self.path);
        }
    }
}

/// Writes a new small file durably by way of `temporary`; an existing `to` is an error.
pub fn write_new(
    fs: &Arc<dyn FileSystem>,
    temporary: PathBuf,
    to: &Path,
    bytes: &[u8],
) -> Result<()> {
    let file = TemporaryFile::create(fs, temporary)?;
    file.handle().write_all_at(bytes, 0)?;
    file.publish(to)
}

/// Writes a small file durably by way of `temporary`, replacing an existing `to` atomically.
pub fn write_replacing(
    fs: &Arc<dyn FileSystem>,
    temporary: PathBuf,
    to: &Path,
    bytes: &[u8],
) -> Result<()> {
    let file = TemporaryFile::create(fs, temporary)?;
    file.handle().write_all_at(bytes, 0)?;
    file.publish_replacing(to)
}

/// Reads a whole file of at most `len_max` bytes.
///
/// # Errors
/// A longer file is refused before anything is read: `path` may come from an untrusted place.
pub fn read_whole(fs: &dyn FileSystem, path: &Path, len_max: u64) -> Result<Vec<u8>> {
    let handle = fs.open(path, OpenMode::Read)?;
    let len = handle.size()?;
    if len > len_max {
        let reason = format!("it has {len} bytes, at most {len_max} are expected");
        let too_long = std::io::Error::new(std::io::ErrorKind::FileTooLarge, reason);
        return Err(FileError::new("read", path, too_long));
    }
    let mut bytes = vec![0; len as usize];
    handle.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

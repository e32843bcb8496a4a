//! The file-system calls that the engine makes, as a small trait, so that every operation can be
//! recorded, cut short or made to fail, and the helpers that make a file durable.
//!
//! All I/O is positional. Nothing written is durable until [`FileHandle::sync`] returns, and no
//! new or renamed name is durable until [`FileSystem::sync_dir`] of its folder returns. After a
//! failed sync the file's state is unknown: it is never synced again, it is given up.

mod aligned;
mod device;
mod durable;
mod error;
mod lock;
mod qemu_lock;
mod real;

pub use aligned::{AlignedBuffer, DIRECT_ALIGN_BYTES};
pub use device::{DeviceActivity, DeviceClaim, DeviceClaimError, boot_id};
pub use durable::{TemporaryFile, read_whole, write_new, write_replacing};
pub use error::FileError;
pub use lock::{FileLock, LockError, LockHolder, LockMode};
pub use qemu_lock::{QemuAccess, QemuLock, QemuLockError};
pub use real::RealFileSystem;

use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Result of a file-system call; the error names the file and what was tried.
pub type Result<T, E = FileError> = std::result::Result<T, E>;

/// How to open a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// Existing file, for reading.
    Read,
    /// Existing file, for reading and writing.
    Write,
    /// New file, for reading and writing; an existing one is an error. Mode 0600.
    CreateNew,
}

/// What a file or a name in a folder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A folder.
    Directory,
    /// A block device.
    BlockDevice,
    /// Anything else.
    Other,
}

/// What the file system knows of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileStat {
    /// What it is.
    pub kind: FileKind,
    /// Length in bytes (of a block device: 0; ask [`FileHandle::size`]).
    pub len_bytes: u64,
    /// Bytes allocated on the medium.
    pub allocated_bytes: u64,
    /// Number of the file system's device.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
    /// Number of the device that a device file stands for; 0 for other files.
    pub raw_device: u64,
    /// Last change of content, in nanoseconds since 1970.
    pub mtime_ns: i128,
    /// Last change of content or attributes, in nanoseconds since 1970.
    pub ctime_ns: i128,
}

/// A name found in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// File name, without the folder.
    pub name: String,
    /// What it is; a symbolic link is [`FileKind::Other`].
    pub kind: FileKind,
    /// Length in bytes.
    pub len_bytes: u64,
}

/// The file-system calls that the engine makes. All methods may be called from several threads.
pub trait FileSystem: Send + Sync + std::fmt::Debug {
    /// Opens a file. Follows symbolic links except with [`OpenMode::CreateNew`].
    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn FileHandle>>;

    /// Renames; fails with [`FileError::already_exists`] when `to` exists.
    fn rename_no_replace(&self, from: &Path, to: &Path) -> Result<()>;

    /// Renames, replacing `to` atomically when it exists.
    fn rename(&self, from: &Path, to: &Path) -> Result<()>;

    /// Removes a file's name.
    fn remove_file(&self, path: &Path) -> Result<()>;

    /// Creates a folder (mode 0700) and those above it. When this returns, its name is durable,
    /// whoever created it.
    fn create_dir_all(&self, path: &Path) -> Result<()>;

    /// Makes the names in `path` durable.
    fn sync_dir(&self, path: &Path) -> Result<()>;

    /// Names in a folder, in no particular order.
    fn list(&self, path: &Path) -> Result<Vec<DirEntry>>;

    /// As [`FileSystem::list`], of which only the names are wanted: nothing is asked of each.
    fn names(&self, path: &Path) -> Result<Vec<String>> {
        Ok(self.list(path)?.into_iter().map(|entry| entry.name).collect())
    }

    /// What a path leads to; `None` when nothing is there. Follows symbolic links.
    fn stat(&self, path: &Path) -> Result<Option<FileStat>>;

    /// The file of the operating system by which locks on `path` are taken: the same one, where
    /// the files are the operating system's.
    fn lock_path(&self, path: &Path) -> Result<PathBuf>;

    /// Bytes that may still be written to the file system that holds `path`.
    fn free_bytes(&self, path: &Path) -> Result<u64>;
}

/// An open file. Methods take `&self` and an offset; concurrent calls on disjoint ranges are fine.
pub trait FileHandle: Send + Sync + std::fmt::Debug {
    /// Path that it was opened by, for messages.
    fn path(&self) -> &Path;

    /// Reads up to `buffer.len()` bytes at `offset`; 0 means the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize>;

    /// Writes all of `bytes` at `offset`; on error any part of it may have been written.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> Result<()>;

    /// As [`FileHandle::write_all_at`], of what is not read again soon: it may go to the medium past
    /// the page cache, which saves copying it, where it lies in memory and in the file at multiples
    /// of [`DIRECT_ALIGN_BYTES`].
    fn write_past_cache(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.write_all_at(bytes, offset)
    }

    /// Makes the range read as zeros and gives its space back where the file system or device
    /// can; the length of the file stays.
    fn zero_range(&self, offset: u64, len_bytes: u64) -> Result<()>;

    /// Sets the length; what is gained reads as zeros.
    fn set_len(&self, len_bytes: u64) -> Result<()>;

    /// Makes all earlier writes durable. After an error the file must be given up.
    fn sync(&self) -> Result<()>;

    /// What the file system knows of this file.
    fn stat(&self) -> Result<FileStat>;

    /// Size in bytes, of files and of block devices.
    fn size(&self) -> Result<u64>;

    /// Asks the system to forget what it has cached of this file, so that what is read next comes
    /// from the medium. A wish, nothing more.
    fn drop_cache(&self) {}

    /// Asks the system to begin writing what was written in this range to the medium, so that less
    /// is left for [`FileHandle::sync`]. A wish, nothing more: nothing is durable because of it.
    fn begin_write_back(&self, offset: u64, len_bytes: u64) {
        let _ = (offset, len_bytes);
    }

    /// First byte at or after `offset` that may not be zero; `None`: only zeros until the end.
    fn next_data(&self, offset: u64) -> Result<Option<u64>> {
        // Where nothing is known, everything may be data.
        Ok((offset < self.size()?).then_some(offset))
    }

    /// Fills `buffer` from `offset`; the end of the file within it is an error.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        let mut done = 0;
        while done < buffer.len() {
            match self.read_at(&mut buffer[done..], offset + done as u64)? {
                0 => return Err(FileError::unexpected_end(self.path(), offset + done as u64)),
                count => done += count,
            }
        }
        Ok(())
    }
}

/// The folder that holds `path`; `.` for a bare name.
pub fn parent_dir(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// The nearest folder above `path` that exists.
pub fn existing_folder(path: &Path) -> PathBuf {
    let folder = parent_dir(path);
    folder.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/")).to_owned()
}

/// Whether both are the same file, or stand for the same device.
pub fn is_same_file(a: &FileStat, b: &FileStat) -> bool {
    match (a.raw_device, b.raw_device) {
        (0, 0) => (a.device, a.inode) == (b.device, b.inode),
        (a, b) => a == b,
    }
}

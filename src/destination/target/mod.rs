//! One disk of a replica: a raw image file, a block device or an NBD export.
//!
//! *Invariants*
//! - While a target is open for writing, it is claimed: QEMU and its tools refuse it, and the
//!   kernel refuses to mount a device. Dropping the target gives it free. Nothing claims an
//!   export: its server must serve nobody else.
//! - Nothing is written past the target's size; only [`Target::resize`] changes it.
//! - Nothing is durable until [`Target::sync`] returns; after it failed the target is given up.

mod error;
mod export;
mod identity;
#[cfg(test)]
mod tests;
mod thin;

pub use error::TargetError;
pub use identity::{Difference, IdentityChange, TargetIdentity};
pub use thin::{Background, Thinned};

use crate::extent::Extent;
use crate::fsio::{
    DeviceActivity, DeviceClaim, FileHandle, FileKind, FileStat, FileSystem, OpenMode, QemuAccess,
    QemuLock, parent_dir,
};
use crate::nbd::Client;
use crate::units::{Breakage, is_broken};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a target is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetKind {
    /// A regular file that holds the disk as it is (raw).
    Image,
    /// A block device.
    Device,
    /// An export of an NBD server; its path is the export's address.
    Export,
}

impl std::fmt::Display for TargetKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Image => "an image file",
            Self::Device => "a block device",
            Self::Export => "an NBD export",
        })
    }
}

/// What a target is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetAccess {
    /// Writing; nobody else may use it meanwhile.
    Write,
    /// Reading; nobody may write to it meanwhile.
    Read,
    /// Reading, whoever else uses it: what is read may belong to no point.
    ReadUnclaimed,
}

/// What keeps others away; the kernel drops both when the process dies.
#[derive(Debug)]
struct Claims {
    _qemu: Option<QemuLock>,
    _device: Option<DeviceClaim>,
}

impl Claims {
    fn take(
        fs: &dyn FileSystem,
        path: &Path,
        kind: TargetKind,
        access: TargetAccess,
    ) -> Result<Self, TargetError> {
        let device = match (kind, access) {
            (TargetKind::Device, TargetAccess::Write) => Some(DeviceClaim::take(path)?),
            _ => None,
        };
        let qemu = match access {
            TargetAccess::Write => Some(QemuLock::take(&fs.lock_path(path)?, QemuAccess::Write)?),
            TargetAccess::Read => Some(QemuLock::take(&fs.lock_path(path)?, QemuAccess::Read)?),
            TargetAccess::ReadUnclaimed => None,
        };
        Ok(Self { _qemu: qemu, _device: device })
    }
}

/// An open disk of a replica. Concurrent calls on disjoint ranges are fine.
#[derive(Debug)]
pub struct Target {
    handle: Arc<dyn FileHandle>,
    path: PathBuf,
    kind: TargetKind,
    size_bytes: AtomicU64,
    _claims: Claims,
}

fn kind_of(path: &Path, stat: &FileStat) -> Result<TargetKind, TargetError> {
    match stat.kind {
        FileKind::File => Ok(TargetKind::Image),
        FileKind::BlockDevice => Ok(TargetKind::Device),
        FileKind::Directory | FileKind::Other => {
            Err(TargetError::NotADisk { path: path.to_owned() })
        }
    }
}

fn is_same(a: &FileStat, b: &FileStat) -> bool {
    (a.kind, a.device, a.inode, a.raw_device) == (b.kind, b.device, b.inode, b.raw_device)
}

impl Target {
    /// Opens what `path` leads to, and claims it as `access` says.
    ///
    /// # Errors
    /// [`TargetError::WrongKind`] when `expected` is given and it is not that;
    /// [`TargetError::Locked`] and [`TargetError::Claimed`] when others use it.
    pub fn open(
        fs: &dyn FileSystem,
        path: &Path,
        expected: Option<TargetKind>,
        access: TargetAccess,
    ) -> Result<Self, TargetError> {
        if expected == Some(TargetKind::Export) {
            return Self::over_export(export::connect(path)?, access);
        }
        let path = path.to_owned();
        // Look before opening: opening a pipe would wait for its other end.
        let Some(seen) = fs.stat(&path)? else {
            return Err(TargetError::Missing { path });
        };
        let found = kind_of(&path, &seen)?;
        if let Some(expected) = expected.filter(|expected| *expected != found) {
            return Err(TargetError::WrongKind { path, expected, found });
        }
        let claims = Claims::take(fs, &path, found, access)?;
        let mode = match access {
            TargetAccess::Write => OpenMode::Write,
            TargetAccess::Read | TargetAccess::ReadUnclaimed => OpenMode::Read,
        };
        let handle = fs.open(&path, mode)?;
        // The claim went by name as well: it must be on the same file.
        if !is_same(&seen, &handle.stat()?) {
            return Err(TargetError::Swapped { path });
        }
        Self::over(handle, path, found, claims)
    }

    /// The export behind a client that is connected already.
    ///
    /// # Errors
    /// When it is opened for writing and is read-only, or cannot make what is written durable.
    pub fn over_export(client: Client, access: TargetAccess) -> Result<Self, TargetError> {
        let handle = Arc::new(export::ExportHandle::new(client, access)?);
        let path = handle.path().to_owned();
        Self::over(handle, path, TargetKind::Export, Claims { _qemu: None, _device: None })
    }

    /// Whether there is something at `path` that a target of this kind would overwrite.
    ///
    /// # Errors
    /// When the file system fails.
    pub fn may_exist(
        fs: &dyn FileSystem,
        path: &Path,
        kind: TargetKind,
    ) -> Result<bool, TargetError> {
        // Only who connects to an export learns more.
        Ok(kind == TargetKind::Export || fs.stat(path)?.is_some())
    }

    /// Creates an empty image, open for writing and claimed; its name is durable. Its content is
    /// a [`Background::Zeros`] whatever size it gets.
    ///
    /// # Errors
    /// [`TargetError::Exists`] when the name is taken, if only by a dangling symbolic link.
    pub fn create(fs: &dyn FileSystem, path: &Path) -> Result<Self, TargetError> {
        let path = path.to_owned();
        let handle =
            fs.open(&path, OpenMode::CreateNew).map_err(|error| match error.already_exists() {
                true => TargetError::Exists { path: path.clone() },
                false => error.into(),
            })?;
        let claims = Claims::take(fs, &path, TargetKind::Image, TargetAccess::Write)?;
        fs.sync_dir(&parent_dir(&path))?;
        Self::over(handle, path, TargetKind::Image, claims)
    }

    fn over(
        handle: Arc<dyn FileHandle>,
        path: PathBuf,
        kind: TargetKind,
        claims: Claims,
    ) -> Result<Self, TargetError> {
        let size_bytes = AtomicU64::new(handle.size()?);
        Ok(Self { handle, path, kind, size_bytes, _claims: claims })
    }

    /// Path that it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it is.
    pub fn kind(&self) -> TargetKind {
        self.kind
    }

    /// Size in bytes.
    pub fn size(&self) -> u64 {
        self.size_bytes.load(Ordering::Acquire)
    }

    /// Whether it can be made to hold a disk of `needed_bytes`, without changing anything.
    pub fn check_room(&self, needed_bytes: u64) -> Result<(), TargetError> {
        let (path, size_bytes) = (self.path.clone(), self.size());
        match self.kind {
            TargetKind::Image => Ok(()),
            TargetKind::Device if needed_bytes <= size_bytes => Ok(()),
            TargetKind::Device => Err(TargetError::TooSmall { path, size_bytes, needed_bytes }),
            // Who starts a guest from it has no other way to know how long the disk is.
            TargetKind::Export if needed_bytes == size_bytes => Ok(()),
            TargetKind::Export => Err(TargetError::WrongSize { path, size_bytes, needed_bytes }),
        }
    }

    /// Gives an image exactly `size_bytes`; what it gains reads as zeros. A device must be as
    /// large at least, an export exactly, and both stay as they are.
    pub fn resize(&self, size_bytes: u64) -> Result<(), TargetError> {
        self.check_room(size_bytes)?;
        if self.kind == TargetKind::Image && size_bytes != self.size() {
            self.handle.set_len(size_bytes)?;
            self.size_bytes.store(size_bytes, Ordering::Release);
        }
        Ok(())
    }

    /// Fills `buffer` from `offset`.
    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), TargetError> {
        self.check_range(offset, buffer.len() as u64)?;
        Ok(self.handle.read_exact_at(buffer, offset)?)
    }

    /// First byte at or after `offset` that may not be zero; `None`: only zeros until the end.
    pub fn next_data(&self, offset: u64) -> Result<Option<u64>, TargetError> {
        // A device's sizes and holes are not those of a file: all of it is looked at.
        match self.kind {
            TargetKind::Image | TargetKind::Export => Ok(self.handle.next_data(offset)?),
            TargetKind::Device => Ok((offset < self.size()).then_some(offset)),
        }
    }

    /// Makes a range hold `bytes`, thinly: blocks of 4 KiB of the disk that are all zero become
    /// holes, or are skipped where `background` says that they are zeros already.
    pub fn write_thin(
        &self,
        offset: u64,
        bytes: &[u8],
        background: Background,
    ) -> Result<Thinned, TargetError> {
        self.check_range(offset, bytes.len() as u64)?;
        let handle = self.handle.as_ref();
        let write = |bytes: &[u8], at| handle.write_all_at(bytes, at);
        Ok(thin::write(handle, offset, bytes, background, write)?)
    }

    /// As [`Target::write_thin`], of what is not read again soon: long stretches that lie aligned in
    /// memory go past the page cache.
    pub fn write_thin_past_cache(
        &self,
        offset: u64,
        bytes: &[u8],
        background: Background,
    ) -> Result<Thinned, TargetError> {
        self.check_range(offset, bytes.len() as u64)?;
        let handle = self.handle.as_ref();
        let write = |bytes: &[u8], at| handle.write_past_cache(bytes, at);
        Ok(thin::write(handle, offset, bytes, background, write)?)
    }

    /// Makes a range read as zeros, without allocating it where that is possible.
    pub fn zero(&self, extent: Extent, background: Background) -> Result<(), TargetError> {
        self.check_range(extent.start(), extent.len())?;
        match background {
            Background::Zeros => Ok(()),
            Background::Unknown => Ok(self.handle.zero_range(extent.start(), extent.len())?),
        }
    }

    /// Asks the system to begin writing a range to the medium, so that [`Target::sync`] has less
    /// to wait for.
    pub fn begin_write_back(&self, extent: Extent) {
        self.handle.begin_write_back(extent.start(), extent.len());
    }

    /// Makes all earlier changes durable.
    pub fn sync(&self) -> Result<(), TargetError> {
        Ok(self.handle.sync()?)
    }

    /// Makes what is read next come from the medium, as far as it is there. A sync that failed may
    /// have left in memory what the medium never got, marked as if it had.
    pub fn forget_cache(&self) {
        if !is_broken(Breakage::CacheBelieved) {
            self.handle.drop_cache();
        }
    }

    /// By what to recognise, later, that nobody else wrote to it. Only meaningful after
    /// [`Target::sync`]: what waits in memory is counted and stamped later.
    pub fn identity(&self) -> Result<TargetIdentity, TargetError> {
        let stat = self.handle.stat()?;
        Ok(TargetIdentity {
            path: self.path.clone(),
            kind: self.kind,
            device: stat.device,
            inode: stat.inode,
            size_bytes: self.handle.size()?,
            mtime_ns: stat.mtime_ns,
            ctime_ns: stat.ctime_ns,
            raw_device: stat.raw_device,
            activity: match self.kind {
                TargetKind::Image | TargetKind::Export => None,
                TargetKind::Device => DeviceActivity::of(stat.raw_device),
            },
        })
    }

    fn check_range(&self, offset: u64, len: u64) -> Result<(), TargetError> {
        let (size_bytes, end_bytes) = (self.size(), offset.saturating_add(len));
        if end_bytes <= size_bytes {
            return Ok(());
        }
        Err(TargetError::PastTheEnd { path: self.path.clone(), size_bytes, end_bytes })
    }
}

//! One open file or block device that a disk is read from: kept from writers, read exactly, and
//! watched for changes.

use super::changes::{FileIdentity, keeps_times};
use super::direct;
use super::error::SourceError;
use crate::extent::{Extent, push_joined};
use crate::fsio::{
    DeviceActivity, DeviceClaim, FileError, FileKind, FileStat, QemuAccess, QemuLock, QemuLockError,
};
use crate::units::DISK_BYTES_MAX;
use rustix::fs::SeekFrom;
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// How a file is kept from being written to while it is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Guard {
    /// Not at all: the user vouches that nobody writes.
    None,
    /// QEMU and its tools are kept out. For backing files, which several disks may share.
    Lock,
    /// Also claimed from the kernel, if it is a device.
    LockAndClaim,
}

/// An open file or device.
#[derive(Debug)]
pub(super) struct SourceFile {
    path: PathBuf,
    file: File,
    size_bytes: u64,
    /// Logical sector of a device, which is read past the page cache; `None` for a file.
    sector_bytes: Option<u64>,
    opened_as: FileStat,
    activity: Option<DeviceActivity>,
    _lock: Option<QemuLock>,
    _claim: Option<DeviceClaim>,
}

impl SourceFile {
    /// Opens `path`, keeps writers out as `guard` says, and makes what was written durable, so
    /// that the file system's list of holes is right and later changes show.
    pub(super) fn open(path: &Path, guard: Guard) -> Result<Self, SourceError> {
        let error = |action, e: io::Error| FileError::new(action, path, e);
        let metadata = std::fs::metadata(path).map_err(|e| error("open", e))?;
        let kind = disk_kind(&FileStat::of(&metadata), path)?;
        let is_device = kind == FileKind::BlockDevice;
        let claims = is_device && guard == Guard::LockAndClaim;
        let claim = claims.then(|| DeviceClaim::take(path)).transpose()?;
        let file = open_for_reading(path, is_device)?;
        let opened_as = FileStat::of(&file.metadata().map_err(|e| error("look at", e))?);
        // The name may lead elsewhere since it was looked at; what counts is what is open now.
        let same = disk_kind(&opened_as, path)? == kind
            && claim.as_ref().is_none_or(|held| held.stat().raw_device == opened_as.raw_device);
        if !same {
            return Err(SourceError::Changed { path: path.to_owned(), what: "its name" });
        }
        let lock = match guard {
            Guard::None => None,
            Guard::Lock | Guard::LockAndClaim => Some(lock(&file, path)?),
        };
        sync(&file).map_err(|e| error("sync", e))?;
        let sector_bytes = if is_device { Some(sector_bytes(&file, path)?) } else { None };
        let mut opened = Self {
            path: path.to_owned(),
            file,
            size_bytes: 0,
            sector_bytes,
            opened_as,
            activity: None,
            _lock: lock,
            _claim: claim,
        };
        (opened.opened_as, opened.size_bytes) = opened.look()?;
        opened.activity = DeviceActivity::of(opened.opened_as.raw_device).filter(|_| is_device);
        if opened.size_bytes > DISK_BYTES_MAX {
            return Err(SourceError::TooLarge { path: opened.path, size_bytes: opened.size_bytes });
        }
        Ok(opened)
    }

    /// The same file under the name of the image that it is a clone of.
    pub(super) fn standing_for(mut self, image: &Path) -> Self {
        self.path = image.to_owned();
        self
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Size in bytes when it was opened.
    pub(super) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    pub(super) fn is_device(&self) -> bool {
        self.sector_bytes.is_some()
    }

    /// What it was when it was opened.
    pub(super) fn stat(&self) -> &FileStat {
        &self.opened_as
    }

    /// By what it is known again, unmodified; it was opened at `opened`, or later.
    pub(super) fn identity(&self, opened: jiff::Timestamp) -> Option<FileIdentity> {
        keeps_times(&self.file).then(|| FileIdentity::of(&self.opened_as, opened))?
    }

    /// Whether both are the same file or device, by whatever names.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let identity = |stat: &FileStat| match stat.kind {
            FileKind::BlockDevice => (0, stat.raw_device),
            _ => (stat.device, stat.inode),
        };
        self.opened_as.kind == other.opened_as.kind
            && identity(&self.opened_as) == identity(&other.opened_as)
    }

    /// Fills `buffer` from `offset`; the end of the file within it is an error.
    pub(super) fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), SourceError> {
        let mut done = 0;
        while done < buffer.len() {
            let position = offset.saturating_add(done as u64);
            let rest = &mut buffer[done..];
            let read = match self.sector_bytes {
                Some(sector_bytes) => direct::read_at(&self.file, rest, position, sector_bytes),
                None => self.file.read_at(rest, position),
            };
            match read {
                Ok(0) => return Err(FileError::unexpected_end(&self.path, position).into()),
                Ok(count) => done += count,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(FileError::new("read", &self.path, e).into()),
            }
        }
        Ok(())
    }

    /// First byte in `range` that the file system does not know to be zero.
    pub(super) fn next_data(&self, range: Extent) -> Result<Option<u64>, SourceError> {
        self.require(range)?;
        if range.is_empty() || self.is_device() {
            return Ok((!range.is_empty()).then_some(range.start()));
        }
        let found = match rustix::fs::seek(&self.file, SeekFrom::Data(range.start())) {
            Ok(found) => found.max(range.start()),
            // No data from here on, unless the file has been cut off below.
            Err(Errno::NXIO) => {
                self.require_size()?;
                return Ok(None);
            }
            // A file system that does not tell: everything may be data.
            Err(_) => range.start(),
        };
        Ok(Some(found).filter(|found| *found < range.end()))
    }

    /// Parts of `range` that the file system does not know to be zero: sorted, disjoint, never
    /// touching.
    pub(super) fn data_extents(&self, range: Extent) -> Result<Vec<Extent>, SourceError> {
        let mut list = Vec::new();
        let mut rest = range;
        while let Some(start) = self.next_data(rest)? {
            let end = self.data_end(start, range.end());
            push_joined(&mut list, Extent::between(start, end));
            rest = Extent::between(end, range.end());
        }
        Ok(list)
    }

    fn data_end(&self, start: u64, limit: u64) -> u64 {
        if self.is_device() {
            return limit;
        }
        match rustix::fs::seek(&self.file, SeekFrom::Hole(start)) {
            Ok(hole) if hole > start => hole.min(limit),
            // Whatever else it says is doubtful: all of it may be data.
            _ => limit,
        }
    }

    // Beyond the end nothing is known, least of all zeros: an image that was cut off must fail.
    fn require(&self, range: Extent) -> Result<(), SourceError> {
        if range.end() <= self.size_bytes {
            Ok(())
        } else {
            Err(FileError::unexpected_end(&self.path, self.size_bytes).into())
        }
    }

    fn require_size(&self) -> Result<(), SourceError> {
        if self.look()?.1 == self.size_bytes {
            Ok(())
        } else {
            Err(SourceError::Changed { path: self.path.clone(), what: "its size" })
        }
    }

    fn look(&self) -> Result<(FileStat, u64), SourceError> {
        let error = |e| FileError::new("look at", &self.path, e);
        let stat = FileStat::of(&self.file.metadata().map_err(error)?);
        let size_bytes = if self.is_device() {
            (&self.file).seek(io::SeekFrom::End(0)).map_err(error)?
        } else {
            stat.len_bytes
        };
        Ok((stat, size_bytes))
    }

    /// Errors with [`SourceError::Changed`] when anything shows that it was written to since it
    /// was opened. Of a device whose kernel keeps no counters, only the size shows.
    ///
    /// Limit: file systems stamp times with the granularity of a clock tick (a few milliseconds)
    /// before Linux 6.13; a write in the tick in which the file was opened can go unseen.
    pub(super) fn check_unchanged(&self) -> Result<(), SourceError> {
        let changed = |what| Err(SourceError::Changed { path: self.path.clone(), what });
        if self.is_device() {
            // What waits in the page cache counts only when it has been written.
            sync(&self.file).map_err(|e| FileError::new("sync", &self.path, e))?;
        }
        let (stat, size_bytes) = self.look()?;
        if size_bytes != self.size_bytes {
            return changed("its size");
        }
        if self.is_device() {
            let activity = DeviceActivity::of(stat.raw_device);
            if self.activity.is_some() && activity != self.activity {
                return changed("the kernel counted writes to it");
            }
        } else if stat.mtime_ns != self.opened_as.mtime_ns {
            return changed("its time of modification");
        } else if stat.ctime_ns != self.opened_as.ctime_ns {
            return changed("its attributes, or its content by way of a mapping");
        }
        Ok(())
    }
}

fn disk_kind(stat: &FileStat, path: &Path) -> Result<FileKind, SourceError> {
    match stat.kind {
        FileKind::File | FileKind::BlockDevice => Ok(stat.kind),
        FileKind::Directory | FileKind::Other => {
            Err(SourceError::NotADisk { path: path.to_owned() })
        }
    }
}

// Without O_NONBLOCK, a named pipe that takes the file's place meanwhile would hang.
fn open_for_reading(path: &Path, is_device: bool) -> Result<File, SourceError> {
    let direct = if is_device { libc::O_DIRECT } else { 0 };
    let options = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | direct).open(path);
    options.map_err(|e| match e.raw_os_error() {
        Some(libc::EINVAL) if is_device => {
            SourceError::NoDirectReads { path: path.to_owned(), source: e }
        }
        _ => FileError::new("open", path, e).into(),
    })
}

fn lock(file: &File, path: &Path) -> Result<QemuLock, SourceError> {
    // A clone shares the lock with the descriptor that is read from, so both are one file.
    let clone = file.try_clone().map_err(|e| FileError::new("lock", path, e))?;
    QemuLock::hold(clone, path, QemuAccess::Read).map_err(|e| match e {
        QemuLockError::Busy { path } => SourceError::InUse { path },
        QemuLockError::File(error) => SourceError::CannotLock(error),
    })
}

fn sync(file: &File) -> io::Result<()> {
    match file.sync_data().map_err(|e| (e.raw_os_error(), e)) {
        Ok(()) => Ok(()),
        // Where nothing can be written, nothing waits to be.
        Err((Some(libc::EROFS | libc::EINVAL), _)) => Ok(()),
        Err((_, error)) => Err(error),
    }
}

fn sector_bytes(file: &File, path: &Path) -> Result<u64, SourceError> {
    let bytes = rustix::fs::ioctl_blksszget(file)
        .map_err(|e| FileError::new("ask the sector size of", path, e))?;
    // Every Linux device has 512 bytes to 64 KiB; anything else would break the arithmetic.
    if (512..=65_536).contains(&bytes) && bytes.is_power_of_two() {
        Ok(u64::from(bytes))
    } else {
        let reason = io::Error::other(format!("its sectors have {bytes} bytes"));
        Err(FileError::new("read", path, reason).into())
    }
}

//! Making a clone.

use super::folder::{CloneFolder, clone_name};
use super::{CloneError, CloneRequest, CloneState, ImageClone, KeptClone};
use crate::fsio::{FileError, FileStat, QemuAccess, QemuLock, QemuLockError};
use crate::source::{CloneIdentity, ImageFormat, image_format};
use rustix::fs::IFlags;
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

// From Linux's `magic.h`.
const XFS: u64 = 0x5846_5342;
const BTRFS: u64 = 0x9123_683e;

/// So many clones that should be gone, and cannot be removed, are too many.
const STRAYS_MAX: usize = 8;

/// An image that is to be cloned.
struct Image {
    path: PathBuf,
    file: File,
    is_btrfs: bool,
}

impl ImageClone {
    /// Clones an image. The clone is durable when this returns, and not kept yet.
    ///
    /// # Errors
    /// No error leaves a clone behind.
    pub fn take(request: &CloneRequest<'_>) -> Result<Self, CloneError> {
        let image = Image::open(request.image)?;
        let format = match request.format {
            Some(format) => format,
            None => image_format(request.image)?,
        };
        let folder = CloneFolder::beside(&image.path)?;
        let name = clone_name(request.machine, request.disk, &request.mark, request.run);
        let made =
            remove_strays(&folder, request).and_then(|()| image.clone_to(&folder, &name, format));
        let (file, identity, state) = made.inspect_err(|_| folder.remove_if_empty())?;
        let (mark, image) = (request.mark, image.path);
        Ok(Self { folder, name, file, identity, mark, image, format, state, is_kept: false })
    }
}

/// Removes what runs that were cut off left behind.
fn remove_strays(folder: &CloneFolder, request: &CloneRequest<'_>) -> Result<(), CloneError> {
    let kept = request.kept.and_then(|kept: &KeptClone| kept.place(&request.mark));
    let kept = kept.filter(|(place, _)| *place == folder.path()).map(|(_, name)| name);
    let (mut count, mut last) = (0, None);
    for name in folder.marked(&request.mark)? {
        let name = OsStr::new(&name);
        if Some(name) == kept {
            continue;
        }
        if let Err(error) = remove_unused(folder, name) {
            (count, last) = (count + 1, Some(error));
        }
    }
    match last {
        Some(error) if count > STRAYS_MAX => {
            Err(CloneError::Strays { folder: folder.path().to_owned(), count, error })
        }
        _ => Ok(()),
    }
}

/// Removes a clone, unless another run uses it at this moment.
fn remove_unused(folder: &CloneFolder, name: &OsStr) -> Result<(), FileError> {
    if let Some(file) = folder.read(name)?
        && matches!(file.try_lock(), Err(TryLockError::WouldBlock))
    {
        return Ok(());
    }
    folder.remove(name)
}

/// Opens a new clone for reading, locked, once its name is durable.
fn reopen(folder: &CloneFolder, name: &str) -> Result<(File, CloneIdentity), FileError> {
    let path = folder.path_of(name);
    let missing = || FileError::new("open", &path, Errno::NOENT);
    let file = folder.read(OsStr::new(name))?.ok_or_else(missing)?;
    file.lock().map_err(|e| FileError::new("lock", &path, e))?;
    folder.sync()?;
    let identity = CloneIdentity::of(&file).map_err(|e| FileError::new("look at", &path, e))?;
    Ok((file, identity))
}

impl Image {
    fn open(path: &Path) -> Result<Self, CloneError> {
        let error = |action, e: std::io::Error| FileError::new(action, path, e);
        // Without its links: the clones lie beside the file itself.
        let path = path.canonicalize().map_err(|e| error("find", e))?;
        let options = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path);
        let file = options.map_err(|e| error("open", e))?;
        if !file.metadata().map_err(|e| error("look at", e))?.is_file() {
            return Err(CloneError::NotAFile { path });
        }
        let stat =
            rustix::fs::fstatfs(&file).map_err(|e| error("ask the file system of", e.into()))?;
        match stat.f_type as u64 & 0xffff_ffff {
            kind @ (XFS | BTRFS) => Ok(Self { path, file, is_btrfs: kind == BTRFS }),
            _ => Err(CloneError::FileSystem { path }),
        }
    }

    /// Makes the clone `name`, durable, and gives it back open for reading and locked.
    fn clone_to(
        &self,
        folder: &CloneFolder,
        name: &str,
        format: ImageFormat,
    ) -> Result<(File, CloneIdentity, CloneState), CloneError> {
        let lock = self.lock(format)?;
        let made = self.copy_to(folder, name).and_then(|is_unmodified| {
            let (file, identity) = reopen(folder, name)?;
            let is_quiet = is_unmodified && lock.is_some();
            Ok((file, identity, if is_quiet { CloneState::Quiet } else { CloneState::InUse }))
        });
        made.inspect_err(|_| {
            // The first error matters more; the next run tries again.
            let _ = folder.remove(OsStr::new(name));
        })
    }

    /// Keeps writers out, if there is none: then it gives back the lock.
    fn lock(&self, format: ImageFormat) -> Result<Option<QemuLock>, CloneError> {
        let path = || self.path.clone();
        let take = |access| match self.file.try_clone() {
            Ok(file) => QemuLock::hold(file, &self.path, access),
            Err(e) => Err(FileError::new("lock", &self.path, e).into()),
        };
        match take(QemuAccess::Read) {
            Ok(lock) => return Ok(Some(lock)),
            Err(QemuLockError::File(error)) => return Err(error.into()),
            Err(QemuLockError::Busy { .. }) if format == ImageFormat::Qcow2 => {
                return Err(CloneError::Qcow2InUse { path: path() });
            }
            Err(QemuLockError::Busy { .. }) => {}
        }
        match take(QemuAccess::Snapshot) {
            Ok(_) => Ok(None),
            Err(QemuLockError::File(error)) => Err(error.into()),
            Err(QemuLockError::Busy { .. }) => Err(CloneError::Unfinished { path: path() }),
        }
    }

    /// Makes the clone durable, and tells whether the image stayed as it was meanwhile.
    fn copy_to(&self, folder: &CloneFolder, name: &str) -> Result<bool, CloneError> {
        let look = |file: &File, path: &Path| match file.metadata() {
            Ok(metadata) => Ok(FileStat::of(&metadata)),
            Err(e) => Err(FileError::new("look at", path, e)),
        };
        let before = look(&self.file, &self.path)?;
        let clone = folder.create(name)?;
        let cloned =
            self.match_nocow(&clone).and_then(|()| rustix::fs::ioctl_ficlone(&clone, &self.file));
        cloned.map_err(|e| self.refused(e))?;
        let path = folder.path_of(name);
        let after = look(&self.file, &self.path)?;
        let made = look(&clone, &path)?;
        // The call is free to clone only the beginning, and to call that a success.
        if (before.len_bytes, after.len_bytes) != (made.len_bytes, made.len_bytes) {
            let (image_bytes, clone_bytes) = (after.len_bytes, made.len_bytes);
            return Err(CloneError::Partial { path: self.path.clone(), image_bytes, clone_bytes });
        }
        clone.sync_all().map_err(|e| FileError::new("sync", &path, e))?;
        Ok(before.mtime_ns == after.mtime_ns && before.ctime_ns == after.ctime_ns)
    }

    /// btrfs clones only between files that are both copied on write, or both not.
    fn match_nocow(&self, clone: &File) -> rustix::io::Result<()> {
        if !self.is_btrfs {
            return Ok(());
        }
        let wanted = rustix::fs::ioctl_getflags(&self.file)? & IFlags::NOCOW;
        let flags = rustix::fs::ioctl_getflags(clone)?;
        if flags & IFlags::NOCOW == wanted {
            return Ok(());
        }
        rustix::fs::ioctl_setflags(clone, (flags - IFlags::NOCOW) | wanted)
    }

    fn refused(&self, error: Errno) -> CloneError {
        let advice = match error {
            Errno::OPNOTSUPP | Errno::INVAL | Errno::NOTTY => {
                "the file system was made without shared blocks (see reflink in `xfs_info`), or the \
                 image is one that it does not share: leave `snapshot` out, or give commands"
            }
            Errno::XDEV => "the folder .afterimage-clones beside it lies on another file system",
            Errno::NOSPC | Errno::DQUOT => "free some space there, then run this again",
            _ => "look at the system's log, then run this again",
        };
        CloneError::Refused { path: self.path.clone(), source: error.into(), advice }
    }
}

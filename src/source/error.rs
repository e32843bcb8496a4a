//! Why a disk cannot be read, and what to do about it.

use crate::fsio::{DeviceClaimError, FileError};
use crate::nbd::NbdError;
use crate::units::{DISK_BYTES_MAX, format_bytes};
use std::path::{Path, PathBuf};

/// Why a source was refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The system could not open or read a file.
    #[error("{0}; check the path, its permissions and the medium, then run this again")]
    File(#[from] FileError),
    /// An NBD export failed, or its server.
    #[error(transparent)]
    Nbd(#[from] NbdError),
    /// Neither a file nor a block device.
    #[error("{} is neither a file nor a block device; give the path of a disk image or device",
        path.display())]
    NotADisk {
        /// What was given.
        path: PathBuf,
    },
    /// A device was asked for, something else is there.
    #[error("{} is not a block device; give it as an image, or give the device's path",
        path.display())]
    NotADevice {
        /// What was given.
        path: PathBuf,
    },
    /// Nothing to read.
    #[error("the device {} has no bytes at all (no medium, or nothing is connected to it); check \
        the path", path.display())]
    Empty {
        /// The source.
        path: PathBuf,
    },
    /// More than any part of afterimage handles.
    #[error("{} has {size_bytes} bytes, the most is {}; make the disk smaller", path.display(),
        format_bytes(DISK_BYTES_MAX))]
    TooLarge {
        /// The source.
        path: PathBuf,
        /// Its size.
        size_bytes: u64,
    },
    /// Someone has it open for writing.
    #[error("{} is open for writing in another program (a running QEMU, qemu-img or qemu-nbd?); \
        shut that down, then run this again. If you know that nothing writes to it, say so with \
        `quiesced = true` on the source", path.display())]
    InUse {
        /// The file of the source.
        path: PathBuf,
    },
    /// The file system cannot lock, so nothing keeps a writer out.
    #[error("{0}; if nobody writes to the disk meanwhile, declare it quiesced and run this again")]
    CannotLock(#[source] FileError),
    /// The device is mounted or in use.
    #[error(transparent)]
    Claimed(DeviceClaimError),
    /// The device cannot be read past the page cache.
    #[error("{} refuses direct reads ({source}), and what the page cache holds of a device may be \
        old; copy it to an image and give that instead", path.display())]
    NoDirectReads {
        /// The device.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// A format that only QEMU reads.
    #[error("{0} is a {format} image, which is not read directly; convert it with `qemu-img \
        convert -O qcow2 {1} NEW.qcow2` and give that, or, if the disk's own content only looks \
        like one, give its format as \"raw\"", path.display(), shell_quoted(path))]
    UnsupportedFormat {
        /// The file.
        path: PathBuf,
        /// What it holds.
        format: &'static str,
    },
    /// Content and name contradict each other; a guest may have written the content.
    #[error("{}: {why}; say what it is: give its format as \"qcow2\" or \"raw\"",
        path.display())]
    FormatUnclear {
        /// The file.
        path: PathBuf,
        /// The contradiction.
        why: &'static str,
    },
    /// Encrypted content.
    #[error("{0} is an encrypted qcow2 image; decrypt it into another image with `qemu-img \
        convert`, then give that", path.display())]
    Encrypted {
        /// The image.
        path: PathBuf,
    },
    /// A feature of the format that this reader does not know, or refuses.
    #[error("{0}: {what}; convert it with `qemu-img convert -O qcow2 {1} NEW.qcow2` and give that",
        path.display(), shell_quoted(path))]
    UnsupportedFeature {
        /// The image.
        path: PathBuf,
        /// The feature.
        what: String,
    },
    /// The image says of itself that it was not closed properly.
    #[error("{0} is marked as {mark}; repair it with `qemu-img check -r all {1}`, then run this \
        again", path.display(), shell_quoted(path))]
    NeedsRepair {
        /// The image.
        path: PathBuf,
        /// `not closed cleanly` or `corrupt`.
        mark: &'static str,
    },
    /// The image contradicts itself.
    #[error("{0} is damaged: {what}; look at it with `qemu-img check {1}`, or restore the disk",
        path.display(), shell_quoted(path))]
    Damaged {
        /// The image.
        path: PathBuf,
        /// The contradiction.
        what: String,
    },
    /// The image does not say what its backing file is.
    #[error("{0} does not say which format its backing file {backing:?} has, and guessing is \
        unsafe; say it with `qemu-img rebase -u -b {1} -F FORMAT {2}`, where FORMAT is raw or \
        qcow2", path.display(), shell_quoted(Path::new(backing)), shell_quoted(path))]
    BackingFormatMissing {
        /// The image.
        path: PathBuf,
        /// The backing file, as the image names it.
        backing: String,
    },
    /// A file that the image refers to cannot be used.
    #[error("{0} refers to {name:?}, {why}; point it at a raw or qcow2 file with `qemu-img rebase \
        -u -b FILE -F FORMAT {1}`, or convert it into an image of its own with `qemu-img convert`",
        path.display(), shell_quoted(path))]
    BadReference {
        /// The image.
        path: PathBuf,
        /// The other file, as the image names it.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// It is not what it was when it was opened.
    #[error("{} changed while it was read ({what}), so that what was read is no one state of the \
        disk; stop what writes to it, then run this again", path.display())]
    Changed {
        /// The file of the source.
        path: PathBuf,
        /// What changed.
        what: &'static str,
    },
    /// A running machine is no longer held at the instant of its capture.
    #[error("{}: the capture was lost while it was read ({why}), so no point was made; run this \
        again", path.display())]
    CaptureLost {
        /// The socket of its monitor.
        path: PathBuf,
        /// What happened.
        why: String,
    },
    /// It could not be held at one instant, as a clone or a snapshot.
    #[error("{error}")]
    NotHeld {
        /// The reason.
        #[source]
        error: Box<dyn std::error::Error + Send + Sync>,
        /// Whether trying the same again can not help.
        is_permanent: bool,
    },
    /// A read past the end of the disk.
    #[error("bytes {offset} to {end} of {} were asked for, the disk has {size_bytes}; ask for a \
        range within it", path.display())]
    PastEnd {
        /// The source.
        path: PathBuf,
        /// First byte of the range.
        offset: u64,
        /// First byte past the range.
        end: u64,
        /// Size of the disk.
        size_bytes: u64,
    },
}

impl SourceError {
    /// Whether trying the same again can not help.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::InUse { .. } | Self::Changed { .. } | Self::CaptureLost { .. } => false,
            Self::Claimed(claim) => !matches!(claim, DeviceClaimError::Busy { .. }),
            Self::File(error) => error.is_permanent(),
            Self::NotHeld { is_permanent, .. } => *is_permanent,
            Self::Nbd(error) => error.is_permanent(),
            _ => true,
        }
    }
}

impl From<DeviceClaimError> for SourceError {
    fn from(error: DeviceClaimError) -> Self {
        match error {
            DeviceClaimError::File(error) => Self::File(error),
            other => Self::Claimed(other),
        }
    }
}

/// `path` as a word that a POSIX shell reads back unchanged.
fn shell_quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}

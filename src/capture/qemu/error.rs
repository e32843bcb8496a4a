//! Why a running QEMU could not be captured.

use crate::nbd::AddressError;
use crate::qmp::{QmpError, Version};
use crate::source::SourceError;
use crate::units::format_bytes;
use std::path::PathBuf;

/// Why a running QEMU could not be captured. The guest is not frozen, and nothing is left behind.
#[derive(Debug, thiserror::Error)]
pub enum QemuError {
    /// QEMU did not do what it was asked to.
    #[error(transparent)]
    Qmp(#[from] QmpError),
    /// It is off, and nobody said where all its disks lie.
    #[error("nobody listens on {}: the machine is off; give each of its disks an `image`, which is \
        read then, or start the machine", path.display())]
    Off {
        /// The socket of its monitor.
        path: PathBuf,
    },
    /// What QEMU exports cannot be read, or the image of a machine that is off.
    #[error("{error}")]
    Export {
        /// Why.
        #[source]
        error: Box<SourceError>,
    },
    /// The path of the socket.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// It lacks what is needed.
    #[error("QEMU {found} is too old: version {needed} or later is needed; update QEMU")]
    TooOld {
        /// What runs.
        found: Version,
        /// The first that will do.
        needed: Version,
    },
    /// A disk cannot be captured.
    #[error("{why}; correct `device`")]
    Disk {
        /// Why.
        why: String,
    },
    /// Somebody else's job works on a disk.
    #[error(
        "a job of another program works on {device} (a backup, a mirror or a commit); wait \
        until it is done, then run this again"
    )]
    JobRunning {
        /// The disk, as the settings call it.
        device: String,
    },
    /// Too many disks.
    #[error("the machine has {found} disks, the most is {most}; divide it into several machines")]
    TooManyDisks {
        /// How many there are.
        found: usize,
        /// The most.
        most: usize,
    },
    /// Nobody knows where the scratch file can lie.
    #[error(
        "{device} is no image in a file ({file}), so say where QEMU can keep for a while what \
        the guest overwrites: scratch = \"FOLDER\""
    )]
    NoScratch {
        /// The disk, as the settings call it.
        device: String,
        /// What QEMU says that it is.
        file: String,
    },
    /// The scratch file would fill its file system.
    #[error("{} has {} free, and what the guest overwrites while it is read needs at least {}; free \
        some space there, or set `scratch` to a folder elsewhere", folder.display(),
        format_bytes(*free_bytes), format_bytes(*needed_bytes))]
    NoRoom {
        /// The folder.
        folder: PathBuf,
        /// What it has.
        free_bytes: u64,
        /// What it should have.
        needed_bytes: u64,
    },
    /// QEMU could not make the scratch image.
    #[error("QEMU cannot make the scratch file {}: {reason}; set `scratch` to a folder that QEMU may \
        write to", path.display())]
    Scratch {
        /// The file.
        path: PathBuf,
        /// QEMU's words.
        reason: String,
    },
    /// QEMU has one NBD server, and somebody else uses it.
    #[error("QEMU's only NBD server is in use by another program (its exports: {}); wait until that \
        is done, then run this again", if exports.is_empty() { "none" } else { exports })]
    ServerTaken {
        /// What it serves.
        exports: String,
    },
    /// The system.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried.
        action: &'static str,
        /// The reason.
        #[source]
        source: std::io::Error,
    },
}

impl QemuError {
    /// Whether trying the same again can not help.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Qmp(error) => error.is_permanent(),
            Self::JobRunning { .. }
            | Self::Off { .. }
            | Self::NoRoom { .. }
            | Self::ServerTaken { .. }
            | Self::System { .. }
            | Self::Export { .. } => false,
            _ => true,
        }
    }
}

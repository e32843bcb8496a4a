//! Why a target cannot be used, and what to do about it.

use super::TargetKind;
use crate::fsio::{DeviceClaimError, FileError, QemuLockError};
use crate::nbd::{AddressError, NbdError};
use std::path::PathBuf;

/// Why a target cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// The file failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// The address of an export is none.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// An export failed, or its server.
    #[error(transparent)]
    Nbd(#[from] NbdError),
    /// Another program uses it.
    #[error(transparent)]
    Locked(#[from] QemuLockError),
    /// The kernel has it in use.
    #[error(transparent)]
    Claimed(#[from] DeviceClaimError),
    /// Nothing is there.
    #[error(
        "{} does not exist; bring it back, or run `afterimage config check` to see where it is \
         configured", path.display()
    )]
    Missing {
        /// The target.
        path: PathBuf,
    },
    /// A new target's name is taken.
    #[error(
        "{} exists already and is not overwritten; move it away, or configure another target, then \
         run this again", path.display()
    )]
    Exists {
        /// The target.
        path: PathBuf,
    },
    /// It cannot hold a disk.
    #[error(
        "{} is neither a regular file nor a block device; configure one of these as the target, \
         then run `afterimage config check`", path.display()
    )]
    NotADisk {
        /// The target.
        path: PathBuf,
    },
    /// It is not what was configured.
    #[error(
        "{} is {found}, {expected} was expected; correct the configuration, then run \
         `afterimage config check`", path.display()
    )]
    WrongKind {
        /// The target.
        path: PathBuf,
        /// What it should be.
        expected: TargetKind,
        /// What it is.
        found: TargetKind,
    },
    /// The name led to two different things.
    #[error(
        "{} was replaced while it was opened; nothing was written. See who does that, then run \
         this again", path.display()
    )]
    Swapped {
        /// The target.
        path: PathBuf,
    },
    /// A device is smaller than its disk.
    #[error(
        "{} has {size_bytes} bytes, the disk needs {needed_bytes}; enlarge the device or choose \
         another, then run this again", path.display()
    )]
    TooSmall {
        /// The device.
        path: PathBuf,
        /// What it has.
        size_bytes: u64,
        /// What it must have at least.
        needed_bytes: u64,
    },
    /// An export has not the size of its disk.
    #[error(
        "{} has {size_bytes} bytes, the disk has {needed_bytes}, and an export cannot be resized; \
         let its server export a disk of this size, then run this again", path.display()
    )]
    WrongSize {
        /// Its address.
        path: PathBuf,
        /// What it has.
        size_bytes: u64,
        /// What it must have.
        needed_bytes: u64,
    },
    /// An access past its end.
    #[error(
        "{} has {size_bytes} bytes, an access ends at {end_bytes}; it was refused. Run `afterimage \
         replicate now` for its replica, which checks the sizes again", path.display()
    )]
    PastTheEnd {
        /// The target.
        path: PathBuf,
        /// What it has.
        size_bytes: u64,
        /// Where the access ends.
        end_bytes: u64,
    },
}

impl TargetError {
    /// Whether trying the same again can not help.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::File(error) => error.is_permanent(),
            Self::Nbd(error) => error.is_permanent(),
            Self::Locked(_) | Self::Claimed(_) | Self::Swapped { .. } => false,
            _ => true,
        }
    }
}

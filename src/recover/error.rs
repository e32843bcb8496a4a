//! Why a point was not brought back.

use super::ChoosePointError;
use crate::catalog::CatalogError;
use crate::destination::{CopyError, TargetError};
use crate::fsio::FileError;
use crate::progress::Cancelled;
use crate::store::{Damage, StoreError};
use crate::units::{Name, format_bytes};
use std::path::PathBuf;

/// Why a restore failed. Nothing incomplete has its final name.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// No point is meant.
    #[error(transparent)]
    Choice(#[from] ChoosePointError),
    /// The point has no such disk.
    #[error("point {point} has no disk {disk}; it has: {has}")]
    NoSuchDisk {
        /// The point.
        point: String,
        /// The disk.
        disk: Name,
        /// Its disks.
        has: String,
    },
    /// Several disks cannot go to one file.
    #[error(
        "point {point} has {count} disks; name a folder, where each becomes NAME.raw, or choose \
         one with `--disk`"
    )]
    SeveralDisks {
        /// The point.
        point: String,
        /// How many.
        count: usize,
    },
    /// A file is in the way.
    #[error("{} exists; add `--force` to replace it once the restore is complete", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// It is neither file, folder nor device.
    #[error("{} is no regular file, folder or block device", path.display())]
    NotATarget {
        /// What was named.
        path: PathBuf,
    },
    /// A device would be overwritten.
    #[error(
        "{} is a block device; everything on it would be overwritten. Add `--force` if that is \
         what you want", path.display()
    )]
    DeviceNeedsForce {
        /// The device.
        path: PathBuf,
    },
    /// The target would be a source or a replica, or lies in the repository.
    #[error("{} is {what}; restore to another place", path.display())]
    Protected {
        /// The target.
        path: PathBuf,
        /// What it is.
        what: String,
    },
    /// There is not enough room.
    #[error(
        "not enough space in {}: {} are needed, {} are free; nothing was written", path.display(),
        format_bytes(*needed_bytes), format_bytes(*free_bytes)
    )]
    NoSpace {
        /// Where.
        path: PathBuf,
        /// Bytes needed.
        needed_bytes: u64,
        /// Bytes free.
        free_bytes: u64,
    },
    /// A target failed.
    #[error("disk {disk}: {error}")]
    Target {
        /// The disk.
        disk: Name,
        /// The reason.
        #[source]
        error: Box<TargetError>,
    },
    /// Copying failed.
    #[error("disk {disk}: {error}{}", advice(error))]
    Copy {
        /// The disk.
        disk: Name,
        /// The reason.
        #[source]
        error: Box<CopyError>,
    },
    /// The repository failed.
    #[error("{0}{advice}", advice = advice_of(.0))]
    Store(#[from] StoreError),
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// A file failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// The user stopped it.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

fn advice(error: &CopyError) -> &'static str {
    if let CopyError::Store(error) = error { advice_of(error) } else { "" }
}

/// What else can be done where content is damaged or gone.
fn advice_of(error: &StoreError) -> &'static str {
    match error {
        // Without its manifest nothing is left of a point.
        StoreError::Damaged(Damage::Manifest { .. }) => "",
        StoreError::Damaged(_) | StoreError::Unknown { .. } => {
            "; `afterimage repair` may bring it back, `--skip-damaged` restores everything else and \
             lists what is missing"
        }
        _ => "",
    }
}

impl RestoreError {
    pub(super) fn target(disk: &Name, error: TargetError) -> Self {
        Self::Target { disk: disk.clone(), error: Box::new(error) }
    }

    pub(super) fn copy(disk: &Name, error: CopyError) -> Self {
        match error {
            CopyError::Cancelled(cancelled) => Self::Cancelled(cancelled),
            error => Self::Copy { disk: disk.clone(), error: Box::new(error) },
        }
    }
}

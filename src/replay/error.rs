//! Why a replication failed.

use super::plan::PlanConflict;
use crate::capture::CaptureError;
use crate::catalog::CatalogError;
use crate::destination::{
    ApplyError, CopyError, JournalError, SuperblockError, TargetError, TransitionError,
};
use crate::fsio::{FileError, LockError};
use crate::progress::Cancelled;
use crate::source::SourceError;
use crate::store::StoreError;
use crate::units::{Name, format_bytes};
use crate::workers::WorkerLost;
use std::path::PathBuf;

/// Why a replication failed. The replica is at the point that `afterimage status` names.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The plan met something that it must not decide.
    #[error(transparent)]
    Conflict(#[from] PlanConflict),
    /// There is nothing to replicate.
    #[error("{machine} has no recovery point yet; run `afterimage backup now {machine}`")]
    NoPoint {
        /// The machine.
        machine: Name,
    },
    /// A target is, or holds, a source.
    #[error(
        "disk {disk}: the target {} is the source of a disk; replication would overwrite what it \
         protects. Give the replica a target of its own", path.display()
    )]
    TargetIsSource {
        /// The disk.
        disk: Name,
        /// The target.
        path: PathBuf,
    },
    /// A target lies in a repository.
    #[error(
        "disk {disk}: the target {} lies inside the repository {}; give the replica a target \
         elsewhere", path.display(), repository.display()
    )]
    TargetInRepository {
        /// The disk.
        disk: Name,
        /// The target.
        path: PathBuf,
        /// The repository's folder.
        repository: PathBuf,
    },
    /// A replica that was fed has no superblock.
    #[error(
        "replica {replica} was fed before, but its superblock {} is gone; mount its file system, or \
         bring its folder back, then run this again. If it is lost, or now belongs elsewhere: \
         `afterimage replicate now {replica} --adopt` makes it anew", path.display()
    )]
    SuperblockGone {
        /// The replica.
        replica: Name,
        /// Where the superblock was.
        path: PathBuf,
    },
    /// There is not enough room.
    #[error(
        "not enough space in {} for {what}: {} are needed, {} are free; nothing was changed",
        path.display(), format_bytes(*needed_bytes), format_bytes(*free_bytes)
    )]
    NoSpace {
        /// Where.
        path: PathBuf,
        /// For what.
        what: &'static str,
        /// Bytes needed.
        needed_bytes: u64,
        /// Bytes free.
        free_bytes: u64,
    },
    /// Something wrote to a target while the delta was staged.
    #[error("{change}; nothing was written. Run `afterimage replicate now` again: it will compare")]
    ChangedMeanwhile {
        /// What differs.
        change: crate::destination::IdentityChange,
    },
    /// A target was replaced in the middle of an update.
    #[error("the target of disk {disk} is another one now, or not known to be the same")]
    TargetReplaced {
        /// The disk.
        disk: Name,
    },
    /// A disk failed.
    #[error("disk {disk}: {error}")]
    Target {
        /// The disk.
        disk: Name,
        /// The reason.
        #[source]
        error: Box<TargetError>,
    },
    /// The machine could not be captured.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// A captured disk could not be read.
    #[error("disk {disk}: {error}")]
    Source {
        /// The disk.
        disk: Name,
        /// The reason.
        #[source]
        error: Box<SourceError>,
    },
    /// A worker ended without a result.
    #[error(transparent)]
    WorkerLost(#[from] WorkerLost),
    /// Copying a disk failed.
    #[error("disk {disk}: {error}")]
    Copy {
        /// The disk.
        disk: Name,
        /// The reason.
        #[source]
        error: Box<CopyError>,
    },
    /// The superblock failed.
    #[error(transparent)]
    Superblock(#[from] SuperblockError),
    /// The state may not change so.
    #[error(transparent)]
    Transition(#[from] TransitionError),
    /// The journal failed.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The journal could not be redone.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// The repository failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// A file failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// Another process works on the replica.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The user stopped it.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl ReplayError {
    pub(super) fn source(disk: &Name, error: SourceError) -> Self {
        Self::Source { disk: disk.clone(), error: Box::new(error) }
    }

    pub(super) fn target(disk: &Name, error: TargetError) -> Self {
        Self::Target { disk: disk.clone(), error: Box::new(error) }
    }

    pub(super) fn copy(disk: &Name, error: CopyError) -> Self {
        match error {
            CopyError::Cancelled(cancelled) => Self::Cancelled(cancelled),
            error => Self::Copy { disk: disk.clone(), error: Box::new(error) },
        }
    }

    /// Whether the journal that was to be redone, or a target of it, is lost: trying again does
    /// not bring it back.
    pub(super) fn cannot_be_redone(&self) -> bool {
        let lost = |error: &JournalError| {
            matches!(
                error,
                JournalError::Damaged { .. }
                    | JournalError::Missing { .. }
                    | JournalError::Foreign { .. }
            )
        };
        match self {
            Self::Journal(error) | Self::Apply(ApplyError::Journal(error)) => lost(error),
            Self::TargetReplaced { .. } => true,
            _ => false,
        }
    }

    /// Whether an object of the repository is damaged or lost.
    pub(super) fn is_damage(&self) -> bool {
        matches!(self, Self::Store(StoreError::Damaged(_) | StoreError::Unknown { .. }))
    }

    /// Whether trying the same again can not help.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Target { error, .. } => error.is_permanent(),
            Self::Copy { error, .. } => error.is_permanent(),
            Self::Capture(error) => error.is_permanent(),
            Self::Source { error, .. } => error.is_permanent(),
            Self::Superblock(error) => error.is_permanent(),
            Self::Journal(error) => error.is_permanent(),
            Self::Apply(error) => error.is_permanent(),
            Self::Store(error) => error.is_permanent(),
            Self::File(error) => error.is_permanent(),
            Self::Lock(_) | Self::Cancelled(_) | Self::NoPoint { .. } => false,
            Self::ChangedMeanwhile { .. } => false,
            _ => true,
        }
    }
}

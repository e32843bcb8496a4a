//! How a copy is made, and what comes of it.

use crate::destination::TargetError;
use crate::extent::Extent;
use crate::progress::Cancelled;
use crate::store::StoreError;
use crate::workers::WorkerLost;

/// What is done to the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyMode {
    /// It is new and reads as zeros: only data is written.
    Fresh,
    /// Anything may be in it: everything is written, zeros too.
    Overwrite,
    /// It may hold much of the content: it is read, and only what differs is written.
    Repair,
    /// Nothing is written: it is read, and what differs is told.
    Compare,
}

/// How to copy.
#[derive(Debug, Clone, Copy)]
pub struct CopyOptions {
    /// What is done to the target.
    pub mode: CopyMode,
    /// Threads that fetch, compare and write.
    pub workers: usize,
    /// What becomes of content that the repository cannot give back.
    pub damaged: Damaged,
}

/// What becomes of content that the repository cannot give back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damaged {
    /// The copy ends with the first of it.
    Fail,
    /// It is left out, reads as zeros in the target, and is told range by range.
    Skip,
}

/// What a copy found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CopyOutcome {
    /// Ranges that differed, in order; with [`CopyMode::Repair`] and [`CopyMode::Compare`] only.
    pub differing: Vec<Extent>,
    /// How many bytes they hold, with those that were too many to be listed.
    pub differing_bytes: u64,
    /// Every range that the repository could not give back, in order; with [`Damaged::Skip`] only.
    pub missing: Vec<Extent>,
}

/// Why a copy ended early. What the target holds then is nothing.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The content could not be had.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The target failed.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The user stopped it.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
    /// A worker ended without a result.
    #[error(transparent)]
    WorkerLost(#[from] WorkerLost),
}

impl CopyError {
    /// Whether trying the same again can not help.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Store(error) => error.is_permanent(),
            Self::Target(error) => error.is_permanent(),
            Self::Cancelled(_) => false,
            Self::WorkerLost(_) => true,
        }
    }
}

//! Redoing a journal on its targets: pure mechanism, the superblock is the caller's.
//!
//! *Invariants*
//! - Nothing is changed before the journal is verified and every target has room.
//! - Applying again, after a cut anywhere in an earlier apply, gives the same content: what is
//!   written depends on the journal alone, and no record reaches past a disk's new size.

use super::journal::{JournalDisk, JournalError, Record, VerifiedJournal};
use super::target::{Background, Target, TargetError};
use crate::extent::Extent;
use crate::units::{Breakage, is_broken};

/// What an apply did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Applied {
    /// Bytes written as data.
    pub bytes_written: u64,
    /// Bytes made to read as zeros.
    pub bytes_zeroed: u64,
}

/// Why a journal was not applied, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The journal failed.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A target failed. The journal is still there: once the cause is gone it is redone.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// Not the journal's targets.
    #[error(
        "the journal is for {expected} disks, {found} targets were given; nothing was written. \
         Correct the replica's disks, then run `afterimage config check`"
    )]
    OtherDisks {
        /// Disks of the journal.
        expected: usize,
        /// Targets that were given.
        found: usize,
    },
}

impl ApplyError {
    /// Whether trying the same again can not help.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Journal(error) => error.is_permanent(),
            Self::Target(error) => error.is_permanent(),
            Self::OtherDisks { .. } => true,
        }
    }
}

/// Redoes `journal` on `targets`, which are its disks in its order, and syncs each of them.
///
/// # Errors
/// After one, what the targets hold is no point; the journal still is all that is needed.
pub fn apply(journal: &VerifiedJournal, targets: &[Target]) -> Result<Applied, ApplyError> {
    let disks = &journal.header().disks;
    if disks.len() != targets.len() {
        return Err(ApplyError::OtherDisks { expected: disks.len(), found: targets.len() });
    }
    for (disk, target) in disks.iter().zip(targets) {
        target.check_room(disk.size_bytes)?;
    }
    let mut done = Applied::default();
    for (disk, target) in disks.iter().zip(targets) {
        done.bytes_zeroed += grow(disk, target)?;
    }
    journal.for_each(|record| redo(record, targets, &mut done))?;
    for (disk, target) in disks.iter().zip(targets) {
        // An image shrinks last, so that until here all targets are at least as large as before.
        target.resize(disk.size_bytes)?;
        if !is_broken(Breakage::TargetsUnsynced) {
            target.sync()?;
        }
    }
    Ok(done)
}

/// Gives a target at least the disk's new size, and zeros to what the disk gains: a device, or
/// an image that an earlier apply grew, may hold anything there. Returns the bytes zeroed.
fn grow(disk: &JournalDisk, target: &Target) -> Result<u64, TargetError> {
    if target.size() < disk.size_bytes {
        target.resize(disk.size_bytes)?;
    }
    if disk.size_bytes <= disk.size_before_bytes || is_broken(Breakage::GainKeepsOld) {
        return Ok(0);
    }
    let gained = Extent::between(disk.size_before_bytes, disk.size_bytes);
    target.zero(gained, Background::Unknown)?;
    Ok(gained.len())
}

fn redo(record: Record<'_>, targets: &[Target], done: &mut Applied) -> Result<(), ApplyError> {
    let (Record::Data { disk, .. } | Record::Zeros { disk, .. }) = record;
    let Some(target) = targets.get(usize::from(disk)) else {
        let expected = usize::from(disk) + 1;
        return Err(ApplyError::OtherDisks { expected, found: targets.len() });
    };
    match record {
        Record::Data { offset, bytes, .. } => {
            let thinned = target.write_thin(offset, bytes, Background::Unknown)?;
            done.bytes_written += thinned.data_bytes;
            done.bytes_zeroed += thinned.zero_bytes;
        }
        Record::Zeros { extent, .. } => {
            target.zero(extent, Background::Unknown)?;
            done.bytes_zeroed += extent.len();
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;

//! Where replicas live: the disks that are kept at a recovery point, and the files beside them
//! that make every step of that survive a crash.
//!
//! ```text
//! delta --> journal (published) --> superblock "applying" --> targets --> superblock "clean"
//!                                   ^ the commit: from here on the journal is redone
//! ```
//!
//! Invariant: a replica's images, together with its journal when the superblock says `applying`,
//! always equal exactly one named point (except while it is `seeding`, which names no point as
//! held).

mod apply;
mod copy;
mod home;
mod journal;
mod superblock;
mod target;
#[cfg(test)]
mod tests;

pub use apply::{Applied, ApplyError, apply};
pub use copy::{CopyError, CopyMode, CopyOptions, CopyOutcome, Damaged, copy_tree};
pub use home::ReplicaHome;
pub use journal::{
    JournalDisk, JournalError, JournalHeader, JournalReader, JournalRef, JournalWriter, Record,
    VerifiedJournal,
};
pub use superblock::{
    DirectFeed, DiskRecord, NO_REPOSITORY, PointRef, ReplicaRecord, SlotFault, State, Superblock,
    SuperblockError, TransitionError, check_transition,
};
pub use target::{
    Background, Difference, IdentityChange, Target, TargetAccess, TargetError, TargetIdentity,
    TargetKind, Thinned,
};

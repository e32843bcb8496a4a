//! The redo journal: everything that takes a replica from one point to another, data included,
//! in one file, so that it can be finished without the repository or the network.
//!
//! ```text
//! header    magic 8, version u32, header length u32, replica 16, from point 32, to point 32,
//!           disk count u16, then for each disk: name length u8, name, size before u64, size u64
//! records   kind u8, disk u16, offset u64, length u64, then `length` bytes if the kind is data
//! end       a record header: kind end, disk 0, offset = records before it, length = data bytes
//! footer    SHA-256 of everything before it
//! ```
//!
//! Numbers are little-endian. *Invariants*
//! - A journal under its final name is complete and durable.
//! - Every record lies inside its disk's new size; none is empty; data is at most
//!   [`DATA_BYTES_MAX`] a record. So reading needs bounded memory, whatever the file says.
//! - Records say what the content is, never how it changes: applying them again, in order and
//!   from any point of an interrupted apply, gives the same content.

mod format;
mod read;
#[cfg(test)]
mod tests;
mod write;

pub use read::{JournalReader, Record, VerifiedJournal};
pub use write::JournalWriter;

use crate::fsio::FileError;
use crate::units::{JournalDigest, Name, PointId, ReplicaId};
use std::path::{Path, PathBuf};

/// Newest format version that is read, and the one that is written.
const VERSION: u32 = 1;
/// Most data in one record, in bytes.
const DATA_BYTES_MAX: usize = 1024 * 1024;
/// Most disks of one replica.
const DISKS_MAX: usize = 256;

/// What a journal belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalHeader {
    /// The replica.
    pub replica_id: ReplicaId,
    /// The point that it must be at.
    pub from: PointId,
    /// The point that it is at afterwards.
    pub to: PointId,
    /// Its disks; records name them by their position here.
    pub disks: Vec<JournalDisk>,
}

/// One disk of a journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalDisk {
    /// Its name.
    pub name: Name,
    /// Size at the point `from`, in bytes.
    pub size_before_bytes: u64,
    /// Size at the point `to`, in bytes. What a disk gains is zeros unless a record says
    /// otherwise.
    pub size_bytes: u64,
}

/// A finished journal, as the superblock names it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JournalRef {
    /// File name in the replica's home.
    pub file: Name,
    /// Length of the file in bytes.
    pub bytes: u64,
    /// SHA-256 of all of it but its footer, which repeats this.
    pub sha256: JournalDigest,
}

/// Why a journal was not written or cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is not a whole, undamaged journal.
    #[error(
        "the journal {} is damaged: {reason}; it is not used. Run `afterimage replicate now` for \
         its replica: without the journal the images are read in full, compared with the newest \
         point, and what differs is written again",
        path.display()
    )]
    Damaged {
        /// The journal.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The file is gone.
    #[error(
        "the journal {} is missing; bring it back, or run `afterimage replicate now` for its \
         replica, which reads its images in full, compares them with the newest point and writes \
         what differs", path.display()
    )]
    Missing {
        /// The journal.
        path: PathBuf,
    },
    /// The file is a journal, but not the one that the superblock names.
    #[error(
        "{} is not the journal that the replica's superblock names: {reason}; it is not used. \
         Bring the right file back, or run `afterimage replicate now` for the replica, which reads \
         its images in full, compares them with the newest point and writes what differs",
        path.display()
    )]
    Foreign {
        /// The journal.
        path: PathBuf,
        /// What differs.
        reason: String,
    },
    /// A newer program wrote it.
    #[error(
        "the journal {} has format {found}, this program knows up to {VERSION}; run the newer \
         afterimage that wrote it", path.display()
    )]
    NewerFormat {
        /// The journal.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// What was to be written cannot be part of this journal.
    #[error(
        "the journal {} cannot hold this: {reason}; the replica stays at its point. This is a \
         fault of the caller: please report it, with the output of `afterimage points`",
        path.display()
    )]
    Refused {
        /// The journal.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// A journal has this name already.
    #[error(
        "{} exists already: it is redone or discarded first. Run `afterimage replicate now` for \
         its replica again", path.display()
    )]
    Exists {
        /// The journal.
        path: PathBuf,
    },
}

impl JournalError {
    fn damaged(path: &Path, reason: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), reason: reason.into() }
    }

    fn refused(path: &Path, reason: impl Into<String>) -> Self {
        Self::Refused { path: path.to_owned(), reason: reason.into() }
    }

    /// Whether trying the same again can not help.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::File(error) => error.is_permanent(),
            _ => true,
        }
    }
}

//! Why a snapshot could not be taken.

use crate::capture::CommandError;
use crate::fsio::{FileError, LockError};
use crate::source::SourceError;
use std::path::PathBuf;

/// Why a snapshot could not be taken. What was made of it is removed, now or by the next run.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// A command of the user's.
    #[error("{0}; try it by hand, then run this again")]
    Command(#[from] CommandError),
    /// What was made cannot be read.
    #[error("the snapshot {name}: {error}")]
    Source {
        /// Its name.
        name: String,
        /// The reason.
        #[source]
        error: Box<SourceError>,
    },
    /// Nothing is where the settings say.
    #[error("`create` was done, but the snapshot is not at {}, where `path` says; correct `path`, \
        or let `create` wait until it is there, as with `udevadm settle`", path.display())]
    NotThere {
        /// Where it should be.
        path: PathBuf,
    },
    /// The settings' path leads nowhere.
    #[error(
        "`path` is {text:?}, {why}; write an absolute path in which $AFTERIMAGE_SNAPSHOT, \
        $AFTERIMAGE_MACHINE and $AFTERIMAGE_DISK stand for what they are in the commands"
    )]
    Path {
        /// What the settings say.
        text: String,
        /// What is wrong with it.
        why: String,
    },
    /// Snapshots of earlier runs are still there.
    #[error("{count} snapshots that are not needed any more cannot be removed ({error}); remove \
        them by hand, and their files in {}, then run this again", folder.display())]
    Strays {
        /// How many.
        count: usize,
        /// Where they are recorded.
        folder: PathBuf,
        /// Why the last one is there.
        #[source]
        error: CommandError,
    },
    /// The records cannot be read or written.
    #[error("the records of snapshots: {0}; check the state folder, then run this again")]
    Records(#[from] FileError),
    /// Another run makes a snapshot of this disk.
    #[error(transparent)]
    Locked(#[from] LockError),
}

impl SnapshotError {
    /// Whether trying the same again can not help.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Command(_) | Self::Locked(_) | Self::NotThere { .. } => false,
            Self::Source { error, .. } => error.is_permanent(),
            Self::Records(error) => error.is_permanent(),
            Self::Path { .. } | Self::Strays { .. } => true,
        }
    }
}

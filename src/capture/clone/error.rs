//! Why an image could not be cloned.

use crate::fsio::FileError;
use crate::source::SourceError;
use std::path::{Path, PathBuf};

/// Why an image could not be cloned. No clone is left behind.
#[derive(Debug, thiserror::Error)]
pub enum CloneError {
    /// A file-system call failed.
    #[error("{0}; check the folder, its permissions and its space, then run this again")]
    File(#[from] FileError),
    /// The image cannot be read, or not as what it is said to be.
    #[error(transparent)]
    Image(#[from] SourceError),
    /// Not a file.
    #[error("{} is no file, and only files can be cloned; leave `snapshot` out, or give commands \
        that make a snapshot of it", path.display())]
    NotAFile {
        /// What was given.
        path: PathBuf,
    },
    /// Its file system cannot clone, or is not known to do it in one instant.
    #[error("{} does not lie on XFS or btrfs, where afterimage makes clones; leave `snapshot` out, \
        or give commands that make a snapshot of it", path.display())]
    FileSystem {
        /// The image.
        path: PathBuf,
    },
    /// The file system refused.
    #[error("{} cannot be cloned: {source}; {advice}", path.display())]
    Refused {
        /// The image.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
        /// What may help.
        advice: &'static str,
    },
    /// The clone is not all of the image.
    #[error("{} has {image_bytes} bytes, its clone {clone_bytes}: either it was resized meanwhile, \
        or the file system gave up half-way, as when it is full; check its space, then run this \
        again", path.display())]
    Partial {
        /// The image.
        path: PathBuf,
        /// Its size.
        image_bytes: u64,
        /// The size of the clone.
        clone_bytes: u64,
    },
    /// A running guest's qcow2 image.
    #[error("{} is open for writing in another program (a running QEMU?), which keeps a part of what \
        a qcow2 image is made of in its memory, so a clone of it would be damaged; shut that down, \
        or let QEMU itself hold the disk: `source = {{ qemu = … }}`", path.display())]
    Qcow2InUse {
        /// The image.
        path: PathBuf,
    },
    /// Something is written to it that does not count at every instant.
    #[error("{} is being written by a program for which it counts only when it is done (a replica \
        that is being brought to another point?); wait for that, then run this again",
        path.display())]
    Unfinished {
        /// The image.
        path: PathBuf,
    },
    /// The folder of clones is not to be trusted.
    #[error("{}, where afterimage keeps clones of images, cannot be used: {why}; see who made it, \
        remove it, then run this again", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Clones of earlier runs are still there.
    #[error("{count} clones that are not needed any more cannot be removed from {} ({error}); \
        remove them, then run this again", folder.display())]
    Strays {
        /// The folder.
        folder: PathBuf,
        /// How many.
        count: usize,
        /// Why the last one is there.
        #[source]
        error: FileError,
    },
}

impl CloneError {
    pub(super) fn folder(path: &Path, why: &'static str) -> Self {
        Self::Folder { path: path.to_owned(), why }
    }

    /// Whether trying the same again can not help.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::File(error) => error.is_permanent(),
            Self::Image(error) => error.is_permanent(),
            Self::Partial { .. } | Self::Qcow2InUse { .. } | Self::Unfinished { .. } => false,
            _ => true,
        }
    }
}

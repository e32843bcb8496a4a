//! Why the demonstration did not come to its end.

use crate::operations::{FailedRun, OperationError};
use crate::report::ExitCode;
use std::path::{Path, PathBuf};

/// Why the demonstration did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// A program that makes or checks ext4 disks is not installed.
    #[error(
        "the demonstration needs {name}, which is not installed; on Debian: sudo apt-get install \
         e2fsprogs"
    )]
    ProgramMissing {
        /// The program.
        name: &'static str,
    },
    /// It failed.
    #[error("{name} failed: {message}")]
    ProgramFailed {
        /// The program.
        name: String,
        /// What it said.
        message: String,
    },
    /// A file could not be used.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The reason.
        #[source]
        source: std::io::Error,
    },
    /// There is not enough room.
    #[error(
        "the demonstration needs about {needed_mib} MiB in {}, {free_mib} MiB are free; set TMPDIR \
         to a folder with more", path.display()
    )]
    NoSpace {
        /// Where.
        path: PathBuf,
        /// Needed.
        needed_mib: u64,
        /// Free.
        free_mib: u64,
    },
    /// The settings that the demonstration wrote were refused.
    #[error("the demonstration's settings: {0}")]
    Settings(String),
    /// Part of afterimage failed.
    #[error(transparent)]
    Operation(#[from] OperationError),
    /// A run failed.
    #[error(transparent)]
    Run(#[from] Box<FailedRun>),
    /// Something was not as it must be.
    #[error("the proof failed: {what}; this is a defect of afterimage, please report it")]
    Proof {
        /// What.
        what: String,
    },
}

impl DemoError {
    pub(super) fn io(path: &Path, source: std::io::Error) -> Self {
        Self::File { path: path.to_owned(), source }
    }

    /// What the process exits with because of it.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Operation(error) => error.exit_code(),
            Self::Run(run) => run.exit_code(),
            _ => ExitCode::Failed,
        }
    }
}

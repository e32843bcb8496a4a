//! What can go wrong with the audit log.

use crate::fsio::{FileError, LockError};

/// The audit log cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// A file failed.
    #[error("the audit log cannot be used: {0}")]
    File(#[from] FileError),
    /// Another process has it for too long.
    #[error("the audit log cannot be used: {0}")]
    Lock(#[from] LockError),
    /// A line does not fit.
    #[error("a line of {bytes} bytes is too long for the audit log; at most {max} fit")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The longest possible.
        max: usize,
    },
    /// There are no more numbers for lines.
    #[error("the audit log is at its last number; move its files elsewhere, then run this again")]
    Full,
    /// Not text that can be a line.
    #[error("a line for the audit log could not be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

//! The audit log: one line for each change that somebody asked for, and for each refusal.
//!
//! Invariants:
//! * Lines are numbered without a gap, and each holds the SHA-256 of the line before it, across
//!   files too: a line that was changed, removed or put in is found by [`verify`].
//! * A line is durable when [`AuditLog::record`] returns.
//! * Nothing that was written is ever removed or changed but whole old files, and a line tells of
//!   that. What a crash left of a line stays too: the next line says how long it is and what its
//!   SHA-256 is.
//!
//! Whoever can write to the folder can write the whole log anew: keep the digest that
//! `afterimage audit --verify` shows elsewhere, to find that too.

mod chain;
mod entry;
mod error;
mod files;
mod log;
#[cfg(test)]
mod tests;
mod verify;

pub use chain::{BrokenLine, LinesVerdict, check_lines};
pub use entry::{AuditEntry, AuditLine, AuditOutcome, LineDigest, Removed, Torn};
pub use error::AuditError;
pub use log::{AuditLog, Rotation};
pub use verify::{AuditVerdict, read_lines, verify};

//! One error for every file-system call: which file, what was tried, why it failed.

use std::io;
use std::path::{Path, PathBuf};

/// A file-system call that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}{}", path.display(), advice(source))]
pub struct FileError {
    /// What was tried, as a verb: `read`, `write to`, `sync`, …
    pub action: &'static str,
    /// The file.
    pub path: PathBuf,
    /// The system's reason.
    #[source]
    pub source: io::Error,
}

/// What the user can do, where the reason tells.
fn advice(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; free some space there, then run this again"
        }
        io::ErrorKind::ReadOnlyFilesystem => "; mount it writable, then run this again",
        _ => "",
    }
}

impl FileError {
    /// `action` on `path` failed with `source`.
    pub fn new(action: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        Self { action, path: path.to_owned(), source: source.into() }
    }

    /// The file ends before `offset`.
    pub fn unexpected_end(path: &Path, offset: u64) -> Self {
        let reason = format!("the file ends at byte {offset}, more was expected");
        Self::new("read", path, io::Error::new(io::ErrorKind::UnexpectedEof, reason))
    }

    /// Whether the name was there already.
    pub fn already_exists(&self) -> bool {
        self.source.kind() == io::ErrorKind::AlreadyExists
    }

    /// Whether the name was not there.
    pub fn not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }

    /// Whether the medium does not give back what was written to it: rot, not a moment's trouble.
    pub fn is_of_the_medium(&self) -> bool {
        let codes = [rustix::io::Errno::IO, rustix::io::Errno::BADMSG, rustix::io::Errno::UCLEAN];
        let code = self.source.raw_os_error();
        codes.iter().any(|errno| Some(errno.raw_os_error()) == code)
    }

    /// Whether it tells of the file that is read: the medium does not give it back, or its length
    /// is impossible. Anything else, such as a missing permission, says nothing of it.
    pub fn is_damage(&self) -> bool {
        let lengths = [io::ErrorKind::UnexpectedEof, io::ErrorKind::FileTooLarge];
        self.is_of_the_medium() || lengths.contains(&self.source.kind())
    }

    /// Whether trying the same again can not help.
    pub fn is_permanent(&self) -> bool {
        !matches!(
            self.source.kind(),
            io::ErrorKind::Interrupted | io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock
        )
    }
}

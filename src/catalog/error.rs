//! What can go wrong with a local database.

use crate::fsio::{FileError, LockError, parent_dir};
use crate::progress::Cancelled;
use crate::store::StoreError;
use crate::units::RepositoryId;
use std::path::{Path, PathBuf};

/// A local database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// SQLite failed.
    #[error("the database {} failed: {source}{advice}", path.display())]
    Sqlite {
        /// Its file.
        path: PathBuf,
        /// SQLite's reason.
        #[source]
        source: rusqlite::Error,
        /// What the user can do, as far as could be told at that moment.
        advice: &'static str,
    },
    /// Written by a later version of this program.
    #[error(
        "the database {} has schema {found}, this version of afterimage knows up to {known}; use \
         a newer afterimage", path.display()
    )]
    NewerSchema {
        /// Its file.
        path: PathBuf,
        /// The schema found.
        found: i64,
        /// The newest schema known here.
        known: i64,
    },
    /// It belongs to another repository.
    #[error(
        "the catalog {} belongs to the repository {found}, not to {expected}; build it anew with \
         `afterimage catalog rebuild`", path.display()
    )]
    Foreign {
        /// Its file.
        path: PathBuf,
        /// The repository that it was made for.
        found: String,
        /// The repository in use.
        expected: RepositoryId,
    },
    /// SQLite is too old.
    #[error("SQLite {found} can lose commits; 3.51.3 or later is needed")]
    OldSqlite {
        /// The version linked.
        found: &'static str,
    },
    /// SQLite's locks and shared memory do not work over a network.
    #[error(
        "{} lies on a network file system ({kind}), where SQLite's locks cannot be trusted; set \
         `state_dir` to a folder on a local disk", path.display()
    )]
    NetworkFileSystem {
        /// The folder.
        path: PathBuf,
        /// Which one.
        kind: &'static str,
    },
    /// A file could not be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// Another process is in the way.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The system has no random numbers.
    #[error("the operating system gave no random numbers: {0}")]
    Random(#[source] std::io::Error),
    /// The user stopped it.
    #[error("stopped on request; run the same command again")]
    Cancelled(#[from] Cancelled),
    /// The repository failed while the catalog was brought up to date.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A row holds what afterimage never writes.
    #[error(
        "the database {} is damaged: {reason}; build the catalog anew with `afterimage catalog \
         rebuild`", path.display()
    )]
    Damaged {
        /// Its file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
}

impl CatalogError {
    /// SQLite failed, just now.
    pub(super) fn sqlite(path: &Path, source: rusqlite::Error) -> Self {
        // Files that go meanwhile make room: later nobody could tell any more.
        let advice = advice(path, &source);
        Self::Sqlite { path: path.to_owned(), source, advice }
    }

    /// Whether it says nothing of what the database holds: there is no memory, no room, no more
    /// open files, or somebody is in the way. Later it may be read.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Sqlite { source, .. } => is_passing(source),
            Self::File(error) => !error.is_damage(),
            Self::Lock(_) | Self::Cancelled(_) => true,
            _ => false,
        }
    }
}

fn is_passing(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{
        CannotOpen, DatabaseBusy, DatabaseLocked, DiskFull, FileLockingProtocolFailed,
        OperationInterrupted, OutOfMemory, PermissionDenied, ReadOnly, SystemIoFailure,
    };
    use rusqlite::ffi::{
        SQLITE_IOERR_CORRUPTFS, SQLITE_IOERR_DATA, SQLITE_IOERR_READ, SQLITE_IOERR_SHORT_READ,
    };
    const OF_THE_FILE: [i32; 4] =
        [SQLITE_IOERR_READ, SQLITE_IOERR_SHORT_READ, SQLITE_IOERR_CORRUPTFS, SQLITE_IOERR_DATA];
    let Some(error) = error.sqlite_error() else { return false };
    match error.code {
        SystemIoFailure => !OF_THE_FILE.contains(&error.extended_code),
        CannotOpen
        | DatabaseBusy
        | DatabaseLocked
        | DiskFull
        | FileLockingProtocolFailed
        | OperationInterrupted
        | OutOfMemory
        | PermissionDenied
        | ReadOnly => true,
        _ => false,
    }
}

/// What SQLite needs to open a database: the index of its log has 32 KiB.
const ROOM_BYTES_MIN: u64 = 64 * 1024;
/// The log, its index, and one to spare: what it made before it failed is gone by now.
const ROOM_FILES_MIN: u64 = 3;

fn advice(path: &Path, error: &rusqlite::Error) -> &'static str {
    use rusqlite::ErrorCode::{
        CannotOpen, DatabaseBusy, DatabaseCorrupt, DiskFull, NotADatabase, SystemIoFailure,
    };
    match error.sqlite_error_code() {
        Some(DatabaseCorrupt | NotADatabase) => {
            "; a catalog is built anew with `afterimage catalog rebuild`"
        }
        Some(DiskFull) => "; free some space in `state_dir`",
        // SQLite does not tell why it could not make a file, or make it longer.
        Some(SystemIoFailure | CannotOpen) if has_no_room(path) => {
            "; the disk is full: free some space in `state_dir`"
        }
        Some(DatabaseBusy) => "; another process holds it, try again when it is done",
        _ => "",
    }
}

/// Whether the file system of `path` has no room for a file more.
fn has_no_room(path: &Path) -> bool {
    let Ok(stat) = rustix::fs::statvfs(parent_dir(path)) else { return false };
    // Some file systems make inodes as they need them, and say that there are none at all.
    let has_no_inode = stat.f_files > 0 && stat.f_favail < ROOM_FILES_MIN;
    has_no_inode || stat.f_bavail.saturating_mul(stat.f_frsize) < ROOM_BYTES_MIN
}

impl From<CatalogError> for StoreError {
    fn from(error: CatalogError) -> Self {
        match error {
            CatalogError::Store(error) => error,
            other => Self::Index(Box::new(other)),
        }
    }
}

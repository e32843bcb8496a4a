//! Opening a database: the checks and settings that all of them share.

use super::CatalogError;
use crate::fsio::{FileError, FileSystem, RealFileSystem, parent_dir};
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};
use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// 3.51.3: earlier ones can lose commits when two connections checkpoint at once.
const SQLITE_VERSION_MIN: i32 = 3_051_003;
const BUSY_WAIT: Duration = Duration::from_secs(30);

/// Numbers of network file systems, from Linux's `magic.h` and `statfs(2)`.
const NETWORK_FILE_SYSTEMS: [(u64, &str); 7] = [
    (0x6969, "NFS"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB"),
    (0x517b, "SMB"),
    (0x00c3_6400, "Ceph"),
    (0x5346_414f, "AFS"),
    (0x0102_1997, "9p"),
];

/// Refuses a folder on a network file system. The folder, or the nearest one above it, must exist.
///
/// # Errors
/// [`CatalogError::NetworkFileSystem`].
pub fn check_local_folder(folder: &Path) -> Result<(), CatalogError> {
    let existing = folder.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let stat = rustix::fs::statfs(existing)
        .map_err(|e| FileError::new("ask the file system of", existing, e))?;
    let number = stat.f_type as u64 & 0xffff_ffff;
    match NETWORK_FILE_SYSTEMS.iter().find(|(known, _)| *known == number) {
        None => Ok(()),
        Some((_, kind)) => Err(CatalogError::NetworkFileSystem { path: folder.to_owned(), kind }),
    }
}

/// One migration: what leads from the schema before it to its own.
#[derive(Debug, Clone, Copy)]
pub(super) enum Migration {
    Sql(&'static str),
    Code(fn(&Transaction<'_>) -> rusqlite::Result<()>),
}

/// How much a commit is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Durability {
    /// A power cut may undo the last commits: the content can be had again.
    Cache,
    /// A commit is durable when it returns.
    Record,
}

/// An open database with one connection for writing.
#[derive(Debug)]
pub(super) struct Database {
    path: PathBuf,
    /// Closed before the writer: only the last connection to close, if it may write, brings the
    /// log into the database and removes it.
    readers: Mutex<Vec<Connection>>,
    writer: Mutex<Connection>,
}

impl Database {
    pub fn open(
        path: &Path,
        migrations: &[Migration],
        durability: Durability,
    ) -> Result<Self, CatalogError> {
        if rusqlite::version_number() < SQLITE_VERSION_MIN {
            return Err(CatalogError::OldSqlite { found: rusqlite::version() });
        }
        let folder = parent_dir(path);
        check_local_folder(&folder)?;
        make_folder(&folder)?;
        let error = |source| CatalogError::sqlite(path, source);
        // Not readable by others, whatever the folder is: it tells of machines and their points.
        // SQLite gives the files beside it the same mode.
        let is_new = !path.exists();
        std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(|e| FileError::new("open", path, e))?;
        if is_new {
            // A power cut must not take the name of what was filled meanwhile.
            RealFileSystem.sync_dir(&folder)?;
        }
        let mut connection = Connection::open(path).map_err(error)?;
        configure(&connection, durability).map_err(error)?;
        migrate(&mut connection, path, migrations)?;
        let writer = Mutex::new(connection);
        Ok(Self { path: path.to_owned(), readers: Mutex::default(), writer })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn error(&self, source: rusqlite::Error) -> CatalogError {
        CatalogError::sqlite(&self.path, source)
    }

    /// Another connection is in the way.
    pub fn busy(&self) -> CatalogError {
        let busy = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
        self.error(rusqlite::Error::SqliteFailure(busy, None))
    }

    /// Runs `work` in one transaction, which takes the write lock at once: a transaction that
    /// began to read and writes later can fail half-way.
    pub fn write<T>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, CatalogError> {
        let mut connection = self.lock(&self.writer);
        let result = (|| {
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let value = work(&transaction)?;
            transaction.commit()?;
            Ok(value)
        })();
        result.map_err(|source| self.error(source))
    }

    /// From now on all databases of this process together keep about `bytes` in memory: at that,
    /// each gives up what it used longest ago instead of growing.
    pub fn limit_memory(&self, bytes: u64) -> Result<(), CatalogError> {
        let limit = i64::try_from(bytes).unwrap_or(i64::MAX);
        let connection = self.lock(&self.writer);
        let set =
            connection.query_row(&format!("PRAGMA soft_heap_limit = {limit}"), [], |_| Ok(()));
        set.map_err(|source| self.error(source))
    }

    /// Brings the log into the database, which makes all commits durable. `false`: another
    /// process was in the way.
    pub fn checkpoint(&self) -> Result<bool, CatalogError> {
        let connection = self.lock(&self.writer);
        let outcome: (i64, i64, i64) = connection
            .query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
            .map_err(|source| self.error(source))?;
        let (busy, in_log, brought_over) = outcome;
        Ok(busy == 0 && in_log == brought_over)
    }

    /// Runs `work` with a connection that only reads, beside the writer and other readers.
    pub fn read<T>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, CatalogError> {
        let pooled = self.lock(&self.readers).pop();
        let connection = match pooled {
            Some(connection) => connection,
            None => self.open_reader().map_err(|source| self.error(source))?,
        };
        let value = work(&connection).map_err(|source| self.error(source))?;
        self.lock(&self.readers).push(connection);
        Ok(value)
    }

    fn open_reader(&self) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        connection.busy_timeout(BUSY_WAIT)?;
        // Memory for a few upper levels of the index; the system's cache holds the rest.
        connection.pragma_update(None, "cache_size", -8 * 1024)?;
        Ok(connection)
    }

    fn lock<'a, T>(&self, mutex: &'a Mutex<T>) -> MutexGuard<'a, T> {
        // A panic elsewhere leaves no half transaction: SQLite rolls it back.
        mutex.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes a folder of local state durably, also one that another process made and did not come to
/// sync. Once in each process: databases are opened at every run, and a sync waits for all that the
/// file system has to write.
fn make_folder(folder: &Path) -> Result<(), FileError> {
    static DURABLE: Mutex<BTreeSet<(u64, u64)>> = Mutex::new(BTreeSet::new());
    let durable = || DURABLE.lock().unwrap_or_else(PoisonError::into_inner);
    let identity = || std::fs::metadata(folder).map(|found| (found.dev(), found.ino())).ok();
    if !identity().is_some_and(|found| durable().contains(&found)) {
        RealFileSystem.create_dir_all(folder)?;
        durable().extend(identity());
    }
    Ok(())
}

/// Brings the log of a database that is about to be replaced into it and removes the log, where
/// that can be done: it may be damaged.
pub(super) fn settle(path: &Path) {
    if let Ok(connection) = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE) {
        let brought = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        // The database is given up whatever became of it.
        drop((brought, connection));
    }
}

fn configure(connection: &Connection, durability: Durability) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_WAIT)?;
    // Counts only before the first table is made.
    connection.pragma_update(None, "page_size", 16 * 1024)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    let synchronous = match durability {
        Durability::Cache => "NORMAL",
        Durability::Record => "FULL",
    };
    connection.pragma_update(None, "synchronous", synchronous)?;
    connection.pragma_update(None, "cache_size", -32 * 1024)?;
    connection.pragma_update(None, "wal_autocheckpoint", 1024)?;
    // A log that a large transaction made long does not stay so.
    connection.pragma_update(None, "journal_size_limit", 64 * 1024 * 1024)?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(())
}

fn migrate(
    connection: &mut Connection,
    path: &Path,
    migrations: &[Migration],
) -> Result<(), CatalogError> {
    let error = |source| CatalogError::sqlite(path, source);
    let known = migrations.len() as i64;
    // Mostly there is nothing to do, and a transaction that writes waits for the disk.
    let found: i64 =
        connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(error)?;
    if found == known {
        return Ok(());
    }
    let transaction =
        connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(error)?;
    let found: i64 =
        transaction.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(error)?;
    if found > known {
        return Err(CatalogError::NewerSchema { path: path.to_owned(), found, known });
    }
    for migration in &migrations[usize::try_from(found).unwrap_or(0)..] {
        let migrated = match migration {
            Migration::Sql(batch) => transaction.execute_batch(batch),
            Migration::Code(convert) => convert(&transaction),
        };
        migrated.map_err(error)?;
    }
    transaction.pragma_update(None, "user_version", known).map_err(error)?;
    transaction.commit().map_err(error)
}

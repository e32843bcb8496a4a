//! The catalog: where each object of a repository lies, and its points.
//!
//! Invariant: an object is in the catalog only if its pack was durable in the repository under
//! its name when the row was written.

use super::CatalogError;
use super::avoided::Avoided;
use super::database::{Database, Durability};
use super::generation::bump;
use super::index::Memory;
use super::merge::{merge_all, merge_if_due, merge_recent, shrink_if_due};
use super::part::{ENTRY_BYTES, PartRange, parts_of, write_parts};
use super::schema::MIGRATIONS;
use crate::store::{Location, PackRecord, PackSink, StoreError};
use crate::units::{ObjectName, PackName, PointId, RepositoryId};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::RwLock;

/// The catalog of one repository.
#[derive(Debug)]
pub struct Catalog {
    pub(super) database: Database,
    /// The repository that it is about.
    pub(super) repository: RepositoryId,
    /// What stands in a pack and must not be relied on.
    pub(super) avoided: RwLock<Avoided>,
    /// What was read of the index.
    pub(super) memory: RwLock<Memory>,
}

/// An object as a catalog knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownObject {
    /// Its name.
    pub name: ObjectName,
    /// Offset in its pack, in bytes.
    pub offset: u32,
    /// Bytes in the pack.
    pub stored_len: u32,
    /// Bytes once decoded.
    pub plain_len: u32,
}

/// Everything in a catalog, for comparing two.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CatalogContents {
    /// Length of each pack, and its objects by their offsets.
    pub packs: BTreeMap<PackName, (u64, Vec<KnownObject>)>,
    /// Manifests of the points, as JSON; without those that are missing.
    pub points: BTreeMap<PointId, String>,
}

impl KnownObject {
    fn of(location: &Location) -> Self {
        let Location { offset, entry, .. } = location;
        let (stored_len, plain_len) = (entry.stored_len, entry.plain_len);
        Self { name: entry.name, offset: *offset, stored_len, plain_len }
    }
}

impl Catalog {
    /// Where the catalog of `repository` lies.
    pub fn path(state_dir: &Path, repository: RepositoryId) -> PathBuf {
        state_dir.join(format!("catalog-{repository}.sqlite"))
    }

    /// Opens, or creates, the catalog of `repository` in `state_dir`.
    ///
    /// # Errors
    /// When it is damaged, of a newer schema, of another repository or on a network file system.
    pub fn open(state_dir: &Path, repository: RepositoryId) -> Result<Self, CatalogError> {
        Self::open_at(&Self::path(state_dir, repository), repository)
    }

    pub(super) fn open_at(path: &Path, repository: RepositoryId) -> Result<Self, CatalogError> {
        let database = Database::open(path, MIGRATIONS, Durability::Cache)?;
        let found: Vec<u8> = database.write(|transaction| {
            let found = transaction
                .query_row("SELECT id FROM repository", [], |row| row.get(0))
                .optional()?;
            match found {
                Some(found) => Ok(found),
                None => {
                    transaction
                        .execute("INSERT INTO repository (id) VALUES (?1)", [&repository.0[..]])?;
                    Ok(repository.0.to_vec())
                }
            }
        })?;
        if found == repository.0 {
            let (avoided, memory) = (RwLock::default(), RwLock::default());
            let catalog = Self { database, repository, avoided, memory };
            catalog.load_avoided()?;
            Ok(catalog)
        } else {
            let found = found.iter().map(|byte| format!("{byte:02x}")).collect();
            let path = path.to_owned();
            Err(CatalogError::Foreign { path, found, expected: repository })
        }
    }

    /// Removes the catalog's files, so that the next [`Catalog::open`] begins anew.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub fn remove(state_dir: &Path, repository: RepositoryId) -> Result<(), CatalogError> {
        super::second::remove(&Self::path(state_dir, repository))
    }

    /// Notes a pack that is durable. Noting it twice changes nothing.
    ///
    /// # Errors
    /// When the database fails.
    pub fn add_pack(&self, record: &PackRecord) -> Result<(), CatalogError> {
        self.database.write(|transaction| insert_pack(transaction, record))
    }

    /// Makes one run of all that the index has, as it is done by and by; what is found stays the
    /// same.
    ///
    /// # Errors
    /// When the database fails.
    pub fn merge_all(&self) -> Result<(), CatalogError> {
        self.database.write(|transaction| {
            merge_all(transaction)?;
            bump(transaction)
        })
    }

    /// Makes a run of what was noted last, as [`Catalog::add_pack`] does when that is much.
    ///
    /// # Errors
    /// When the database fails.
    pub fn merge_recent(&self) -> Result<(), CatalogError> {
        self.database.write(|transaction| {
            merge_recent(transaction)?;
            bump(transaction)
        })
    }

    /// Forgets packs.
    ///
    /// # Errors
    /// When the database fails.
    pub fn forget_packs(&self, names: &[PackName]) -> Result<(), CatalogError> {
        if names.is_empty() {
            return Ok(());
        }
        self.database.write(|transaction| {
            let mut parts =
                transaction.prepare_cached("DELETE FROM part WHERE no BETWEEN ?1 AND ?2")?;
            let mut pack = transaction.prepare_cached("DELETE FROM pack WHERE name = ?1")?;
            for name in names {
                if let Some(range) = part_range(transaction, *name)? {
                    parts.execute((range.first, range.last()))?;
                    pack.execute([&name.0[..]])?;
                }
            }
            let damaged = "DELETE FROM damaged WHERE pack NOT IN (SELECT no FROM pack)";
            transaction.execute(damaged, [])?;
            shrink_if_due(transaction)?;
            bump(transaction)
        })?;
        self.load_avoided()
    }

    /// What it knows to lie in these packs.
    ///
    /// # Errors
    /// When the database fails.
    pub fn objects_in(&self, packs: &[PackName]) -> Result<Vec<Location>, CatalogError> {
        self.database.read(|connection| {
            let snapshot = connection.unchecked_transaction()?;
            let mut objects = Vec::new();
            for name in packs {
                let Some(range) = part_range(&snapshot, *name)? else { continue };
                parts_of(&snapshot, range, |part| {
                    for (name, rest) in part.entries() {
                        objects.push(part.location(name, rest)?);
                    }
                    Ok(())
                })?;
            }
            Ok(objects)
        })
    }

    /// All packs with their lengths in bytes.
    ///
    /// # Errors
    /// When the database fails.
    pub fn packs(&self) -> Result<BTreeMap<PackName, u64>, CatalogError> {
        self.database.read(|connection| {
            let mut all = connection.prepare("SELECT name, bytes FROM pack")?;
            let rows = all.query_map([], |row| Ok((PackName(digest(row, 0)?), row.get(1)?)))?;
            rows.collect()
        })
    }

    /// How many places of objects it knows.
    ///
    /// # Errors
    /// When the database fails.
    pub fn count_objects(&self) -> Result<usize, CatalogError> {
        self.database.read(|connection| {
            // Memory is asked for by it: the entries themselves are counted.
            let bytes: usize = connection.query_row(
                "SELECT coalesce(sum(length(entries)), 0) FROM part",
                [],
                |row| row.get(0),
            )?;
            Ok(bytes / ENTRY_BYTES)
        })
    }

    /// Everything in it.
    ///
    /// # Errors
    /// When the database fails.
    pub fn contents(&self) -> Result<CatalogContents, CatalogError> {
        let mut contents = CatalogContents::default();
        self.database.read(|connection| {
            let snapshot = connection.unchecked_transaction()?;
            let mut all = snapshot.prepare("SELECT name, bytes, part, parts FROM pack")?;
            let mut rows = all.query([])?;
            while let Some(row) = rows.next()? {
                let range = PartRange { first: row.get(2)?, parts: row.get(3)? };
                let mut objects = Vec::new();
                parts_of(&snapshot, range, |part| {
                    for (name, rest) in part.entries() {
                        objects.push(KnownObject::of(&part.location(name, rest)?));
                    }
                    Ok(())
                })?;
                contents.packs.insert(PackName(digest(row, 0)?), (row.get(1)?, objects));
            }
            let mut all = connection.prepare("SELECT id, manifest FROM point WHERE missing = 0")?;
            let rows = all.query_map([], |row| Ok((PointId(digest(row, 0)?), row.get(1)?)))?;
            for point in rows {
                let (id, manifest) = point?;
                contents.points.insert(id, manifest);
            }
            Ok(())
        })?;
        Ok(contents)
    }
}

impl PackSink for Catalog {
    fn pack_written(&self, record: &PackRecord) -> Result<(), StoreError> {
        Ok(self.add_pack(record)?)
    }
}

fn insert_pack(transaction: &Transaction<'_>, record: &PackRecord) -> rusqlite::Result<()> {
    let added = transaction.execute(
        "INSERT OR IGNORE INTO pack (name, kind, bytes) VALUES (?1, ?2, ?3)",
        params![&record.name.0[..], record.kind.to_byte(), record.bytes],
    )?;
    if added == 0 {
        return Ok(());
    }
    let no = transaction.last_insert_rowid();
    let objects: Vec<Location> = record.locations().collect();
    write_parts(transaction, no, record.name, &objects)?;
    merge_if_due(transaction)?;
    bump(transaction)
}

/// The parts of a pack; `None` when it is not known.
fn part_range(connection: &Connection, pack: PackName) -> rusqlite::Result<Option<PartRange>> {
    connection
        .prepare_cached("SELECT part, parts FROM pack WHERE name = ?1")?
        .query_row([&pack.0[..]], |row| Ok(PartRange { first: row.get(0)?, parts: row.get(1)? }))
        .optional()
}

pub(super) fn digest(row: &Row<'_>, column: usize) -> rusqlite::Result<[u8; 32]> {
    row.get(column)
}

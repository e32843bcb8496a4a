//! The catalog: where each object of a repository lies, and its points.
//!
//! Invariant: an object is in the catalog only if its pack was durable in the repository under
//! its name when the row was written.

use super::CatalogError;
use super::avoided::Avoided;
use super::database::{Database, Durability, Migration};
use super::generation::bump;
use super::losses::mark_loss;
use crate::store::{
    Encoding, KnownObjects, Location, ObjectIndex, ObjectKind, PackEntry, PackRecord, PackSink,
    StoreError,
};
use crate::units::{ObjectName, PackName, PointId, RepositoryId};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::RwLock;

const MIGRATIONS: &[Migration] = &[
    "
    CREATE TABLE repository (id BLOB NOT NULL) STRICT;
    CREATE TABLE pack (
        no INTEGER PRIMARY KEY, name BLOB NOT NULL UNIQUE,
        kind INTEGER NOT NULL, bytes INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE object (
        name BLOB NOT NULL, pack INTEGER NOT NULL, offset INTEGER NOT NULL,
        stored INTEGER NOT NULL, plain INTEGER NOT NULL,
        kind INTEGER NOT NULL, encoding INTEGER NOT NULL,
        PRIMARY KEY (name, pack)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE point (
        id BLOB NOT NULL PRIMARY KEY, machine TEXT NOT NULL, sequence INTEGER NOT NULL,
        manifest TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX point_by_machine ON point (machine, sequence);
",
    "
    ALTER TABLE pack ADD COLUMN condemned INTEGER NOT NULL DEFAULT 0;
    CREATE TABLE damaged (
        name BLOB NOT NULL, pack INTEGER NOT NULL, PRIMARY KEY (name, pack)
    ) STRICT, WITHOUT ROWID;
",
    "
    ALTER TABLE point ADD COLUMN missing INTEGER NOT NULL DEFAULT 0;
",
    "ALTER TABLE repository ADD COLUMN generation INTEGER NOT NULL DEFAULT 0;",
    "
    CREATE TABLE document (
        folder TEXT NOT NULL, name BLOB NOT NULL, point BLOB, epoch INTEGER,
        PRIMARY KEY (folder, name)
    ) STRICT, WITHOUT ROWID;
",
    super::losses::MIGRATION,
];

/// The catalog of one repository.
#[derive(Debug)]
pub struct Catalog {
    pub(super) database: Database,
    /// The repository that it is about.
    pub(super) repository: RepositoryId,
    /// What stands in a pack and must not be relied on.
    pub(super) avoided: RwLock<Avoided>,
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
                    // What an older catalog of it knew is lost.
                    mark_loss(transaction)?;
                    Ok(repository.0.to_vec())
                }
            }
        })?;
        if found == repository.0 {
            let catalog = Self { database, repository, avoided: RwLock::default() };
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

    /// Which of `names` lie in a pack where a new point may rely on them, in the order asked: a
    /// copy in a condemned pack, or one that is damaged, counts as a miss.
    ///
    /// # Errors
    /// When the database fails.
    pub fn contains(&self, names: &[ObjectName]) -> Result<Vec<bool>, CatalogError> {
        let avoided = self.avoided();
        avoided.check_known()?;
        self.database.read(|connection| {
            if avoided.is_empty() {
                let mut find = connection.prepare_cached("SELECT 1 FROM object WHERE name = ?1")?;
                return names.iter().map(|name| find.exists([&name.0[..]])).collect();
            }
            let mut find = connection.prepare_cached(
                "SELECT pack.name FROM object JOIN pack ON pack.no = object.pack
                 WHERE object.name = ?1",
            )?;
            let mut is_good = |name: &ObjectName| {
                let mut rows = find.query([&name.0[..]])?;
                while let Some(row) = rows.next()? {
                    if !avoided.holds(*name, PackName(digest(row, 0)?)) {
                        return Ok(true);
                    }
                }
                Ok(false)
            };
            names.iter().map(&mut is_good).collect()
        })
    }

    /// The places of an object where a new point may rely on it, as far as is known: not in a
    /// condemned pack, and not damaged.
    ///
    /// # Errors
    /// When the database fails.
    pub fn reliable_copies(&self, name: ObjectName) -> Result<Vec<Location>, CatalogError> {
        let avoided = self.avoided();
        let (good, _) = self.database.read(|connection| locate(connection, name, &avoided))?;
        Ok(good)
    }

    /// Notes a pack that is durable. Noting it twice changes nothing.
    ///
    /// # Errors
    /// When the database fails.
    pub fn add_pack(&self, record: &PackRecord) -> Result<(), CatalogError> {
        self.database.write(|transaction| insert_pack(transaction, record))
    }

    /// Forgets packs, with one pass over the objects however many they are.
    ///
    /// # Errors
    /// When the database fails.
    pub fn forget_packs(&self, names: &[PackName]) -> Result<(), CatalogError> {
        if names.is_empty() {
            return Ok(());
        }
        self.database.write(|transaction| {
            choose_packs(transaction, names)?;
            transaction.execute_batch(
                "DELETE FROM object WHERE pack IN (SELECT no FROM temp.chosen);
                 DELETE FROM damaged WHERE pack IN (SELECT no FROM temp.chosen);
                 DELETE FROM pack WHERE no IN (SELECT no FROM temp.chosen);",
            )?;
            mark_loss(transaction)?;
            bump(transaction)
        })?;
        self.load_avoided()
    }

    /// What it knows to lie in these packs, with one pass over the objects however many they are.
    ///
    /// # Errors
    /// When the database fails.
    pub fn objects_in(&self, packs: &[PackName]) -> Result<Vec<Location>, CatalogError> {
        if packs.is_empty() {
            return Ok(Vec::new());
        }
        self.database.write(|transaction| {
            choose_packs(transaction, packs)?;
            let mut all = transaction.prepare_cached(
                "SELECT pack.name, offset, stored, plain, object.kind, encoding, object.name
                 FROM object JOIN pack ON pack.no = object.pack
                 WHERE object.pack IN (SELECT no FROM temp.chosen)",
            )?;
            let rows = all.query_map([], |row| location(row, ObjectName(digest(row, 6)?)))?;
            rows.collect()
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
            connection.query_row("SELECT COUNT(*) FROM object", [], |row| row.get(0))
        })
    }

    /// Everything in it.
    ///
    /// # Errors
    /// When the database fails.
    pub fn contents(&self) -> Result<CatalogContents, CatalogError> {
        let mut contents = CatalogContents::default();
        for (pack, bytes) in self.packs()? {
            contents.packs.insert(pack, (bytes, Vec::new()));
        }
        self.database.read(|connection| {
            let mut all = connection.prepare(
                "SELECT pack.name, object.name, offset, stored, plain
                 FROM object JOIN pack ON pack.no = object.pack ORDER BY pack.name, offset",
            )?;
            let mut rows = all.query([])?;
            while let Some(row) = rows.next()? {
                let object = KnownObject {
                    name: ObjectName(digest(row, 1)?),
                    offset: row.get(2)?,
                    stored_len: row.get(3)?,
                    plain_len: row.get(4)?,
                };
                if let Some((_, objects)) = contents.packs.get_mut(&PackName(digest(row, 0)?)) {
                    objects.push(object);
                }
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

impl ObjectIndex for Catalog {
    fn locate(&self, names: &[ObjectName]) -> Result<Vec<Option<Location>>, StoreError> {
        let avoided = self.avoided();
        let located = self.database.read(|connection| {
            let best = |name: &ObjectName| {
                // Whatever lies in a pack is better than nothing: a reader finds out.
                let (good, poor) = locate(connection, *name, &avoided)?;
                Ok(good.into_iter().chain(poor).next())
            };
            names.iter().map(best).collect()
        })?;
        Ok(located)
    }

    fn copies(&self, name: ObjectName) -> Result<Vec<Location>, StoreError> {
        let avoided = self.avoided();
        let (mut copies, poor) =
            self.database.read(|connection| locate(connection, name, &avoided))?;
        copies.extend(poor);
        Ok(copies)
    }
}

impl KnownObjects for Catalog {
    fn contains(&self, names: &[ObjectName]) -> Result<Vec<bool>, StoreError> {
        Ok(Self::contains(self, names)?)
    }
}

impl PackSink for Catalog {
    fn pack_written(&self, record: &PackRecord) -> Result<(), StoreError> {
        Ok(self.add_pack(record)?)
    }
}

/// Makes exactly these packs the rows of `temp.chosen`, by their numbers, for a statement that goes
/// through the objects once for all of them.
fn choose_packs(transaction: &Transaction<'_>, names: &[PackName]) -> rusqlite::Result<()> {
    transaction.execute_batch(
        "CREATE TEMP TABLE IF NOT EXISTS chosen (no INTEGER PRIMARY KEY);
         DELETE FROM temp.chosen;",
    )?;
    let mut choose = transaction
        .prepare_cached("INSERT INTO temp.chosen SELECT no FROM pack WHERE name = ?1")?;
    names.iter().try_for_each(|name| choose.execute([&name.0[..]]).map(|_| ()))
}

fn insert_pack(transaction: &Transaction<'_>, record: &PackRecord) -> rusqlite::Result<()> {
    let added = transaction.execute(
        "INSERT OR IGNORE INTO pack (name, kind, bytes) VALUES (?1, ?2, ?3)",
        params![&record.name.0[..], record.kind.to_byte(), record.bytes],
    )?;
    if added == 0 {
        return Ok(());
    }
    bump(transaction)?;
    let no = transaction.last_insert_rowid();
    // Sorted: neighbours go to the same page of the index.
    let mut locations: Vec<Location> = record.locations().collect();
    locations.sort_unstable_by_key(|location| location.entry.name);
    let mut insert = transaction
        .prepare_cached("INSERT OR IGNORE INTO object VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?;
    for Location { offset, entry, .. } in locations {
        insert.execute(params![
            &entry.name.0[..],
            no,
            offset,
            entry.stored_len,
            entry.plain_len,
            entry.kind.to_byte(),
            entry.encoding.to_byte(),
        ])?;
    }
    Ok(())
}

/// All places of an object: those that can be relied on, and the others.
fn locate(
    connection: &Connection,
    name: ObjectName,
    avoided: &Avoided,
) -> rusqlite::Result<(Vec<Location>, Vec<Location>)> {
    let mut find = connection.prepare_cached(
        "SELECT pack.name, offset, stored, plain, object.kind, encoding
         FROM object JOIN pack ON pack.no = object.pack WHERE object.name = ?1",
    )?;
    let mut rows = find.query([&name.0[..]])?;
    let (mut good, mut poor) = (Vec::new(), Vec::new());
    while let Some(row) = rows.next()? {
        let location = location(row, name)?;
        let is_poor = avoided.holds(name, location.pack);
        if is_poor { poor.push(location) } else { good.push(location) }
    }
    Ok((good, poor))
}

fn location(row: &Row<'_>, name: ObjectName) -> rusqlite::Result<Location> {
    let unknown =
        |column| rusqlite::Error::IntegralValueOutOfRange(column, row.get(column).unwrap_or(-1));
    let entry = PackEntry {
        name,
        kind: ObjectKind::from_byte(row.get(4)?).ok_or_else(|| unknown(4))?,
        encoding: Encoding::from_byte(row.get(5)?).ok_or_else(|| unknown(5))?,
        stored_len: row.get(2)?,
        plain_len: row.get(3)?,
    };
    Ok(Location { pack: PackName(digest(row, 0)?), offset: row.get(1)?, entry })
}

pub(super) fn digest(row: &Row<'_>, column: usize) -> rusqlite::Result<[u8; 32]> {
    row.get(column)
}

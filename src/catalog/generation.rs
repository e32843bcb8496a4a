//! How far a catalog has come, by which an older copy that was brought back is known, and a first
//! look whether a catalog can be read at all.

use super::check::check_index;
use super::{Catalog, CatalogError};
use rusqlite::Transaction;

/// The first and the last row of each table and index. Reading them touches the file's beginning,
/// its end and all upper levels between, in no time; a check of all pages takes a third of a
/// second for a million objects, and is what `catalog check` does.
const PROBES: [&str; 6] = [
    "SELECT (SELECT pack FROM part ORDER BY no LIMIT 1),
            (SELECT pack FROM part ORDER BY no DESC LIMIT 1)",
    "SELECT (SELECT length(entries) FROM bucket ORDER BY no LIMIT 1),
            (SELECT length(entries) FROM bucket ORDER BY no DESC LIMIT 1)",
    "SELECT (SELECT length(bits) FROM filter ORDER BY no LIMIT 1),
            (SELECT length(bits) FROM filter ORDER BY no DESC LIMIT 1)",
    "SELECT (SELECT name FROM pack ORDER BY no LIMIT 1),
            (SELECT name FROM pack ORDER BY no DESC LIMIT 1)",
    "SELECT (SELECT no FROM pack ORDER BY name LIMIT 1),
            (SELECT no FROM pack ORDER BY name DESC LIMIT 1)",
    "SELECT (SELECT manifest FROM point ORDER BY id LIMIT 1),
            (SELECT manifest FROM point ORDER BY machine DESC, sequence DESC LIMIT 1)",
];
/// Problems that SQLite lists.
const PROBLEMS_MAX: u32 = 5;

/// Something is added or forgotten in this transaction.
pub(super) fn bump(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    transaction.execute("UPDATE repository SET generation = generation + 1", []).map(drop)
}

impl Catalog {
    /// A number that rises with every change.
    ///
    /// # Errors
    /// When the database fails.
    pub fn generation(&self) -> Result<u64, CatalogError> {
        self.database.read(|connection| {
            connection.query_row("SELECT generation FROM repository", [], |row| row.get(0))
        })
    }

    /// Makes the generation at least `generation`.
    ///
    /// # Errors
    /// When the database fails.
    pub fn raise_generation(&self, generation: u64) -> Result<(), CatalogError> {
        self.database.write(|transaction| {
            transaction
                .execute("UPDATE repository SET generation = max(generation, ?1)", [generation])
                .map(drop)
        })
    }

    /// The generation that no power cut can take back any more; `None` while another process is
    /// at it, which will say later.
    ///
    /// # Errors
    /// When the database fails.
    pub fn durable_generation(&self) -> Result<Option<u64>, CatalogError> {
        let generation = self.generation()?;
        // A commit in the log is durable only when the log was brought into the database.
        Ok(self.database.checkpoint()?.then_some(generation))
    }

    /// Looks whether it can be read, at a few places.
    ///
    /// # Errors
    /// When it cannot.
    pub fn probe(&self) -> Result<(), CatalogError> {
        self.database.read(|connection| {
            for probe in PROBES {
                connection.prepare(probe)?.query_row([], |_| Ok(()))?;
            }
            Ok(())
        })
    }

    /// Reads all of the database and gives back what is wrong with it.
    ///
    /// # Errors
    /// When it cannot be read at all.
    pub fn integrity(&self) -> Result<Vec<String>, CatalogError> {
        self.database.read(|connection| {
            let mut check =
                connection.prepare(&format!("PRAGMA integrity_check({PROBLEMS_MAX})"))?;
            let rows = check.query_map([], |row| row.get(0))?;
            let found: Vec<String> = rows.collect::<rusqlite::Result<_>>()?;
            let mut found: Vec<String> = found.into_iter().filter(|line| line != "ok").collect();
            if found.is_empty() {
                found.extend(check_index(connection)?.map(str::to_owned));
            }
            Ok(found)
        })
    }
}

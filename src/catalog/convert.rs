//! From one table with a row for each object, as catalogs had it up to schema 5, to parts and an
//! index.

use super::merge::merge_all;
use super::part::{impossible, write_parts};
use crate::store::{Encoding, Location, ObjectKind, PackEntry};
use crate::units::{ObjectName, PackName};
use rusqlite::{Row, Transaction};

/// What schema 6 adds.
const TABLES: &str = "
    ALTER TABLE repository ADD COLUMN parts INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE repository ADD COLUMN indexed INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE repository ADD COLUMN recent INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE pack ADD COLUMN part INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE pack ADD COLUMN parts INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE pack ADD COLUMN objects INTEGER NOT NULL DEFAULT 0;
    CREATE TABLE part (
        no INTEGER PRIMARY KEY, pack BLOB NOT NULL, entries BLOB NOT NULL
    ) STRICT;
    CREATE TABLE run (
        no INTEGER PRIMARY KEY, bits INTEGER NOT NULL, entries INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE bucket (no INTEGER PRIMARY KEY, entries BLOB NOT NULL) STRICT;
    CREATE TABLE filter (no INTEGER PRIMARY KEY, bits BLOB NOT NULL) STRICT;
";

/// Leads to schema 6: all objects are in parts, and the table of objects is gone. It sorts all rows
/// once, in a temporary file where there are many.
pub(super) fn convert(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    transaction.execute_batch(TABLES)?;
    let mut all = transaction.prepare(
        "SELECT pack.no, pack.name, object.name, offset, stored, plain, object.kind, encoding
         FROM object JOIN pack ON pack.no = object.pack ORDER BY object.pack, offset",
    )?;
    let mut rows = all.query([])?;
    let mut pack: Option<(i64, PackName)> = None;
    let mut objects: Vec<Location> = Vec::new();
    while let Some(row) = rows.next()? {
        let no = row.get(0)?;
        if let Some((last, name)) = pack
            && last != no
        {
            write_parts(transaction, last, name, &objects)?;
            objects.clear();
        }
        let name = PackName(row.get(1)?);
        pack = Some((no, name));
        objects.push(location(row, name)?);
    }
    if let Some((last, name)) = pack {
        write_parts(transaction, last, name, &objects)?;
    }
    drop(rows);
    drop(all);
    transaction.execute_batch("DROP TABLE object")?;
    if objects.is_empty() { Ok(()) } else { merge_all(transaction) }
}

fn location(row: &Row<'_>, pack: PackName) -> rusqlite::Result<Location> {
    let entry = PackEntry {
        name: ObjectName(row.get(2)?),
        kind: ObjectKind::from_byte(row.get(6)?)
            .ok_or_else(|| impossible(6, "an object is of an unknown kind"))?,
        encoding: Encoding::from_byte(row.get(7)?)
            .ok_or_else(|| impossible(7, "an encoding is unknown"))?,
        stored_len: row.get(4)?,
        plain_len: row.get(5)?,
    };
    Ok(Location { pack, offset: row.get(3)?, entry })
}

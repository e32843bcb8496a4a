//! The objects of a pack as rows: parts of some hundred entries each, in the order in which they
//! lie.
//!
//! ```text
//! entry  46 bytes  name 32 | offset u32 | stored u32 | plain u32 | kind u8 | encoding u8
//! ```
//!
//! Integers are big-endian. Invariants: the parts of a pack have consecutive numbers; a number is
//! never given twice, so what the index says of a part that is gone is said of no other one.

use super::index::Entry;
use crate::store::{Encoding, Location, ObjectKind, PackEntry};
use crate::units::{ObjectName, PackName};
use rusqlite::types::Type;
use rusqlite::{Connection, Error, OptionalExtension, Row, Transaction};

pub(super) const ENTRY_BYTES: usize = 46;
const NAME_BYTES: usize = 32;
/// A part of so many entries fills a page of the database.
const PART_ENTRIES: usize = 350;

/// What an entry says beside the name, as stored.
pub(super) type Rest = [u8; ENTRY_BYTES - NAME_BYTES];

/// Some objects of a pack that lie one after the other.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub no: u32,
    pub pack: PackName,
    entries: Vec<u8>,
}

/// Which parts a pack has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PartRange {
    pub first: i64,
    pub parts: i64,
}

impl PartRange {
    /// The last one; saturating, as a row may be damaged.
    pub fn last(self) -> i64 {
        self.first.saturating_add(self.parts).saturating_sub(1)
    }
}

impl Part {
    /// Reads the columns `no, pack, entries`.
    pub fn of_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        let entries: Vec<u8> = row.get(2)?;
        if !entries.len().is_multiple_of(ENTRY_BYTES) {
            return Err(impossible(2, "a part has an impossible length"));
        }
        Ok(Self { no: row.get(0)?, pack: PackName(row.get(1)?), entries })
    }

    /// The part of a number; `None` when it is gone.
    pub fn find(connection: &Connection, no: u32) -> rusqlite::Result<Option<Self>> {
        let mut find =
            connection.prepare_cached("SELECT no, pack, entries FROM part WHERE no = ?1")?;
        find.query_row([no], Self::of_row).optional()
    }

    /// Its entries: names, and what else is stored of them.
    pub fn entries(&self) -> impl Iterator<Item = (ObjectName, Rest)> + '_ {
        self.entries.chunks_exact(ENTRY_BYTES).map(|entry| {
            let (name, rest) = entry.split_at(NAME_BYTES);
            (ObjectName(array(name)), array(rest))
        })
    }

    /// What the index has of it.
    pub fn index_entries(&self) -> impl Iterator<Item = Entry> + '_ {
        self.entries().map(|(name, _)| Entry::new(name, self.no))
    }

    /// The place of an entry.
    pub fn location(&self, name: ObjectName, rest: Rest) -> rusqlite::Result<Location> {
        location(self.pack, name, rest)
    }

    /// The object `name`, looked for from the entry `from` on: what was found there last is mostly
    /// followed by what is asked for next. Gives the entry's number, too.
    pub fn look_for(&self, name: ObjectName, from: usize) -> Option<(usize, Rest)> {
        let count = self.entries.len() / ENTRY_BYTES;
        let is_it = |at: &usize| {
            let start = at * ENTRY_BYTES;
            self.entries[start..start + NAME_BYTES] == name.0
        };
        let found = (from..count).chain(0..from.min(count)).find(is_it)?;
        let start = found * ENTRY_BYTES;
        Some((found, array(&self.entries[start + NAME_BYTES..start + ENTRY_BYTES])))
    }
}

/// Where an object lies that an entry is about.
fn location(pack: PackName, name: ObjectName, rest: Rest) -> rusqlite::Result<Location> {
    let number = |at: usize| u32::from_be_bytes(array(&rest[at..at + 4]));
    let entry = PackEntry {
        name,
        kind: ObjectKind::from_byte(rest[12])
            .ok_or_else(|| impossible(2, "an object is of an unknown kind"))?,
        encoding: Encoding::from_byte(rest[13])
            .ok_or_else(|| impossible(2, "an encoding is unknown"))?,
        stored_len: number(4),
        plain_len: number(8),
    };
    Ok(Location { pack, offset: number(0), entry })
}

fn encode(location: &Location, to: &mut Vec<u8>) {
    to.extend_from_slice(&location.entry.name.0);
    to.extend_from_slice(&location.offset.to_be_bytes());
    to.extend_from_slice(&location.entry.stored_len.to_be_bytes());
    to.extend_from_slice(&location.entry.plain_len.to_be_bytes());
    to.extend_from_slice(&[location.entry.kind.to_byte(), location.entry.encoding.to_byte()]);
}

/// The lengths in an entry: stored, and once decoded.
pub(super) fn lengths(rest: Rest) -> (u32, u32) {
    let number = |at: usize| u32::from_be_bytes(array(&rest[at..at + 4]));
    (number(4), number(8))
}

/// Writes the objects of the pack with the number `pack_no`, which has a row and no parts yet.
pub(super) fn write_parts(
    transaction: &Transaction<'_>,
    pack_no: i64,
    pack: PackName,
    objects: &[Location],
) -> rusqlite::Result<()> {
    let before: u32 =
        transaction.query_row("SELECT parts FROM repository", [], |row| row.get(0))?;
    let mut no = before;
    let mut insert =
        transaction.prepare_cached("INSERT INTO part (no, pack, entries) VALUES (?1, ?2, ?3)")?;
    let mut bytes = Vec::with_capacity(PART_ENTRIES * ENTRY_BYTES);
    for some in objects.chunks(PART_ENTRIES) {
        let too_many = || impossible(0, "there are too many parts; build the catalog anew");
        no = no.checked_add(1).ok_or_else(too_many)?;
        bytes.clear();
        some.iter().for_each(|location| encode(location, &mut bytes));
        insert.execute((no, &pack.0[..], &bytes[..]))?;
    }
    let count = objects.len() as i64;
    transaction.execute(
        "UPDATE pack SET part = ?2, parts = ?3, objects = ?4 WHERE no = ?1",
        (pack_no, i64::from(before) + 1, no - before, count),
    )?;
    transaction
        .execute("UPDATE repository SET parts = ?1, recent = recent + ?2", (no, count))
        .map(drop)
}

/// Visits the parts of a pack in their order.
pub(super) fn parts_of(
    connection: &Connection,
    range: PartRange,
    mut visit: impl FnMut(Part) -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    let mut all = connection.prepare_cached(
        "SELECT no, pack, entries FROM part WHERE no BETWEEN ?1 AND ?2 ORDER BY no",
    )?;
    let mut rows = all.query((range.first, range.last()))?;
    while let Some(row) = rows.next()? {
        visit(Part::of_row(row)?)?;
    }
    Ok(())
}

/// A row that afterimage never writes.
pub(super) fn impossible(column: usize, reason: &'static str) -> Error {
    Error::FromSqlConversionFailure(column, Type::Blob, reason.into())
}

/// Callers give as many bytes as it has.
pub(super) fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(bytes);
    array
}

//! Which part an object stands in, by the first bytes of its name.
//!
//! Runs are what is stored of it: sorted, cut into buckets by the first bits of the names, written
//! once and replaced by larger runs (see [`super::merge`]). What came since stands in the parts
//! alone, and in memory.
//!
//! Invariants: an entry without a part, or with one that does not have the name, says nothing; an
//! object of a part up to `repository.indexed` has an entry in a run; memory is used only with
//! the snapshot of the database that it was read from, which the generation tells.

use super::filter::{Piece, PieceStore};
use super::part::{Part, array, impossible};
use crate::units::ObjectName;
use rusqlite::{Connection, OptionalExtension};
use std::collections::BTreeSet;
use std::sync::Arc;

pub(super) const INDEX_ENTRY_BYTES: usize = 12;
/// More buckets than this have no use.
const BITS_MAX: u32 = 20;
/// No run has more: what is calculated from it does not overflow.
const ENTRIES_MAX: u64 = 1 << 40;
/// Entries of a bucket, at most, on average.
const BUCKET_ENTRIES: u64 = 1024;

/// One object in one part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    /// First bytes of the object's name, so that keys are in the order of names.
    pub key: u64,
    pub part: u32,
}

impl Entry {
    pub fn new(name: ObjectName, part: u32) -> Self {
        Self { key: key(name), part }
    }

    pub fn encode(self) -> [u8; INDEX_ENTRY_BYTES] {
        let mut bytes = [0; INDEX_ENTRY_BYTES];
        bytes[..8].copy_from_slice(&self.key.to_be_bytes());
        bytes[8..].copy_from_slice(&self.part.to_be_bytes());
        bytes
    }

    /// `bytes` has the length of an entry.
    pub fn decode(bytes: &[u8]) -> Self {
        Self {
            key: u64::from_be_bytes(array(&bytes[..8])),
            part: u32::from_be_bytes(array(&bytes[8..INDEX_ENTRY_BYTES])),
        }
    }
}

pub(super) fn key(name: ObjectName) -> u64 {
    u64::from_be_bytes(array(&name.0[..8]))
}

/// How a run is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RunShape {
    pub no: u32,
    /// It has two to the power of this many buckets.
    pub bits: u32,
    pub entries: u64,
}

impl RunShape {
    /// That of a run with about so many entries.
    pub fn new(no: u32, entries: u64) -> Self {
        let buckets = entries.div_ceil(BUCKET_ENTRIES).max(1).next_power_of_two();
        Self { no, bits: buckets.ilog2().min(BITS_MAX), entries }
    }

    pub fn bucket(self, key: u64) -> u32 {
        key.checked_shr(64 - self.bits).unwrap_or(0) as u32
    }

    /// The number of a row of its own: of a bucket, or of a piece of its filter.
    pub fn row(self, index: u32) -> i64 {
        (i64::from(self.no) << 32) | i64::from(index)
    }

    /// All runs, the largest first.
    pub fn all(connection: &Connection) -> rusqlite::Result<Vec<Self>> {
        let mut all = connection
            .prepare_cached("SELECT no, bits, entries FROM run ORDER BY entries DESC, no")?;
        let mut rows = all.query([])?;
        let mut shapes = Vec::new();
        while let Some(row) = rows.next()? {
            let shape = Self { no: row.get(0)?, bits: row.get(1)?, entries: row.get(2)? };
            let is_possible = shape.bits <= BITS_MAX && shape.entries <= ENTRIES_MAX;
            if !is_possible || shape.no > i32::MAX as u32 {
                return Err(impossible(1, "a run has an impossible shape"));
            }
            shapes.push(shape);
        }
        Ok(shapes)
    }
}

/// A run, with what was read of its filter.
#[derive(Debug)]
struct Run {
    shape: RunShape,
    filter: PieceStore,
}

impl Run {
    fn find(
        &self,
        connection: &Connection,
        key: u64,
        parts: &mut Vec<u32>,
    ) -> rusqlite::Result<()> {
        let bucket = self.shape.bucket(key);
        let piece = Piece::of_bucket(bucket);
        if !self.filter.may_hold(connection, self.shape.row(piece), piece, key)? {
            return Ok(());
        }
        let mut find = connection.prepare_cached("SELECT entries FROM bucket WHERE no = ?1")?;
        let mut rows = find.query([self.shape.row(bucket)])?;
        let Some(row) = rows.next()? else { return Ok(()) };
        let entries = entries_of(row.get_ref(0)?.as_blob()?)?;
        let first = entries.partition_point(|entry| entry[..8] < key.to_be_bytes()[..]);
        let same = entries[first..].iter().map(|entry| Entry::decode(entry));
        parts.extend(same.take_while(|entry| entry.key == key).map(|entry| entry.part));
        Ok(())
    }
}

/// The entries of a bucket.
pub(super) fn entries_of(blob: &[u8]) -> rusqlite::Result<&[[u8; INDEX_ENTRY_BYTES]]> {
    match blob.as_chunks() {
        (entries, []) => Ok(entries),
        _ => Err(impossible(0, "a bucket has an impossible length")),
    }
}

/// What is held in memory of the index.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// The generation that it was read from; `None`: nothing was read yet.
    pub generation: Option<u64>,
    runs: Vec<Arc<Run>>,
    /// What stands in no run yet.
    recent: BTreeSet<Entry>,
    /// The parts up to this one were seen.
    seen: u32,
}

impl Memory {
    /// The parts that may have `name`, the oldest first.
    pub fn find(&self, connection: &Connection, name: ObjectName) -> rusqlite::Result<Vec<u32>> {
        let key = key(name);
        let recent = Entry { key, part: 0 }..=Entry { key, part: u32::MAX };
        let mut parts: Vec<u32> = self.recent.range(recent).map(|entry| entry.part).collect();
        for run in &self.runs {
            run.find(connection, key, &mut parts)?;
        }
        parts.sort_unstable();
        parts.dedup();
        Ok(parts)
    }

    /// Reads what changed, from a snapshot that is not older.
    pub fn refresh(&mut self, connection: &Connection, generation: u64) -> rusqlite::Result<()> {
        // Until it is complete, it must not be used.
        self.generation = None;
        let shapes = RunShape::all(connection)?;
        let known = |shape| {
            let same = self.runs.iter().find(|run| run.shape == shape).cloned();
            same.unwrap_or_else(|| Arc::new(Run { shape, filter: PieceStore::new(shape.bits) }))
        };
        self.runs = shapes.into_iter().map(known).collect();
        let (indexed, last): (u32, u32) = connection
            .prepare_cached("SELECT indexed, parts FROM repository")?
            .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        self.recent.retain(|entry| entry.part > indexed);
        let mut new = connection
            .prepare_cached("SELECT no, pack, entries FROM part WHERE no > ?1 ORDER BY no")?;
        let mut rows = new.query([self.seen.max(indexed)])?;
        while let Some(row) = rows.next()? {
            self.recent.extend(Part::of_row(row)?.index_entries());
        }
        self.seen = last;
        self.generation = Some(generation);
        Ok(())
    }
}

/// The generation of the snapshot that `connection` sees.
pub(super) fn generation(connection: &Connection) -> rusqlite::Result<u64> {
    let mut ask = connection.prepare_cached("SELECT generation FROM repository")?;
    Ok(ask.query_row([], |row| row.get(0)).optional()?.unwrap_or(0))
}

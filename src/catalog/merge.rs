//! Putting what came since into a run, together with the runs that are not much larger: so there
//! are few runs, and an entry is written a few times in all, in order.
//!
//! Invariant: what is merged stands in the new run and no longer in the old ones with the same
//! transaction.

use super::filter::Piece;
use super::index::{Entry, INDEX_ENTRY_BYTES, RunShape, entries_of};
use super::part::Part;
use rusqlite::{Connection, Rows, Statement, Transaction};

/// So many objects stand in no run, at most; it bounds what a command reads before its first
/// look-up: 6 MB.
const RECENT_OBJECTS_MAX: i64 = 128 * 1024;
/// Likewise for parts, of which small backups leave one for each pack.
const RECENT_PARTS_MAX: i64 = 4096;
/// A run is rewritten when what is merged into it is more than this share of it.
const GROWTH: u64 = 4;

/// Merges when it is due.
pub(super) fn merge_if_due(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    let (objects, parts): (i64, i64) = transaction
        .prepare_cached("SELECT recent, parts - indexed FROM repository")?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    if objects <= RECENT_OBJECTS_MAX && parts <= RECENT_PARTS_MAX {
        return Ok(());
    }
    merge_recent(transaction)
}

/// Makes a run of what stands in none, with the runs that are not much larger.
pub(super) fn merge_recent(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    let objects: i64 =
        transaction.query_row("SELECT recent FROM repository", [], |row| row.get(0))?;
    let (mut entries, mut merged) = (objects.max(1) as u64, Vec::new());
    for shape in RunShape::all(transaction)?.into_iter().rev() {
        if shape.entries > entries.saturating_mul(GROWTH) {
            break;
        }
        entries += shape.entries;
        merged.push(shape);
    }
    merge(transaction, &merged)
}

/// Merges everything when most of the index is about parts that are gone.
pub(super) fn shrink_if_due(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    let live: u64 =
        transaction
            .query_row("SELECT coalesce(sum(objects), 0) FROM pack", [], |row| row.get(0))?;
    let entries: u64 = RunShape::all(transaction)?.iter().map(|shape| shape.entries).sum();
    let kept = live.saturating_mul(2).saturating_add(RECENT_OBJECTS_MAX as u64);
    if entries > kept { merge_all(transaction) } else { Ok(()) }
}

/// Makes one run of everything.
pub(super) fn merge_all(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    merge(transaction, &RunShape::all(transaction)?)
}

/// Makes one run of `runs` and what stands in none.
fn merge(transaction: &Transaction<'_>, runs: &[RunShape]) -> rusqlite::Result<()> {
    let recent = recent(transaction)?;
    let entries = recent.len() as u64 + runs.iter().map(|shape| shape.entries).sum::<u64>();
    let last: u32 =
        transaction.query_row("SELECT coalesce(max(no), 0) FROM run", [], |row| row.get(0))?;
    let mut writer = RunWriter::new(transaction, RunShape::new(last + 1, entries));
    let live = LiveParts::read(transaction)?;
    let mut statements = Vec::new();
    for _ in runs {
        statements.push(
            transaction
                .prepare("SELECT entries FROM bucket WHERE no BETWEEN ?1 AND ?2 ORDER BY no")?,
        );
    }
    let mut sources = vec![Source::Recent(recent.into_iter())];
    for (statement, shape) in statements.iter_mut().zip(runs) {
        sources.push(Source::of_run(statement, *shape)?);
    }
    in_order(
        &mut sources,
        |entry| {
            if live.holds(entry.part) { writer.push(entry) } else { Ok(()) }
        },
    )?;
    drop(sources);
    drop(statements);
    writer.finish()?;
    for shape in runs {
        let range = [shape.row(0), shape.row(u32::MAX)];
        transaction.execute("DELETE FROM bucket WHERE no BETWEEN ?1 AND ?2", range)?;
        transaction.execute("DELETE FROM filter WHERE no BETWEEN ?1 AND ?2", range)?;
        transaction.execute("DELETE FROM run WHERE no = ?1", [shape.no])?;
    }
    transaction.execute("UPDATE repository SET indexed = parts, recent = 0", []).map(drop)
}

/// What stands in no run, sorted.
fn recent(connection: &Connection) -> rusqlite::Result<Vec<Entry>> {
    let mut new = connection.prepare_cached(
        "SELECT no, pack, entries FROM part WHERE no > (SELECT indexed FROM repository)",
    )?;
    let mut rows = new.query([])?;
    let mut recent = Vec::new();
    while let Some(row) = rows.next()? {
        recent.extend(Part::of_row(row)?.index_entries());
    }
    recent.sort_unstable();
    Ok(recent)
}

/// The numbers of the parts that are there: ranges, which are few where little was forgotten.
#[derive(Debug)]
pub(super) struct LiveParts(Vec<(i64, i64)>);

impl LiveParts {
    pub fn read(connection: &Connection) -> rusqlite::Result<Self> {
        let mut all =
            connection.prepare("SELECT part, parts FROM pack WHERE parts > 0 ORDER BY part")?;
        let mut rows = all.query([])?;
        let mut ranges: Vec<(i64, i64)> = Vec::new();
        while let Some(row) = rows.next()? {
            let (first, parts): (i64, i64) = (row.get(0)?, row.get(1)?);
            let end = first.saturating_add(parts);
            match ranges.last_mut() {
                Some(last) if last.1 == first => last.1 = end,
                _ => ranges.push((first, end)),
            }
        }
        Ok(Self(ranges))
    }

    pub fn holds(&self, part: u32) -> bool {
        let part = i64::from(part);
        let after = self.0.partition_point(|(first, _)| *first <= part);
        after > 0 && part < self.0[after - 1].1
    }
}

/// Entries in their order.
enum Source<'s> {
    Recent(std::vec::IntoIter<Entry>),
    Run { rows: Rows<'s>, bucket: Vec<u8>, at: usize },
}

impl<'s> Source<'s> {
    fn of_run(statement: &'s mut Statement<'_>, shape: RunShape) -> rusqlite::Result<Self> {
        let rows = statement.query([shape.row(0), shape.row(u32::MAX)])?;
        Ok(Self::Run { rows, bucket: Vec::new(), at: 0 })
    }

    fn next(&mut self) -> rusqlite::Result<Option<Entry>> {
        match self {
            Self::Recent(entries) => Ok(entries.next()),
            Self::Run { rows, bucket, at } => {
                while *at == bucket.len() {
                    let Some(row) = rows.next()? else { return Ok(None) };
                    let blob = row.get_ref(0)?.as_blob()?;
                    entries_of(blob)?;
                    bucket.clear();
                    bucket.extend_from_slice(blob);
                    *at = 0;
                }
                let entry = Entry::decode(&bucket[*at..*at + INDEX_ENTRY_BYTES]);
                *at += INDEX_ENTRY_BYTES;
                Ok(Some(entry))
            }
        }
    }
}

/// Visits the entries of all sources in one order.
fn in_order(
    sources: &mut [Source<'_>],
    mut visit: impl FnMut(Entry) -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    let mut heads = Vec::new();
    for source in sources.iter_mut() {
        heads.push(source.next()?);
    }
    loop {
        let ahead = heads.iter().enumerate().filter_map(|(at, head)| head.map(|it| (it, at)));
        let Some((entry, at)) = ahead.min() else { return Ok(()) };
        visit(entry)?;
        heads[at] = sources[at].next()?;
    }
}

/// Writes a run from entries that come in order.
struct RunWriter<'t> {
    transaction: &'t Transaction<'t>,
    shape: RunShape,
    bucket: u32,
    entries: Vec<u8>,
    piece: Piece,
    count: u64,
}

impl<'t> RunWriter<'t> {
    fn new(transaction: &'t Transaction<'t>, shape: RunShape) -> Self {
        let (entries, piece) = (Vec::new(), Piece::new());
        Self { transaction, shape, bucket: 0, entries, piece, count: 0 }
    }

    fn push(&mut self, entry: Entry) -> rusqlite::Result<()> {
        let bucket = self.shape.bucket(entry.key);
        if bucket != self.bucket {
            self.end_bucket()?;
            if Piece::of_bucket(bucket) != Piece::of_bucket(self.bucket) {
                self.end_piece()?;
            }
            self.bucket = bucket;
        }
        self.entries.extend_from_slice(&entry.encode());
        self.piece.insert(entry.key);
        self.count += 1;
        Ok(())
    }

    fn end_bucket(&mut self) -> rusqlite::Result<()> {
        if !self.entries.is_empty() {
            self.transaction
                .prepare_cached("INSERT INTO bucket (no, entries) VALUES (?1, ?2)")?
                .execute((self.shape.row(self.bucket), &self.entries[..]))?;
            self.entries.clear();
        }
        Ok(())
    }

    fn end_piece(&mut self) -> rusqlite::Result<()> {
        let row_no = self.shape.row(Piece::of_bucket(self.bucket));
        self.transaction
            .prepare_cached("INSERT INTO filter (no, bits) VALUES (?1, ?2)")?
            .execute((row_no, self.piece.bytes()))?;
        self.piece = Piece::new();
        Ok(())
    }

    fn finish(mut self) -> rusqlite::Result<()> {
        self.end_bucket()?;
        self.end_piece()?;
        self.transaction
            .execute(
                "INSERT INTO run (no, bits, entries) VALUES (?1, ?2, ?3)",
                (self.shape.no, self.shape.bits, self.count),
            )
            .map(drop)
    }
}

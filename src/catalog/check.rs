//! Holding the index against the parts, which it is made from.

use super::filter::Piece;
use super::index::{Entry, RunShape, entries_of};
use super::merge::LiveParts;
use super::part::Part;
use rusqlite::Connection;

/// What any number of entries come to, in whatever order they are added.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sum {
    count: u64,
    mixed: u64,
}

impl Sum {
    fn add(&mut self, entry: Entry) {
        let mixed = (entry.key ^ u64::from(entry.part).wrapping_mul(0xd6e8_feb8_6659_fd93))
            .wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.mixed = self.mixed.wrapping_add(mixed ^ (mixed >> 29));
        self.count += 1;
    }
}

/// Says what is wrong with the index, with one pass over it and one over the parts.
pub(super) fn check_index(connection: &Connection) -> rusqlite::Result<Option<&'static str>> {
    let snapshot = connection.unchecked_transaction()?;
    let live = LiveParts::read(&snapshot)?;
    let indexed: u32 =
        snapshot.query_row("SELECT indexed FROM repository", [], |row| row.get(0))?;
    let mut in_parts = Sum::default();
    let mut all = snapshot.prepare("SELECT no, pack, entries FROM part WHERE no <= ?1")?;
    let mut rows = all.query([indexed])?;
    while let Some(row) = rows.next()? {
        let part = Part::of_row(row)?;
        if !live.holds(part.no) {
            return Ok(Some("a part belongs to no pack"));
        }
        part.index_entries().for_each(|entry| in_parts.add(entry));
    }
    let mut in_runs = Sum::default();
    for shape in RunShape::all(&snapshot)? {
        let add = |entry: Entry| {
            if live.holds(entry.part) {
                in_runs.add(entry);
            }
        };
        if !check_run(&snapshot, shape, add)? {
            return Ok(Some("a run of the index is not in order"));
        }
    }
    Ok((in_parts != in_runs).then_some("the index does not have what the packs have"))
}

/// Whether each entry of a run is found where it is looked for.
fn check_run(
    connection: &Connection,
    shape: RunShape,
    mut visit: impl FnMut(Entry),
) -> rusqlite::Result<bool> {
    let mut all = connection
        .prepare("SELECT no, entries FROM bucket WHERE no BETWEEN ?1 AND ?2 ORDER BY no")?;
    let mut rows = all.query([shape.row(0), shape.row(u32::MAX)])?;
    let mut piece: Option<(u32, Piece)> = None;
    let mut last: Option<Entry> = None;
    while let Some(row) = rows.next()? {
        let row_no: i64 = row.get(0)?;
        for entry in entries_of(row.get_ref(1)?.as_blob()?)?.iter().map(|it| Entry::decode(it)) {
            let bucket = shape.bucket(entry.key);
            let piece_no = Piece::of_bucket(bucket);
            if piece.as_ref().is_none_or(|(no, _)| *no != piece_no) {
                piece = Some((piece_no, Piece::find(connection, shape.row(piece_no))?));
            }
            let is_let_through = piece.as_ref().is_some_and(|(_, it)| it.may_hold(entry.key));
            let is_in_order = last.is_none_or(|last| last <= entry);
            if !is_let_through || !is_in_order || shape.row(bucket) != row_no {
                return Ok(false);
            }
            last = Some(entry);
            visit(entry);
        }
    }
    Ok(true)
}

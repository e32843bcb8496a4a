//! Holding one catalog against another, pack by pack in the order of their names: however large
//! they are, this takes no memory but for the names of packs and the objects of one.

use super::objects::digest;
use super::part::{PartRange, Rest, parts_of};
use super::{Catalog, CatalogError};
use crate::units::{ObjectName, PackName, PointId};
use rusqlite::{Connection, Row};
use std::cmp::Ordering;
use std::fmt;

/// Differences that are listed one by one; further ones only count.
const LISTED_MAX: usize = 20;

/// What is in one catalog otherwise than in the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// A pack.
    Pack(PackName),
    /// An object in a pack.
    Object(ObjectName, PackName),
    /// A point.
    Point(PointId),
}

/// How it differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// The catalog does not have it.
    Lacks,
    /// Only the catalog has it.
    Invents,
    /// Both have it, and say different things of it.
    Differs,
}

/// One difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CatalogDifference {
    /// What.
    pub subject: Subject,
    /// How.
    pub how: How,
}

impl fmt::Display for CatalogDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.subject {
            Subject::Pack(name) => write!(f, "pack {}", name.short())?,
            Subject::Object(name, pack) => {
                write!(f, "object {} in pack {}", name.short(), pack.short())?;
            }
            Subject::Point(id) => write!(f, "point {}", id.short())?,
        }
        f.write_str(match self.how {
            How::Lacks => " is not in it",
            How::Invents => " is only in it",
            How::Differs => " is otherwise in it",
        })
    }
}

/// All differences between two catalogs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Comparison {
    /// The first ones.
    pub listed: Vec<CatalogDifference>,
    /// How many there are.
    pub count: u64,
}

impl Comparison {
    /// Whether both are equal.
    pub fn is_equal(&self) -> bool {
        self.count == 0
    }

    fn note(&mut self, subject: Subject, how: How) {
        self.count += 1;
        if self.listed.len() < LISTED_MAX {
            self.listed.push(CatalogDifference { subject, how });
        }
    }
}

impl Catalog {
    /// Compares it with `right`, which is what it should be.
    ///
    /// # Errors
    /// When a database fails.
    pub fn compare(&self, right: &Self) -> Result<Comparison, CatalogError> {
        let mut found = Comparison::default();
        let compared = self.database.read(|ours| {
            Ok(right.database.read(|theirs| compare_tables(ours, theirs, &mut found)))
        })?;
        match compared {
            Ok(()) => Ok(found),
            // The right one was just built: what fails is this one.
            Err(CatalogError::Sqlite { source, .. }) => Err(self.database.error(source)),
            Err(error) => Err(error),
        }
    }
}

fn compare_tables(
    ours: &Connection,
    theirs: &Connection,
    found: &mut Comparison,
) -> rusqlite::Result<()> {
    let packs = "SELECT name, kind, bytes FROM pack ORDER BY name";
    let read = |row: &Row<'_>| Ok((PackName(digest(row, 0)?), (row.get(1)?, row.get(2)?)));
    let (mut left, mut right) = (ours.prepare(packs)?, theirs.prepare(packs)?);
    let (left, right) = (left.query_map([], read)?, right.query_map([], read)?);
    merge::<_, (i64, i64)>(left, right, |name, how| found.note(Subject::Pack(name), how))?;

    let (left, right) = (Objects::new(ours)?, Objects::new(theirs)?);
    merge(left, right, |(_, pack, name), how| found.note(Subject::Object(name, pack), how))?;

    let points = "SELECT id, machine, sequence, manifest FROM point WHERE missing = 0 ORDER BY id";
    let read =
        |row: &Row<'_>| Ok((PointId(digest(row, 0)?), (row.get(1)?, row.get(2)?, row.get(3)?)));
    let (mut left, mut right) = (ours.prepare(points)?, theirs.prepare(points)?);
    let (left, right) = (left.query_map([], read)?, right.query_map([], read)?);
    merge::<_, (String, i64, String)>(left, right, |id, how| found.note(Subject::Point(id), how))
}

/// An object: the pack that it is listed under, the one that it names itself, its name; and what
/// else is stored of it.
type ObjectRow = ((PackName, PackName, ObjectName), Rest);

/// All objects, in the order of their packs' names, then of their own.
struct Objects<'c> {
    connection: &'c Connection,
    packs: std::vec::IntoIter<(PackName, PartRange)>,
    /// Those of one pack, the last one first.
    group: Vec<ObjectRow>,
}

impl<'c> Objects<'c> {
    fn new(connection: &'c Connection) -> rusqlite::Result<Self> {
        let mut all = connection.prepare("SELECT name, part, parts FROM pack ORDER BY name")?;
        let read = |row: &Row<'_>| {
            let range = PartRange { first: row.get(1)?, parts: row.get(2)? };
            Ok((PackName(digest(row, 0)?), range))
        };
        let packs: Vec<_> = all.query_map([], read)?.collect::<rusqlite::Result<_>>()?;
        Ok(Self { connection, packs: packs.into_iter(), group: Vec::new() })
    }

    fn read_group(&mut self, listed: PackName, range: PartRange) -> rusqlite::Result<()> {
        parts_of(self.connection, range, |part| {
            let row = |(name, rest)| ((listed, part.pack, name), rest);
            self.group.extend(part.entries().map(row));
            Ok(())
        })?;
        self.group.sort_unstable_by(|a, b| b.cmp(a));
        Ok(())
    }
}

impl Iterator for Objects<'_> {
    type Item = rusqlite::Result<ObjectRow>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.group.is_empty() {
            let (listed, range) = self.packs.next()?;
            if let Err(error) = self.read_group(listed, range) {
                return Some(Err(error));
            }
        }
        self.group.pop().map(Ok)
    }
}

/// Goes through two sequences that are sorted by their keys.
fn merge<K: Ord + Copy, V: PartialEq>(
    mut left: impl Iterator<Item = rusqlite::Result<(K, V)>>,
    mut right: impl Iterator<Item = rusqlite::Result<(K, V)>>,
    mut note: impl FnMut(K, How),
) -> rusqlite::Result<()> {
    let (mut ours, mut theirs) = (left.next().transpose()?, right.next().transpose()?);
    loop {
        let order = match (&ours, &theirs) {
            (None, None) => return Ok(()),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(ours), Some(theirs)) => ours.0.cmp(&theirs.0),
        };
        if order.is_le()
            && let Some((key, value)) = &ours
        {
            match order {
                Ordering::Less => note(*key, How::Invents),
                _ if theirs.as_ref().is_some_and(|theirs| theirs.1 != *value) => {
                    note(*key, How::Differs);
                }
                _ => {}
            }
        }
        if order.is_gt()
            && let Some((key, _)) = &theirs
        {
            note(*key, How::Lacks);
        }
        if order.is_le() {
            ours = left.next().transpose()?;
        }
        if order.is_ge() {
            theirs = right.next().transpose()?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    type Table = BTreeMap<(u8, u8), u8>;

    fn table() -> impl Strategy<Value = Table> {
        prop::collection::btree_map((0_u8..6, 0_u8..4), 0_u8..3, 0..12)
    }

    fn rows(table: &Table) -> impl Iterator<Item = rusqlite::Result<((u8, u8), u8)>> {
        table.iter().map(|(key, value)| Ok((*key, *value)))
    }

    proptest! {
        #[test]
        fn two_sequences_differ_where_the_tables_do(left in table(), right in table()) {
            let mut found = BTreeSet::new();
            merge(rows(&left), rows(&right), |key, how| {
                assert!(found.insert((key, format!("{how:?}"))));
            })
            .unwrap();
            let keys: BTreeSet<_> = left.keys().chain(right.keys()).collect();
            let expected = keys.into_iter().filter_map(|key| {
                let how = match (left.get(key), right.get(key)) {
                    (None, _) => How::Lacks,
                    (_, None) => How::Invents,
                    (ours, theirs) if ours != theirs => How::Differs,
                    _ => return None,
                };
                Some((*key, format!("{how:?}")))
            });
            prop_assert_eq!(found, expected.collect::<BTreeSet<_>>());
        }
    }
}

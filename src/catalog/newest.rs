//! What a look at all machines needs of their points, without reading every manifest.

use super::objects::digest;
use super::{Catalog, CatalogError};
use crate::point::Point;
use crate::units::{Name, PointId, Sequence};
use jiff::Timestamp;
use rusqlite::Connection;
use std::collections::BTreeMap;

/// Answers for points that are there, from the index alone.
pub(super) const MIGRATION: &str =
    "CREATE INDEX point_present ON point (machine, sequence) WHERE missing = 0;";

/// The points of a machine, in short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewestPoint {
    /// How many there are.
    pub count: usize,
    /// The newest.
    pub id: PointId,
    /// Its position in the machine's history.
    pub sequence: Sequence,
    /// The instant that it holds.
    pub time: Timestamp,
}

impl Catalog {
    /// The newest point of each machine, and how many points it has.
    ///
    /// # Errors
    /// When the database fails or holds what is no point.
    pub fn newest_points(&self) -> Result<BTreeMap<Name, NewestPoint>, CatalogError> {
        let rows = self.database.read(|connection| {
            // One state of all, and one lock for all of them.
            let transaction = connection.unchecked_transaction()?;
            let machines = counts(&transaction)?;
            let mut newest = transaction.prepare_cached(
                "SELECT id, sequence, manifest ->> '$.time' FROM point
                 WHERE machine = ?1 AND missing = 0 ORDER BY sequence DESC, id DESC LIMIT 1",
            )?;
            let of = |(machine, count): (String, usize)| {
                let (id, sequence, time) = newest.query_row([&machine], |row| {
                    Ok((PointId(digest(row, 0)?), Sequence(row.get(1)?), row.get::<_, String>(2)?))
                })?;
                Ok((machine, count, id, sequence, time))
            };
            machines.into_iter().map(of).collect::<rusqlite::Result<Vec<_>>>()
        })?;
        let parsed = rows.into_iter().map(|(machine, count, id, sequence, time)| {
            let machine: Option<Name> = machine.parse().ok();
            let time: Option<Timestamp> = time.parse().ok();
            let known = machine.zip(time);
            known
                .map(|(machine, time)| (machine, NewestPoint { count, id, sequence, time }))
                .ok_or_else(|| CatalogError::Damaged {
                    path: self.database.path().to_owned(),
                    reason: format!("the manifest of point {}: no machine or time", id.short()),
                })
        });
        parsed.collect()
    }

    /// How many points of a machine come after a sequence.
    ///
    /// # Errors
    /// When the database fails.
    pub fn points_after(&self, machine: &Name, sequence: Sequence) -> Result<usize, CatalogError> {
        self.database.read(|connection| {
            let mut count = connection.prepare_cached(
                "SELECT count(*) FROM point WHERE machine = ?1 AND sequence > ?2 AND missing = 0",
            )?;
            count.query_row((machine.as_str(), sequence.0), |row| row.get(0))
        })
    }

    /// Those of some points that are there.
    ///
    /// # Errors
    /// When the database fails or holds what is no manifest.
    pub fn points_named(
        &self,
        ids: impl IntoIterator<Item = PointId>,
    ) -> Result<Vec<Point>, CatalogError> {
        let rows = self.database.read(|connection| {
            let mut find = connection
                .prepare_cached("SELECT id, manifest FROM point WHERE id = ?1 AND missing = 0")?;
            let mut rows = Vec::new();
            for id in ids {
                let found = find.query_map([&id.0[..]], super::points::point_row)?;
                rows.extend(found.collect::<rusqlite::Result<Vec<_>>>()?);
            }
            Ok(rows)
        })?;
        rows.into_iter().map(|row| self.parse(row)).collect()
    }
}

fn counts(connection: &Connection) -> rusqlite::Result<Vec<(String, usize)>> {
    let mut count = connection
        .prepare_cached("SELECT machine, count(*) FROM point WHERE missing = 0 GROUP BY machine")?;
    let rows = count.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect()
}

//! The points that the catalog knows.

use super::generation::bump;
use super::objects::digest;
use super::{Catalog, CatalogError};
use crate::point::{Manifest, Point};
use crate::units::{Name, PointId, Sequence, readable};
use rusqlite::{Row, params};
use std::collections::BTreeSet;

impl Catalog {
    /// Notes a point that is durable. Noting it twice changes nothing, except that one that was
    /// missing is there again.
    ///
    /// # Errors
    /// When the database fails.
    pub fn add_point(&self, point: &Point) -> Result<(), CatalogError> {
        let manifest = serde_json::to_string(&point.manifest)
            .map_err(|e| self.damaged(format!("a manifest has no JSON form: {e}")))?;
        self.database.write(|transaction| {
            let added = transaction.execute(
                "INSERT INTO point (id, machine, sequence, manifest) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (id) DO UPDATE SET missing = 0 WHERE missing != 0",
                params![
                    &point.id.0[..],
                    point.manifest.machine.as_str(),
                    point.manifest.sequence.0,
                    manifest
                ],
            )?;
            if added > 0 { bump(transaction) } else { Ok(()) }
        })?;
        Ok(())
    }

    /// Forgets points.
    ///
    /// # Errors
    /// When the database fails; then none is forgotten.
    pub fn forget_points(&self, ids: &[PointId]) -> Result<(), CatalogError> {
        self.database.write(|transaction| {
            let mut forget = transaction.prepare_cached("DELETE FROM point WHERE id = ?1")?;
            ids.iter().try_for_each(|id| forget.execute([&id.0[..]]).map(drop))?;
            bump(transaction)
        })
    }

    /// Names of all points.
    ///
    /// # Errors
    /// When the database fails.
    pub fn point_ids(&self) -> Result<BTreeSet<PointId>, CatalogError> {
        self.ids(false)
    }

    /// Names of points that were in the repository, are not there any more, and were not removed
    /// on purpose. They are in no other list.
    ///
    /// # Errors
    /// When the database fails.
    pub fn missing_points(&self) -> Result<BTreeSet<PointId>, CatalogError> {
        self.ids(true)
    }

    /// Takes note that a missing point is lost: from now on nothing is said of it any more.
    ///
    /// # Errors
    /// When the database fails.
    pub fn acknowledge_missing(&self, id: PointId) -> Result<(), CatalogError> {
        self.database.write(|transaction| {
            transaction.execute("DELETE FROM point WHERE id = ?1 AND missing != 0", [&id.0[..]])
        })?;
        Ok(())
    }

    pub(super) fn note_missing(&self, id: PointId) -> Result<(), CatalogError> {
        self.database.write(|transaction| {
            transaction.execute("UPDATE point SET missing = 1 WHERE id = ?1", [&id.0[..]])
        })?;
        Ok(())
    }

    /// The highest sequence that a point of `machine` has had, as far as is known; also of one
    /// that is missing, and may come back.
    ///
    /// # Errors
    /// When the database fails.
    pub fn last_sequence(&self, machine: &Name) -> Result<Option<Sequence>, CatalogError> {
        self.database.read(|connection| {
            let mut last =
                connection.prepare_cached("SELECT max(sequence) FROM point WHERE machine = ?1")?;
            let last: Option<u64> = last.query_row([machine.as_str()], |row| row.get(0))?;
            Ok(last.map(Sequence))
        })
    }

    fn ids(&self, missing: bool) -> Result<BTreeSet<PointId>, CatalogError> {
        self.database.read(|connection| {
            let mut all = connection.prepare_cached("SELECT id FROM point WHERE missing = ?1")?;
            let rows = all.query_map([missing], |row| Ok(PointId(digest(row, 0)?)))?;
            rows.collect()
        })
    }

    /// The points of `machine`, or of all machines, the oldest first.
    ///
    /// # Errors
    /// When the database fails or holds what is no manifest.
    pub fn points(&self, machine: Option<&Name>) -> Result<Vec<Point>, CatalogError> {
        let rows = self.database.read(|connection| {
            let mut all = connection.prepare_cached(
                "SELECT id, manifest FROM point
                 WHERE missing = 0 AND (?1 IS NULL OR machine = ?1)
                 ORDER BY machine, sequence, id",
            )?;
            let rows = all.query_map([machine.map(Name::as_str)], point_row)?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        })?;
        rows.into_iter().map(|row| self.parse(row)).collect()
    }

    /// All points, also those that are missing.
    ///
    /// # Errors
    /// When the database fails or holds what is no manifest.
    pub fn known_points(&self) -> Result<Vec<Point>, CatalogError> {
        let rows = self.database.read(|connection| {
            let mut all = connection.prepare("SELECT id, manifest FROM point")?;
            let rows = all.query_map([], point_row)?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        })?;
        rows.into_iter().map(|row| self.parse(row)).collect()
    }

    /// The newest point of `machine`.
    ///
    /// # Errors
    /// When the database fails or holds what is no manifest.
    pub fn newest_point(&self, machine: &Name) -> Result<Option<Point>, CatalogError> {
        let row = self.database.read(|connection| {
            let mut newest = connection.prepare_cached(
                "SELECT id, manifest FROM point WHERE machine = ?1 AND missing = 0
                 ORDER BY sequence DESC, id DESC LIMIT 1",
            )?;
            let mut rows = newest.query_map([machine.as_str()], point_row)?;
            rows.next().transpose()
        })?;
        row.map(|row| self.parse(row)).transpose()
    }

    pub(super) fn parse(&self, (id, manifest): (PointId, String)) -> Result<Point, CatalogError> {
        let manifest: Manifest =
            serde_json::from_str(&manifest).map_err(|e| self.damaged_manifest(id, &readable(e)))?;
        // The file is one of its own, which may be damaged: what it holds is believed no more than
        // what the repository holds.
        manifest.check(self.repository).map_err(|reason| self.damaged_manifest(id, &reason))?;
        Ok(Point { id, manifest })
    }

    fn damaged_manifest(&self, id: PointId, reason: &str) -> CatalogError {
        self.damaged(format!("the manifest of point {}: {reason}", id.short()))
    }

    fn damaged(&self, reason: String) -> CatalogError {
        CatalogError::Damaged { path: self.database.path().to_owned(), reason }
    }
}

pub(super) fn point_row(row: &Row<'_>) -> rusqlite::Result<(PointId, String)> {
    Ok((PointId(digest(row, 0)?), row.get(1)?))
}

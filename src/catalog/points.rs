//! The points that the catalog knows.

use super::generation::bump;
use super::objects::digest;
use super::{Catalog, CatalogError};
use crate::point::{Manifest, Point};
use crate::units::{Name, PointId};
use rusqlite::{Row, params};
use std::collections::BTreeSet;

impl Catalog {
    /// Notes a point that is durable. Noting it twice changes nothing.
    ///
    /// # Errors
    /// When the database fails.
    pub fn add_point(&self, point: &Point) -> Result<(), CatalogError> {
        let manifest = serde_json::to_string(&point.manifest)
            .map_err(|e| self.damaged(format!("a manifest has no JSON form: {e}")))?;
        self.database.write(|transaction| {
            let added = transaction.execute(
                "INSERT OR IGNORE INTO point VALUES (?1, ?2, ?3, ?4)",
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

    /// Forgets a point.
    ///
    /// # Errors
    /// When the database fails.
    pub fn forget_point(&self, id: PointId) -> Result<(), CatalogError> {
        self.database.write(|transaction| {
            transaction.execute("DELETE FROM point WHERE id = ?1", [&id.0[..]])?;
            bump(transaction)
        })?;
        Ok(())
    }

    /// Names of all points.
    ///
    /// # Errors
    /// When the database fails.
    pub fn point_ids(&self) -> Result<BTreeSet<PointId>, CatalogError> {
        self.database.read(|connection| {
            let mut all = connection.prepare("SELECT id FROM point")?;
            let rows = all.query_map([], |row| Ok(PointId(digest(row, 0)?)))?;
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
                "SELECT id, manifest FROM point WHERE ?1 IS NULL OR machine = ?1
                 ORDER BY machine, sequence, id",
            )?;
            let rows = all.query_map([machine.map(Name::as_str)], point_row)?;
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
                "SELECT id, manifest FROM point WHERE machine = ?1
                 ORDER BY sequence DESC, id DESC LIMIT 1",
            )?;
            let mut rows = newest.query_map([machine.as_str()], point_row)?;
            rows.next().transpose()
        })?;
        row.map(|row| self.parse(row)).transpose()
    }

    fn parse(&self, (id, manifest): (PointId, String)) -> Result<Point, CatalogError> {
        let manifest: Manifest = serde_json::from_str(&manifest)
            .map_err(|e| self.damaged(format!("the manifest of point {}: {e}", id.short())))?;
        Ok(Point { id, manifest })
    }

    fn damaged(&self, reason: String) -> CatalogError {
        CatalogError::Damaged { path: self.database.path().to_owned(), reason }
    }
}

fn point_row(row: &Row<'_>) -> rusqlite::Result<(PointId, String)> {
    Ok((PointId(digest(row, 0)?), row.get(1)?))
}

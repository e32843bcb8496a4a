//! What the disks of each machine were read from when its last point was made here. Without it
//! everything is read; nothing else depends on it.

use super::{CatalogError, History};
use crate::source::{DiskBase, known_bases};
use crate::units::{Name, PointId, RepositoryId};
use rusqlite::{OptionalExtension, params};
use std::collections::BTreeMap;

pub(super) const MIGRATION: &str = "
    CREATE TABLE source (
        repository BLOB NOT NULL, machine TEXT NOT NULL, record TEXT NOT NULL,
        PRIMARY KEY (repository, machine)
    ) STRICT, WITHOUT ROWID;
";

/// What the disks of a machine were read from when a point was made.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourcesAt {
    /// The point.
    pub point: PointId,
    /// The catalog's [`loss_mark`](super::Catalog::loss_mark) then: while it stays the same, what
    /// the point refers to can be relied on.
    pub loss_mark: i64,
    /// The [`boot_id`](crate::fsio::boot_id) then. A power cut can take back the time of a write,
    /// and keep what was written: files are known again only within one run of the system.
    pub boot_id: Option<String>,
    /// What the next capture of each disk can build upon.
    #[serde(deserialize_with = "known_bases")]
    pub disks: BTreeMap<Name, DiskBase>,
}

impl History {
    /// Notes what a machine's disks were read from, in place of what was noted before.
    ///
    /// # Errors
    /// When the database fails.
    pub fn note_sources(
        &self,
        repository: RepositoryId,
        machine: &Name,
        sources: &SourcesAt,
    ) -> Result<(), CatalogError> {
        let json = serde_json::to_string(sources).map_err(|error| self.damaged(&error))?;
        self.database.write(|transaction| {
            transaction.execute(
                "INSERT OR REPLACE INTO source VALUES (?1, ?2, ?3)",
                params![&repository.0[..], machine.as_str(), json],
            )
        })?;
        Ok(())
    }

    /// What was noted last of a machine; `None`, too, for what this program cannot read.
    ///
    /// # Errors
    /// When the database fails.
    pub fn sources(
        &self,
        repository: RepositoryId,
        machine: &Name,
    ) -> Result<Option<SourcesAt>, CatalogError> {
        let json: Option<String> = self.database.read(|connection| {
            let mut find = connection.prepare_cached(
                "SELECT record FROM source WHERE repository = ?1 AND machine = ?2",
            )?;
            find.query_row(params![&repository.0[..], machine.as_str()], |row| row.get(0))
                .optional()
        })?;
        Ok(json.and_then(|json| serde_json::from_str(&json).ok()))
    }
}

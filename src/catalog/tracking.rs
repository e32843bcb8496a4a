//! How far it is proved that a machine's source tells of all changes: when each disk was last read
//! in full, and disks whose source was found to tell of too few.

use super::{CatalogError, History};
use crate::source::Untold;
use crate::units::Name;
use jiff::Timestamp;
use rusqlite::params;
use std::collections::BTreeMap;

pub(super) const MIGRATION: &str = "
    CREATE TABLE tracking (
        machine TEXT NOT NULL, disk TEXT NOT NULL, record TEXT NOT NULL,
        PRIMARY KEY (machine, disk)
    ) STRICT, WITHOUT ROWID;
";

/// What is known of how a disk's source tells of changes.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tracking {
    /// When all of the disk was last read for a point.
    pub full_read: Option<Timestamp>,
    /// Why its source is not believed any more.
    pub distrust: Option<Distrust>,
}

/// What a source did not tell of.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Distrust {
    /// When that was found.
    pub since: Timestamp,
    /// Bytes that had changed.
    pub bytes: u64,
    /// The first ranges of them, as first byte and length.
    pub extents: Vec<(u64, u64)>,
}

/// Ranges of which record is kept.
const EXTENTS_NOTED_MAX: usize = 100;

impl Distrust {
    /// What was found now.
    pub fn new(since: Timestamp, untold: &Untold) -> Self {
        let first = untold.extents.iter().take(EXTENTS_NOTED_MAX);
        let extents = first.map(|extent| (extent.start(), extent.len())).collect();
        Self { since, bytes: untold.bytes, extents }
    }
}

impl History {
    /// Notes what is known of a disk, in place of what was noted before.
    ///
    /// # Errors
    /// When the database fails.
    pub fn note_tracking(
        &self,
        machine: &Name,
        disk: &Name,
        tracking: &Tracking,
    ) -> Result<(), CatalogError> {
        let json = serde_json::to_string(tracking).map_err(|error| self.damaged(&error))?;
        self.database.write(|transaction| {
            transaction.execute(
                "INSERT OR REPLACE INTO tracking VALUES (?1, ?2, ?3)",
                params![machine.as_str(), disk.as_str(), json],
            )
        })?;
        Ok(())
    }

    /// What is known of the disks of a machine.
    ///
    /// # Errors
    /// When the database fails, or holds what this program cannot read.
    pub fn tracking(&self, machine: &Name) -> Result<BTreeMap<Name, Tracking>, CatalogError> {
        let rows: Vec<(String, String)> = self.database.read(|connection| {
            let mut find = connection
                .prepare_cached("SELECT disk, record FROM tracking WHERE machine = ?1")?;
            let rows = find.query_map([machine.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect()
        })?;
        let mut found = BTreeMap::new();
        for (disk, json) in rows {
            let tracking = serde_json::from_str(&json).map_err(|error| self.damaged(&error))?;
            // Only names are written to it.
            found.extend(disk.parse::<Name>().ok().map(|disk| (disk, tracking)));
        }
        Ok(found)
    }

    /// The disks whose source is not believed: machine, disk, why.
    ///
    /// # Errors
    /// When the database fails, or holds what this program cannot read.
    pub fn distrusted(&self) -> Result<Vec<(Name, Name, Distrust)>, CatalogError> {
        let rows: Vec<(String, String, String)> = self.database.read(|connection| {
            let mut find = connection.prepare_cached(
                "SELECT machine, disk, record FROM tracking
                 WHERE record ->> '$.distrust' IS NOT NULL",
            )?;
            let rows = find.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
            rows.collect()
        })?;
        let mut found = Vec::new();
        for (machine, disk, json) in rows {
            let tracking: Tracking =
                serde_json::from_str(&json).map_err(|error| self.damaged(&error))?;
            // Only names are written to it.
            let names = machine.parse().ok().zip(disk.parse().ok());
            found.extend(names.zip(tracking.distrust).map(|((m, d), why)| (m, d, why)));
        }
        Ok(found)
    }

    /// Believes the sources of a machine again. Returns the disks whose source was not believed.
    ///
    /// # Errors
    /// When the database fails.
    pub fn trust(&self, machine: &Name) -> Result<Vec<Name>, CatalogError> {
        let mut trusted = Vec::new();
        for (disk, tracking) in self.tracking(machine)? {
            if tracking.distrust.is_some() {
                self.note_tracking(machine, &disk, &Tracking { distrust: None, ..tracking })?;
                trusted.push(disk);
            }
        }
        Ok(trusted)
    }
}

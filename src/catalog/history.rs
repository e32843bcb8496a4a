//! The history of runs.

use super::CatalogError;
use super::database::{Database, Durability, Migration};
use crate::progress::Counts;
use crate::units::{Name, PointId, RunId};
use rusqlite::params;
use std::path::Path;

const MIGRATIONS: &[Migration] = &[
    "
    CREATE TABLE run (
        id BLOB NOT NULL PRIMARY KEY, kind TEXT NOT NULL, machine TEXT, replica TEXT,
        started TEXT NOT NULL, record TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX run_by_start ON run (started);
",
    super::verified::MIGRATION,
];

/// What a run did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunKind {
    /// Backed a machine up.
    Backup,
    /// Brought a replica to a newer point.
    Replicate,
    /// Wrote a point out.
    Restore,
    /// Compared a replica, a point or a repository with what it must be.
    Verify,
    /// Removed points that need not be kept.
    Prune,
    /// Returned the space that nothing needs.
    Gc,
    /// Healed damage or set it apart.
    Repair,
    /// Copied points to another repository.
    Copy,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunStatus {
    /// Under way, or cut off.
    Running,
    /// All was done.
    Completed,
    /// There was nothing to do.
    Skipped,
    /// Nothing was acknowledged.
    Failed,
    /// Part was done.
    Incomplete,
}

/// The durable record of a run.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct RunRecord {
    /// Its identity.
    pub id: RunId,
    /// What it did.
    pub kind: RunKind,
    /// The repository, of what is done to a whole one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<Name>,
    /// The machine.
    pub machine: Option<Name>,
    /// The replica.
    pub replica: Option<Name>,
    /// When it began.
    pub started: jiff::Timestamp,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: RunOutcome,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct RunOutcome {
    /// In a word.
    pub status: RunStatus,
    /// When; `None` while it runs.
    pub ended: Option<jiff::Timestamp>,
    /// The point that it made or used.
    pub point: Option<PointId>,
    /// What it moved.
    #[serde(flatten)]
    pub counts: Counts,
    /// Why it failed or was skipped.
    pub reason: Option<String>,
}

/// The database of runs.
#[derive(Debug)]
pub struct History {
    pub(super) database: Database,
}

impl History {
    /// Opens, or creates, the history in `state_dir`.
    ///
    /// # Errors
    /// When it is damaged, of a newer schema or on a network file system.
    pub fn open(state_dir: &Path) -> Result<Self, CatalogError> {
        let path = state_dir.join("history.sqlite");
        Ok(Self { database: Database::open(&path, MIGRATIONS, Durability::Record)? })
    }

    /// Writes a run's record, in place of an earlier one of the same run.
    ///
    /// # Errors
    /// When the database fails.
    pub fn put(&self, record: &RunRecord) -> Result<(), CatalogError> {
        let json = serde_json::to_string(record).map_err(|e| self.damaged(&e))?;
        self.database.write(|transaction| {
            transaction.execute(
                "INSERT OR REPLACE INTO run VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![
                    &record.id.0[..],
                    format!("{:?}", record.kind).to_lowercase(),
                    record.machine.as_ref().map(Name::as_str),
                    record.replica.as_ref().map(Name::as_str),
                    // Always nine decimals: runs are sorted by this text.
                    format!("{:.9}", record.started),
                    json
                ],
            )
        })?;
        Ok(())
    }

    /// The last run of a kind for a machine or a replica.
    ///
    /// # Errors
    /// When the database fails.
    pub fn last(
        &self,
        kind: RunKind,
        machine: &Name,
        replica: Option<&Name>,
    ) -> Result<Option<RunRecord>, CatalogError> {
        let json: Option<String> = self.database.read(|connection| {
            let mut last = connection.prepare_cached(
                "SELECT record FROM run WHERE kind = ?1 AND machine = ?2 AND replica IS ?3
                 ORDER BY started DESC LIMIT 1",
            )?;
            let kind = format!("{kind:?}").to_lowercase();
            let key = params![kind, machine.as_str(), replica.map(Name::as_str)];
            let mut rows = last.query_map(key, |row| row.get(0))?;
            rows.next().transpose()
        })?;
        json.map(|json| serde_json::from_str(&json).map_err(|e| self.damaged(&e))).transpose()
    }

    fn damaged(&self, reason: &serde_json::Error) -> CatalogError {
        CatalogError::Damaged {
            path: self.database.path().to_owned(),
            reason: format!("a run's record: {reason}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_run_is_the_one_that_began_last_also_within_a_second() {
        let folder = tempfile::tempdir().unwrap();
        let history = History::open(folder.path()).unwrap();
        let machine: Name = "web01".parse().unwrap();
        for (id, started) in [(1, "2026-11-22T09:00:00Z"), (2, "2026-11-22T09:00:00.25Z")] {
            let outcome = RunOutcome {
                status: RunStatus::Completed,
                ended: None,
                point: None,
                counts: Counts::default(),
                reason: None,
            };
            let record = RunRecord {
                id: RunId([id; 16]),
                kind: RunKind::Backup,
                repository: None,
                machine: Some(machine.clone()),
                replica: None,
                started: started.parse().unwrap(),
                outcome,
            };
            history.put(&record).unwrap();
        }
        let last = history.last(RunKind::Backup, &machine, None).unwrap().unwrap();
        assert_eq!(last.id, RunId([2; 16]));
    }
}

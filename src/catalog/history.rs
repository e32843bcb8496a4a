//! The history of runs.

use super::CatalogError;
use super::database::{Database, Durability, Migration};
use super::run::{RunKind, RunRecord};
use crate::units::{Name, RepositoryId};
use rusqlite::{OptionalExtension, params};
use std::path::Path;

const MIGRATIONS: &[Migration] = &[
    Migration::Sql(
        "
    CREATE TABLE run (
        id BLOB NOT NULL PRIMARY KEY, kind TEXT NOT NULL, machine TEXT, replica TEXT,
        started TEXT NOT NULL, record TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX run_by_start ON run (started);
",
    ),
    Migration::Sql(
        "
    CREATE TABLE seen (
        repository BLOB NOT NULL PRIMARY KEY, generation INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
",
    ),
    Migration::Sql(super::verified::MIGRATION),
    Migration::Sql(super::sources::MIGRATION),
    Migration::Sql(super::tracking::MIGRATION),
    Migration::Sql(super::slots::MIGRATION),
    Migration::Sql(super::conditions::MIGRATION),
    Migration::Code(super::facts::migrate),
    Migration::Sql(super::objectives::MIGRATION),
    Migration::Sql(super::verified::INDEX),
    Migration::Sql(super::tokens::MIGRATION),
];

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

    /// From now on all databases of this process together keep about `bytes` in memory. For a
    /// process with many of them open at once.
    ///
    /// # Errors
    /// When the database fails.
    pub fn limit_memory(&self, bytes: u64) -> Result<(), CatalogError> {
        self.database.limit_memory(bytes)
    }

    /// Writes a run's record, in place of an earlier one of the same run.
    ///
    /// # Errors
    /// When the database fails.
    pub fn put(&self, record: &RunRecord) -> Result<(), CatalogError> {
        let json = serde_json::to_string(record).map_err(|e| self.damaged(&e))?;
        self.database.write(|transaction| put_run(transaction, record, &json))
    }

    /// The latest instant that any run began or ended at.
    ///
    /// # Errors
    /// When the database fails.
    pub fn latest_instant(&self) -> Result<Option<jiff::Timestamp>, CatalogError> {
        let latest: Option<String> = self.database.read(|connection| {
            // The texts are RFC 3339 in UTC, so their order is that of the instants, but for parts
            // of a second.
            connection.query_row(
                "SELECT max(max(started), coalesce(max(record ->> '$.ended'), '')) FROM run",
                [],
                |row| row.get(0),
            )
        })?;
        let parse = |text: String| {
            text.parse().map_err(|error: jiff::Error| CatalogError::Damaged {
                path: self.database.path().to_owned(),
                reason: format!("the time of a run: {error}"),
            })
        };
        latest.map(parse).transpose()
    }

    /// Whether a run of a kind ever did all that it had to do for a machine or a replica.
    ///
    /// # Errors
    /// When the database fails.
    pub fn has_completed(
        &self,
        kind: RunKind,
        machine: &Name,
        replica: Option<&Name>,
    ) -> Result<bool, CatalogError> {
        self.database.read(|connection| {
            connection.query_row(
                "SELECT EXISTS (SELECT 1 FROM run_facts
                 WHERE kind = ?1 AND repository = '' AND machine = ?2 AND replica = ?3
                 AND facts ->> '$.success' IS NOT NULL)",
                params![kind.word(), machine.as_str(), replica.map_or("", Name::as_str)],
                |row| row.get(0),
            )
        })
    }

    /// Forgets runs that began before `before`, the oldest first, at most `limit`; but none that did
    /// not end, nor the last one of its kind of a machine, a replica or a repository. Returns how
    /// many went.
    ///
    /// # Errors
    /// When the database fails.
    pub fn forget_runs_before(
        &self,
        before: jiff::Timestamp,
        limit: usize,
    ) -> Result<usize, CatalogError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.database.write(|transaction| {
            transaction.execute(
                "DELETE FROM run WHERE id IN (
                     SELECT id FROM run WHERE started < ?1
                     AND record ->> '$.status' NOT IN ('queued', 'running')
                     AND id NOT IN (SELECT unhex(facts ->> '$.run') FROM run_facts
                                    WHERE unhex(facts ->> '$.run') IS NOT NULL)
                     ORDER BY started LIMIT ?2)",
                params![format!("{before:.9}"), limit],
            )
        })
    }

    /// Notes that the catalog of `repository` has come to `generation`. A lower one than noted
    /// before changes nothing.
    ///
    /// # Errors
    /// When the database fails.
    pub fn note_generation(
        &self,
        repository: RepositoryId,
        generation: u64,
    ) -> Result<(), CatalogError> {
        self.database.write(|transaction| {
            transaction.execute(
                "INSERT INTO seen VALUES (?1, ?2)
                 ON CONFLICT DO UPDATE SET generation = max(generation, excluded.generation)",
                params![&repository.0[..], generation],
            )
        })?;
        Ok(())
    }

    /// The highest generation that the catalog of `repository` has come to; 0 where none is known.
    ///
    /// # Errors
    /// When the database fails.
    pub fn generation(&self, repository: RepositoryId) -> Result<u64, CatalogError> {
        let found = self.database.read(|connection| {
            let mut find =
                connection.prepare_cached("SELECT generation FROM seen WHERE repository = ?1")?;
            find.query_row([&repository.0[..]], |row| row.get(0)).optional()
        })?;
        Ok(found.unwrap_or(0))
    }

    pub(super) fn damaged(&self, reason: &serde_json::Error) -> CatalogError {
        CatalogError::Damaged {
            path: self.database.path().to_owned(),
            reason: format!("a run's record: {reason}"),
        }
    }
}

/// Writes a run's record, which is `json`, within a transaction.
pub(super) fn put_run(
    transaction: &rusqlite::Transaction<'_>,
    record: &RunRecord,
    json: &str,
) -> rusqlite::Result<()> {
    let before = super::facts::status_before(transaction, record.id)?;
    let mut put =
        transaction.prepare_cached("INSERT OR REPLACE INTO run VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
    put.execute(params![
        &record.id.0[..],
        record.kind.word(),
        record.machine.as_ref().map(Name::as_str),
        record.replica.as_ref().map(Name::as_str),
        // Always nine decimals: runs are sorted by this text.
        format!("{:.9}", record.started),
        json
    ])?;
    super::facts::note(transaction, record, before)
}

#[cfg(test)]
mod tests {
    use super::super::{RunFilter, RunOrigin, RunOutcome, RunStatus};
    use super::*;
    use crate::units::RunId;

    #[test]
    fn the_last_run_is_the_one_that_began_last_also_within_a_second() {
        let folder = tempfile::tempdir().unwrap();
        let history = History::open(folder.path()).unwrap();
        let machine: Name = "web01".parse().unwrap();
        for (id, started) in [(1, "2026-11-22T09:00:00Z"), (2, "2026-11-22T09:00:00.25Z")] {
            let outcome = RunOutcome::open(RunStatus::Completed);
            let record = RunRecord {
                id: RunId([id; 16]),
                kind: RunKind::Backup,
                repository: None,
                machine: Some(machine.clone()),
                replica: None,
                started: started.parse().unwrap(),
                origin: RunOrigin::default(),
                outcome,
            };
            history.put(&record).unwrap();
        }
        let last = history.runs(&RunFilter::default(), 1).unwrap().remove(0);
        assert_eq!(last.id, RunId([2; 16]));
        let latest = history.latest_instant().unwrap().unwrap();
        assert_eq!(latest, "2026-11-22T09:00:00.25Z".parse().unwrap());
        let ended = Some("2026-11-22T10:30:00Z".parse().unwrap());
        let outcome = RunOutcome { ended, ..last.outcome.clone() };
        history.put(&RunRecord { outcome, ..last }).unwrap();
        assert_eq!(history.latest_instant().unwrap(), ended);
        assert!(history.has_completed(RunKind::Backup, &machine, None).unwrap());
        assert!(!history.has_completed(RunKind::Replicate, &machine, None).unwrap());
    }

    #[test]
    fn old_runs_are_forgotten_but_the_last_one_of_each_thing_and_those_that_did_not_end() {
        let folder = tempfile::tempdir().unwrap();
        let history = History::open(folder.path()).unwrap();
        let start = |id: u8| format!("2026-11-22T09:00:{id:02}Z").parse().unwrap();
        let put = |id: u8, machine: &str, status| {
            let record = RunRecord {
                id: RunId([id; 16]),
                kind: RunKind::Backup,
                repository: None,
                machine: Some(machine.parse().unwrap()),
                replica: None,
                started: start(id),
                origin: RunOrigin::default(),
                outcome: RunOutcome::open(status),
            };
            history.put(&record).unwrap();
        };
        for id in 0..5 {
            put(id, "web01", RunStatus::Completed);
        }
        put(5, "web01", RunStatus::Queued);
        put(6, "web01", RunStatus::Failed);
        put(7, "old", RunStatus::Completed);
        put(20, "web01", RunStatus::Completed);
        assert_eq!(history.forget_runs_before(start(15), 2).unwrap(), 2);
        assert_eq!(history.forget_runs_before(start(15), 100).unwrap(), 4);
        assert_eq!(history.forget_runs_before(start(15), 100).unwrap(), 0);
        let left = history.runs(&Default::default(), 100).unwrap();
        let left: Vec<u8> = left.iter().map(|record| record.id.0[0]).collect();
        assert_eq!(left, [20, 7, 5]);
        // It is known all the same.
        assert!(history.has_completed(RunKind::Backup, &"old".parse().unwrap(), None).unwrap());
    }

    #[test]
    fn the_memory_of_all_databases_has_a_limit() {
        let folder = tempfile::tempdir().unwrap();
        let history = History::open(folder.path()).unwrap();
        history.limit_memory(96 << 20).unwrap();
        let limit = |it: &History| {
            let read = it.database.read(|connection| {
                connection.query_row("PRAGMA soft_heap_limit", [], |row| row.get::<_, i64>(0))
            });
            read.unwrap()
        };
        assert_eq!(limit(&history), 96 << 20);
        let other = tempfile::tempdir().unwrap();
        assert_eq!(limit(&History::open(other.path()).unwrap()), 96 << 20);
        history.limit_memory(0).unwrap();
    }
}

//! What is known of the runs of each thing, at a glance: how the last one ended, when one last did
//! what it had to, how many there were. Kept beside the records, so that it is had by one query,
//! and stays when old records go.

use super::run::{RunKind, RunRecord, RunStatus};
use super::{CatalogError, History};
use crate::progress::Counts;
use crate::units::{Name, RunId};
use jiff::Timestamp;
use rusqlite::{OptionalExtension, Transaction, params, params_from_iter};
use std::time::Duration;

const TABLE: &str = "
    CREATE TABLE run_facts (
        kind TEXT NOT NULL, repository TEXT NOT NULL, machine TEXT NOT NULL, replica TEXT NOT NULL,
        facts TEXT NOT NULL,
        PRIMARY KEY (kind, repository, machine, replica)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX backup_by_machine ON run (machine, started) WHERE kind = 'backup';
";

/// Of how many runs it is remembered how long they took.
const DURATIONS_KEPT: usize = 5;

/// What is known of the runs of one kind for one machine, replica or repository.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RunFacts {
    /// What they did.
    pub kind: RunKind,
    /// The repository, of what is done to a whole one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<Name>,
    /// The machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<Name>,
    /// The replica.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica: Option<Name>,
    /// The one that began last.
    pub run: RunId,
    /// How it ended, or how far it is.
    pub status: RunStatus,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    /// Why it failed or was skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What it moved.
    pub counts: Counts,
    /// When one last ended after it had done all, or there was nothing to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub success: Option<Timestamp>,
    /// How many in a row did not do that since.
    #[serde(default)]
    pub failures: u32,
    /// How long the last ones took that did all, the newest first, in milliseconds.
    #[serde(default)]
    pub durations_ms: Vec<u64>,
    /// How many did all.
    #[serde(default)]
    pub completed: u64,
    /// How many had nothing to do.
    #[serde(default)]
    pub skipped: u64,
    /// How many failed.
    #[serde(default)]
    pub failed: u64,
    /// How many did a part.
    #[serde(default)]
    pub incomplete: u64,
    /// What all of them moved.
    #[serde(default)]
    pub total: Counts,
    /// How long all of them took, in milliseconds.
    #[serde(default)]
    pub total_ms: u64,
}

impl RunFacts {
    /// Before anything is known but that `record` exists.
    fn new(record: &RunRecord) -> Self {
        Self {
            kind: record.kind,
            repository: record.repository.clone(),
            machine: record.machine.clone(),
            replica: record.replica.clone(),
            run: record.id,
            status: record.outcome.status,
            started: record.started,
            ended: None,
            reason: None,
            counts: Counts::default(),
            success: None,
            failures: 0,
            durations_ms: Vec::new(),
            completed: 0,
            skipped: 0,
            failed: 0,
            incomplete: 0,
            total: Counts::default(),
            total_ms: 0,
        }
    }

    /// How long the last ones took that did all, the newest first.
    pub fn durations(&self) -> Vec<Duration> {
        self.durations_ms.iter().map(|ms| Duration::from_millis(*ms)).collect()
    }

    /// How long the last one took, where it ended.
    pub fn duration(&self) -> Option<Duration> {
        Some(took(self.started, self.ended?))
    }

    /// Takes in what a record says. `before` is what it said before, if it was there.
    fn take(&mut self, record: &RunRecord, before: Option<RunStatus>) {
        let outcome = &record.outcome;
        if record.id == self.run || record.started >= self.started {
            self.run = record.id;
            self.status = outcome.status;
            self.started = record.started;
            self.ended = outcome.ended;
            self.reason.clone_from(&outcome.reason);
            self.counts = outcome.counts;
        }
        let was_open = before.is_none_or(RunStatus::is_open);
        if was_open && !outcome.status.is_open() {
            self.count(record);
        }
    }

    /// Counts a run that just ended.
    fn count(&mut self, record: &RunRecord) {
        let outcome = &record.outcome;
        let ended = outcome.ended.unwrap_or(record.started);
        let ms = u64::try_from(took(record.started, ended).as_millis()).unwrap_or(u64::MAX);
        let is_good = matches!(outcome.status, RunStatus::Completed | RunStatus::Skipped);
        match outcome.status {
            RunStatus::Completed => self.completed += 1,
            RunStatus::Skipped => self.skipped += 1,
            RunStatus::Failed => self.failed += 1,
            RunStatus::Incomplete => self.incomplete += 1,
            RunStatus::Queued | RunStatus::Running => {}
        }
        self.failures = if is_good { 0 } else { self.failures.saturating_add(1) };
        if is_good {
            self.success = self.success.max(Some(ended));
        }
        if outcome.status == RunStatus::Completed {
            self.durations_ms.insert(0, ms);
            self.durations_ms.truncate(DURATIONS_KEPT);
        }
        self.total.add(&outcome.counts);
        self.total_ms = self.total_ms.saturating_add(ms);
    }
}

fn took(started: Timestamp, ended: Timestamp) -> Duration {
    // A clock that was set back meanwhile gives no negative duration.
    ended.duration_since(started).try_into().unwrap_or_default()
}

impl History {
    /// What is known of the runs of everything that ever had one.
    ///
    /// # Errors
    /// When the database fails, or holds what this program cannot read.
    pub fn run_facts(&self) -> Result<Vec<RunFacts>, CatalogError> {
        let texts: Vec<String> = self.database.read(|connection| {
            let mut all = connection.prepare_cached("SELECT facts FROM run_facts")?;
            let rows = all.query_map([], |row| row.get(0))?;
            rows.collect()
        })?;
        let facts = texts.iter().map(|text| serde_json::from_str(text));
        facts.collect::<Result<_, _>>().map_err(|error| self.damaged(&error))
    }
}

/// What the record of a run that is about to be written said before.
pub(super) fn status_before(
    transaction: &Transaction<'_>,
    run: RunId,
) -> rusqlite::Result<Option<RunStatus>> {
    let mut find =
        transaction.prepare_cached("SELECT record ->> '$.status' FROM run WHERE id = ?1")?;
    let word: Option<String> = find.query_row([&run.0[..]], |row| row.get(0)).optional()?;
    let statuses = [
        RunStatus::Queued,
        RunStatus::Running,
        RunStatus::Completed,
        RunStatus::Skipped,
        RunStatus::Failed,
        RunStatus::Incomplete,
    ];
    Ok(word.and_then(|word| statuses.into_iter().find(|status| status.word() == word)))
}

/// Takes in what a run's record says, within the transaction that writes it.
pub(super) fn note(
    transaction: &Transaction<'_>,
    record: &RunRecord,
    before: Option<RunStatus>,
) -> rusqlite::Result<()> {
    let text = |name: &Option<Name>| name.as_ref().map_or(String::new(), ToString::to_string);
    let key = [
        record.kind.word(),
        text(&record.repository),
        text(&record.machine),
        text(&record.replica),
    ];
    let mut find = transaction.prepare_cached(
        "SELECT facts FROM run_facts
         WHERE kind = ?1 AND repository = ?2 AND machine = ?3 AND replica = ?4",
    )?;
    let known: Option<String> =
        find.query_row(params_from_iter(&key), |row| row.get(0)).optional()?;
    // What cannot be read is begun anew: it must not keep a run from its record.
    let known = known.and_then(|known| serde_json::from_str::<RunFacts>(&known).ok());
    let mut facts = known.unwrap_or_else(|| RunFacts::new(record));
    facts.take(record, before);
    let json = serde_json::to_string(&facts)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    let mut put = transaction
        .prepare_cached("INSERT OR REPLACE INTO run_facts VALUES (?1, ?2, ?3, ?4, ?5)")?;
    let [kind, repository, machine, replica] = key;
    put.execute(params![kind, repository, machine, replica, json])?;
    Ok(())
}

/// The migration: what is known of the runs that there are.
pub(super) fn migrate(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    transaction.execute_batch(TABLE)?;
    let mut all = transaction.prepare("SELECT record FROM run ORDER BY started, id")?;
    let mut rows = all.query([])?;
    while let Some(row) = rows.next()? {
        let text: String = row.get(0)?;
        // One that cannot be read is told of by what asks for it.
        if let Ok(record) = serde_json::from_str(&text) {
            note(transaction, &record, None)?;
        }
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::{RunOrigin, RunOutcome};
    use super::*;

    pub(in crate::catalog) fn record(
        id: u8,
        status: RunStatus,
        started: i64,
        ended: Option<i64>,
    ) -> RunRecord {
        let at = |second| Timestamp::from_second(second).unwrap();
        let counts = Counts { read: 10, changed: 3, ..Counts::default() };
        RunRecord {
            id: RunId([id; 16]),
            kind: RunKind::Backup,
            repository: None,
            machine: Some("web01".parse().unwrap()),
            replica: None,
            started: at(started),
            origin: RunOrigin::default(),
            outcome: RunOutcome { ended: ended.map(at), counts, ..RunOutcome::open(status) },
        }
    }

    fn only(history: &History) -> RunFacts {
        let mut all = history.run_facts().unwrap();
        assert_eq!(all.len(), 1);
        all.remove(0)
    }

    #[test]
    fn a_run_counts_once_however_often_its_record_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let history = History::open(folder.path()).unwrap();
        for status in [RunStatus::Queued, RunStatus::Running] {
            history.put(&record(1, status, 100, None)).unwrap();
            let facts = only(&history);
            assert_eq!((facts.status, facts.completed, facts.success), (status, 0, None));
        }
        for _ in 0..3 {
            history.put(&record(1, RunStatus::Completed, 100, Some(107))).unwrap();
        }
        let facts = only(&history);
        assert_eq!((facts.completed, facts.total.read, facts.total_ms), (1, 10, 7000));
        assert_eq!(facts.success.unwrap().as_second(), 107);
        assert_eq!(facts.durations(), [Duration::from_secs(7)]);
    }

    #[test]
    fn failures_are_counted_until_a_run_does_all() {
        let folder = tempfile::tempdir().unwrap();
        let history = History::open(folder.path()).unwrap();
        history.put(&record(1, RunStatus::Completed, 100, Some(110))).unwrap();
        history.put(&record(2, RunStatus::Failed, 200, Some(201))).unwrap();
        history.put(&record(3, RunStatus::Incomplete, 300, Some(301))).unwrap();
        let facts = only(&history);
        assert_eq!((facts.failures, facts.failed, facts.incomplete), (2, 1, 1));
        assert_eq!(facts.success.unwrap().as_second(), 110);
        history.put(&record(4, RunStatus::Skipped, 400, Some(401))).unwrap();
        let facts = only(&history);
        assert_eq!((facts.failures, facts.success.unwrap().as_second()), (0, 401));
    }

    #[test]
    fn an_older_run_that_turns_out_to_be_cut_off_does_not_hide_the_last_one() {
        let folder = tempfile::tempdir().unwrap();
        let history = History::open(folder.path()).unwrap();
        history.put(&record(1, RunStatus::Running, 100, None)).unwrap();
        history.put(&record(2, RunStatus::Completed, 200, Some(210))).unwrap();
        history.put(&record(1, RunStatus::Failed, 100, Some(300))).unwrap();
        let facts = only(&history);
        assert_eq!((facts.run, facts.status), (RunId([2; 16]), RunStatus::Completed));
        assert_eq!((facts.completed, facts.failed), (1, 1));
    }

    #[test]
    fn runs_from_before_are_taken_in() {
        let folder = tempfile::tempdir().unwrap();
        let history = History::open(folder.path()).unwrap();
        history.put(&record(1, RunStatus::Completed, 100, Some(110))).unwrap();
        history.put(&record(2, RunStatus::Failed, 200, Some(201))).unwrap();
        let kept = only(&history);
        history
            .database
            .write(|transaction| {
                transaction.execute_batch("DROP TABLE run_facts; DROP INDEX backup_by_machine;")?;
                migrate(transaction)
            })
            .unwrap();
        assert_eq!(only(&history), kept);
    }
}

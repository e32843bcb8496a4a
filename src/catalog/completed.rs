//! Backups and replications that did all.

use super::{CatalogError, History};
use crate::units::{Name, PointId};
use jiff::Timestamp;
use rusqlite::Row;

/// A backup or replication that did all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompletedRun {
    /// The machine.
    pub machine: Name,
    /// The replica, of a replication.
    pub replica: Option<Name>,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// The point that it made or used.
    pub point: PointId,
}

/// A row of: machine, replica, start, end, point. One without all of them tells nothing.
fn completed(row: &Row<'_>) -> rusqlite::Result<Option<CompletedRun>> {
    let text = |column: usize| row.get::<_, Option<String>>(column);
    let (machine, replica, point) = (text(0)?, text(1)?, text(4)?);
    let time = |text: Option<String>| text.and_then(|text| text.parse::<Timestamp>().ok());
    let (started, ended) = (time(text(2)?), time(text(3)?));
    let made = || {
        Some(CompletedRun {
            machine: machine?.parse().ok()?,
            replica: replica.map(|name| name.parse()).transpose().ok()?,
            started: started?,
            ended: ended?,
            point: point?.parse().ok()?,
        })
    };
    Ok(made())
}

impl History {
    /// Backups and replications that began at or after an instant and did all, the newest first, at
    /// most `limit`.
    ///
    /// # Errors
    /// When the database fails.
    pub fn completed_since(
        &self,
        since: Timestamp,
        limit: usize,
    ) -> Result<Vec<CompletedRun>, CatalogError> {
        self.database.read(|connection| {
            let mut find = connection.prepare_cached(
                "SELECT machine, replica, started, record ->> '$.ended', record ->> '$.point'
                 FROM run WHERE started >= ?1 AND kind IN ('backup', 'replicate')
                 AND record ->> '$.status' = 'completed' ORDER BY started DESC LIMIT ?2",
            )?;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let rows = find.query_map((format!("{since:.9}"), limit), completed)?;
            rows.filter_map(Result::transpose).collect()
        })
    }

    /// Bytes that changed in the points of a machine that backups made which began after `since`.
    ///
    /// # Errors
    /// When the database fails.
    pub fn bytes_changed(&self, machine: &Name, since: Timestamp) -> Result<u64, CatalogError> {
        self.database.read(|connection| {
            let mut sum = connection.prepare_cached(
                "SELECT coalesce(sum(record ->> '$.bytes_changed'), 0) FROM run
                 WHERE kind = 'backup' AND machine = ?1 AND started > ?2
                 AND record ->> '$.status' = 'completed'",
            )?;
            let sum: i64 =
                sum.query_row((machine.as_str(), format!("{since:.9}")), |row| row.get(0))?;
            Ok(u64::try_from(sum).unwrap_or(0))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::facts::tests::record;
    use super::super::{RunOutcome, RunRecord, RunStatus};
    use super::*;

    #[test]
    fn bytes_changed_are_those_of_backups_after_an_instant() {
        let folder = tempfile::tempdir().unwrap();
        let history = History::open(folder.path()).unwrap();
        history.put(&record(1, RunStatus::Completed, 100, Some(110))).unwrap();
        history.put(&record(2, RunStatus::Completed, 200, Some(210))).unwrap();
        history.put(&record(3, RunStatus::Completed, 300, Some(310))).unwrap();
        history.put(&record(4, RunStatus::Failed, 400, Some(410))).unwrap();
        let since = |second| {
            let at = Timestamp::from_second(second).unwrap();
            history.bytes_changed(&"web01".parse().unwrap(), at).unwrap()
        };
        assert_eq!((since(0), since(100), since(300)), (9, 6, 0));
    }

    #[test]
    fn those_that_made_or_used_a_point_are_told_the_newest_first() {
        let folder = tempfile::tempdir().unwrap();
        let history = History::open(folder.path()).unwrap();
        for (id, status) in [(1, RunStatus::Completed), (2, RunStatus::Failed)] {
            for second in [100, 200, 300] {
                let id = id * 10 + second as u8 / 100;
                let run = record(id, status, second, Some(second + 5));
                let point = Some(PointId([id; 32]));
                let outcome = RunOutcome { point, ..run.outcome.clone() };
                history.put(&RunRecord { outcome, ..run }).unwrap();
            }
        }
        // It says nothing of a point.
        history.put(&record(9, RunStatus::Completed, 400, Some(401))).unwrap();
        let since = Timestamp::from_second(200).unwrap();
        let found = history.completed_since(since, 9).unwrap();
        let starts: Vec<i64> = found.iter().map(|run| run.started.as_second()).collect();
        assert_eq!(starts, [300, 200]);
        assert_eq!(found[0].ended.as_second(), 305);
        assert_eq!(history.completed_since(since, 1).unwrap().len(), 0);
        assert_eq!(history.completed_since(since, 2).unwrap().len(), 1);
    }
}

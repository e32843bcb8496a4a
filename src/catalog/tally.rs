//! Runs that ended within a time, counted and listed.

use super::run::{RunKind, RunRecord, RunStatus};
use super::{CatalogError, History};
use crate::progress::Counts;
use jiff::Timestamp;

/// The longest that a run may have taken to be counted, in seconds: older ones are not looked at.
const RUN_SECONDS_MAX: i64 = 3 * 24 * 3600;

/// The runs that ended from one second on and before another.
const ENDED: &str = "started >= ?1 AND unixepoch(record ->> '$.ended') >= ?2
    AND unixepoch(record ->> '$.ended') < ?3";

/// What stands for the question marks of [`ENDED`].
fn bounds(from: Timestamp, to: Timestamp) -> (String, i64, i64) {
    let began = Timestamp::from_second(from.as_second().saturating_sub(RUN_SECONDS_MAX));
    // As the times of beginnings are kept.
    (format!("{:.9}", began.unwrap_or(Timestamp::MIN)), from.as_second(), to.as_second())
}

/// Runs of one kind that ended in one way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunCount {
    /// Which.
    pub kind: RunKind,
    /// How they ended.
    pub status: RunStatus,
    /// How many.
    pub runs: u64,
    /// What they read, stored and wrote together.
    pub counts: Counts,
}

impl History {
    /// Counts the runs that ended at or after `from` and before `to`.
    ///
    /// # Errors
    /// When the database fails, or holds what this program never writes.
    pub fn count_ended(
        &self,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<RunCount>, CatalogError> {
        let rows: Vec<(String, u64, Counts)> = self.database.read(|connection| {
            let sum = |what: &str| format!("sum(coalesce(record ->> '$.bytes_{what}', 0))");
            let (read, stored, written) = (sum("read"), sum("stored"), sum("written"));
            let mut count = connection.prepare_cached(&format!(
                "SELECT json_array(record ->> '$.kind', record ->> '$.status') AS what, count(*),
                    {read}, {stored}, {written}
                 FROM run WHERE {ENDED} GROUP BY what ORDER BY what"
            ))?;
            let rows = count.query_map(bounds(from, to), |row| {
                let (read, stored) = (row.get(2)?, row.get(3)?);
                let counts = Counts { read, stored, written: row.get(4)?, ..Counts::default() };
                Ok((row.get(0)?, row.get(1)?, counts))
            })?;
            rows.collect()
        })?;
        let parse = |(what, runs, counts): (String, u64, Counts)| {
            let (kind, status) = serde_json::from_str(&what).map_err(|e| self.damaged(&e))?;
            Ok(RunCount { kind, status, runs, counts })
        };
        rows.into_iter().map(parse).collect()
    }

    /// The runs that ended at or after `from` and before `to` and failed or did only a part, the
    /// newest first, at most `limit`.
    ///
    /// # Errors
    /// When the database fails, or holds what this program never writes.
    pub fn failed_between(
        &self,
        from: Timestamp,
        to: Timestamp,
        limit: u32,
    ) -> Result<Vec<RunRecord>, CatalogError> {
        self.ended_between("record ->> '$.status' IN ('failed', 'incomplete')", from, to, limit)
    }

    /// The verifications that ended at or after `from` and before `to`, the newest first, at most
    /// `limit`.
    ///
    /// # Errors
    /// When the database fails, or holds what this program never writes.
    pub fn verified_between(
        &self,
        from: Timestamp,
        to: Timestamp,
        limit: u32,
    ) -> Result<Vec<RunRecord>, CatalogError> {
        self.ended_between("kind = 'verify'", from, to, limit)
    }

    fn ended_between(
        &self,
        which: &str,
        from: Timestamp,
        to: Timestamp,
        limit: u32,
    ) -> Result<Vec<RunRecord>, CatalogError> {
        let texts: Vec<String> = self.database.read(|connection| {
            let mut find = connection.prepare_cached(&format!(
                "SELECT record FROM run WHERE {ENDED} AND {which} ORDER BY started DESC LIMIT {limit}"
            ))?;
            find.query_map(bounds(from, to), |row| row.get(0))?.collect()
        })?;
        let records = texts.iter().map(|text| serde_json::from_str(text));
        records.collect::<Result<_, _>>().map_err(|error| self.damaged(&error))
    }
}

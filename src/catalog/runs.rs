//! The runs of the history, as people and programs ask for them.

use super::run::{RunKind, RunRecord, RunStatus};
use super::{CatalogError, History};
use crate::units::{Name, RunId};
use jiff::Timestamp;
use rusqlite::types::Value;
use rusqlite::{OptionalExtension, params_from_iter};

/// Which runs are asked for: those that fit all that is given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunFilter {
    /// Of this kind.
    pub kind: Option<RunKind>,
    /// Of this machine.
    pub machine: Option<Name>,
    /// Of this replica.
    pub replica: Option<Name>,
    /// That ended, or did not yet, in this way.
    pub status: Option<RunStatus>,
    /// That began at or after this instant.
    pub since: Option<Timestamp>,
    /// That began before this instant.
    pub before: Option<Timestamp>,
}

impl RunFilter {
    /// The condition and what stands for its question marks.
    fn condition(&self) -> (String, Vec<Value>) {
        let text = |name: &Option<Name>| name.as_ref().map(|name| name.as_str().to_owned());
        let time = |at: Option<Timestamp>| at.map(|at| format!("{at:.9}"));
        let parts = [
            ("kind = ?", self.kind.map(|kind| kind.word())),
            ("machine = ?", text(&self.machine)),
            ("replica = ?", text(&self.replica)),
            ("record ->> '$.status' = ?", self.status.map(|status| status.word().to_owned())),
            ("started >= ?", time(self.since)),
            ("started < ?", time(self.before)),
        ];
        let mut condition = "1".to_owned();
        let mut values = Vec::new();
        for (part, value) in parts {
            if let Some(value) = value {
                condition += &format!(" AND {part}");
                values.push(Value::Text(value));
            }
        }
        (condition, values)
    }
}

impl History {
    /// Runs that fit, the newest first, at most `limit`.
    ///
    /// # Errors
    /// When the database fails.
    pub fn runs(&self, filter: &RunFilter, limit: usize) -> Result<Vec<RunRecord>, CatalogError> {
        let (condition, mut values) = filter.condition();
        values.push(Value::Integer(i64::try_from(limit).unwrap_or(i64::MAX)));
        let texts: Vec<String> = self.database.read(|connection| {
            let sql = format!(
                "SELECT record FROM run WHERE {condition} ORDER BY started DESC, id LIMIT ?"
            );
            let mut find = connection.prepare_cached(&sql)?;
            let rows = find.query_map(params_from_iter(values), |row| row.get(0))?;
            rows.collect()
        })?;
        let records = texts.iter().map(|text| serde_json::from_str(text));
        records.collect::<Result<_, _>>().map_err(|error| self.damaged(&error))
    }

    /// One run.
    ///
    /// # Errors
    /// When the database fails.
    pub fn run(&self, id: RunId) -> Result<Option<RunRecord>, CatalogError> {
        let text: Option<String> = self.database.read(|connection| {
            let mut find = connection.prepare_cached("SELECT record FROM run WHERE id = ?1")?;
            find.query_row([&id.0[..]], |row| row.get(0)).optional()
        })?;
        text.map(|text| serde_json::from_str(&text).map_err(|e| self.damaged(&e))).transpose()
    }

    /// Ids of runs that begin with `digits`, at most `limit`.
    ///
    /// # Errors
    /// When the database fails.
    pub fn runs_called(&self, digits: &str, limit: usize) -> Result<Vec<RunId>, CatalogError> {
        let found: Vec<Vec<u8>> = self.database.read(|connection| {
            let mut find = connection.prepare_cached(
                "SELECT id FROM run WHERE lower(hex(id)) LIKE ?1 || '%' ORDER BY started DESC
                 LIMIT ?2",
            )?;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let rows = find.query_map((digits.to_lowercase(), limit), |row| row.get(0))?;
            rows.collect()
        })?;
        Ok(found.into_iter().filter_map(|id| Some(RunId(id.try_into().ok()?))).collect())
    }

    /// Runs that did not end, the oldest first.
    ///
    /// # Errors
    /// When the database fails.
    pub fn unfinished(&self) -> Result<Vec<RunRecord>, CatalogError> {
        let texts: Vec<String> = self.database.read(|connection| {
            let mut find = connection.prepare_cached(
                "SELECT record FROM run WHERE record ->> '$.status' IN ('queued', 'running')
                 ORDER BY started",
            )?;
            let rows = find.query_map([], |row| row.get(0))?;
            rows.collect()
        })?;
        let records = texts.iter().map(|text| serde_json::from_str(text));
        records.collect::<Result<_, _>>().map_err(|error| self.damaged(&error))
    }
}

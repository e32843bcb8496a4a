//! What is kept from running by itself, until somebody lets it go on.

use super::{CatalogError, History};
use jiff::Timestamp;
use rusqlite::params;

/// Keeps what belongs to a subject from running by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pause {
    /// A machine, a replica or a repository, as the tasks name it, or everything.
    pub subject: String,
    /// Why, in the words of who did it.
    pub note: Option<String>,
    /// When it ends by itself.
    pub until: Option<Timestamp>,
    /// Since when.
    pub since: Timestamp,
    /// Who did it.
    pub by: String,
}

impl History {
    /// All pauses, also those whose time is over, sorted by subject.
    ///
    /// # Errors
    /// When the database fails.
    pub fn pauses(&self) -> Result<Vec<Pause>, CatalogError> {
        self.database.read(|connection| {
            let mut find = connection.prepare_cached(
                "SELECT subject, note, until, since, who FROM pause ORDER BY subject",
            )?;
            let instant = |seconds: i64| Timestamp::from_second(seconds).unwrap_or_default();
            let rows = find.query_map([], |row| {
                Ok(Pause {
                    subject: row.get(0)?,
                    note: row.get(1)?,
                    until: row.get::<_, Option<i64>>(2)?.map(instant),
                    since: instant(row.get(3)?),
                    by: row.get(4)?,
                })
            })?;
            rows.collect()
        })
    }

    /// Writes a pause, in place of one of the same subject.
    ///
    /// # Errors
    /// When the database fails.
    pub fn put_pause(&self, pause: &Pause) -> Result<(), CatalogError> {
        self.database.write(|transaction| {
            transaction.execute(
                "INSERT OR REPLACE INTO pause VALUES (?1, ?2, ?3, ?4, ?5)",
                params![
                    pause.subject,
                    pause.note,
                    pause.until.map(Timestamp::as_second),
                    pause.since.as_second(),
                    pause.by
                ],
            )
        })?;
        Ok(())
    }

    /// Removes the pause of a subject. Tells whether there was one.
    ///
    /// # Errors
    /// When the database fails.
    pub fn remove_pause(&self, subject: &str) -> Result<bool, CatalogError> {
        let removed = self.database.write(|transaction| {
            transaction.execute("DELETE FROM pause WHERE subject = ?1", [subject])
        })?;
        Ok(removed > 0)
    }
}

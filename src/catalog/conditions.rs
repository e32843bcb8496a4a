//! What is wrong now and who was told of it: kept over restarts, so that nothing is told twice.

use super::{CatalogError, History};
use crate::units::NotificationId;
use jiff::Timestamp;
use rusqlite::{OptionalExtension, Transaction, params};

pub(super) const MIGRATION: &str = "
    CREATE TABLE condition (
        key TEXT NOT NULL PRIMARY KEY, record TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE outbox (
        place INTEGER PRIMARY KEY AUTOINCREMENT, channel TEXT NOT NULL, id BLOB NOT NULL,
        created INTEGER NOT NULL, message TEXT NOT NULL
    ) STRICT;
    CREATE INDEX outbox_by_channel ON outbox (channel, place);
    CREATE TABLE channel (
        name TEXT NOT NULL PRIMARY KEY, failures INTEGER NOT NULL DEFAULT 0, next INTEGER,
        delivered INTEGER NOT NULL DEFAULT 0, last_delivered INTEGER,
        dropped INTEGER NOT NULL DEFAULT 0, given_up INTEGER NOT NULL DEFAULT 0, last_error TEXT
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE reported (
        one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1), day TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
";

/// A message for one channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxMessage {
    /// The channel.
    pub channel: String,
    /// Its identity, which is the same for all channels and attempts.
    pub id: NotificationId,
    /// The message, as JSON.
    pub message: String,
}

/// What becomes durable at once: conditions, and what is to be told of them.
#[derive(Debug, Default)]
pub struct Told<'a> {
    /// Conditions by their keys, as JSON; `None`: it is removed.
    pub conditions: &'a [(String, Option<String>)],
    /// What is to be told.
    pub messages: &'a [OutboxMessage],
    /// The day of the daily report, where this is one.
    pub reported: Option<jiff::civil::Date>,
}

impl History {
    /// Notes conditions and puts messages into the outbox, all or nothing. No channel keeps more
    /// than `waiting_max` messages: the oldest make room, and are counted.
    ///
    /// # Errors
    /// When the database fails.
    pub fn tell(
        &self,
        told: &Told<'_>,
        now: Timestamp,
        waiting_max: u32,
    ) -> Result<(), CatalogError> {
        self.database.write(|transaction| {
            for (key, record) in told.conditions {
                note_condition(transaction, key, record.as_deref())?;
            }
            for message in told.messages {
                put_message(transaction, message, now, waiting_max)?;
            }
            if let Some(day) = told.reported {
                let mark = "INSERT OR REPLACE INTO reported VALUES (1, ?1)";
                transaction.execute(mark, [day.to_string()])?;
            }
            Ok(())
        })
    }

    /// All conditions, as JSON.
    ///
    /// # Errors
    /// When the database fails.
    pub fn conditions(&self) -> Result<Vec<String>, CatalogError> {
        self.database.read(|connection| {
            let mut all = connection.prepare_cached("SELECT record FROM condition ORDER BY key")?;
            all.query_map([], |row| row.get(0))?.collect()
        })
    }

    /// The day of the last daily report.
    ///
    /// # Errors
    /// When the database fails, or holds what this program never writes.
    pub fn reported(&self) -> Result<Option<jiff::civil::Date>, CatalogError> {
        let day: Option<String> = self.database.read(|connection| {
            connection.query_row("SELECT day FROM reported", [], |row| row.get(0)).optional()
        })?;
        let parse = |text: String| {
            text.parse().map_err(|error: jiff::Error| CatalogError::Damaged {
                path: self.database.path().to_owned(),
                reason: format!("the day of a report: {error}"),
            })
        };
        day.map(parse).transpose()
    }
}

fn note_condition(
    transaction: &Transaction<'_>,
    key: &str,
    record: Option<&str>,
) -> rusqlite::Result<()> {
    match record {
        Some(record) => transaction
            .prepare_cached("INSERT OR REPLACE INTO condition VALUES (?1, ?2)")?
            .execute([key, record])?,
        None => {
            transaction.prepare_cached("DELETE FROM condition WHERE key = ?1")?.execute([key])?
        }
    };
    Ok(())
}

fn put_message(
    transaction: &Transaction<'_>,
    message: &OutboxMessage,
    now: Timestamp,
    waiting_max: u32,
) -> rusqlite::Result<()> {
    let OutboxMessage { channel, id, message } = message;
    transaction.execute(
        "INSERT INTO outbox (channel, id, created, message) VALUES (?1, ?2, ?3, ?4)",
        params![channel, &id.0[..], now.as_second(), message],
    )?;
    let dropped = transaction.execute(
        "DELETE FROM outbox WHERE channel = ?1 AND place <= (SELECT place FROM outbox
         WHERE channel = ?1 ORDER BY place DESC LIMIT 1 OFFSET ?2)",
        params![channel, waiting_max],
    )?;
    transaction.execute(
        "INSERT INTO channel (name, dropped) VALUES (?1, ?2)
         ON CONFLICT DO UPDATE SET dropped = dropped + excluded.dropped",
        params![channel, dropped],
    )?;
    Ok(())
}

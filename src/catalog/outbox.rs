//! The outbox: messages that wait for a channel to take them, and how each channel does.

use super::{CatalogError, History};
use crate::units::NotificationId;
use jiff::Timestamp;
use rusqlite::{OptionalExtension, Row, params};

/// A message that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingMessage {
    /// Its place in the outbox.
    pub place: i64,
    /// Its identity.
    pub id: NotificationId,
    /// When it was made.
    pub created: Timestamp,
    /// The message, as JSON.
    pub message: String,
}

/// How a channel does.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ChannelRecord {
    /// Attempts that failed since the last one that did not.
    pub failures: u32,
    /// When the next attempt may be made; `None`: at once.
    pub next: Option<Timestamp>,
    /// Messages that it took.
    pub delivered: u64,
    /// When it took the last one.
    pub last_delivered: Option<Timestamp>,
    /// Messages that newer ones displaced.
    pub dropped: u64,
    /// Messages that were tried for too long.
    pub given_up: u64,
    /// Why the last attempt failed, or what it did not reach.
    pub last_error: Option<String>,
    /// Messages that wait.
    pub waiting: u64,
}

/// What became of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt<'a> {
    /// The channel took the message; with what it could not do.
    Delivered {
        /// Who it did not reach, for example.
        note: Option<&'a str>,
    },
    /// It will be tried again.
    Failed {
        /// Why.
        reason: &'a str,
        /// When the next attempt may be made.
        next: Timestamp,
    },
    /// It was tried for too long.
    GivenUp {
        /// Why the last attempt failed.
        reason: &'a str,
        /// When the next message may be tried.
        next: Timestamp,
    },
}

const RECORD: &str = "
    SELECT failures, next, delivered, last_delivered, dropped, given_up, last_error,
        (SELECT count(*) FROM outbox WHERE channel = name)
    FROM channel WHERE name = ?1";

impl History {
    /// The oldest message that waits for a channel.
    ///
    /// # Errors
    /// When the database fails.
    pub fn next_message(&self, channel: &str) -> Result<Option<WaitingMessage>, CatalogError> {
        self.database.read(|connection| {
            let mut oldest = connection.prepare_cached(
                "SELECT place, id, created, message FROM outbox
                 WHERE channel = ?1 ORDER BY place LIMIT 1",
            )?;
            oldest
                .query_row([channel], |row| {
                    Ok(WaitingMessage {
                        place: row.get(0)?,
                        id: NotificationId(row.get(1)?),
                        created: instant(row, 2)?.unwrap_or_default(),
                        message: row.get(3)?,
                    })
                })
                .optional()
        })
    }

    /// Notes what became of an attempt to hand a message to a channel. A message that was
    /// delivered or given up leaves the outbox.
    ///
    /// # Errors
    /// When the database fails.
    pub fn note_attempt(
        &self,
        channel: &str,
        place: i64,
        attempt: Attempt<'_>,
        now: Timestamp,
    ) -> Result<(), CatalogError> {
        self.database.write(|transaction| {
            transaction.execute("INSERT OR IGNORE INTO channel (name) VALUES (?1)", [channel])?;
            if !matches!(attempt, Attempt::Failed { .. }) {
                transaction.execute("DELETE FROM outbox WHERE place = ?1", [place])?;
            }
            match attempt {
                Attempt::Delivered { note } => transaction.execute(
                    "UPDATE channel SET failures = 0, next = NULL, delivered = delivered + 1,
                     last_delivered = ?2, last_error = ?3 WHERE name = ?1",
                    params![channel, now.as_second(), note],
                ),
                Attempt::Failed { reason, next } => transaction.execute(
                    "UPDATE channel SET failures = failures + 1, next = ?2, last_error = ?3
                     WHERE name = ?1",
                    params![channel, next.as_second(), reason],
                ),
                Attempt::GivenUp { reason, next } => transaction.execute(
                    "UPDATE channel SET failures = failures + 1, next = ?2, last_error = ?3,
                     given_up = given_up + 1 WHERE name = ?1",
                    params![channel, next.as_second(), reason],
                ),
            }
        })?;
        Ok(())
    }

    /// How a channel does.
    ///
    /// # Errors
    /// When the database fails.
    pub fn channel(&self, channel: &str) -> Result<ChannelRecord, CatalogError> {
        let found = self.database.read(|connection| {
            let mut record = connection.prepare_cached(RECORD)?;
            record.query_row([channel], channel_record).optional()
        })?;
        Ok(found.unwrap_or_default())
    }

    /// Forgets channels that are not in `kept`, with what waits for them. Returns how many
    /// messages waited.
    ///
    /// # Errors
    /// When the database fails.
    pub fn keep_channels(&self, kept: &[String]) -> Result<u64, CatalogError> {
        self.database.write(|transaction| {
            let names: Vec<String> = transaction
                .prepare("SELECT name FROM channel")?
                .query_map([], |row| row.get(0))?
                .collect::<rusqlite::Result<_>>()?;
            let mut waited = 0;
            for name in names.iter().filter(|name| !kept.contains(name)) {
                waited += transaction.execute("DELETE FROM outbox WHERE channel = ?1", [name])?;
                transaction.execute("DELETE FROM channel WHERE name = ?1", [name])?;
            }
            Ok(waited as u64)
        })
    }
}

fn channel_record(row: &Row<'_>) -> rusqlite::Result<ChannelRecord> {
    Ok(ChannelRecord {
        failures: row.get(0)?,
        next: instant(row, 1)?,
        delivered: row.get(2)?,
        last_delivered: instant(row, 3)?,
        dropped: row.get(4)?,
        given_up: row.get(5)?,
        last_error: row.get(6)?,
        waiting: row.get(7)?,
    })
}

/// An instant that is kept in whole seconds; one that no clock can show is none.
fn instant(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Timestamp>> {
    let second: Option<i64> = row.get(column)?;
    Ok(second.and_then(|second| Timestamp::from_second(second).ok()))
}

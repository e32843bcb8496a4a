//! The slots of scheduled tasks: for each instant that a task was due at, which run it led to, or
//! why it led to none.
//!
//! A slot is claimed in the transaction that writes its run as queued, and only above all that is
//! known of its task. So it is claimed once, whoever decides, and whenever a decision is cut off.

use super::history::put_run;
use super::{CatalogError, History, RunRecord};
use crate::units::RunId;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use std::collections::BTreeMap;

/// Slots of `aside` other than 0 lay in a future that did not come: the clock had gone ahead.
pub(super) const MIGRATION: &str = "
    CREATE TABLE slot (
        task TEXT NOT NULL, aside INTEGER NOT NULL, due INTEGER NOT NULL, last INTEGER NOT NULL,
        count INTEGER NOT NULL, attempt INTEGER NOT NULL, run BLOB, reason TEXT,
        noted INTEGER NOT NULL,
        PRIMARY KEY (task, aside, due),
        CHECK ((run IS NULL) = (reason IS NOT NULL))
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE scheduled (
        task TEXT NOT NULL PRIMARY KEY, schedule TEXT NOT NULL, since INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE pause (
        subject TEXT NOT NULL PRIMARY KEY, note TEXT, until INTEGER, since INTEGER NOT NULL,
        who TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE clock (
        id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1), record TEXT NOT NULL
    ) STRICT;
";

/// What is written in one transaction. Its parts are written in this order.
#[derive(Debug, Default)]
pub struct SlotBatch {
    /// When, by the clock.
    pub noted: Timestamp,
    /// Slots after this instant lie in a future that did not come, and count no more.
    pub aside_after: Option<Timestamp>,
    /// Tasks that are scheduled no more.
    pub gone: Vec<String>,
    /// Tasks that are scheduled now, or in another way.
    pub scheduled: Vec<ScheduledSince>,
    /// Slots that lead to no run.
    pub skips: Vec<SlotSkip>,
    /// Slots that lead to a run.
    pub claims: Vec<SlotClaim>,
    /// How the clock stands.
    pub clock: Option<String>,
}

/// Since when a task is scheduled. Nothing before it is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduledSince {
    /// The task.
    pub task: String,
    /// How it is scheduled, in words.
    pub schedule: String,
    /// Since when.
    pub since: Timestamp,
}

/// Slots of a task that lead to no run. All instants of slots are whole seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotSkip {
    /// The task.
    pub task: String,
    /// The first of them.
    pub first: Timestamp,
    /// The last of them.
    pub last: Timestamp,
    /// How many.
    pub count: u64,
    /// Why.
    pub reason: String,
}

/// A slot that leads to a run.
#[derive(Debug, Clone, PartialEq)]
pub struct SlotClaim {
    /// The task.
    pub task: String,
    /// The slot.
    pub due: Timestamp,
    /// 1, or one more than the attempt that failed before.
    pub attempt: u32,
    /// The run, queued.
    pub record: RunRecord,
}

/// What is known of all tasks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SlotFacts {
    /// Of each task that was scheduled.
    pub tasks: BTreeMap<String, TaskFacts>,
    /// How the clock stood.
    pub clock: Option<String>,
    /// The latest instant of any run, where `clock` is not known.
    pub latest: Option<Timestamp>,
}

/// What is known of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskFacts {
    /// How it was scheduled, in words.
    pub schedule: String,
    /// Since when.
    pub since: Timestamp,
    /// The last slot of which it is known what it led to.
    pub highest: Option<Timestamp>,
    /// The last slot that led to a run, and its attempt.
    pub claimed: Option<(Timestamp, u32)>,
}

/// A slot, or several in a row that led to no run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotLine {
    /// The first of them.
    pub first: Timestamp,
    /// The last of them.
    pub last: Timestamp,
    /// How many.
    pub count: u64,
    /// What became of them.
    pub fate: SlotFate,
}

/// What became of a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SlotFate {
    /// It led to this run; `attempt` is its number.
    Run {
        /// The last run.
        run: RunId,
        /// Its attempt, from 1.
        attempt: u32,
    },
    /// It led to none.
    Skipped(
        /// Why.
        String,
    ),
}

impl History {
    /// Writes what was decided about slots. Of each claim, tells whether it was granted: a slot that
    /// was claimed or skipped before is not, nor one before it, and its run is not written.
    ///
    /// # Errors
    /// When the database fails; then nothing is written.
    pub fn write_slots(&self, batch: &SlotBatch) -> Result<Vec<bool>, CatalogError> {
        let json = |claim: &SlotClaim| serde_json::to_string(&claim.record);
        let records: Vec<String> = batch
            .claims
            .iter()
            .map(json)
            .collect::<Result<_, _>>()
            .map_err(|error| self.damaged(&error))?;
        self.database.write(|transaction| {
            if let Some(after) = batch.aside_after {
                set_aside(transaction, after, batch.noted)?;
            }
            for task in &batch.gone {
                transaction.execute("DELETE FROM scheduled WHERE task = ?1", [task])?;
            }
            for it in &batch.scheduled {
                transaction.execute(
                    "INSERT OR REPLACE INTO scheduled VALUES (?1, ?2, ?3)",
                    params![it.task, it.schedule, it.since.as_second()],
                )?;
            }
            for skip in &batch.skips {
                put_skip(transaction, skip, batch.noted)?;
            }
            let mut granted = Vec::with_capacity(batch.claims.len());
            for (claim, json) in batch.claims.iter().zip(&records) {
                granted.push(put_claim(transaction, claim, json, batch.noted)?);
            }
            if let Some(clock) = &batch.clock {
                transaction.execute("INSERT OR REPLACE INTO clock VALUES (1, ?1)", [clock])?;
            }
            Ok(granted)
        })
    }

    /// What is known of all tasks, for one that decides anew.
    ///
    /// # Errors
    /// When the database fails.
    pub fn slot_facts(&self) -> Result<SlotFacts, CatalogError> {
        let (tasks, clock) = self.database.read(|connection| {
            let clock = connection
                .query_row("SELECT record FROM clock", [], |row| row.get::<_, String>(0))
                .optional()?;
            Ok((task_facts(connection)?, clock))
        })?;
        let latest = if clock.is_none() { self.latest_instant()? } else { None };
        Ok(SlotFacts { tasks, clock, latest })
    }

    /// What became of the last slots of a task, the newest first, at most `limit` lines.
    ///
    /// # Errors
    /// When the database fails.
    pub fn slots(&self, task: &str, limit: usize) -> Result<Vec<SlotLine>, CatalogError> {
        self.database.read(|connection| {
            let mut find = connection.prepare_cached(
                "SELECT due, last, count, run, attempt, reason FROM slot
                 WHERE task = ?1 AND aside = 0 ORDER BY due DESC LIMIT ?2",
            )?;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let rows = find.query_map(params![task, limit], |row| {
                let run: Option<[u8; 16]> = row.get(3)?;
                let fate = match run {
                    Some(run) => SlotFate::Run { run: RunId(run), attempt: row.get(4)? },
                    None => SlotFate::Skipped(row.get(5)?),
                };
                let (first, last) = (instant(row.get(0)?), instant(row.get(1)?));
                Ok(SlotLine { first, last, count: row.get(2)?, fate })
            })?;
            rows.collect()
        })
    }

    /// Forgets slots before `before`, but of each task what keeps a slot from being claimed twice.
    /// Returns how many rows went.
    ///
    /// # Errors
    /// When the database fails.
    pub fn prune_slots(&self, before: Timestamp) -> Result<usize, CatalogError> {
        self.database.write(|transaction| {
            transaction.execute(
                "DELETE FROM slot WHERE last < ?1 AND NOT (aside = 0 AND (
                     due = (SELECT max(due) FROM slot AS other
                            WHERE other.task = slot.task AND other.aside = 0)
                     OR due = (SELECT max(due) FROM slot AS other WHERE other.task = slot.task
                               AND other.aside = 0 AND other.run IS NOT NULL)))",
                [before.as_second()],
            )
        })
    }
}

fn instant(seconds: i64) -> Timestamp {
    // Only instants are written to it; another value is as good as none.
    Timestamp::from_second(seconds).unwrap_or_default()
}

fn set_aside(
    transaction: &Transaction<'_>,
    after: Timestamp,
    noted: Timestamp,
) -> rusqlite::Result<()> {
    // Two of them at the same instant: the later one counts.
    transaction.execute(
        "UPDATE OR REPLACE slot SET aside = ?1 WHERE aside = 0 AND due > ?2",
        params![noted.as_millisecond().max(1), after.as_second()],
    )?;
    transaction
        .execute("UPDATE slot SET last = ?1 WHERE aside = 0 AND last > ?1", [after.as_second()])?;
    transaction.execute("UPDATE scheduled SET since = ?1 WHERE since > ?1", [after.as_second()])?;
    Ok(())
}

/// The last slot of a task of which it is known what it led to.
fn highest(connection: &Connection, task: &str) -> rusqlite::Result<Option<i64>> {
    let mut find = connection.prepare_cached(
        "SELECT last FROM slot WHERE task = ?1 AND aside = 0 ORDER BY due DESC LIMIT 1",
    )?;
    find.query_row([task], |row| row.get(0)).optional()
}

fn put_skip(
    transaction: &Transaction<'_>,
    skip: &SlotSkip,
    noted: Timestamp,
) -> rusqlite::Result<()> {
    let (first, last) = (skip.first.as_second(), skip.last.as_second());
    if highest(transaction, &skip.task)?.is_some_and(|highest| highest >= first) {
        return Ok(());
    }
    // What is skipped for the same reason as what came before is told in one row.
    let mut extend = transaction.prepare_cached(
        "UPDATE slot SET last = ?2, count = count + ?3, noted = ?4
         WHERE task = ?1 AND aside = 0 AND reason = ?5
         AND due = (SELECT max(due) FROM slot WHERE task = ?1 AND aside = 0)",
    )?;
    let noted = noted.as_second();
    if extend.execute(params![skip.task, last, skip.count, noted, skip.reason])? > 0 {
        return Ok(());
    }
    let mut put = transaction
        .prepare_cached("INSERT INTO slot VALUES (?1, 0, ?2, ?3, ?4, 0, NULL, ?5, ?6)")?;
    put.execute(params![skip.task, first, last, skip.count, skip.reason, noted])?;
    Ok(())
}

/// Claims a slot and writes its run, unless the slot is taken.
fn put_claim(
    transaction: &Transaction<'_>,
    claim: &SlotClaim,
    json: &str,
    noted: Timestamp,
) -> rusqlite::Result<bool> {
    let due = claim.due.as_second();
    let run = &claim.record.id.0[..];
    let is_granted = if claim.attempt > 1 {
        let mut again = transaction.prepare_cached(
            "UPDATE slot SET attempt = ?3, run = ?4, noted = ?5
             WHERE task = ?1 AND aside = 0 AND due = ?2 AND attempt = ?3 - 1 AND run IS NOT NULL",
        )?;
        again.execute(params![claim.task, due, claim.attempt, run, noted.as_second()])? == 1
    } else if highest(transaction, &claim.task)?.is_some_and(|highest| highest >= due) {
        false
    } else {
        let mut put = transaction
            .prepare_cached("INSERT INTO slot VALUES (?1, 0, ?2, ?2, 1, 1, ?3, NULL, ?4)")?;
        put.execute(params![claim.task, due, run, noted.as_second()])? == 1
    };
    if is_granted {
        put_run(transaction, &claim.record, json)?;
    }
    Ok(is_granted)
}

fn task_facts(connection: &Connection) -> rusqlite::Result<BTreeMap<String, TaskFacts>> {
    let mut claimed = connection.prepare_cached(
        "SELECT due, attempt FROM slot WHERE task = ?1 AND aside = 0 AND run IS NOT NULL
         ORDER BY due DESC LIMIT 1",
    )?;
    let mut find = connection.prepare_cached("SELECT task, schedule, since FROM scheduled")?;
    let mut rows = find.query([])?;
    let mut tasks = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let task: String = row.get(0)?;
        let last_run =
            claimed.query_row([&task], |row| Ok((instant(row.get(0)?), row.get(1)?))).optional()?;
        let facts = TaskFacts {
            schedule: row.get(1)?,
            since: instant(row.get(2)?),
            highest: highest(connection, &task)?.map(instant),
            claimed: last_run,
        };
        tasks.insert(task, facts);
    }
    Ok(tasks)
}

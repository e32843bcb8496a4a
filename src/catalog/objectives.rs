//! How well objectives were met over time.
//!
//! Invariant: the intervals of a subject do not overlap and leave no gap between its first and the
//! end of its last one, which is the open one. Closed ones are never empty.

use super::{CatalogError, History};
use crate::units::Name;
use jiff::Timestamp;
use rusqlite::{OptionalExtension, Row, Transaction, params};
use std::collections::BTreeMap;

pub(super) const MIGRATION: &str = "
    CREATE TABLE objective (
        machine TEXT NOT NULL, replica TEXT NOT NULL, from_ms INTEGER NOT NULL,
        to_ms INTEGER NOT NULL, state TEXT NOT NULL,
        PRIMARY KEY (machine, replica, from_ms)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX objective_by_end ON objective (to_ms);
    CREATE TABLE objective_open (
        machine TEXT NOT NULL, replica TEXT NOT NULL, from_ms INTEGER NOT NULL,
        to_ms INTEGER NOT NULL, state TEXT NOT NULL,
        PRIMARY KEY (machine, replica)
    ) STRICT, WITHOUT ROWID;
";

/// How well an objective is met.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum ObjectiveState {
    /// It is met.
    Met,
    /// It is met, and will not be for long.
    AtRisk,
    /// It is not met.
    Missed,
    /// It cannot be told.
    Unknown,
}

impl ObjectiveState {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Met, Self::AtRisk, Self::Missed, Self::Unknown];

    /// In a word, as it stands in the history.
    pub fn word(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::AtRisk => "at-risk",
            Self::Missed => "missed",
            Self::Unknown => "unknown",
        }
    }
}

/// What has an objective: a machine, or a replica of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectiveSubject {
    /// The machine.
    pub machine: Name,
    /// The replica, where it is about one.
    pub replica: Option<Name>,
}

impl ObjectiveSubject {
    fn key(&self) -> (&str, &str) {
        (self.machine.as_str(), self.replica.as_ref().map_or("", Name::as_str))
    }
}

/// For how long an objective was how well met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectiveInterval {
    /// Whose objective.
    pub subject: ObjectiveSubject,
    /// How well it was met.
    pub state: ObjectiveState,
    /// From this instant, in whole milliseconds.
    pub from: Timestamp,
    /// Until this instant.
    pub to: Timestamp,
}

/// How much of a time an objective was met, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Compliance {
    /// It was met, or at risk.
    pub met_ms: u64,
    /// It was missed.
    pub missed_ms: u64,
    /// It could not be told.
    pub unknown_ms: u64,
}

impl Compliance {
    /// How much of the time of which it can be told it was met; `None`: it can be told of none.
    pub fn percent(&self) -> Option<f64> {
        let told = self.met_ms.saturating_add(self.missed_ms);
        (told > 0).then(|| self.met_ms as f64 * 100.0 / told as f64)
    }
}

impl History {
    /// Notes how well objectives were met. Each interval goes on where the one before it of the
    /// same subject ended: what lies between is noted as unknown, and what it has in common with
    /// that one counts as before. One that ends earlier takes back all that was noted of later
    /// times: the clock that told of them was wrong.
    ///
    /// # Errors
    /// When the database fails; then none is noted.
    pub fn note_objectives(&self, intervals: &[ObjectiveInterval]) -> Result<(), CatalogError> {
        self.database.write(|transaction| intervals.iter().try_for_each(|it| note(transaction, it)))
    }

    /// The interval of each subject that was noted last.
    ///
    /// # Errors
    /// When the database fails.
    pub fn open_objectives(
        &self,
    ) -> Result<BTreeMap<ObjectiveSubject, ObjectiveInterval>, CatalogError> {
        let all: Vec<ObjectiveInterval> = self.database.read(|connection| {
            let mut all = connection.prepare_cached(
                "SELECT machine, replica, state, from_ms, to_ms FROM objective_open",
            )?;
            let rows = all.query_map([], interval)?;
            rows.collect()
        })?;
        Ok(all.into_iter().map(|it| (it.subject.clone(), it)).collect())
    }

    /// The intervals of a subject that have a part between two instants, the oldest first.
    ///
    /// # Errors
    /// When the database fails.
    pub fn objective_intervals(
        &self,
        subject: &ObjectiveSubject,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<ObjectiveInterval>, CatalogError> {
        let (machine, replica) = subject.key();
        self.database.read(|connection| {
            let mut find = connection.prepare_cached(
                "SELECT machine, replica, state, from_ms, to_ms FROM
                 (SELECT * FROM objective UNION ALL SELECT * FROM objective_open)
                 WHERE machine = ?1 AND replica = ?2 AND from_ms < ?4 AND to_ms > ?3
                 ORDER BY from_ms",
            )?;
            let key = params![machine, replica, from.as_millisecond(), to.as_millisecond()];
            let rows = find.query_map(key, interval)?;
            rows.collect()
        })
    }

    /// How much of the time between two instants each objective was met.
    ///
    /// # Errors
    /// When the database fails.
    pub fn compliance(
        &self,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<BTreeMap<ObjectiveSubject, Compliance>, CatalogError> {
        let rows: Vec<ObjectiveInterval> = self.database.read(|connection| {
            // The sums are given as if all of a state were one interval.
            let mut sums = connection.prepare_cached(
                "SELECT machine, replica, state, 0, sum(min(to_ms, ?2) - max(from_ms, ?1)) FROM
                 (SELECT * FROM objective WHERE to_ms > ?1
                  UNION ALL SELECT * FROM objective_open WHERE to_ms > ?1)
                 WHERE from_ms < ?2 GROUP BY machine, replica, state",
            )?;
            let span = [from.as_millisecond(), to.as_millisecond()];
            let rows = sums.query_map(span, interval)?;
            rows.collect()
        })?;
        let mut all: BTreeMap<ObjectiveSubject, Compliance> = BTreeMap::new();
        for row in rows {
            let ms = u64::try_from(row.to.as_millisecond()).unwrap_or(0);
            let found = all.entry(row.subject).or_default();
            match row.state {
                ObjectiveState::Met | ObjectiveState::AtRisk => found.met_ms += ms,
                ObjectiveState::Missed => found.missed_ms += ms,
                ObjectiveState::Unknown => found.unknown_ms += ms,
            }
        }
        Ok(all)
    }

    /// Forgets intervals that ended before an instant. Returns how many.
    ///
    /// # Errors
    /// When the database fails; then none is forgotten.
    pub fn prune_objectives(&self, before: Timestamp) -> Result<usize, CatalogError> {
        let before = before.as_millisecond();
        self.database.write(|transaction| {
            let closed = transaction.execute("DELETE FROM objective WHERE to_ms < ?1", [before])?;
            // Of what is no longer in the settings.
            let open =
                transaction.execute("DELETE FROM objective_open WHERE to_ms < ?1", [before])?;
            Ok(closed + open)
        })
    }
}

/// Notes one interval.
fn note(transaction: &Transaction<'_>, it: &ObjectiveInterval) -> rusqlite::Result<()> {
    let (from, to) = (it.from.as_millisecond(), it.to.as_millisecond());
    if from > to {
        return Ok(());
    }
    let Some(mut open) = open_of(transaction, &it.subject)? else {
        return put_open(transaction, it);
    };
    if to < open.to.as_millisecond() {
        open = take_back(transaction, &it.subject, it.to, open)?;
    }
    // What was noted before counts.
    let from = it.from.max(open.to);
    if from > open.to {
        close(transaction, &open)?;
        let state = ObjectiveState::Unknown;
        open = ObjectiveInterval { state, from: open.to, to: from, ..open };
    }
    if open.state != it.state {
        close(transaction, &open)?;
        open = ObjectiveInterval { state: it.state, from, ..open };
    }
    put_open(transaction, &ObjectiveInterval { to: it.to, ..open })
}

/// Takes back what was noted of times after `at`. Returns what is open then.
fn take_back(
    transaction: &Transaction<'_>,
    subject: &ObjectiveSubject,
    at: Timestamp,
    open: ObjectiveInterval,
) -> rusqlite::Result<ObjectiveInterval> {
    if open.from <= at {
        return Ok(ObjectiveInterval { to: at, ..open });
    }
    let (machine, replica) = subject.key();
    let key = params![machine, replica, at.as_millisecond()];
    transaction.execute(
        "DELETE FROM objective WHERE machine = ?1 AND replica = ?2 AND from_ms >= ?3",
        key,
    )?;
    transaction.execute(
        "UPDATE objective SET to_ms = ?3 WHERE machine = ?1 AND replica = ?2 AND to_ms > ?3",
        key,
    )?;
    Ok(ObjectiveInterval { from: at, to: at, ..open })
}

fn open_of(
    transaction: &Transaction<'_>,
    subject: &ObjectiveSubject,
) -> rusqlite::Result<Option<ObjectiveInterval>> {
    let mut find = transaction.prepare_cached(
        "SELECT machine, replica, state, from_ms, to_ms FROM objective_open
         WHERE machine = ?1 AND replica = ?2",
    )?;
    find.query_row(subject.key(), interval).optional()
}

fn put_open(transaction: &Transaction<'_>, it: &ObjectiveInterval) -> rusqlite::Result<()> {
    put(transaction, "INSERT OR REPLACE INTO objective_open VALUES (?1, ?2, ?3, ?4, ?5)", it)
}

fn close(transaction: &Transaction<'_>, it: &ObjectiveInterval) -> rusqlite::Result<()> {
    if it.from >= it.to {
        return Ok(());
    }
    put(transaction, "INSERT OR REPLACE INTO objective VALUES (?1, ?2, ?3, ?4, ?5)", it)
}

fn put(transaction: &Transaction<'_>, sql: &str, it: &ObjectiveInterval) -> rusqlite::Result<()> {
    let (machine, replica) = it.subject.key();
    let (from, to) = (it.from.as_millisecond(), it.to.as_millisecond());
    let mut put = transaction.prepare_cached(sql)?;
    put.execute(params![machine, replica, from, to, it.state.word()])?;
    Ok(())
}

/// A row of: machine, replica, state, from, to.
fn interval(row: &Row<'_>) -> rusqlite::Result<ObjectiveInterval> {
    let text = |column: usize| row.get::<_, String>(column);
    let wrong = |column, text: String| {
        rusqlite::Error::InvalidColumnType(column, text, rusqlite::types::Type::Text)
    };
    let name = |column, text: String| text.parse::<Name>().map_err(|_| wrong(column, text));
    let replica = Some(text(1)?).filter(|text| !text.is_empty());
    let subject = ObjectiveSubject {
        machine: name(0, text(0)?)?,
        replica: replica.map(|text| name(1, text)).transpose()?,
    };
    let word = text(2)?;
    let state = ObjectiveState::ALL.into_iter().find(|state| state.word() == word);
    let state = state.ok_or_else(|| wrong(2, word))?;
    let time = |column: usize| {
        let ms: i64 = row.get(column)?;
        Timestamp::from_millisecond(ms).map_err(|_| wrong(column, ms.to_string()))
    };
    Ok(ObjectiveInterval { subject, state, from: time(3)?, to: time(4)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn subject() -> ObjectiveSubject {
        ObjectiveSubject { machine: "web01".parse().unwrap(), replica: None }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// What each second was, as the contract of [`History::note_objectives`] says.
    fn apply(seconds: &mut Vec<ObjectiveState>, note: (ObjectiveState, i64, i64)) {
        let (state, from, to) = (note.0, note.1 as usize, note.2 as usize);
        if from > to {
            return;
        }
        seconds.truncate(to);
        while seconds.len() < from {
            seconds.push(ObjectiveState::Unknown);
        }
        while seconds.len() < to {
            seconds.push(state);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn intervals_cover_the_time_once_and_compliance_is_what_a_count_of_seconds_says(
            first in 0_i64..5,
            notes in prop::collection::vec((0_usize..4, 0_i64..60, 0_i64..20), 1..25),
            span in (0_i64..80, 0_i64..80),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let history = History::open(folder.path()).unwrap();
            // Nothing is known of the time before the first note; it begins the record.
            let mut seconds = vec![ObjectiveState::Unknown; first as usize];
            let mut notes: Vec<_> = notes
                .into_iter()
                .map(|(state, from, more)| (ObjectiveState::ALL[state], from, from + more))
                .collect();
            notes.insert(0, (ObjectiveState::Met, first, first));
            for &(state, from, to) in &notes {
                let note = ObjectiveInterval { subject: subject(), state, from: at(from), to: at(to) };
                history.note_objectives(&[note]).unwrap();
                // A clock may go back to before the record began.
                apply(&mut seconds, (state, from.max(first.min(to)), to));
            }
            let all = history.objective_intervals(&subject(), at(-9), at(999)).unwrap();
            for (a, b) in all.iter().zip(all.iter().skip(1)) {
                prop_assert_eq!(a.to, b.from);
            }
            let (from, to) = (span.0.min(span.1), span.0.max(span.1));
            let found = history.compliance(at(from), at(to)).unwrap();
            let found = found.get(&subject()).copied().unwrap_or_default();
            let begun = all.first().map_or(0, |it| it.from.as_second());
            let of = |fits: fn(ObjectiveState) -> bool| {
                let counted = (from.max(begun)..to.min(seconds.len() as i64))
                    .filter(|second| fits(seconds[*second as usize]));
                counted.count() as u64 * 1000
            };
            let met = of(|it| matches!(it, ObjectiveState::Met | ObjectiveState::AtRisk));
            let missed = of(|it| it == ObjectiveState::Missed);
            prop_assert_eq!((found.met_ms, found.missed_ms), (met, missed));
            prop_assert_eq!(found.unknown_ms, of(|it| it == ObjectiveState::Unknown));
        }
    }

    #[test]
    fn what_ended_long_ago_is_forgotten_and_the_rest_stays() {
        let folder = tempfile::tempdir().unwrap();
        let history = History::open(folder.path()).unwrap();
        let note = |state, from, to| ObjectiveInterval {
            subject: subject(),
            state,
            from: at(from),
            to: at(to),
        };
        let notes = [note(ObjectiveState::Met, 0, 100), note(ObjectiveState::Missed, 100, 200)];
        history.note_objectives(&notes).unwrap();
        history.note_objectives(&[note(ObjectiveState::Met, 200, 300)]).unwrap();
        assert_eq!(history.prune_objectives(at(150)).unwrap(), 1);
        let all = history.objective_intervals(&subject(), at(0), at(999)).unwrap();
        assert_eq!(all, [notes[1].clone(), note(ObjectiveState::Met, 200, 300)]);
        let percent = history.compliance(at(150), at(250)).unwrap()[&subject()].percent();
        assert_eq!(percent, Some(50.0));
        assert_eq!(Compliance::default().percent(), None);
    }
}

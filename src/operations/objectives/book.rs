//! Judging objectives again and again, and noting for how long each was how well met.

use super::facts::{LiveFacts, objective_lines};
use super::gap::{Durable, account};
use crate::catalog::{
    CatalogError, Compliance, History, ObjectiveInterval, ObjectiveState, ObjectiveSubject,
    RunFilter, RunKind, RunStatus,
};
use crate::operations::StatusReport;
use crate::report::ObjectiveLine;
use crate::settings::Settings;
use crate::units::PointId;
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;
use std::time::Duration;

/// So often the history is told that nothing changed.
const NOTED_EVERY: SignedDuration = SignedDuration::from_secs(60);
/// Nobody looked for so long: what was in between is found out from what is known of points.
const GAP: SignedDuration = SignedDuration::from_mins(5);
/// Runs that are looked at to find that out, of each subject.
const GAP_RUNS_MAX: usize = 10_000;
/// A run does not take longer.
const RUN_MAX: SignedDuration = SignedDuration::from_hours(48);
/// For how long it is told how well objectives were met.
const COMPLIANCE_OF: SignedDuration = SignedDuration::from_hours(30 * 24);
const COMPLIANCE_EVERY: SignedDuration = SignedDuration::from_mins(5);

/// How well all objectives are met, and were.
#[derive(Debug)]
pub struct ObjectiveBook {
    open: BTreeMap<ObjectiveSubject, ObjectiveInterval>,
    compliance: BTreeMap<ObjectiveSubject, Compliance>,
    compliance_at: Option<Timestamp>,
    noted: Option<Timestamp>,
    lines: Vec<ObjectiveLine>,
    changed: Vec<(ObjectiveState, ObjectiveLine)>,
}

impl ObjectiveBook {
    /// Opens the book that is in the history.
    ///
    /// # Errors
    /// When the history fails.
    pub fn open(history: &History) -> Result<Self, CatalogError> {
        Ok(Self {
            open: history.open_objectives()?,
            compliance: BTreeMap::new(),
            compliance_at: None,
            noted: None,
            lines: Vec::new(),
            changed: Vec::new(),
        })
    }

    /// Judges all objectives and notes in the history how well they are met. `report` may be some
    /// minutes old. The lines are in the order of the report, machines first.
    ///
    /// # Errors
    /// When the history fails; what was judged is in [`ObjectiveBook::lines`] all the same.
    pub fn evaluate(
        &mut self,
        history: &History,
        settings: &Settings,
        report: &StatusReport,
        live: &LiveFacts,
        now: Timestamp,
    ) -> Result<Vec<ObjectiveLine>, CatalogError> {
        let judge = |book: &Self| {
            objective_lines(settings, report, live, &book.open, &book.compliance, now)
        };
        self.lines = judge(self);
        self.changed = self.find_changed();
        let is_due = self.noted.is_none_or(|noted| now.duration_since(noted).abs() >= NOTED_EVERY);
        if is_due || !self.changed.is_empty() {
            self.note(history, live, now)?;
            self.noted = Some(now);
            self.lines = judge(self);
        }
        let is_old = |at: Timestamp| now.duration_since(at).abs() >= COMPLIANCE_EVERY;
        if self.compliance_at.is_none_or(is_old) {
            let from = now.saturating_add(-COMPLIANCE_OF).unwrap_or(Timestamp::MIN);
            self.compliance = history.compliance(from, now)?;
            self.compliance_at = Some(now);
            self.lines = judge(self);
        }
        Ok(self.lines.clone())
    }

    /// How well all are met, as the last evaluation found.
    pub fn lines(&self) -> &[ObjectiveLine] {
        &self.lines
    }

    /// Those that the last evaluation found to be met in another way than the one before, with
    /// what they were before. Of new ones, which were unknown before, only those that are missed.
    pub fn changed(&self) -> &[(ObjectiveState, ObjectiveLine)] {
        &self.changed
    }

    fn find_changed(&self) -> Vec<(ObjectiveState, ObjectiveLine)> {
        let changed = self.lines.iter().filter_map(|line| {
            let before = self.open.get(&line.subject()).map(|open| open.state);
            let is_new = match before {
                Some(before) => before != line.state,
                None => line.state == ObjectiveState::Missed,
            };
            is_new.then(|| (before.unwrap_or(ObjectiveState::Unknown), line.clone()))
        });
        changed.collect()
    }

    fn note(
        &mut self,
        history: &History,
        live: &LiveFacts,
        now: Timestamp,
    ) -> Result<(), CatalogError> {
        let mut intervals = Vec::new();
        for line in &self.lines {
            let subject = line.subject();
            let last = self.open.get(&subject).map_or(now, |open| open.to);
            let is_gap = now.duration_since(last) > GAP;
            if is_gap && live.clock_doubt.is_none() && line.state != ObjectiveState::Unknown {
                intervals.extend(fill(history, line, &subject, last, now)?);
            }
            // What is noted already is not noted again: this one begins where that ends.
            let to = now;
            let from = if is_gap { now } else { last.min(now) };
            intervals.push(ObjectiveInterval { subject, state: line.state, from, to });
        }
        history.note_objectives(&intervals)?;
        self.open = history.open_objectives()?;
        Ok(())
    }
}

/// What an objective was while nobody looked.
fn fill(
    history: &History,
    line: &ObjectiveLine,
    subject: &ObjectiveSubject,
    from: Timestamp,
    to: Timestamp,
) -> Result<Vec<ObjectiveInterval>, CatalogError> {
    let rpo = Duration::from_secs(line.rpo_s);
    let mut points = durable(history, subject, rpo, from)?;
    // What is there now was there at the latest now, and holds what it holds.
    let lag = line.lag_s.and_then(|lag| i64::try_from(lag).ok());
    let newest = lag.and_then(|lag| to.saturating_add(SignedDuration::from_secs(-lag)).ok());
    let is_known = |instant: Timestamp| points.iter().any(|point| point.instant >= instant);
    if let Some(instant) = newest.filter(|instant| !is_known(*instant)) {
        points.push(Durable { instant, since: instant });
    }
    let parts = account(&points, rpo, from, to);
    let interval =
        |(state, from, to)| ObjectiveInterval { subject: subject.clone(), state, from, to };
    Ok(parts.into_iter().map(interval).collect())
}

/// The points of which the history tells that matter after `from`: a backup's began to be held
/// when it began, and was there when it ended.
fn durable(
    history: &History,
    subject: &ObjectiveSubject,
    rpo: Duration,
    from: Timestamp,
) -> Result<Vec<Durable>, CatalogError> {
    let rpo = SignedDuration::try_from(rpo).unwrap_or(SignedDuration::MAX);
    let since = from.saturating_add(-rpo).and_then(|at| at.saturating_add(-RUN_MAX));
    let since = since.unwrap_or(Timestamp::MIN);
    let runs = |kind, replica| {
        let machine = Some(subject.machine.clone());
        let (status, since) = (Some(RunStatus::Completed), Some(since));
        let filter = RunFilter { kind: Some(kind), machine, replica, status, since, before: None };
        history.runs(&filter, GAP_RUNS_MAX)
    };
    let backups = runs(RunKind::Backup, None)?;
    let ended = |started: Timestamp, ended: Option<Timestamp>| ended.unwrap_or(started);
    let Some(replica) = &subject.replica else {
        let durable = backups.iter().map(|run| Durable {
            instant: run.started,
            since: ended(run.started, run.outcome.ended),
        });
        return Ok(durable.collect());
    };
    let instants: BTreeMap<PointId, Timestamp> =
        backups.iter().filter_map(|run| Some((run.outcome.point?, run.started))).collect();
    let replicated = runs(RunKind::Replicate, Some(replica.clone()))?;
    let durable = replicated.iter().filter_map(|run| {
        // A point that no backup is known of is a capture that the run itself made.
        let instant = instants.get(&run.outcome.point?).copied().unwrap_or(run.started);
        Some(Durable { instant, since: ended(run.started, run.outcome.ended) })
    });
    Ok(durable.collect())
}

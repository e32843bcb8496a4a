//! Judging objectives again and again, and noting for how long each was how well met.

use super::facts::{LiveFacts, Noted, objective_lines};
use super::gap::{Durable, account};
use crate::catalog::{
    CatalogError, CompletedRun, Compliance, History, ObjectiveInterval, ObjectiveState,
    ObjectiveSubject,
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
/// Runs that are looked at to find that out, of all together.
const GAP_RUNS_MAX: usize = 200_000;
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
            let (open, compliance) = (&book.open, &book.compliance);
            let noted = Noted { open, compliance, first_seen: Some(now) };
            objective_lines(settings, report, live, &noted, now)
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
        let last = |line: &ObjectiveLine| self.open.get(&line.subject()).map_or(now, |it| it.to);
        let is_gap = |line: &&ObjectiveLine| now.duration_since(last(line)) > GAP;
        let gaps = self.lines.iter().filter(is_gap);
        let past = match (gaps.clone().map(last).min(), &live.clock_doubt) {
            (Some(from), None) => {
                let rpo_s = gaps.map(|line| line.rpo_s).max().unwrap_or(0);
                Some(Past::look(history, from, rpo_s)?)
            }
            _ => None,
        };
        let mut intervals = Vec::new();
        for line in &self.lines {
            let told = line.state != ObjectiveState::Unknown;
            let is_gap = is_gap(&line);
            if let Some(past) = past.as_ref().filter(|_| is_gap && told) {
                intervals.extend(past.fill(line, last(line), now));
            }
            // This one begins where the last one ends.
            let from = if is_gap { now } else { last(line).min(now) };
            let subject = line.subject();
            intervals.push(ObjectiveInterval { subject, state: line.state, from, to: now });
        }
        history.note_objectives(&intervals)?;
        self.open = history.open_objectives()?;
        Ok(())
    }
}

/// What is known of the time in which nobody looked: the backups and replications of it.
struct Past {
    /// Of each machine, its backups; of each replica, its replications.
    runs: BTreeMap<ObjectiveSubject, Vec<CompletedRun>>,
    /// When backups began that made points.
    instants: BTreeMap<PointId, Timestamp>,
}

impl Past {
    /// All that matters to objectives of at most `rpo_s` after `from`.
    fn look(history: &History, from: Timestamp, rpo_s: u64) -> Result<Self, CatalogError> {
        let rpo = SignedDuration::from_secs(i64::try_from(rpo_s).unwrap_or(i64::MAX / 2));
        let since = from.saturating_add(-rpo).and_then(|at| at.saturating_add(-RUN_MAX));
        let all = history.completed_since(since.unwrap_or(Timestamp::MIN), GAP_RUNS_MAX)?;
        let backups = all.iter().filter(|run| run.replica.is_none());
        let instants = backups.map(|run| (run.point, run.started)).collect();
        let mut runs: BTreeMap<ObjectiveSubject, Vec<CompletedRun>> = BTreeMap::new();
        for run in all {
            let (machine, replica) = (run.machine.clone(), run.replica.clone());
            runs.entry(ObjectiveSubject { machine, replica }).or_default().push(run);
        }
        Ok(Self { runs, instants })
    }

    /// What an objective was between two instants.
    fn fill(&self, line: &ObjectiveLine, from: Timestamp, to: Timestamp) -> Vec<ObjectiveInterval> {
        let subject = line.subject();
        let mut points = self.durable(&subject);
        let lag = line.lag_s.and_then(|lag| i64::try_from(lag).ok());
        let newest = lag.and_then(|lag| to.saturating_add(SignedDuration::from_secs(-lag)).ok());
        let is_known = |instant: Timestamp| points.iter().any(|point| point.since >= instant);
        if let Some(instant) = newest.filter(|instant| !is_known(*instant)) {
            // No run tells of it. A replica has it now, and who knows since when.
            let since = if subject.replica.is_some() { to } else { instant };
            points.push(Durable { instant, since });
        }
        let parts = account(&points, Duration::from_secs(line.rpo_s), from, to);
        let interval = |(state, from, to)| {
            let subject = subject.clone();
            ObjectiveInterval { subject, state, from, to }
        };
        parts.into_iter().map(interval).collect()
    }

    /// Points that were there: a backup's holds about the instant at which the backup began.
    fn durable(&self, subject: &ObjectiveSubject) -> Vec<Durable> {
        let runs = self.runs.get(subject).map(Vec::as_slice).unwrap_or_default();
        let durable = runs.iter().map(|run| Durable {
            // A point that no backup is known of is a capture that the run itself made.
            instant: self.instants.get(&run.point).copied().unwrap_or(run.started),
            since: run.ended,
        });
        durable.collect()
    }
}

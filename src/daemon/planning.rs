//! What is due begins: the planner decides, the ledger makes it true, the queue gets it.
//!
//! The order of durable steps: the slot is claimed and its run is `queued`, in one transaction; the
//! run begins, which is durable before it does anything; what it makes is durable; its end is.
//! Whatever a death leaves between two of them is found by [`Core::restore`].

use super::check::key;
use super::core::{Core, Entry};
use super::events::Subject;
use super::plan::{Plan, Work, backup_key};
use super::problems::Concern;
use super::runs::queued;
use super::service::{Outcome, SLEEP_MAX, TRY_AGAIN, Word};
use super::{DaemonError, lock};
use crate::catalog::{
    CatalogError, Pause, RunKind, RunOrigin, RunRecord, RunStatus, SlotFacts, SlotFate,
};
use crate::fsio::boot_id;
use crate::operations::{Task, known, with_reasons};
use crate::report::{DueLine, EventKind, PauseLine};
use crate::schedule::{
    Decision, Ended, Now, Outcome as EndedAs, Planner, SUBJECT_ALL, Skip, Start, Upcoming, record,
};
use crate::settings::Settings;
use crate::sys;
use crate::units::{Name, RunId};
use jiff::Timestamp;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// How many ticks of the planner follow each other at most.
const TICKS_MAX: usize = 8;
/// How many rows of a task's slots are looked at for its last run.
const SLOTS_LOOKED_AT: usize = 16;

/// The planner, and what its tasks do.
#[derive(Debug)]
pub(super) struct Planning {
    planner: Planner,
    works: HashMap<String, Work>,
    /// When it is asked next, by the time since the system started.
    pub wake: Duration,
}

impl Planning {
    /// Goes on where the history ends.
    ///
    /// # Errors
    /// When the history fails, or the settings cannot be planned by.
    pub fn new(core: &Core, plan: Plan) -> Result<Self, CatalogError> {
        let now = Now::read();
        let facts = core.history.slot_facts()?;
        let mut planner = Planner::new(now, boot_id().as_deref(), plan.tasks, &facts);
        planner.set_pauses(&core.history.pauses()?);
        let mut planning = Self { planner, works: plan.works, wake: Duration::ZERO };
        planning.restore(core, &facts, now)?;
        Ok(planning)
    }

    /// What the daemon before did not come to: runs that are to be tried again, and replicas that
    /// were not told of a backup.
    fn restore(&mut self, core: &Core, facts: &SlotFacts, now: Now) -> Result<(), CatalogError> {
        for (key, task) in &facts.tasks {
            if task.claimed.is_none() || !self.works.contains_key(key) {
                continue;
            }
            let lines = core.history.slots(key, SLOTS_LOOKED_AT)?;
            let last = lines.iter().find_map(|line| match line.fate {
                SlotFate::Run { run, attempt } => Some((line.first, run, attempt)),
                SlotFate::Skipped(_) => None,
            });
            let Some((due, run, attempt)) = last else { continue };
            let outcome = core.history.run(run)?.map(|record| record.outcome);
            if outcome.is_some_and(|it| it.status == RunStatus::Failed && it.may_retry) {
                self.planner.restore_failed(key, due, attempt, now);
            }
        }
        let facts = core.history.run_facts()?;
        let last = |kind, machine: &Name, replica: Option<&Name>| {
            facts.iter().find(|it| {
                it.kind == kind
                    && it.machine.as_ref() == Some(machine)
                    && it.replica.as_ref() == replica
            })
        };
        for (machine, replica) in self.works.values().filter_map(Work::follows) {
            let backup = last(RunKind::Backup, machine, None).and_then(|it| it.success);
            let Some(made) = backup else { continue };
            let followed = last(RunKind::Replicate, machine, Some(replica));
            if followed.is_none_or(|it| it.started < made) {
                self.planner.trigger_after(&backup_key(machine), now);
            }
        }
        Ok(())
    }

    /// Somebody told something.
    pub fn hear(&mut self, word: Word, now: Now) {
        match word {
            Word::Queued(key) => self.planner.queued(&key),
            Word::Ended { key, due, attempt, outcome } => {
                let outcome = match outcome {
                    Outcome::Completed => EndedAs::Completed,
                    Outcome::Retryable => EndedAs::Retryable,
                    Outcome::Final => EndedAs::Final,
                };
                self.planner.ended(&key, &Ended { due, attempt, outcome }, now);
            }
        }
        self.wake = Duration::ZERO;
    }

    /// Other settings are in force.
    pub fn reload(&mut self, plan: Plan) {
        self.planner.reload(Now::read(), plan.tasks);
        self.works = plan.works;
        self.wake = Duration::ZERO;
    }

    pub fn set_pauses(&mut self, pauses: &[Pause]) {
        self.planner.set_pauses(pauses);
        self.wake = Duration::ZERO;
    }

    pub fn trust_clock(&mut self) {
        self.planner.trust_clock(Now::read());
        self.wake = Duration::ZERO;
    }

    /// Why the clock is not believed.
    pub fn doubt(&self) -> Option<String> {
        let doubt = self.planner.doubt()?;
        Some(format!(
            "the clock is in doubt: it showed {} and should have shown {}",
            doubt.found, doubt.expected
        ))
    }

    /// What runs next by itself, the next first.
    pub fn due_lines(&self) -> Vec<DueLine> {
        let doubt = self.doubt();
        let line = |upcoming: Upcoming| {
            let work = self.works.get(&upcoming.key)?;
            let held = upcoming.paused.map(|subject| match subject.as_str() {
                SUBJECT_ALL => "paused".to_owned(),
                _ => format!("paused: {subject}"),
            });
            let doubt = doubt.clone().filter(|_| work.task.kind() == RunKind::Prune);
            Some(DueLine { next: upcoming.start, held: held.or(doubt), ..work.due_line() })
        };
        let mut lines: Vec<DueLine> =
            self.planner.upcoming().into_iter().filter_map(line).collect();
        lines.sort_by(|a, b| {
            let key = |it: &DueLine| (it.next.is_none(), it.next);
            key(a).cmp(&key(b)).then_with(|| a.work.cmp(&b.work))
        });
        lines
    }

    /// Decides what is due now, and makes it true. Returns the runs that are to be queued.
    ///
    /// # Errors
    /// When that cannot be written; nothing of it counts then, and is decided again.
    pub fn decide(&mut self, core: &Core, settings: &Settings) -> Result<Vec<Entry>, DueError> {
        let now = Now::read();
        let mut decisions = self.planner.tick(now);
        self.wake = now.boot.saturating_add(self.planner.wake_after());
        let is_known = |works: &HashMap<String, Work>, it: &Decision| match it {
            Decision::Start(start) => works.contains_key(&start.key),
            _ => true,
        };
        // Planner and works come of one plan.
        decisions.retain(|it| is_known(&self.works, it));
        let (works, history) = (&self.works, &core.history);
        let written = ids(&decisions).map_err(DueError::Random).and_then(|mut ids| {
            let make = |start: &Start| {
                let task = &works[&start.key].task;
                let origin = RunOrigin {
                    trigger: start.trigger,
                    due: Some(start.due),
                    attempt: start.attempt,
                    ..RunOrigin::default()
                };
                let id = ids.pop().unwrap_or(RunId([0; 16]));
                queued(settings, id, task, origin, now.wall)
            };
            record(history, now.wall, &decisions, make).map_err(DueError::Catalog)
        });
        let recorded = match written {
            Ok(recorded) => recorded,
            Err(error) => {
                self.planner.undo(&decisions);
                return Err(error);
            }
        };
        tell(&decisions);
        for start in recorded.refused {
            tracing::warn!(task = start.key, "its slot of {} is taken already", start.due);
            self.planner.refused(&start.key);
        }
        let entry = |(start, record): (Start, RunRecord)| {
            Some(Entry::waiting(record, works.get(&start.key)?.task.clone()))
        };
        Ok(recorded.granted.into_iter().filter_map(entry).collect())
    }
}

/// Why what is due was not begun.
#[derive(Debug, thiserror::Error)]
pub(super) enum DueError {
    #[error("no random numbers can be had: {0}")]
    Random(std::io::Error),
    #[error(transparent)]
    Catalog(CatalogError),
}

/// An identity for each run that is to begin.
fn ids(decisions: &[Decision]) -> std::io::Result<Vec<RunId>> {
    let starts = decisions.iter().filter(|it| matches!(it, Decision::Start(_)));
    starts.map(|_| RunId::random()).collect()
}

fn tell(decisions: &[Decision]) {
    for decision in decisions {
        match decision {
            Decision::Skip(Skip { key, first, count: 1, reason, .. }) => {
                tracing::info!(task = key, "not run at {first}: {reason}");
            }
            Decision::Skip(Skip { key, first, last, count, reason, .. }) => {
                tracing::info!(
                    task = key,
                    "not run {count} times from {first} to {last}: {reason}"
                );
            }
            Decision::SetAside { after } => {
                tracing::warn!("the clock went back: what was due after {after} counts no more");
            }
            _ => {}
        }
    }
}

impl Core {
    /// Begins what is due, and hears of what ended. Returns how long that can wait until it is done
    /// again.
    pub fn see_to_what_is_due(self: &Arc<Self>, words: Vec<Word>) -> Duration {
        let mut guard = lock(&self.planning);
        let Some(planning) = guard.as_mut() else { return SLEEP_MAX };
        let now = Now::read();
        words.into_iter().for_each(|word| planning.hear(word, now));
        let settings = self.settings();
        // A tick decides only so much; more than a few in a row would keep all else waiting.
        for _ in 0..TICKS_MAX {
            if planning.wake > sys::boot_time() {
                break;
            }
            match planning.decide(self, &settings) {
                Ok(entries) => {
                    self.problems.clear(Concern::Schedule);
                    self.enqueue(entries);
                }
                Err(error) => {
                    let text = format!("what is due cannot be begun: {}", with_reasons(&error));
                    self.problems.set(Concern::Schedule, text);
                    planning.wake = sys::boot_time().saturating_add(TRY_AGAIN);
                }
            }
        }
        lock(&self.state).prune_held = planning.doubt();
        self.inbox.set_wake(planning.wake);
        planning.wake.saturating_sub(sys::boot_time())
    }

    /// Whether a run that failed is tried again by itself.
    pub fn is_retried(&self, task: &Task, record: &RunRecord) -> bool {
        let planning = lock(&self.planning);
        let work = key(task).zip(planning.as_ref()).and_then(|(key, it)| it.works.get(&key));
        let has_more = work.is_some_and(|work| record.origin.attempt <= work.retries);
        record.outcome.may_retry && record.origin.due.is_some() && has_more
    }

    /// What runs next by itself, the next first.
    pub fn due_lines(&self) -> Vec<DueLine> {
        lock(&self.planning).as_ref().map_or_else(Vec::new, Planning::due_lines)
    }

    /// Pauses `subject`.
    ///
    /// # Errors
    /// Unknown names; when the history fails.
    pub fn pause(&self, pause: &Pause) -> Result<(), DaemonError> {
        check_subject(&self.settings(), &pause.subject)?;
        if pause.until.is_some_and(|until| until <= Timestamp::now()) {
            let message = "the pause would be over already; name a later time".to_owned();
            return Err(DaemonError::Invalid(message));
        }
        self.history.put_pause(pause)?;
        tracing::info!(by = pause.by, "paused: {}", pause.subject);
        self.pauses_changed()
    }

    /// Lets it go on. Returns whether it was paused.
    ///
    /// # Errors
    /// When the history fails.
    pub fn resume(&self, subject: &str, by: &str) -> Result<bool, DaemonError> {
        let was_paused = self.history.remove_pause(subject)?;
        if was_paused {
            tracing::info!(by, "resumed: {subject}");
            self.pauses_changed()?;
        }
        Ok(was_paused)
    }

    fn pauses_changed(&self) -> Result<(), DaemonError> {
        let pauses = self.history.pauses()?;
        if let Some(planning) = lock(&self.planning).as_mut() {
            planning.set_pauses(&pauses);
        }
        let pauses = pauses.into_iter().map(pause_line).collect();
        self.events.push(Subject::default(), EventKind::Paused { pauses });
        self.inbox.poke();
        Ok(())
    }

    /// Believes the clock from now on.
    pub fn trust_clock(&self, by: &str) {
        tracing::info!(by, "the clock is believed from now on");
        if let Some(planning) = lock(&self.planning).as_mut() {
            planning.trust_clock();
        }
        self.inbox.poke();
    }
}

pub(super) fn pause_line(pause: Pause) -> PauseLine {
    let Pause { subject, note, until, since, by } = pause;
    PauseLine { subject, note, since, until, by }
}

/// Whether the settings know what is to be paused.
fn check_subject(settings: &Settings, subject: &str) -> Result<(), DaemonError> {
    let found = match subject.split_once(' ') {
        None if subject == SUBJECT_ALL => return Ok(()),
        Some(("machine", name)) => known(settings, "machine", &settings.machines, name).err(),
        Some(("replica", name)) => known(settings, "replica", &settings.replicas, name).err(),
        Some(("repository", name)) => {
            known(settings, "repository", &settings.repositories, name).err()
        }
        _ => {
            let subject: String = subject.chars().take(80).collect();
            return Err(DaemonError::Invalid(format!(
                "`{subject}` cannot be paused; say `all`, `machine NAME`, `replica NAME` or \
                 `repository NAME`"
            )));
        }
    };
    found.map_or(Ok(()), |error| Err(error.into()))
}

//! Runs come, wait, begin and are stopped.

use super::DaemonError;
use super::check::{check, key};
use super::core::{Core, Entry, State, Stopping, demand, is_prune, limits};
use super::problems::Concern;
use super::service::Word;
use super::work::Job;
use super::{events::Subject, lock};
use crate::catalog::{CatalogError, RunOrigin, RunOutcome, RunRecord, RunStatus, RunTrigger};
use crate::operations::{OperationError, Task};
use crate::progress::{Progress, StopReason};
use crate::report::{EventKind, ExitCode, LiveRun, Message, RunEnd, Summary};
use crate::settings::Settings;
use crate::store::StoreError;
use crate::units::{Name, RunId};
use jiff::Timestamp;
use std::sync::{Arc, MutexGuard};
use std::time::Instant;

/// How many runs may wait. What is due by itself is not counted: there is one of each task.
pub const WAITING_MAX: usize = 10_000;
/// How many lines one run may tell, besides its end.
const TOLD_MAX: usize = 10_000;

/// The record of a run that waits.
pub(super) fn queued(
    settings: &Settings,
    id: RunId,
    task: &Task,
    mut origin: RunOrigin,
    now: Timestamp,
) -> RunRecord {
    origin.task = serde_json::to_value(task).ok();
    let name = |text: &str| text.parse::<Name>().ok();
    let replica = match task {
        Task::Replicate { replica, .. } | Task::VerifyReplica { replica } => Some(replica.clone()),
        _ => None,
    };
    let machine = task.machine(settings).and_then(name);
    let repository =
        if machine.is_none() && replica.is_none() { name(task.subject()) } else { None };
    RunRecord {
        id,
        kind: task.kind(),
        repository,
        machine,
        replica,
        started: now,
        origin,
        outcome: RunOutcome::open(RunStatus::Queued),
    }
}

/// The record of a run that ended before it began.
fn unbegun(mut record: RunRecord, reason: String, exit: ExitCode) -> RunRecord {
    record.outcome = RunOutcome {
        ended: Some(Timestamp::now()),
        reason: Some(reason),
        exit: Some(exit.into()),
        ..RunOutcome::open(RunStatus::Failed)
    };
    record
}

impl Core {
    /// Takes a task on. When this returns, its record is durable.
    pub fn submit(self: &Arc<Self>, task: Task, by: &str) -> Result<RunId, DaemonError> {
        let settings = self.settings();
        check(&settings, &task)?;
        let id = RunId::random().map_err(|e| OperationError::Store(StoreError::Random(e)))?;
        self.reserve(&task)?;
        let origin = RunOrigin { by: Some(by.to_owned()), ..RunOrigin::default() };
        let record = queued(&settings, id, &task, origin, Timestamp::now());
        let written = self.history.put(&record);
        lock(&self.state).coming -= 1;
        written?;
        self.enqueue(vec![Entry::waiting(record, task)]);
        self.dispatch();
        Ok(id)
    }

    /// Whether one more may wait.
    fn reserve(&self, task: &Task) -> Result<(), DaemonError> {
        let mut state = lock(&self.state);
        if state.stopping != Stopping::No {
            return Err(DaemonError::Unavailable("the daemon is stopping".to_owned()));
        }
        if let (true, Some(why)) = (is_prune(task), &state.prune_held) {
            let message = format!(
                "nothing is pruned now, {why}; see to the clock, then run `afterimage daemon \
                 trust-clock`"
            );
            return Err(DaemonError::Conflict(message));
        }
        if state.queue.waiting_count() + state.coming >= WAITING_MAX {
            let message = format!("{WAITING_MAX} runs wait already");
            return Err(DaemonError::Unavailable(message));
        }
        state.coming += 1;
        Ok(())
    }

    /// Adds runs whose records are durable.
    pub fn enqueue(&self, entries: Vec<Entry>) {
        let settings = self.settings();
        let limits = limits(&settings);
        let now = self.now();
        for entry in entries {
            let (id, demand) = (entry.record.id, demand(&settings, &entry.task));
            let asked_for = entry.record.origin.trigger == RunTrigger::Manual;
            let word = key(&entry.task).filter(|_| asked_for).map(Word::Queued);
            let mut state = lock(&self.state);
            state.entries.insert(id, entry);
            state.queue.push(id, now, asked_for, demand);
            if let Some(live) = state.live(id, &limits) {
                // Before anybody can begin it, and tell that.
                self.events.push(Subject::from(&live), EventKind::Queued(live));
            }
            drop(state);
            self.inbox.put(word);
        }
    }

    /// Begins what may begin.
    pub fn dispatch(self: &Arc<Self>) {
        let settings = self.settings();
        let limits = limits(&settings);
        let mut state = lock(&self.state);
        if state.stopping != Stopping::No {
            return;
        }
        let State { queue, entries, prune_held, .. } = &mut *state;
        let may_begin = |run| {
            prune_held.is_none() || !entries.get(&run).is_some_and(|entry| is_prune(&entry.task))
        };
        let begun = queue.take(&limits, may_begin);
        let mut jobs = Vec::with_capacity(begun.len());
        for run in begun {
            let Some(entry) = entries.get_mut(&run) else { continue };
            let progress = Arc::new(Progress::of_run(run).limited(Arc::clone(&self.throttle)));
            entry.progress = Some(Arc::clone(&progress));
            (entry.since, entry.clock) = (Timestamp::now(), Instant::now());
            let (task, settings) = (entry.task.clone(), Arc::clone(&settings));
            jobs.push(Job { run, task, settings, progress });
        }
        drop(state);
        self.changed.notify_all();
        for job in jobs {
            self.start(job);
        }
    }

    fn start(self: &Arc<Self>, job: Job) {
        let (core, run) = (Arc::clone(self), job.run);
        // At most 15 bytes are shown.
        let name = format!("run {}", &run.to_string()[..8]);
        match std::thread::Builder::new().name(name).spawn(move || core.work(&job)) {
            Ok(_) => self.problems.clear(Concern::Threads),
            Err(error) => {
                let mut state = lock(&self.state);
                state.queue.put_back(run);
                if let Some(entry) = state.entries.get_mut(&run) {
                    entry.progress = None;
                }
                drop(state);
                self.problems.set(
                    Concern::Threads,
                    format!("no run can begin, a thread cannot be started: {error}"),
                );
            }
        }
    }

    /// Asks a run to stop.
    pub fn cancel(self: &Arc<Self>, id: RunId, by: &str) -> Result<(), DaemonError> {
        let state = lock(&self.state);
        let Some(entry) = state.entries.get(&id) else {
            drop(state);
            return Err(match self.history.run(id)? {
                Some(record) if record.outcome.status == RunStatus::Running => {
                    DaemonError::Conflict(format!(
                        "run {} is not the daemon's; stop it where it was begun",
                        id.short()
                    ))
                }
                Some(record) => DaemonError::Conflict(format!(
                    "run {} is {}; there is nothing to stop",
                    id.short(),
                    record.outcome.status.word()
                )),
                None => DaemonError::NotFound(format!(
                    "there is no run {}; `afterimage runs` lists them",
                    id.short()
                )),
            });
        };
        tracing::info!(run = %id, by, "asked to stop: {}", entry.task.describe());
        let text = format!("cancelled by {by}");
        if let Some(progress) = &entry.progress {
            progress.stop(StopReason { text, is_postponed: false });
            return Ok(());
        }
        self.end_waiting(state, id, format!("{text} before it began"), ExitCode::Interrupted);
        Ok(())
    }

    /// Ends a run that waits, with its record.
    pub fn end_waiting(
        &self,
        mut state: MutexGuard<'_, State>,
        id: RunId,
        reason: String,
        exit: ExitCode,
    ) {
        state.queue.remove(id);
        let Some(entry) = state.entries.remove(&id) else { return };
        drop(state);
        let record = unbegun(entry.record, reason.clone(), exit);
        let mut summary = summary(&record);
        summary.reason = Some(reason.clone());
        self.write_end(record.clone());
        let end = RunEnd { summary: Box::new(summary), exit, error: Some(reason) };
        self.tell_end(&record, &entry.task, end);
    }

    /// Writes how a run ended; if that fails, it is tried again from time to time.
    pub fn write_end(&self, record: RunRecord) {
        if let Err(error) = self.history.put(&record) {
            lock(&self.state).unwritten.push(record);
            self.history_failed(&error);
            self.inbox.poke();
        }
    }

    pub fn history_failed(&self, error: &CatalogError) {
        let text = format!("the history cannot be written: {error}");
        self.problems.set(Concern::History, text);
    }

    /// Writes what could not be written before. Returns whether nothing is left.
    pub fn write_again(&self) -> bool {
        loop {
            let Some(record) = lock(&self.state).unwritten.last().cloned() else {
                return true;
            };
            if let Err(error) = self.history.put(&record) {
                self.history_failed(&error);
                return false;
            }
            lock(&self.state).unwritten.retain(|it| it.id != record.id);
            self.problems.clear(Concern::History);
        }
    }

    /// All who wait for the end of a run hear of it.
    pub fn tell_end(&self, record: &RunRecord, task: &Task, end: RunEnd) {
        let subject = Subject {
            run: Some(record.id),
            machine: record.machine.clone(),
            replica: record.replica.clone(),
        };
        let status = end.summary.status.word();
        let work = task.describe();
        match &end.error {
            None => tracing::info!(run = %record.id, "{work}: {status}"),
            Some(error) => tracing::error!(run = %record.id, "{work}: {status}: {error}"),
        }
        self.events.push(subject, EventKind::Ended(end));
        self.inbox.put(key(task).map(|key| Word::ended(key, record)));
    }

    /// A run tells something meanwhile.
    pub fn tell(&self, run: RunId, message: Message) {
        let mut state = lock(&self.state);
        let Some(entry) = state.entries.get_mut(&run) else { return };
        entry.told += 1;
        let message = match entry.told.cmp(&TOLD_MAX) {
            std::cmp::Ordering::Less => message,
            std::cmp::Ordering::Equal => {
                let message = "more was found than is told here; its end says how much".to_owned();
                Message::Warning { message }
            }
            std::cmp::Ordering::Greater => return,
        };
        let subject = Subject::from(&entry.live(None));
        drop(state);
        self.events.push(subject, EventKind::Told { message: Box::new(message) });
    }

    /// Runs that wait or are under way, the oldest first.
    pub fn live(&self) -> Vec<LiveRun> {
        let limits = limits(&self.settings());
        let state = lock(&self.state);
        let mut live: Vec<LiveRun> =
            state.entries.keys().filter_map(|run| state.live(*run, &limits)).collect();
        drop(state);
        live.sort_by_key(|it| (it.status == RunStatus::Queued, it.since, it.run));
        live
    }
}

/// What is told of a record that ended.
pub(super) fn summary(record: &RunRecord) -> Summary {
    let outcome = &record.outcome;
    let mut summary = Summary::new(record.kind.into(), outcome.status, record.started);
    summary.run = Some(record.id);
    summary.repository = record.repository.clone();
    summary.machine = record.machine.clone();
    summary.replica = record.replica.clone();
    summary.counts = outcome.counts;
    summary.reason = outcome.reason.clone();
    summary
}

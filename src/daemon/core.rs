//! What all threads of the daemon share: runs that wait or are under way, and the settings.

use super::events::Events;
use super::lock;
use super::observer::Observer;
use super::planning::Planning;
use super::problems::Problems;
use super::queue::{Demand, Limits, Queue};
use super::service::Inbox;
use crate::catalog::{History, RunRecord, RunStatus};
use crate::notify::Notifier;
use crate::operations::Task;
use crate::progress::{Counts, Progress};
use crate::report::LiveRun;
use crate::settings::Settings;
use crate::throttle::Throttle;
use crate::units::{Name, RunId};
use jiff::Timestamp;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// Settings that are in force.
#[derive(Debug, Clone)]
pub(super) struct Loaded {
    pub settings: Arc<Settings>,
    /// When they were read.
    pub at: Timestamp,
    /// Why the last reload kept them.
    pub reload_error: Option<String>,
}

/// A run that waits or is under way.
#[derive(Debug)]
pub(super) struct Entry {
    pub record: RunRecord,
    pub task: Task,
    /// Since when it waits or is under way.
    pub since: Timestamp,
    /// Its counters, once it is under way.
    pub progress: Option<Arc<Progress>>,
    pub clock: Instant,
    /// How many lines it told.
    pub told: usize,
}

impl Entry {
    pub fn waiting(record: RunRecord, task: Task) -> Self {
        let since = record.started;
        Self { record, task, since, progress: None, clock: Instant::now(), told: 0 }
    }

    /// What is told of it now.
    pub fn live(&self, waits_for: Option<String>) -> LiveRun {
        let record = &self.record;
        let progress = self.progress.as_deref();
        let (done, total) = progress.map_or((0, 0), Progress::position);
        let status = if progress.is_some() { RunStatus::Running } else { RunStatus::Queued };
        LiveRun {
            run: record.id,
            work: self.task.describe(),
            kind: record.kind,
            status,
            machine: record.machine.clone(),
            replica: record.replica.clone(),
            repository: record.repository.clone(),
            trigger: record.origin.trigger,
            since: self.since,
            waits_for,
            step: progress.and_then(Progress::last_step),
            bytes_done: done,
            bytes_total: total,
            counts: progress.map_or_else(Counts::default, Progress::counts),
            elapsed_s: self.clock.elapsed().as_secs_f64(),
            stopping: progress.is_some_and(Progress::is_stopping),
        }
    }
}

/// How far the daemon is with stopping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stopping {
    /// It does not.
    No,
    /// Nothing new begins.
    Draining,
    /// Nothing is under way any more; threads end.
    Over,
}

#[derive(Debug)]
pub(super) struct State {
    pub queue: Queue,
    pub entries: HashMap<RunId, Entry>,
    /// Places of the queue that are given away already.
    pub coming: usize,
    pub stopping: Stopping,
    /// Ends of runs that the history does not know yet.
    pub unwritten: Vec<RunRecord>,
    /// Why nothing is pruned.
    pub prune_held: Option<String>,
    /// The thread that a defect ended.
    pub lost: Option<&'static str>,
}

impl State {
    pub fn live(&self, run: RunId, limits: &Limits) -> Option<LiveRun> {
        let entry = self.entries.get(&run)?;
        let waits_for = match &self.prune_held {
            Some(why) if is_prune(&entry.task) && entry.progress.is_none() => Some(why.clone()),
            _ => self.queue.waits_for(run, limits),
        };
        Some(entry.live(waits_for))
    }
}

pub(super) fn is_prune(task: &Task) -> bool {
    matches!(task, Task::Prune { .. })
}

/// The heart of the daemon.
#[derive(Debug)]
pub(super) struct Core {
    pub loaded: Mutex<Loaded>,
    pub history: Arc<History>,
    pub state: Mutex<State>,
    /// Told when runs begin or end, and when the daemon stops.
    pub changed: Condvar,
    pub events: Events,
    pub problems: Problems,
    pub started: Timestamp,
    /// All that runs read goes through it.
    pub throttle: Arc<Throttle>,
    /// The clock of the queue.
    pub clock: Instant,
    /// What is due when; `None` only before the daemon goes to work. Taken before `state`, if both
    /// are.
    pub planning: Mutex<Option<Planning>>,
    /// How everything does.
    pub observer: Observer,
    /// Who tells people; `None` before it is needed.
    pub notifier: Mutex<Option<Arc<Notifier>>>,
    /// Words for the thread that looks after everything.
    pub inbox: Inbox,
    /// Others that other settings concern.
    pub on_reload: Mutex<Vec<super::reload::OnReload>>,
}

impl Core {
    pub fn new(settings: Settings, history: History, instance: String) -> Self {
        let loaded =
            Loaded { settings: Arc::new(settings), at: Timestamp::now(), reload_error: None };
        let state = State {
            queue: Queue::default(),
            entries: HashMap::new(),
            coming: 0,
            stopping: Stopping::No,
            unwritten: Vec::new(),
            prune_held: None,
            lost: None,
        };
        Self {
            loaded: Mutex::new(loaded),
            history: Arc::new(history),
            state: Mutex::new(state),
            changed: Condvar::new(),
            events: Events::new(instance),
            problems: Problems::default(),
            started: Timestamp::now(),
            throttle: Arc::default(),
            clock: Instant::now(),
            planning: Mutex::default(),
            observer: Observer::default(),
            notifier: Mutex::default(),
            inbox: Inbox::default(),
            on_reload: Mutex::default(),
        }
    }

    pub fn settings(&self) -> Arc<Settings> {
        Arc::clone(&lock(&self.loaded).settings)
    }

    pub fn now(&self) -> Duration {
        self.clock.elapsed()
    }
}

/// The limits that the settings set.
pub(super) fn limits(settings: &Settings) -> Limits {
    let number = |limit: u32| usize::try_from(limit).unwrap_or(usize::MAX);
    let repositories = settings.repositories.values();
    let repositories: BTreeMap<Name, usize> =
        repositories.filter_map(|it| Some((it.name.clone(), number(it.runs?)))).collect();
    let daemon = &settings.daemon;
    Limits { runs: number(daemon.runs), disk_runs: daemon.disk_runs.map(number), repositories }
}

/// What a task uses.
pub(super) fn demand(settings: &Settings, task: &Task) -> Demand {
    let disks = match settings.daemon.disk_runs {
        Some(_) => super::check::disks(settings, task),
        None => Vec::new(),
    };
    Demand { needs: task.needs(settings), disks }
}

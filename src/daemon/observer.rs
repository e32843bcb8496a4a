//! Looks at how everything does, and tells who wants to know: objectives, notifications, metrics.

use super::core::{Core, Stopping};
use super::events::Subject;
use super::problems::Concern;
use super::{DaemonError, lock};
use crate::catalog::CatalogError;
use crate::metrics::{MetricsFacts, render_file, write_file};
use crate::notify::{
    ConditionKey, Notifier, NotifyError, Observation, Sender, StoreLine, of_clock, of_objective,
    of_space,
};
use crate::operations::{LiveFacts, ObjectiveBook, StatusReport, repository_usage, status_live};
use crate::progress::Progress;
use crate::report::{DaemonStatus, EventKind, ObjectiveLine, RepositoryStatus};
use crate::settings::Settings;
use crate::sys::give_back_free_memory;
use jiff::{SignedDuration, Timestamp};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long the thread sleeps at most.
const SLEEP_MAX: Duration = Duration::from_secs(5);
/// How often objectives are judged.
const JUDGE_EVERY: Duration = Duration::from_secs(10);
/// How often the state of everything is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// How often it is after runs that ended.
const LOOK_AFTER_RUNS: Duration = Duration::from_secs(5);
/// How often memory that runs needed is given back.
const GIVE_BACK_EVERY: Duration = Duration::from_secs(60);
/// How often old records are looked for.
const TIDY_EVERY: Duration = Duration::from_secs(24 * 3600);
/// How long after its start the daemon first does that.
const TIDY_FIRST: Duration = Duration::from_secs(600);
/// How many records go at once: others want to write too.
const FORGOTTEN_MAX: usize = 1000;
/// How many observations wait at most; older ones go.
const OBSERVATIONS_MAX: usize = 10_000;

/// What was seen last.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    pub status: Option<Arc<StatusReport>>,
    pub objectives: Vec<ObjectiveLine>,
}

#[derive(Debug, Default)]
struct Letters {
    found: Vec<Observation>,
    has_run_ended: bool,
    is_reloaded: bool,
}

/// What the thread is told, and what it saw.
#[derive(Debug, Default)]
pub(super) struct Observer {
    letters: Mutex<Letters>,
    came: Condvar,
    seen: Mutex<Seen>,
    /// Whether a daily report is being made.
    is_reporting: Arc<AtomicBool>,
}

impl Observer {
    /// A run ended, and says this.
    pub fn run_ended(&self, mut found: Vec<Observation>) {
        let mut letters = lock(&self.letters);
        letters.has_run_ended = true;
        letters.found.append(&mut found);
        let more = letters.found.len().saturating_sub(OBSERVATIONS_MAX);
        letters.found.drain(..more);
        // It is heard at the next round: many runs end at once.
    }

    /// Other settings are in force.
    pub fn reloaded(&self) {
        lock(&self.letters).is_reloaded = true;
        self.came.notify_all();
    }

    /// The daemon stops.
    pub fn poke(&self) {
        let _letters = lock(&self.letters);
        self.came.notify_all();
    }

    /// The repositories, as they were seen last.
    pub fn repositories(&self) -> Option<Vec<RepositoryStatus>> {
        lock(&self.seen).status.as_ref().map(|status| status.repositories.clone())
    }

    pub fn seen(&self) -> Seen {
        lock(&self.seen).clone()
    }

    fn wait(&self, core: &Core) -> Option<Letters> {
        let is_over = || lock(&core.state).stopping == Stopping::Over;
        let letters = lock(&self.letters);
        if is_over() {
            return None;
        }
        let waited = self.came.wait_timeout(letters, SLEEP_MAX);
        let mut letters = waited.unwrap_or_else(PoisonError::into_inner).0;
        (!is_over()).then(|| std::mem::take(&mut *letters))
    }
}

/// What the thread keeps from round to round.
struct Round {
    book: ObjectiveBook,
    looked: Option<Instant>,
    judged: Option<Instant>,
    /// When memory was given back.
    gave_back: Instant,
    /// When old records are looked for next.
    tidy: Instant,
}

impl Core {
    /// Goes on until the daemon has stopped.
    pub(super) fn observe(self: &Arc<Self>) {
        let mut round: Option<Round> = None;
        let mut letters = Letters::default();
        loop {
            if round.is_none() {
                match ObjectiveBook::open(&self.history) {
                    Ok(book) => {
                        let tidy = Instant::now() + TIDY_FIRST;
                        let gave_back = Instant::now();
                        round = Some(Round { book, looked: None, judged: None, gave_back, tidy });
                    }
                    Err(error) => self.cannot_judge(&error),
                }
            }
            if let Some(round) = &mut round {
                self.look(round, &letters);
                self.tidy_up(round);
            }
            self.tell_notifier(letters, round.as_ref());
            match self.observer.wait(self) {
                Some(next) => letters = next,
                None => return,
            }
        }
    }

    fn cannot_judge(&self, error: &CatalogError) {
        let text = format!("objectives cannot be judged: {error}");
        self.problems.set(Concern::Objectives, text);
    }

    /// Looks at everything, as far as it is time to.
    fn look(&self, round: &mut Round, letters: &Letters) {
        let is_past = |last: Option<Instant>, every| last.is_none_or(|it| it.elapsed() >= every);
        let has_news = letters.has_run_ended && is_past(round.looked, LOOK_AFTER_RUNS);
        let must_look = letters.is_reloaded || has_news || is_past(round.looked, LOOK_EVERY);
        if !must_look && !is_past(round.judged, JUDGE_EVERY) {
            return;
        }
        let (settings, now) = (self.settings(), Timestamp::now());
        let live = self.live_facts();
        let before = self.observer.seen().status.filter(|_| !must_look);
        let report = before.unwrap_or_else(|| Arc::new(status_live(&settings, now, &live)));
        if must_look {
            round.looked = Some(Instant::now());
        }
        round.judged = Some(Instant::now());
        match round.book.evaluate(&self.history, &settings, &report, &live, now) {
            Ok(_) => self.problems.clear(Concern::Objectives),
            Err(error) => self.cannot_judge(&error),
        }
        for (_, line) in round.book.changed() {
            let subject = Subject {
                run: None,
                machine: Some(line.machine.clone()),
                replica: line.replica.clone(),
            };
            self.events.push(subject, EventKind::Objective(line.clone()));
        }
        let objectives = round.book.lines().to_vec();
        *lock(&self.observer.seen) = Seen { status: Some(report), objectives };
        if must_look {
            self.write_metrics(&settings);
        }
    }

    /// Gives memory back, and forgets what happened long ago, a part at a time.
    fn tidy_up(&self, round: &mut Round) {
        if round.gave_back.elapsed() >= GIVE_BACK_EVERY {
            give_back_free_memory();
            round.gave_back = Instant::now();
        }
        if Instant::now() < round.tidy {
            return;
        }
        let days = i64::from(self.settings().daemon.history_days);
        let Ok(before) = Timestamp::now().checked_sub(SignedDuration::from_hours(24 * days)) else {
            return;
        };
        let forgotten = self.history.forget_runs_before(before, FORGOTTEN_MAX).and_then(|runs| {
            if runs < FORGOTTEN_MAX {
                self.history.prune_slots(before)?;
                self.history.prune_objectives(before)?;
            }
            Ok(runs)
        });
        match forgotten {
            Ok(FORGOTTEN_MAX) => {}
            Ok(_) => {
                round.tidy = Instant::now() + TIDY_EVERY;
                self.problems.clear(Concern::Upkeep);
            }
            Err(error) => {
                round.tidy = Instant::now() + TIDY_FIRST;
                let text = format!("old records cannot be forgotten: {error}");
                self.problems.set(Concern::Upkeep, text);
            }
        }
    }

    fn live_facts(&self) -> LiveFacts {
        let (due, live) = (self.due_lines(), self.live());
        let clock_doubt = lock(&self.state).prune_held.clone();
        LiveFacts { due, live, clock_doubt, repositories: Vec::new() }
    }

    /// What metrics are made of; `None`: nothing was looked at yet.
    pub fn metrics_facts(&self, daemon: DaemonStatus) -> Option<MetricsFacts> {
        let Seen { status, objectives } = self.observer.seen();
        let (now, daemon) = (Timestamp::now(), Some(daemon));
        Some(MetricsFacts { now, status: status?, objectives, daemon })
    }

    fn write_metrics(&self, settings: &Settings) {
        let Some(path) = &settings.daemon.metrics_file else { return };
        let Some(facts) = self.metrics_facts(self.status()) else { return };
        match write_file(path, &render_file(&facts)) {
            Ok(()) => self.problems.clear(Concern::Metrics),
            Err(error) => self.problems.set(Concern::Metrics, error.to_string()),
        }
    }

    /// Tells what was found to those who want to know.
    fn tell_notifier(self: &Arc<Self>, letters: Letters, round: Option<&Round>) {
        let (settings, now) = (self.settings(), Timestamp::now());
        let notifier = match self.notifier(&settings, now) {
            Ok(notifier) => notifier,
            Err(error) => {
                self.observer.run_ended(letters.found);
                return self.cannot_tell(&error);
            }
        };
        let mut found = letters.found.clone();
        let lines = round.map_or(&[][..], |round| round.book.lines());
        found.extend(lines.iter().filter_map(of_objective));
        found.push(of_clock(lock(&self.state).prune_held.as_deref()));
        let places = settings.repositories.values().map(|it| it.path.as_path());
        let places = places.chain([settings.state_dir.as_path()]);
        found.extend(places.filter_map(of_space));
        let told = (|| {
            if letters.is_reloaded {
                notifier.reload(&settings.notify, now)?;
                notifier.forget(|key| exists(&settings, key), now)?;
            }
            notifier.observe(&found, now)?;
            notifier.tick(now)?;
            Ok::<_, NotifyError>(notifier.report_due(now)?.is_some())
        })();
        match told {
            Ok(is_due) => {
                self.problems.clear(Concern::Notify);
                if is_due {
                    self.report(notifier);
                }
            }
            Err(error) => {
                // What it says of runs must not be lost.
                self.observer.run_ended(letters.found);
                self.cannot_tell(&error);
            }
        }
    }

    /// Started when it is first needed.
    fn notifier(&self, settings: &Settings, now: Timestamp) -> Result<Arc<Notifier>, NotifyError> {
        let mut notifier = lock(&self.notifier);
        if let Some(started) = notifier.as_ref() {
            return Ok(Arc::clone(started));
        }
        let history = Arc::clone(&self.history);
        let started = Notifier::start(&settings.notify, Sender::this_host(), history, now)?;
        Ok(Arc::clone(notifier.insert(Arc::new(started))))
    }

    fn cannot_tell(&self, error: &NotifyError) {
        let text = format!("nobody can be told of anything: {error}");
        self.problems.set(Concern::Notify, text);
    }

    /// Makes the daily report on a thread of its own: what repositories cost takes a while.
    fn report(self: &Arc<Self>, notifier: Arc<Notifier>) {
        let is_reporting = Arc::clone(&self.observer.is_reporting);
        if is_reporting.swap(true, Ordering::AcqRel) {
            return;
        }
        let core = Arc::clone(self);
        let work = move || {
            let stores = stores(&core.settings());
            if let Err(error) = notifier.report(stores, Timestamp::now()) {
                core.cannot_tell(&error);
            }
            core.observer.is_reporting.store(false, Ordering::Release);
        };
        if std::thread::Builder::new().name("report".to_owned()).spawn(work).is_err() {
            is_reporting.store(false, Ordering::Release);
        }
    }

    /// Sends a test message.
    ///
    /// # Errors
    /// When there is no such channel, or nobody is to be told anything.
    pub fn notify_test(
        &self,
        channel: Option<&str>,
    ) -> Result<Vec<crate::report::NotifyTestLine>, DaemonError> {
        let Ok(notifier) = self.notifier(&self.settings(), Timestamp::now()) else {
            let message = "notifications did not start; the daemon's state says why".to_owned();
            return Err(DaemonError::Unavailable(message));
        };
        let tested = notifier.test(channel, Timestamp::now());
        tested.map_err(|error| DaemonError::NotFound(error.to_string()))
    }
}

/// What the repositories cost, of those that can tell.
fn stores(settings: &Settings) -> Vec<StoreLine> {
    let line = |name| {
        let usage = repository_usage(settings, name, &Progress::default());
        let usage = usage.inspect_err(|error| tracing::warn!("not in the report: {error}")).ok()?;
        Some(StoreLine {
            repository: name.to_string(),
            points: usage.repository.points as u64,
            stored_bytes: usage.repository.stored_bytes,
            data_bytes: usage.repository.data_bytes,
        })
    };
    settings.repositories.keys().filter_map(line).collect()
}

/// Whether the settings still know what a condition is about.
fn exists(settings: &Settings, key: &ConditionKey) -> bool {
    let has_machine = |name: &str| settings.machines.keys().any(|it| it.as_str() == name);
    let has_replica = |name: &str| settings.replicas.keys().any(|it| it.as_str() == name);
    match key {
        ConditionKey::Damage { repository } => settings.repositories.contains_key(repository),
        ConditionKey::Differs { replica } => settings.replicas.contains_key(replica),
        ConditionKey::Late { subject } => match subject.split_once(' ') {
            Some(("machine", name)) => has_machine(name),
            Some(("replica", name)) => has_replica(name),
            _ => true,
        },
        // As tasks describe themselves.
        ConditionKey::RunFailed { task } => task.rsplit(' ').next().is_some_and(|name| {
            let mut repositories = settings.repositories.keys();
            has_machine(name) || has_replica(name) || repositories.any(|it| it.as_str() == name)
        }),
        ConditionKey::Clock | ConditionKey::Space { .. } => true,
    }
}

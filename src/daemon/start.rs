//! From the first lock to the last run.

use super::core::{Core, Stopping};
use super::facade::Handle;
use super::instance::{BoundSocket, InstanceError, take_lock};
use super::plan::plan;
use super::planning::Planning;
use super::reload::{OnReload, TakenOver};
use super::supervisor::Supervisor;
use super::{DaemonHandle, events::Subject, lock};
use crate::catalog::{CatalogError, History, check_local_folder, let_pack_lengths_hold};
use crate::fsio::FileLock;
use crate::operations::limit_bandwidth;
use crate::progress::StopReason;
use crate::report::{EventKind, ExitCode};
use crate::schedule::ScheduleError;
use crate::settings::Settings;
use crate::units::{Hex, MIB, fill_random};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};

/// What all databases together keep in memory: each run has the catalog of its repository open.
const DATABASES_BYTES_MAX: u64 = 64 * MIB;
/// How often at most the lengths of all packs of a repository are asked for.
const LENGTHS_HOLD: Duration = Duration::from_secs(30);

/// Why the daemon did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It cannot be the only one, or listen.
    #[error(transparent)]
    Instance(#[from] InstanceError),
    /// The history cannot be used.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// What is due cannot be told.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    /// The clock that wakes it cannot be set up.
    #[error("the daemon cannot start: its clock cannot be set up: {0}")]
    Clock(#[from] JobSchedulerError),
    /// The system has no room for it.
    #[error("the daemon cannot start: {what}: {error}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The system's error.
        error: std::io::Error,
    },
}

impl StartError {
    /// What the process exits with because of it.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Instance(InstanceError::Runs(_) | InstanceError::Taken { .. }) => ExitCode::Busy,
            _ => ExitCode::Failed,
        }
    }
}

/// The daemon, in this process.
pub struct Daemon {
    core: Arc<Core>,
    supervisor: Arc<Supervisor>,
    threads: Vec<JoinHandle<()>>,
    /// What wakes it while it lives.
    clock: Option<JobScheduler>,
    runtime: tokio::runtime::Runtime,
    socket: BoundSocket,
    /// The last to go.
    _lock: FileLock,
}

impl std::fmt::Debug for Daemon {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Daemon").field("core", &self.core).finish_non_exhaustive()
    }
}

impl Daemon {
    /// Takes the state folder's lock, listens, sees to what the daemon before left behind, and goes
    /// to work.
    ///
    /// # Errors
    /// When there is a daemon already, or what it needs cannot be had.
    pub fn start(settings: Settings) -> Result<Self, StartError> {
        let system = |what| move |error| StartError::System { what, error };
        check_local_folder(&settings.state_dir)?;
        let held = take_lock(&settings.state_dir)?;
        let history = History::open(&settings.state_dir)?;
        history.limit_memory(DATABASES_BYTES_MAX)?;
        let socket = BoundSocket::bind(&settings.daemon.socket)?;
        let mut instance = [0; 8];
        fill_random(&mut instance).map_err(system("get random numbers"))?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("async")
            .enable_all()
            .build()
            .map_err(system("start threads"))?;
        let core = Arc::new(Core::new(settings, history, Hex(instance).to_string()));
        // Many runs a minute look into the same repositories.
        let_pack_lengths_hold(LENGTHS_HOLD);
        limit_bandwidth(&core.settings().limits, &core.throttle);
        let cut_off = core.recover()?;
        let plan = plan(&core.settings())?;
        let planning = Planning::new(&core, plan)?;
        // Before the first run that was left behind can begin.
        lock(&core.state).prune_held = planning.doubt();
        *lock(&core.planning) = Some(planning);
        core.tell_of_cut_off(&cut_off);
        let supervisor = Arc::new(Supervisor::new());
        let mut daemon = Self {
            core,
            supervisor,
            threads: Vec::new(),
            clock: None,
            runtime,
            socket,
            _lock: held,
        };
        let (core, supervisor) = (Arc::clone(&daemon.core), Arc::clone(&daemon.supervisor));
        daemon.spawn("service", move || core.look_after_everything(&supervisor))?;
        let core = Arc::clone(&daemon.core);
        daemon.spawn("progress", move || core.tick_progress())?;
        let core = Arc::clone(&daemon.core);
        daemon.spawn("observer", move || core.observe())?;
        let core = Arc::clone(&daemon.core);
        daemon.clock = Some(daemon.runtime.block_on(tick_each_second(core))?);
        daemon.core.dispatch();
        Ok(daemon)
    }

    fn spawn(
        &mut self,
        name: &'static str,
        work: impl FnOnce() + Send + 'static,
    ) -> Result<(), StartError> {
        let stopper = self.stopper();
        let work = move || {
            if catch_unwind(AssertUnwindSafe(work)).is_err() {
                // Without this thread it would only seem to live.
                tracing::error!("a defect of afterimage ended the thread {name}; report this");
                lock(&stopper.core.state).lost = Some(name);
                stopper.stop();
            }
        };
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(work);
        let system = |error| StartError::System { what: "start a thread", error };
        self.threads.push(thread.map_err(system)?);
        Ok(())
    }

    /// What its faces ask.
    pub fn handle(&self) -> Arc<dyn DaemonHandle> {
        Arc::new(Handle { core: Arc::clone(&self.core), supervisor: Arc::clone(&self.supervisor) })
    }

    /// The socket that it is asked at.
    pub fn socket(&self) -> &BoundSocket {
        &self.socket
    }

    /// Where its faces may wait for many things at once.
    pub fn runtime(&self) -> &tokio::runtime::Handle {
        self.runtime.handle()
    }

    /// Calls `other` with new settings at each reload, before they count. It takes them over and
    /// returns what of them only counts after a restart; or changes nothing and says why they cannot
    /// count, and the old ones stay.
    pub fn on_reload(&self, other: impl Fn(&Settings) -> TakenOver + Send + 'static) {
        lock(&self.core.on_reload).push(OnReload(Box::new(other)));
    }

    /// Tells systemd that it can be asked now.
    pub fn ready(&self) {
        self.supervisor.ready();
    }

    /// A way to stop it from another thread.
    pub fn stopper(&self) -> Stopper {
        Stopper { core: Arc::clone(&self.core), supervisor: Arc::clone(&self.supervisor) }
    }

    /// Waits until somebody asks it to stop, and then until nothing is under way any more. What
    /// waits is begun by the next daemon. What is under way is left alone for as long as `grace`, and
    /// then asked to stop. Returns the name of the thread that was lost to a defect, if that is why it
    /// stops.
    pub fn wait(&self, grace: Duration) -> Option<&'static str> {
        self.wait_for(None, |state| state.stopping == Stopping::No);
        self.wait_for(Some(grace), |state| state.queue.running_count() > 0);
        let state = lock(&self.core.state);
        let under_way = state.entries.values().filter_map(|entry| entry.progress.as_ref());
        for progress in under_way {
            let text = "stopped with the daemon".to_owned();
            progress.stop(StopReason { text, is_postponed: true });
        }
        drop(state);
        self.wait_for(None, |state| state.queue.running_count() > 0);
        self.core.write_again();
        lock(&self.core.state).lost
    }

    fn wait_for(
        &self,
        limit: Option<Duration>,
        goes_on: impl FnMut(&mut super::core::State) -> bool,
    ) {
        let state = lock(&self.core.state);
        match limit {
            None => drop(self.core.changed.wait_while(state, goes_on)),
            Some(limit) => drop(self.core.changed.wait_timeout_while(state, limit, goes_on)),
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Also when something failed before it was asked to stop. Whatever is under way must end
        // before another daemon may begin.
        self.stopper().stop();
        self.wait(Duration::ZERO);
        lock(&self.core.state).stopping = Stopping::Over;
        self.core.changed.notify_all();
        self.core.inbox.poke();
        self.core.observer.poke();
        if let Some(mut clock) = self.clock.take() {
            // It ends with the runtime, at the latest.
            let _ = self.runtime.block_on(clock.shutdown());
        }
        for thread in self.threads.drain(..) {
            // One that met a defect has told so already.
            let _ = thread.join();
        }
        drop(lock(&self.core.notifier).take());
    }
}

/// Wakes the daemon when something is due. What is due, and whether it is, the planner decides.
async fn tick_each_second(core: Arc<Core>) -> Result<JobScheduler, JobSchedulerError> {
    let clock = JobScheduler::new().await?;
    let core = Arc::downgrade(&core);
    let tick = Job::new("* * * * * *", move |_, _| {
        if let Some(core) = core.upgrade() {
            core.inbox.tick();
        }
    });
    clock.add(tick?).await?;
    clock.start().await?;
    Ok(clock)
}

/// Asks the daemon to stop.
#[derive(Debug, Clone)]
pub struct Stopper {
    core: Arc<Core>,
    supervisor: Arc<Supervisor>,
}

impl Stopper {
    /// Nothing begins any more; [`Daemon::wait`] returns when nothing is under way.
    pub fn stop(&self) {
        let mut state = lock(&self.core.state);
        if state.stopping != Stopping::No {
            return;
        }
        state.stopping = Stopping::Draining;
        drop(state);
        self.supervisor.stopping();
        self.core.events.push(Subject::default(), EventKind::Stopping);
        self.core.changed.notify_all();
    }
}

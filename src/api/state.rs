//! What all requests share.

use super::Problem;
use super::limits::{HEAVY_WORK_MAX, LIGHT_WORK_MAX, Limits};
use super::refusals::Refusals;
use super::slowdown::Slowdown;
use crate::audit::{AuditEntry, AuditLog};
use crate::daemon::DaemonHandle;
use jiff::Timestamp;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::{Semaphore, watch};

/// What all requests share.
#[derive(Clone)]
pub(super) struct Api(Arc<Shared>);

pub(super) struct Shared {
    pub daemon: Arc<dyn DaemonHandle>,
    pub audit: Arc<AuditLog>,
    pub refusals: Refusals,
    pub slowdown: Slowdown,
    pub limits: Limits,
    /// Room for streams of events.
    pub streams: Arc<Semaphore>,
    /// Becomes true when the server stops.
    pub stop: watch::Receiver<bool>,
    light: Arc<Semaphore>,
    heavy: Arc<Semaphore>,
}

impl std::ops::Deref for Api {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

/// How much a piece of work takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    /// Asks the daemon or a local database.
    Light,
    /// Opens repositories.
    Heavy,
}

impl Api {
    pub fn new(
        daemon: Arc<dyn DaemonHandle>,
        audit: Arc<AuditLog>,
        limits: &Limits,
        stop: watch::Receiver<bool>,
    ) -> Self {
        Self(Arc::new(Shared {
            daemon,
            audit,
            limits: *limits,
            refusals: Refusals::default(),
            slowdown: Slowdown::default(),
            streams: Arc::new(Semaphore::new(limits.streams)),
            stop,
            light: Arc::new(Semaphore::new(LIGHT_WORK_MAX)),
            heavy: Arc::new(Semaphore::new(HEAVY_WORK_MAX)),
        }))
    }

    /// Does work that may wait for a disk, on a thread of its own. There are only so many: work
    /// whose request was given up counts until it is done.
    pub async fn work<T: Send + 'static>(
        &self,
        work: Work,
        job: impl FnOnce(&Shared) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let room = match work {
            Work::Light => &self.light,
            Work::Heavy => &self.heavy,
        };
        let stopped = |_| Problem::unavailable("the daemon stops; try again later");
        let permit = Arc::clone(room).acquire_owned().await.map_err(stopped)?;
        let shared = Arc::clone(&self.0);
        let done = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            job(&shared)
        });
        done.await
            .map_err(|_| Problem::internal("the request could not be worked on to its end"))?
    }
}

impl Shared {
    /// Writes a line of the audit log, durably.
    pub fn record(&self, entry: &AuditEntry) -> Result<u64, Problem> {
        let recorded = self.audit.record(Timestamp::now(), entry);
        recorded.map_err(|error| {
            tracing::error!("{error}");
            error.into()
        })
    }

    /// Writes what was counted of refusals.
    pub fn flush_refusals(&self, all: bool) {
        for entry in self.refusals.due(Instant::now(), all) {
            // A failure is in the log of the daemon; refusals are refused all the same.
            let _ = self.record(&entry);
        }
    }
}

/// Returns when the server stops.
pub(super) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // Who stops it may be gone already: that is the same.
    let _ = stop.wait_for(|stop| *stop).await;
}

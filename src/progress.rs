//! Live counters of a run and its request to stop, shared between the threads that work and the
//! face that shows them.

use crate::throttle::Throttle;
use crate::units::RunId;
use jiff::Timestamp;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Most steps that are kept of one run; of what comes after, only the last.
pub const STEPS_MAX: usize = 64;

/// The run was asked to stop before it was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("stopped on request; nothing was acknowledged, run the same command again to go on")]
pub struct Cancelled;

/// Why a run is asked to stop, where whoever asked says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopReason {
    /// In words: `cancelled by uid:0`.
    pub text: String,
    /// It is only put off: what was due is due still.
    pub is_postponed: bool,
}

/// A step of a run: what began when.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Step {
    /// What is done: `read disk root`.
    pub name: String,
    /// When it began.
    pub started: Timestamp,
}

/// Counters of one run, all in bytes. Only ever added to, from any thread.
#[derive(Debug, Default)]
pub struct Progress {
    run: Option<RunId>,
    steps: Mutex<Vec<Step>>,
    total: AtomicU64,
    done: AtomicU64,
    read: AtomicU64,
    changed: AtomicU64,
    new: AtomicU64,
    stored: AtomicU64,
    written: AtomicU64,
    cancel: AtomicBool,
    stopped_by: OnceLock<StopReason>,
    throttle: Option<Arc<Throttle>>,
}

/// A moment's values of [`Progress`], in bytes.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    serde::Serialize,
    serde::Deserialize,
    utoipa::ToSchema,
)]
pub struct Counts {
    /// Read from sources, replicas or the repository.
    #[serde(rename = "bytes_read")]
    pub read: u64,
    /// Differing from the point before.
    #[serde(rename = "bytes_changed")]
    pub changed: u64,
    /// Never stored before.
    #[serde(rename = "bytes_new")]
    pub new: u64,
    /// Added to the repository, compressed, with all that belongs to it.
    #[serde(rename = "bytes_stored")]
    pub stored: u64,
    /// Written to destinations.
    #[serde(rename = "bytes_written")]
    pub written: u64,
}

impl Counts {
    /// Adds those of another run.
    pub fn add(&mut self, other: &Self) {
        self.read += other.read;
        self.changed += other.changed;
        self.new += other.new;
        self.stored += other.stored;
        self.written += other.written;
    }
}

macro_rules! counter {
    ($(#[$doc:meta])* $add:ident, $field:ident) => {
        $(#[$doc])*
        pub fn $add(&self, bytes: u64) {
            self.$field.fetch_add(bytes, Ordering::Relaxed);
        }
    };
}

impl Progress {
    /// Of a run whose identity is known before it begins.
    pub fn of_run(run: RunId) -> Self {
        Self { run: Some(run), ..Self::default() }
    }

    /// The same, but what the run reads is limited, together with what others read.
    pub fn limited(self, throttle: Arc<Throttle>) -> Self {
        Self { throttle: Some(throttle), ..self }
    }

    /// The identity that the run was given before it began.
    pub fn run(&self) -> Option<RunId> {
        self.run
    }

    /// Another step begins.
    pub fn step(&self, name: impl Into<String>) {
        let step = Step { name: name.into(), started: Timestamp::now() };
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        if steps.len() == STEPS_MAX {
            steps.pop();
        }
        steps.push(step);
    }

    /// The steps so far, the first one first.
    pub fn steps(&self) -> Vec<Step> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The step that it is at.
    pub fn last_step(&self) -> Option<String> {
        let steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        steps.last().map(|step| step.name.clone())
    }

    /// Bytes were read from a source, a replica or the repository. Waits when the limit says so: no
    /// lock that others need is held then.
    pub fn add_read(&self, bytes: u64) {
        self.read.fetch_add(bytes, Ordering::Relaxed);
        self.pace(bytes);
    }

    /// Waits as [`Self::add_read`] does, for bytes that are not counted: what a target holds, which
    /// is read to compare.
    pub fn pace(&self, bytes: u64) {
        if let Some(throttle) = &self.throttle {
            throttle.pay(bytes, &|| self.is_stopping());
        }
    }

    counter!(
        /// More work was found to do.
        add_total, total
    );
    counter!(
        /// Part of the work is done.
        add_done, done
    );
    counter!(
        /// Bytes differ from the point before.
        add_changed, changed
    );
    counter!(
        /// Bytes were never stored before.
        add_new, new
    );
    counter!(
        /// Bytes were added to the repository.
        add_stored, stored
    );
    counter!(
        /// Bytes were written to a destination.
        add_written, written
    );

    /// Work known so far and work done, in bytes.
    pub fn position(&self) -> (u64, u64) {
        (self.done.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed))
    }

    /// The counters now.
    pub fn counts(&self) -> Counts {
        Counts {
            read: self.read.load(Ordering::Relaxed),
            changed: self.changed.load(Ordering::Relaxed),
            new: self.new.load(Ordering::Relaxed),
            stored: self.stored.load(Ordering::Relaxed),
            written: self.written.load(Ordering::Relaxed),
        }
    }

    /// Asks the run to stop at the next safe place.
    pub fn cancel(&self) {
        self.cancel.store(true, Ordering::Relaxed);
    }

    /// As [`Progress::cancel`], with the reason. The first reason is kept.
    pub fn stop(&self, reason: StopReason) {
        // Before the flag: whoever sees that finds the reason.
        let _ = self.stopped_by.set(reason);
        self.cancel.store(true, Ordering::Release);
    }

    /// Why the run was asked to stop, if it was and it was said.
    pub fn stop_reason(&self) -> Option<&StopReason> {
        self.stopped_by.get()
    }

    /// Whether it was asked to stop.
    pub fn is_stopping(&self) -> bool {
        self.cancel.load(Ordering::Relaxed)
    }

    /// Errors once [`Progress::cancel`] was called.
    ///
    /// # Errors
    /// [`Cancelled`].
    pub fn check(&self) -> Result<(), Cancelled> {
        if self.is_stopping() { Err(Cancelled) } else { Ok(()) }
    }
}

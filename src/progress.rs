//! Live counters of a run and its request to stop, shared between the threads that work and the
//! face that shows them.

use crate::units::RunId;
use jiff::Timestamp;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Most steps that are kept of one run; of what comes after, only the last.
pub const STEPS_MAX: usize = 64;

/// The run was asked to stop before it was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("stopped on request; nothing was acknowledged, run the same command again to go on")]
pub struct Cancelled;

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

    counter!(
        /// More work was found to do.
        add_total, total
    );
    counter!(
        /// Part of the work is done.
        add_done, done
    );
    counter!(
        /// Bytes were read.
        add_read, read
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

    /// Errors once [`Progress::cancel`] was called.
    ///
    /// # Errors
    /// [`Cancelled`].
    pub fn check(&self) -> Result<(), Cancelled> {
        if self.cancel.load(Ordering::Relaxed) { Err(Cancelled) } else { Ok(()) }
    }
}

//! The thread that looks after everything: what is due, what could not be done before, and that
//! systemd hears that the daemon lives.

use super::core::{Core, Stopping};
use super::lock;
use super::supervisor::Supervisor;
use crate::catalog::{RunRecord, RunStatus};
use crate::sys::boot_time;
use jiff::Timestamp;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// How long it sleeps at most.
pub(super) const SLEEP_MAX: Duration = Duration::from_secs(30);
/// How long it waits before it tries again what failed.
pub(super) const TRY_AGAIN: Duration = Duration::from_secs(2);

/// What the thread is told.
#[derive(Debug)]
pub(super) enum Word {
    /// A run of this task waits, and not because of its schedule.
    Queued(String),
    /// A run of this task ended.
    Ended { key: String, due: Option<Timestamp>, attempt: u32, outcome: Outcome },
}

/// How a run ended, for what follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Completed,
    Retryable,
    Final,
}

impl Word {
    pub fn ended(key: String, record: &RunRecord) -> Self {
        let outcome = match record.outcome.status {
            RunStatus::Failed if record.outcome.may_retry => Outcome::Retryable,
            RunStatus::Failed => Outcome::Final,
            _ => Outcome::Completed,
        };
        let (due, attempt) = (record.origin.due, record.origin.attempt);
        Self::Ended { key, due, attempt, outcome }
    }
}

#[derive(Debug, Default)]
struct Letters {
    words: Vec<Word>,
    is_poked: bool,
}

/// Words that were not heard yet.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    letters: Mutex<Letters>,
    came: Condvar,
    /// When something is due, by the time since the system started, in milliseconds.
    wake_ms: AtomicU64,
}

impl Inbox {
    pub fn put(&self, word: Option<Word>) {
        let Some(word) = word else { return };
        lock(&self.letters).words.push(word);
        self.came.notify_all();
    }

    /// There is something to look after.
    pub fn poke(&self) {
        lock(&self.letters).is_poked = true;
        self.came.notify_all();
    }

    /// Something is due at this time since the system started.
    pub fn set_wake(&self, wake: Duration) {
        let wake_ms = u64::try_from(wake.as_millis()).unwrap_or(u64::MAX);
        self.wake_ms.store(wake_ms, Ordering::Relaxed);
    }

    /// Pokes if something is due. A thread that sleeps does not notice that the system did.
    pub fn tick(&self) {
        if boot_time().as_millis() >= u128::from(self.wake_ms.load(Ordering::Relaxed)) {
            self.poke();
        }
    }

    /// Waits for words, but not longer than `limit`.
    fn wait(&self, limit: Duration) -> Vec<Word> {
        let letters = lock(&self.letters);
        let nothing = |letters: &mut Letters| letters.words.is_empty() && !letters.is_poked;
        let waited = self.came.wait_timeout_while(letters, limit, nothing);
        let mut letters = waited.unwrap_or_else(PoisonError::into_inner).0;
        letters.is_poked = false;
        std::mem::take(&mut letters.words)
    }
}

impl Core {
    /// Goes on until the daemon has stopped.
    pub(super) fn look_after_everything(self: &Arc<Self>, supervisor: &Supervisor) {
        let mut sleep = Duration::ZERO;
        loop {
            let words = self.inbox.wait(sleep);
            let state = lock(&self.state);
            if state.stopping == Stopping::Over {
                return;
            }
            let is_stopping = state.stopping != Stopping::No;
            let (running, waiting) = (state.queue.running_count(), state.queue.waiting_count());
            drop(state);
            sleep = if self.write_again() { SLEEP_MAX } else { TRY_AGAIN };
            if !is_stopping {
                sleep = sleep.min(self.see_to_what_is_due(words));
            }
            // What could not begin before, because there was no thread for it.
            self.dispatch();
            // Only now: a thread that hangs in any of this must not seem alive.
            supervisor.alive();
            supervisor.status(match (running, waiting) {
                (0, 0) => "nothing is under way".to_owned(),
                _ => format!("{running} under way, {waiting} waiting"),
            });
            sleep = sleep.min(supervisor.alive_every().unwrap_or(SLEEP_MAX));
        }
    }
}

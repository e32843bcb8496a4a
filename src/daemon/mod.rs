//! The daemon: takes tasks on, runs them beside each other as far as that may be, keeps records of
//! them, and begins by itself what is due.
//!
//! Invariants: there is one daemon for each state folder. A run is in the history before anybody
//! is told of it, and begins only once that says so. What is in memory can be had again from the
//! history: the daemon may die at any moment. `docs/daemon.md` says what happens then.

mod check;
mod core;
mod events;
mod facade;
mod handle;
mod instance;
mod observer;
mod plan;
mod planning;
mod problems;
mod queue;
mod recovery;
mod reload;
mod runs;
mod service;
mod start;
mod supervisor;
mod ticker;
mod work;

pub use handle::{DaemonError, DaemonHandle, EventPage, RunPage};
pub use instance::{BoundSocket, InstanceError};
pub use queue::{Demand, Limits, Queue};
pub use reload::TakenOver;
pub use start::{Daemon, StartError, Stopper};

use std::sync::{Mutex, MutexGuard, PoisonError};

/// What a panic elsewhere left behind is whole: nothing is changed half-way under a lock.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! What runs by itself, and when: due times, windows, and the planner that decides.
//!
//! All of it is given the time and keeps none: the same is decided again from the same facts. What
//! was decided counts once it is in the ledger, the slots of the [`History`](crate::catalog::History).
//! A *slot* is a task and an instant that it is due at. `docs/scheduling.md` says what is promised.
//!
//! ```no_run
//! # use afterimage::{catalog::{History, RunRecord, CatalogError}, schedule::*};
//! # fn queue(start: Start, record: RunRecord) {}
//! # fn sleep_or_event(time: std::time::Duration) {}
//! # fn f(history: &History, tasks: Vec<ScheduledTask>,
//! # queued_record: impl Fn(&Start) -> RunRecord) -> Result<(), CatalogError> {
//! let boot_id = afterimage::fsio::boot_id();
//! let facts = history.slot_facts()?;
//! let mut planner = Planner::new(Now::read(), boot_id.as_deref(), tasks, &facts);
//! planner.set_pauses(&history.pauses()?);
//! loop {
//!     let now = Now::read();
//!     let decisions = planner.tick(now);
//!     match record(history, now.wall, &decisions, &queued_record) {
//!         Ok(recorded) => {
//!             recorded.refused.iter().for_each(|start| planner.refused(&start.key));
//!             recorded.granted.into_iter().for_each(|(start, record)| queue(start, record));
//!         }
//!         Err(_) => planner.undo(&decisions),
//!     }
//!     // Meanwhile runs end: `planner.ended(key, …)`, and people ask for some: `planner.queued(key)`.
//!     sleep_or_event(planner.wake_after());
//! }
//! # }
//! ```

mod clock;
mod delay;
mod due;
mod error;
mod planner;
mod record;
mod task;
mod windows;

pub use clock::{ClockDoubt, ClockMark};
pub use due::{DueTimes, zone};
pub use error::ScheduleError;
pub use planner::{DECISIONS_MAX, LOOK_EVERY, Planner};
pub use record::{Recorded, record};
pub use task::{
    Decision, Ended, Now, Outcome, SUBJECT_ALL, ScheduledTask, Skip, SkipReason, Start, Upcoming,
    When,
};
pub use windows::{Windows, rate_at};

//! The daemon: what it is asked for and tells.

mod handle;

pub use handle::{DaemonError, DaemonHandle, EventPage, RunPage};

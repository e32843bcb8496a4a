//! Which points of a machine are kept, as a user says it.

use std::time::Duration;

/// Which points of a machine are kept. Invariant: at least one rule keeps something.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keep {
    /// This many of the newest.
    pub last: u32,
    /// The newest of each of this many hours.
    pub hourly: u32,
    /// The newest of each of this many days.
    pub daily: u32,
    /// The newest of each of this many weeks.
    pub weekly: u32,
    /// The newest of each of this many months.
    pub monthly: u32,
    /// The newest of each of this many years.
    pub yearly: u32,
    /// All that are younger than this.
    pub within: Option<Duration>,
}

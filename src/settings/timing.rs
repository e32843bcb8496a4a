//! When a run may begin, apart from its schedule: of machines, replicas and a repository's upkeep.

use std::time::Duration;

use crate::units::Window;

/// When a run may begin, apart from its schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimingSettings {
    /// IANA name of the zone of `allowed`; [`super::TIMEZONE_LOCAL`] is the host's.
    pub timezone: String,
    /// The parts of the day in which it may begin; empty: any time.
    pub allowed: Vec<Window>,
    /// What becomes of times that passed while nothing could run.
    pub missed: MissedPolicy,
    /// By how much it may begin later than its schedule says; 0: not at all.
    pub jitter: Duration,
    /// What follows when it fails for a reason that may pass.
    pub retry: RetrySettings,
}

/// What becomes of times that passed while nothing could run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MissedPolicy {
    /// The newest of them is caught up once.
    #[default]
    Run,
    /// None of them is.
    Skip,
}

/// What follows when a run fails for a reason that may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetrySettings {
    /// How often it is tried again; 0: never.
    pub times: u32,
    /// How long is waited for the first time; twice as long each time after it. Never 0.
    pub wait: Duration,
    /// How long is waited at most; not less than `wait`.
    pub wait_max: Duration,
}

impl Default for RetrySettings {
    fn default() -> Self {
        Self { times: 3, wait: Duration::from_secs(60), wait_max: Duration::from_secs(3600) }
    }
}

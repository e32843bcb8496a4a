//! What is scheduled, and what is decided about it.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;

use super::{DueTimes, ScheduleError, Windows};
use crate::catalog::RunTrigger;
use crate::settings::{MissedPolicy, RetrySettings, TimingSettings};

/// The subject of a pause that holds everything.
pub const SUBJECT_ALL: &str = "all";

/// The time: by the clock on the wall, which may be wrong and may be set, and since the system
/// started, suspends included, which never goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// By the clock on the wall.
    pub wall: Timestamp,
    /// Since the system started.
    pub boot: Duration,
}

impl Now {
    /// What both clocks of this host show.
    pub fn read() -> Self {
        Self { wall: Timestamp::now(), boot: crate::sys::boot_time() }
    }
}

/// What makes a task run by itself.
#[derive(Debug, Clone)]
pub enum When {
    /// The clock.
    Schedule(Box<DueTimes>),
    /// Each completed run of the task with this key.
    After(String),
}

/// A task that runs by itself.
#[derive(Debug, Clone)]
pub struct ScheduledTask {
    /// What it is known by, also after a restart.
    pub key: String,
    /// What makes it run.
    pub when: When,
    /// The parts of the day in which it may begin.
    pub allowed: Windows,
    /// What becomes of slots at which it could not run.
    pub missed: MissedPolicy,
    /// By how much it may begin later than it is due.
    pub jitter: Duration,
    /// What follows when it fails.
    pub retry: RetrySettings,
    /// Whose pause holds it; [`SUBJECT_ALL`] always does.
    pub subjects: Vec<String>,
    /// It removes something because of its age: it is held while the clock is not believed.
    pub prunes: bool,
}

impl ScheduledTask {
    /// A task that nothing but [`SUBJECT_ALL`] holds, and that prunes nothing.
    ///
    /// # Errors
    /// When there is no zone as the settings name it.
    pub fn new(key: String, when: When, timing: &TimingSettings) -> Result<Self, ScheduleError> {
        Ok(Self {
            key,
            when,
            allowed: Windows::new(&timing.allowed, &timing.timezone)?,
            missed: timing.missed,
            jitter: timing.jitter,
            retry: timing.retry,
            subjects: Vec::new(),
            prunes: false,
        })
    }

    /// How it is scheduled, in words.
    pub fn schedule(&self) -> String {
        match &self.when {
            When::Schedule(due) => due.text().to_owned(),
            When::After(key) => format!("after {key}"),
        }
    }
}

/// What is to be done now. It counts only once it is written, see [`record`](super::record).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Begin a run.
    Start(Start),
    /// Slots lead to no run.
    Skip(Skip),
    /// A task is scheduled from now on, or in another way than before.
    Since {
        /// Its key.
        key: String,
        /// How it is scheduled, in words.
        schedule: String,
        /// Since when.
        since: Timestamp,
    },
    /// A task is not scheduled any more.
    Gone {
        /// Its key.
        key: String,
    },
    /// The clock went back: slots after this instant lie in a future that did not come.
    SetAside {
        /// The instant.
        after: Timestamp,
    },
    /// How the clock stands.
    NoteClock(super::ClockMark),
}

/// A run that is to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// The key of its task.
    pub key: String,
    /// The slot: when it was due, in whole seconds.
    pub due: Timestamp,
    /// Why it begins.
    pub trigger: RunTrigger,
    /// The number of the try, from 1.
    pub attempt: u32,
    /// What was decided up to before this.
    pub(super) decided_before: Timestamp,
}

/// Slots that lead to no run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skip {
    /// The key of their task.
    pub key: String,
    /// The first of them.
    pub first: Timestamp,
    /// The last of them.
    pub last: Timestamp,
    /// How many, within the last eleven years; at least 1.
    pub count: u64,
    /// Why.
    pub reason: SkipReason,
    /// What was decided up to before this.
    pub(super) decided_before: Timestamp,
}

/// Why slots lead to no run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SkipReason {
    /// The run before still went on or waited.
    StillRunning,
    /// A newer slot runs instead.
    CoveredBy(Timestamp),
    /// Nothing could run then, and such slots are not caught up.
    Missed,
    /// It was not allowed at that time of the day.
    NotAllowed,
    /// It was paused.
    Paused {
        /// By the pause of this subject.
        subject: String,
    },
    /// The clock jumped over them.
    ClockJumped,
    /// The clock is not believed, and nothing is pruned by such a clock.
    ClockDoubted,
    /// The schedule was changed before they were begun.
    Rescheduled,
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StillRunning => f.write_str("the run before was still going"),
            Self::CoveredBy(due) => write!(f, "covered by the run of {due}"),
            Self::Missed => f.write_str("missed: nothing could run then"),
            Self::NotAllowed => f.write_str("not allowed at that time of the day"),
            Self::Paused { subject } if subject == SUBJECT_ALL => f.write_str("paused"),
            Self::Paused { subject } => write!(f, "paused: {subject}"),
            Self::ClockJumped => f.write_str("the clock jumped"),
            Self::ClockDoubted => f.write_str("nothing is pruned while the clock is in doubt"),
            Self::Rescheduled => f.write_str("the schedule was changed before it began"),
        }
    }
}

/// A run that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// The slot that it belonged to; `None`: to none.
    pub due: Option<Timestamp>,
    /// The number of the try, from 1.
    pub attempt: u32,
    /// How it ended.
    pub outcome: Outcome,
}

/// How a run ended, for what follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All was done, or there was nothing to do.
    Completed,
    /// It failed, and may succeed when it is tried again.
    Retryable,
    /// It failed, or somebody ended it: trying again does not help, or is not wanted.
    Final,
}

/// What a task waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upcoming {
    /// The key of the task.
    pub key: String,
    /// The slot that is due next, or was due already and has not begun.
    pub due: Option<Timestamp>,
    /// When that begins, as far as it is known.
    pub start: Option<Timestamp>,
    /// It is the next try of a run that failed.
    pub is_retry: bool,
    /// The subject whose pause holds it.
    pub paused: Option<String>,
}

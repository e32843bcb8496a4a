//! What is kept of a run.

use crate::progress::{Counts, Step};
use crate::units::{Name, PointId, RunId};

/// What a run did.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum RunKind {
    /// Backed a machine up.
    Backup,
    /// Brought a replica to a newer point.
    Replicate,
    /// Wrote a point out.
    Restore,
    /// Compared a replica, a point or a repository with what it must be.
    Verify,
    /// Removed points that need not be kept.
    Prune,
    /// Returned the space that nothing needs.
    Gc,
    /// Healed damage or set it apart.
    Repair,
    /// Copied points to another repository.
    Copy,
}

impl RunKind {
    /// As it stands in the history.
    pub fn word(self) -> String {
        format!("{self:?}").to_lowercase()
    }
}

/// How a run ended.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum RunStatus {
    /// Waits for its turn.
    Queued,
    /// Under way, or cut off.
    Running,
    /// All was done.
    Completed,
    /// There was nothing to do.
    Skipped,
    /// Nothing was acknowledged.
    Failed,
    /// Part was done.
    Incomplete,
}

impl RunStatus {
    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Skipped => "skipped",
            Self::Failed => "failed",
            Self::Incomplete => "incomplete",
        }
    }

    /// Whether it may still change.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Queued | Self::Running)
    }
}

/// The durable record of a run.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct RunRecord {
    /// Its identity.
    pub id: RunId,
    /// What it did.
    pub kind: RunKind,
    /// The repository, of what is done to a whole one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<Name>,
    /// The machine.
    pub machine: Option<Name>,
    /// The replica.
    pub replica: Option<Name>,
    /// When it began; of one that waits, since when.
    pub started: jiff::Timestamp,
    /// Why it was begun.
    #[serde(flatten)]
    pub origin: RunOrigin,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: RunOutcome,
}

/// What makes a run begin.
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
#[serde(rename_all = "kebab-case")]
pub enum RunTrigger {
    /// Somebody asked for it.
    #[default]
    Manual,
    /// Its schedule.
    Schedule,
    /// Its schedule, while nothing could be run.
    CatchUp,
    /// A backup of its machine.
    AfterBackup,
    /// A run of the same slot failed.
    Retry,
}

/// Why and where a run was begun.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct RunOrigin {
    /// What made it begin.
    #[serde(default)]
    pub trigger: RunTrigger,
    /// The instant that it was due at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<jiff::Timestamp>,
    /// Which try it is of what was due, from 1; 0 where nothing counts them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub attempt: u32,
    /// Who asked for it: a token or a user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// What was asked for, as it can be asked for again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<serde_json::Value>,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct RunOutcome {
    /// In a word.
    pub status: RunStatus,
    /// When; `None` while it runs.
    pub ended: Option<jiff::Timestamp>,
    /// The point that it made or used.
    pub point: Option<PointId>,
    /// What it moved.
    #[serde(flatten)]
    pub counts: Counts,
    /// Why it failed or was skipped.
    pub reason: Option<String>,
    /// How it was done, where there is more than one way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// What a command that is this run exits with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<u8>,
    /// It failed or was stopped, and doing the same again may help.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub may_retry: bool,
    /// What the user should know although it did not stop the run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// What it did, one after the other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
}

impl RunOutcome {
    /// Of a run that did not end yet.
    pub fn open(status: RunStatus) -> Self {
        Self {
            status,
            ended: None,
            point: None,
            counts: Counts::default(),
            reason: None,
            detail: None,
            exit: None,
            may_retry: false,
            warnings: Vec::new(),
            steps: Vec::new(),
        }
    }
}

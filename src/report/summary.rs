//! How a run, or a whole command, ended.

use super::MissingDisk;
use crate::catalog::{RunKind, RunStatus};
use crate::extent::Extent;
use crate::progress::Counts;
use crate::units::{Name, PointId, RunId, Sequence, SlotId};
use zeroize::Zeroizing;

/// What was done.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// A repository was created.
    Init,
    /// The settings were checked.
    ConfigCheck,
    /// A machine was backed up.
    Backup,
    /// A replica was brought to a newer point.
    Replicate,
    /// A point was written out.
    Restore,
    /// A replica was compared with its point.
    Verify,
    /// Points were listed.
    Points,
    /// The state of everything was told.
    Status,
    /// Metrics were told.
    Metrics,
    /// A catalog was built anew.
    CatalogRebuild,
    /// A catalog was compared with its repository.
    CatalogCheck,
    /// Points that need not be kept were removed.
    Prune,
    /// Space that nothing needs was returned.
    Gc,
    /// Damage was healed or set apart.
    Repair,
    /// Points were copied to another repository.
    Copy,
    /// Costs were told.
    Stats,
    /// Keys were listed or changed.
    Key,
    /// A point was pinned or unpinned.
    Pin,
    /// Manual pages or completions were written.
    Generate,
    /// The demonstration ran.
    Demo,
    /// Tokens were made, listed or revoked.
    Token,
    /// The audit log was read.
    Audit,
    /// Test messages were sent.
    NotifyTest,
    /// Runs were listed.
    Runs,
    /// A run was shown or asked to stop.
    Run,
    /// It was told what runs next.
    Schedule,
    /// Something was paused.
    Pause,
    /// Something goes on that was paused.
    Resume,
    /// The daemon was shown or told something.
    Daemon,
}

impl From<RunKind> for Action {
    fn from(kind: RunKind) -> Self {
        match kind {
            RunKind::Backup => Self::Backup,
            RunKind::Replicate => Self::Replicate,
            RunKind::Restore => Self::Restore,
            RunKind::Verify => Self::Verify,
            RunKind::Prune => Self::Prune,
            RunKind::Gc => Self::Gc,
            RunKind::Repair => Self::Repair,
            RunKind::Copy => Self::Copy,
        }
    }
}

/// How a run ended; with `runs`, how all runs of a command did.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Summary {
    /// The run, where there is a record of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    /// What was done.
    pub kind: Action,
    /// How it ended.
    pub status: RunStatus,
    /// The repository, of what is done to a whole one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<Name>,
    /// The machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<Name>,
    /// The replica.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica: Option<Name>,
    /// The point that was made or used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub point: Option<PointId>,
    /// Its position in the machine's history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<Sequence>,
    /// What was moved.
    #[serde(flatten)]
    pub counts: Counts,
    /// How long it took, in seconds.
    pub duration_s: f64,
    /// When it began.
    pub started: jiff::Timestamp,
    /// When it ended.
    pub ended: jiff::Timestamp,
    /// Why it failed or was skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How it was done, where there is more than one way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The key slot that was added or removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<SlotId>,
    /// A new recovery key. It is told here and nowhere else, once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub recovery_key: Option<RecoveryKeyText>,
    /// What the user should know although it did not stop the run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Bytes of the repository that were given back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_freed: Option<u64>,
    /// What differs, of a replica that was verified.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differing: Vec<DifferingDisk>,
    /// How many points went, of a prune.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub points_removed: Option<usize>,
    /// How many points stayed, of a prune.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub points_kept: Option<usize>,
    /// What could not be read, of a point that was restored all the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<MissingDisk>,
    /// How many runs ended how, of a command that had any number of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runs: Option<Tally>,
}

impl Summary {
    /// A summary of something that is `kind`, began at `started` and ends now.
    pub fn new(kind: Action, status: RunStatus, started: jiff::Timestamp) -> Self {
        let ended = jiff::Timestamp::now();
        Self {
            run: None,
            kind,
            status,
            repository: None,
            machine: None,
            replica: None,
            point: None,
            sequence: None,
            counts: Counts::default(),
            // A clock that was set back meanwhile gives no negative duration.
            duration_s: (ended.duration_since(started).as_secs_f64()).max(0.0),
            started,
            ended,
            reason: None,
            detail: None,
            slot: None,
            recovery_key: None,
            warnings: Vec::new(),
            bytes_freed: None,
            differing: Vec::new(),
            points_removed: None,
            points_kept: None,
            missing: Vec::new(),
            runs: None,
        }
    }
}

/// A recovery key, as it is shown to the one who has to keep it. `Debug` hides it, so that it does
/// not get into a log.
#[derive(Clone, PartialEq, Eq)]
pub struct RecoveryKeyText(pub Zeroizing<String>);

impl std::fmt::Debug for RecoveryKeyText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RecoveryKeyText")
    }
}

impl serde::Serialize for RecoveryKeyText {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for RecoveryKeyText {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Zeroizing::new(text)))
    }
}

/// How many runs ended how.
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
pub struct Tally {
    /// All was done.
    pub completed: usize,
    /// There was nothing to do.
    pub skipped: usize,
    /// Part was done.
    pub incomplete: usize,
    /// Nothing was done.
    pub failed: usize,
}

impl Tally {
    /// One more.
    pub fn count(&mut self, status: RunStatus) {
        match status {
            RunStatus::Completed => self.completed += 1,
            RunStatus::Skipped => self.skipped += 1,
            RunStatus::Queued | RunStatus::Running | RunStatus::Incomplete => self.incomplete += 1,
            RunStatus::Failed => self.failed += 1,
        }
    }

    /// How all of them together ended.
    pub fn status(&self) -> RunStatus {
        let good = self.completed + self.skipped;
        match (good, self.incomplete, self.failed) {
            (0, 0, 1..) => RunStatus::Failed,
            (_, 1.., _) | (_, _, 1..) => RunStatus::Incomplete,
            _ if self.completed == 0 && self.skipped > 0 => RunStatus::Skipped,
            _ => RunStatus::Completed,
        }
    }
}

/// What differs on a disk.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct DifferingDisk {
    /// The disk.
    pub disk: Name,
    /// How many bytes differ.
    pub differing_bytes: u64,
    /// The first ranges that do.
    pub ranges: Vec<Range>,
}

/// A range of a disk, in bytes.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema,
)]
pub struct Range {
    /// First byte.
    pub start: u64,
    /// First byte past it.
    pub end: u64,
}

impl From<Extent> for Range {
    fn from(extent: Extent) -> Self {
        Self { start: extent.start(), end: extent.end() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_is_failed_only_when_all_failed() {
        let status = |completed, skipped, incomplete, failed| {
            Tally { completed, skipped, incomplete, failed }.status()
        };
        assert_eq!(status(0, 0, 0, 2), RunStatus::Failed);
        assert_eq!(status(1, 0, 0, 1), RunStatus::Incomplete);
        assert_eq!(status(0, 1, 0, 1), RunStatus::Incomplete);
        assert_eq!(status(1, 0, 1, 0), RunStatus::Incomplete);
        assert_eq!(status(0, 2, 0, 0), RunStatus::Skipped);
        assert_eq!(status(1, 1, 0, 0), RunStatus::Completed);
        assert_eq!(status(0, 0, 0, 0), RunStatus::Completed);
    }
}

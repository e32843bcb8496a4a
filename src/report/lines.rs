//! Points, plans and the state of things.

use super::{ObjectiveLine, VerifiedLine};
use crate::catalog::{PointVerified, RunStatus};
use crate::point::{Consistency, Point};
use crate::store::{SlotKind, SlotLabel};
use crate::units::{Name, PointId, RepositoryId, RunId, Sequence, SlotId};
use jiff::Timestamp;

/// How far a run is.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Activity {
    /// What is being done: `backup of web01`.
    pub work: String,
    /// Bytes done of those known so far.
    pub bytes_done: u64,
    /// Bytes to do that are known so far.
    pub bytes_total: u64,
    /// How long it has taken, in seconds.
    pub elapsed_s: f64,
}

/// A line of the demonstration.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct StepLine {
    /// Number of the step, from 1.
    pub step: u32,
    /// Whether it begins the step, or tells a result within it.
    pub heading: bool,
    /// What happens, or what was found.
    pub text: String,
}

/// A recovery point.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct PointLine {
    /// The repository that has it, by its name in the settings.
    pub repository: Name,
    /// The machine.
    pub machine: Name,
    /// Its name.
    pub point: PointId,
    /// Its position in the machine's history.
    pub sequence: Sequence,
    /// The instant that it holds.
    pub time: Timestamp,
    /// The point before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<PointId>,
    /// How well it fits together.
    pub consistency: Consistency,
    /// Its disks.
    pub disks: Vec<DiskLine>,
    /// The host that made it.
    pub host: String,
    /// The run that made it.
    pub run: RunId,
    /// The pins that keep it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pins: Vec<PinLine>,
    /// Until when it cannot be removed, where that is still to come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locked_until: Option<Timestamp>,
    /// What its last verification says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified: Option<VerifiedLine>,
}

/// A pin of a point.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct PinLine {
    /// Why, in the user's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// When it was pinned.
    pub created: Timestamp,
    /// On which host.
    pub host: String,
}

/// What becomes of a point when its machine is pruned.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PruneDecision {
    /// The machine.
    pub machine: Name,
    /// The point.
    pub point: PointId,
    /// Its position in the machine's history.
    pub sequence: Sequence,
    /// The instant that it holds.
    pub time: Timestamp,
    /// Whether it stays.
    pub keep: bool,
    /// All that keeps it; empty when it goes.
    pub reasons: Vec<String>,
}

impl PointLine {
    /// What is told of `point`, which is in `repository`.
    pub fn new(repository: &Name, point: &Point) -> Self {
        let manifest = &point.manifest;
        let disks = manifest.disks.iter();
        Self {
            repository: repository.clone(),
            machine: manifest.machine.clone(),
            point: point.id,
            sequence: manifest.sequence,
            time: manifest.time,
            parent: manifest.parent,
            consistency: manifest.consistency,
            disks: disks
                .map(|disk| DiskLine { name: disk.name.clone(), size_bytes: disk.size_bytes })
                .collect(),
            host: manifest.host.clone(),
            run: manifest.run,
            pins: Vec::new(),
            locked_until: None,
            verified: None,
        }
    }

    /// With what its last verification says.
    #[must_use]
    pub fn with_verified(mut self, verified: Option<&PointVerified>) -> Self {
        self.verified = verified.map(|verified| VerifiedLine {
            time: verified.time,
            how: verified.how.word().to_owned(),
            good: verified.is_good,
            damaged_bytes: verified.damaged_bytes,
        });
        self
    }

    /// Size of all disks together, in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.disks.iter().map(|disk| disk.size_bytes).fold(0, u64::saturating_add)
    }
}

/// A disk of a point.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct DiskLine {
    /// Its name.
    pub name: Name,
    /// Its size in bytes.
    pub size_bytes: u64,
}

/// A point, in short.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema,
)]
pub struct PointAt {
    /// Its name.
    pub point: PointId,
    /// Its position in the machine's history.
    pub sequence: Sequence,
    /// The instant that it holds.
    pub time: Timestamp,
}

/// The last run of its kind.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct LastRun {
    /// The run.
    pub run: RunId,
    /// How it ended, or how far it is.
    pub status: RunStatus,
    /// When it began.
    pub started: Timestamp,
    /// Why it failed or was skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whether its process died before it ended.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut_off: bool,
}

/// The state of a machine.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct MachineStatus {
    /// The machine.
    pub machine: Name,
    /// Where its points are.
    pub repository: Name,
    /// How many points it has, where that could be found out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub points: Option<usize>,
    /// The newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<PointAt>,
    /// How long ago that was, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_s: Option<u64>,
    /// The last backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run: Option<LastRun>,
    /// How well its objective is met, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objective: Option<ObjectiveLine>,
}

/// The state of a replica.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct ReplicaStatus {
    /// The replica.
    pub replica: Name,
    /// The machine that it follows.
    pub machine: Name,
    /// `never seeded`, `seeding`, `clean`, `applying`, `promoted` or `unknown`.
    pub state: String,
    /// The sync point; while `seeding`, the one that it will be at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<PointAt>,
    /// Whether that is a capture of its machine, which no repository has.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub direct: bool,
    /// How many newer points there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag_points: Option<usize>,
    /// How much older it is than the newest point, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag_s: Option<u64>,
    /// Bytes that changed in these points.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag_bytes: Option<u64>,
    /// The last replication.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run: Option<LastRun>,
    /// How well its objective is met, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objective: Option<ObjectiveLine>,
    /// Why its state is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// The state of a repository.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct RepositoryStatus {
    /// Its name in the settings.
    pub repository: Name,
    /// Its folder.
    pub path: String,
    /// Whether it could be opened and listed.
    pub reachable: bool,
    /// Its identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<RepositoryId>,
    /// How many points it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub points: Option<usize>,
    /// How many packs it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packs: Option<usize>,
    /// What they take, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packs_bytes: Option<u64>,
    /// What is free where it is, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free_bytes: Option<u64>,
    /// How many points cannot be restored in full, as far as verifications found.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub damaged_points: usize,
    /// Packs and points that cannot be read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub damages: Vec<String>,
    /// Why it could not be reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// A key slot of a repository.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct KeySlotLine {
    /// The repository, by its name in the settings.
    pub repository: Name,
    /// The slot.
    pub slot: SlotId,
    /// What opens it.
    pub kind: SlotKind,
    /// When it was made.
    pub created: Timestamp,
    /// What people call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<SlotLabel>,
    /// Whether the key of the settings opens it, where that could be tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opens: Option<bool>,
    /// What is wrong with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// A disk or file that a restore will write.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PlanLine {
    /// The disk, or the file of the definition.
    pub name: Name,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// Where it will be.
    pub path: String,
    /// Whether something is there already, which will be lost.
    pub overwrites: bool,
}

/// Something in the settings file that is wrong, or that the user should know.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct SettingsLine {
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1, in characters.
    pub column: usize,
    /// What is wrong, in one sentence without an end.
    pub message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

//! What a verification of a repository found.

use super::Range;
use crate::units::{Name, ObjectName, PackName, PointId, Sequence};
use jiff::Timestamp;

/// Something that is damaged, and what depends on it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct DamageLine {
    /// The repository.
    pub repository: Name,
    /// `pack`, `lost pack`, `manifest`, `lost point`, `foreign file`, …
    pub kind: String,
    /// The file, below the repository's folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The pack.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pack: Option<PackName>,
    /// What is wrong with it.
    pub reason: String,
    /// How many chunks, leaves and nodes are damaged.
    pub object_count: usize,
    /// The first of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<ObjectName>,
    /// Points that cannot be restored in full because of it.
    pub points: Vec<PointLabel>,
    /// Set where it was not found out which: that needs the keys.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub points_unknown: bool,
    /// Replicas that are at one of these points, or on the way to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replicas: Vec<Name>,
}

/// A point, as people and programs know it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct PointLabel {
    /// Its machine, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<Name>,
    /// Its position in the machine's history, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<Sequence>,
    /// Its name.
    pub point: PointId,
}

impl std::fmt::Display for PointLabel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.machine, self.sequence) {
            (Some(machine), Some(sequence)) => {
                write!(f, "{machine} #{} ({})", sequence.0, self.point.short())
            }
            _ => write!(f, "{}", self.point.short()),
        }
    }
}

/// A point that cannot be restored in full.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct DamagedPointLine {
    /// The repository.
    pub repository: Name,
    /// The point.
    #[serde(flatten)]
    pub label: PointLabel,
    /// Why its manifest cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<String>,
    /// Bytes of its disks that cannot be read.
    pub damaged_bytes: u64,
    /// Where they stand.
    pub disks: Vec<MissingDisk>,
    /// Replicas that are at this point, or on the way to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replicas: Vec<Name>,
}

/// What of a disk, or of a file of the definition, cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct MissingDisk {
    /// Its name.
    pub disk: Name,
    /// How many bytes.
    pub missing_bytes: u64,
    /// The first ranges.
    pub ranges: Vec<Range>,
}

/// What the last verification that counts says of a point.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct VerifiedLine {
    /// When.
    pub time: Timestamp,
    /// `all`, `sample` or `point`.
    pub how: String,
    /// Whether no damage was found.
    pub good: bool,
    /// Bytes of its disks that could not be read.
    pub damaged_bytes: u64,
}

//! What repositories, machines and points cost.

use crate::units::{Name, PointId, Sequence};
use jiff::Timestamp;

/// What is told of.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum UsageScope {
    /// A whole repository.
    Repository,
    /// All points of a machine.
    Machine,
    /// One point.
    Point,
}

/// What something costs.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct UsageLine {
    /// What is told of.
    pub scope: UsageScope,
    /// The repository, by its name in the settings.
    pub repository: Name,
    /// The machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<Name>,
    /// The point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub point: Option<PointId>,
    /// Its position in the machine's history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<Sequence>,
    /// The instant that it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Timestamp>,
    /// How many points there are.
    pub points: usize,
    /// Size of all disks, of all these points together.
    pub logical_bytes: u64,
    /// What of that is data.
    pub data_bytes: u64,
    /// What they need in packs.
    pub stored_bytes: u64,
    /// What of that nothing else needs: removing them would free it.
    pub unique_bytes: u64,
    /// What of that something else needs too.
    pub shared_bytes: u64,
    /// What of that are trees, not content.
    pub tree_bytes: u64,
    /// How many times less chunks there are than data.
    pub dedup_ratio: f64,
    /// How many times less the chunks take stored.
    pub compression_ratio: f64,
    /// What only a whole repository has.
    #[serde(flatten, default, skip_serializing_if = "Option::is_none")]
    pub packs: Option<PacksUsage>,
}

/// What the packs of a repository hold besides. In the document of the API none of it is required: it
/// stands beside what every line has.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema,
)]
pub struct PacksUsage {
    /// All packs.
    #[schema(required = false)]
    pub packs_bytes: u64,
    /// What no point needs, and further copies of what one needs.
    #[schema(required = false)]
    pub garbage_bytes: u64,
    /// Headers and trailers.
    #[schema(required = false)]
    pub overhead_bytes: u64,
    /// Chunks that points refer to and no pack holds.
    #[schema(required = false)]
    pub missing_chunks: u64,
}

//! Numbers and names that must not be confused with each other.

mod breakage;
mod digest;
mod format;
mod hex;
mod ids;
mod keep;
mod name;
mod random;
mod readable;
mod schema;
mod window;

pub use breakage::{Breakage, is_broken};
#[cfg(feature = "simulation")]
pub use breakage::{break_as_told, break_here, break_on_purpose, broken_here};
pub use digest::{
    ChunkName, DIGEST_BYTES, HoldId, JournalDigest, ListId, ObjectName, PackName, PointId,
    RemovalId, SettingsDigest, TreeName,
};
pub use format::{format_bytes, format_count, format_duration, parse_bytes};
pub use hex::{Hex, ParseHexError};
pub use ids::{DiskId, MachineId, NotificationId, ReplicaId, RepositoryId, RunId, SlotId};
pub use keep::Keep;
pub use name::{InvalidName, NAME_CHARS_MAX, Name};
pub use random::fill_random;
#[cfg(feature = "simulation")]
pub use random::seed_random;
pub use readable::{printable, readable};
pub use window::{DAY_MINUTES, RateRule, Window};

/// One kibibyte in bytes.
pub const KIB: u64 = 1024;
/// One mebibyte in bytes.
pub const MIB: u64 = 1024 * KIB;
/// One gibibyte in bytes.
pub const GIB: u64 = 1024 * MIB;

/// The largest disk that any part of afterimage handles, in bytes: what a signed file offset
/// can address, rounded down to a page.
pub const DISK_BYTES_MAX: u64 = (i64::MAX as u64) & !4095;

/// Position of a region in its disk, counted in regions from the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegionIndex(pub u64);

/// Position of a point in the history of its machine; the first is 1.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct Sequence(pub u64);

/// Generation of a replica's ownership; the highest wins.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct Epoch(pub u64);

/// Number of a list of condemned packs; the highest counts.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(transparent)]
pub struct CollectionEpoch(pub u64);

//! What a verification finds.

use crate::extent::Extent;
use crate::point::Point;
use crate::store::Location;
use crate::units::{Name, ObjectName, PackName, PointId};
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// Objects that a finding lists one by one; all are counted.
pub(super) const OBJECTS_LISTED_MAX: usize = 100;
/// Ranges of a disk that a verdict lists one by one; all are counted.
const RANGES_LISTED_MAX: usize = 1000;

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FindingKind {
    /// The header's bytes are not those that were written.
    Header,
    /// A key slot.
    Key,
    /// A manifest.
    Manifest,
    /// A point that was there is gone, and nobody removed it.
    LostPoint,
    /// A pack.
    Pack,
    /// A pack that was there is gone.
    LostPack,
    /// Objects that points need are in no pack.
    LostObjects,
    /// A leaf or node that decodes, but does not fit where it stands.
    Tree,
    /// Another file that is named by its content.
    Document,
    /// Another file that was there is gone, and this host did not remove it.
    LostDocument,
    /// A file that does not belong where it is. No point needs it.
    Foreign,
}

impl FindingKind {
    /// In words, for messages.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Header => "header",
            Self::Key => "key slot",
            Self::Manifest => "manifest",
            Self::LostPoint => "lost point",
            Self::Pack => "pack",
            Self::LostPack => "lost pack",
            Self::LostObjects => "lost objects",
            Self::Tree => "tree",
            Self::Document => "document",
            Self::LostDocument => "lost document",
            Self::Foreign => "foreign file",
        }
    }
}

/// One damage, and what depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What is wrong.
    pub kind: FindingKind,
    /// The file, below the repository's folder; empty when there is none.
    pub file: String,
    /// The pack.
    pub pack: Option<PackName>,
    /// What is wrong with it.
    pub reason: String,
    /// The first damaged objects.
    pub objects: Vec<ObjectName>,
    /// How many objects are damaged.
    pub object_count: usize,
    /// Points that cannot be read in full because of it; of a pin or lock, the point that it
    /// keeps.
    pub points: BTreeSet<PointId>,
}

impl Finding {
    pub(super) fn new(
        kind: FindingKind,
        file: impl Into<String>,
        reason: impl Into<String>,
    ) -> Self {
        let (file, reason) = (file.into(), reason.into());
        let (objects, points) = Default::default();
        Self { kind, file, pack: None, reason, objects, object_count: 0, points }
    }

    pub(super) fn pack(kind: FindingKind, pack: PackName, reason: impl Into<String>) -> Self {
        let file = format!("packs/{:02x}/{pack}", pack.0[0]);
        Self { pack: Some(pack), ..Self::new(kind, file, reason) }
    }

    pub(super) fn point(kind: FindingKind, id: PointId, reason: impl Into<String>) -> Self {
        let points = [id].into();
        Self { points, ..Self::new(kind, format!("points/{id}"), reason) }
    }

    pub(super) fn add_object(&mut self, name: ObjectName) {
        self.object_count += 1;
        if self.objects.len() < OBJECTS_LISTED_MAX {
            self.objects.push(name);
        }
    }
}

/// What of a disk, or of a file of the definition, cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HarmedDisk {
    /// Its name.
    pub name: Name,
    /// How many bytes.
    pub damaged_bytes: u64,
    /// The first ranges, in ascending order.
    pub ranges: Vec<Extent>,
}

impl HarmedDisk {
    pub(super) fn new(name: Name) -> Self {
        Self { name, damaged_bytes: 0, ranges: Vec::new() }
    }

    pub(super) fn add(&mut self, range: Extent) {
        self.damaged_bytes += range.len();
        let touches = self.ranges.last().is_some_and(|last| last.end() == range.start());
        if touches || self.ranges.len() < RANGES_LISTED_MAX {
            crate::extent::push_joined(&mut self.ranges, range);
        }
    }
}

/// What was found of one point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PointVerdict {
    /// Its name.
    pub id: PointId,
    /// Its manifest, where that can be read or is remembered.
    pub point: Option<Point>,
    /// Why its manifest cannot be read.
    pub unreadable: Option<String>,
    /// Disks and files that cannot be read in full.
    pub harmed: Vec<HarmedDisk>,
}

impl PointVerdict {
    /// Whether everything of it can be read, as far as is known.
    pub fn is_good(&self) -> bool {
        self.unreadable.is_none() && self.harmed.is_empty()
    }

    /// Bytes of its disks that cannot be read.
    pub fn damaged_bytes(&self) -> u64 {
        match (&self.point, &self.unreadable) {
            (Some(point), Some(_)) => {
                point.manifest.trees().map(|tree| tree.size_bytes).fold(0, u64::saturating_add)
            }
            _ => self.harmed.iter().map(|disk| disk.damaged_bytes).sum(),
        }
    }
}

/// What a verification of a repository found.
#[derive(Debug, Clone, Default)]
pub struct Verdict {
    /// What is damaged.
    pub findings: Vec<Finding>,
    /// Each point that was looked at.
    pub points: Vec<PointVerdict>,
    /// Packs that were read whole and are good.
    pub good_packs: Vec<PackName>,
    /// Bytes of packs that were read.
    pub bytes_read: u64,
    /// Bytes of all packs.
    pub bytes_total: u64,
    /// What the user should know, although it harms no point.
    pub warnings: Vec<String>,
    /// What could not be looked at, and why.
    pub unchecked: Vec<String>,
    /// Files that were set apart earlier, and their bytes.
    pub quarantined: (usize, u64),
    /// Objects that points need and that cannot be read.
    pub(super) wanted: HashSet<ObjectName>,
    /// Regions in which they stand, by machine and disk.
    pub(super) regions: BTreeMap<(Name, Name), BTreeSet<u64>>,
    /// What the catalog knew of packs that are gone or have another length now.
    pub(super) forgotten: Vec<Location>,
}

impl Verdict {
    /// Whether nothing is damaged, as far as was looked.
    pub fn is_good(&self) -> bool {
        self.findings.is_empty()
    }
}

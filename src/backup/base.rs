//! What a backup may build on: the parent's trees, where it is known what changed since.
//!
//! Invariants: a base is used only if every object of the parent lies where a new point may rely on
//! it; whatever is in doubt is read in full.

use super::{BackupError, BackupRequest};
use crate::capture::{self, Captured};
use crate::catalog::{Catalog, Distrust, SourcesAt, Tracking};
use crate::extent::Extent;
use crate::fsio::boot_id;
use crate::point::{DiskEntry, Point, Provenance, TreeReader, TreeRef, TreeVisitor};
use crate::source::{Changed, ChangedExtents, DiskBase, Evidence, HandedOver, Source, Untold};
use crate::store::{Repository, StoreError};
use crate::units::{ChunkName, Name, ObjectName, PointId, TreeName};
use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

/// Where disks may have changed, as far as the caller knows.
#[derive(Debug, Clone, Default)]
pub struct ChangeHints {
    /// Lists that were handed over, by disk. They go before everything else.
    pub lists: BTreeMap<Name, HandedOver>,
    /// What was noted of the capture when a point was made.
    pub sources: Option<SourcesAt>,
    /// Everything is read, whatever is known.
    pub read_everything: bool,
    /// How far it is proved that the disks' sources tell of all changes.
    pub tracking: BTreeMap<Name, Tracking>,
    /// How long ago a disk may have been read in full for the last time; for ever, where this is
    /// `None`. What was told of it is then held against what it holds.
    pub full_read_every: Option<Duration>,
}

impl ChangeHints {
    /// Whether a disk is to be read in full, to see whether its source tells of all changes.
    fn is_due(&self, disk: &Name, now: jiff::Timestamp) -> bool {
        let Some(every) = self.full_read_every else { return false };
        let last = self.tracking.get(disk).and_then(|tracking| tracking.full_read);
        // A clock that was set back proves nothing.
        last.is_none_or(|last| now.duration_since(last).unsigned_abs() >= every || now < last)
    }

    fn distrust(&self, disk: &Name) -> Option<&Distrust> {
        self.tracking.get(disk)?.distrust.as_ref()
    }

    /// What was noted with this point, and still counts.
    fn bases(&self, point: PointId) -> capture::Bases {
        let Some(noted) = self.sources.as_ref().filter(|noted| noted.point == point) else {
            return capture::Bases::new();
        };
        let same_boot = noted.boot_id.is_some() && noted.boot_id == boot_id();
        let counts = |base: &DiskBase| same_boot || base.outlives_boot();
        let bases = noted.disks.iter().filter(|(_, base)| counts(base));
        bases.map(|(disk, base)| (disk.clone(), base.clone())).collect()
    }
}

/// How a disk was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskRead {
    /// The disk.
    pub disk: Name,
    /// How it was known what changed.
    pub provenance: Provenance,
    /// Why a list that was handed over, or what was known of the files, did not count.
    pub in_full_because: Option<String>,
    /// What changed although nothing told of it.
    pub untold: Untold,
}

/// What a disk's new tree is built upon.
#[derive(Debug)]
pub(super) struct Base {
    pub tree: TreeRef,
    /// Where it may differ: sorted, disjoint, within the disk.
    pub changed: Vec<Extent>,
    pub evidence: Evidence,
}

impl Base {
    pub fn provenance(&self) -> Provenance {
        match self.evidence {
            Evidence::Unmodified => Provenance::Unmodified,
            Evidence::Overlay => Provenance::Overlay,
            Evidence::List => Provenance::List,
            Evidence::Bitmap => Provenance::Bitmap,
            Evidence::Reflink => Provenance::Reflink,
            Evidence::Snapshot => Provenance::Snapshot,
        }
    }
}

/// The base of each disk, or why there is none.
pub(super) struct Bases<'a> {
    repository: &'a Repository,
    catalog: &'a Catalog,
    hints: &'a ChangeHints,
    parent: Option<&'a Point>,
    now: jiff::Timestamp,
    /// What the parent's capture left.
    noted: capture::Bases,
    /// Whether the parent can be relied on, once that was looked at.
    is_reliable: Option<bool>,
}

impl<'a> Bases<'a> {
    pub fn new(
        repository: &'a Repository,
        catalog: &'a Catalog,
        request: &'a BackupRequest<'_>,
        parent: Option<&'a Point>,
    ) -> Self {
        let hints = &request.hints;
        let noted = parent.map(|parent| hints.bases(parent.id)).unwrap_or_default();
        let now = request.now;
        Self { repository, catalog, hints, parent, now, noted, is_reliable: None }
    }

    /// What the next capture must leave until its point is durable.
    pub fn noted(&self) -> &capture::Bases {
        &self.noted
    }

    /// What `disk` of a capture can be built upon; `Err` with why it is read in full, if that is worth telling.
    pub fn of(
        &mut self,
        captured: &dyn Captured,
        disk: &Name,
        source: &dyn Source,
    ) -> Result<Result<Base, Option<String>>, BackupError> {
        let Some(parent) = self.parent else { return Ok(Err(None)) };
        let Some(entry) = parent.manifest.disk(disk) else { return Ok(Err(None)) };
        let changed = match self.changed(captured, disk, source, parent.id)? {
            Ok(changed) => changed,
            Err(reason) => return Ok(Err(reason)),
        };
        if entry.size_bytes != source.size_bytes() {
            return Ok(Err(Some("its size changed".to_owned())));
        }
        let region_bytes = u64::from(self.repository.header().cut.region_bytes);
        if regions_touched(&changed.extents, region_bytes) > REGIONS_TOUCHED_MAX {
            return Ok(Err(Some("too much of it changed".to_owned())));
        }
        if !self.is_reliable(parent)? {
            let reason = "not everything that the point before refers to can be relied on";
            return Ok(Err(Some(reason.to_owned())));
        }
        let ChangedExtents { extents, evidence } = changed;
        Ok(Ok(Base { tree: entry.tree(), changed: extents, evidence }))
    }

    /// Whether all of a disk is read although it is known what changed.
    pub fn is_due(&self, disk: &Name) -> bool {
        self.hints.is_due(disk, self.now)
    }

    /// The tree of the parent's `disk`, if everything that it refers to is known to be as reliable
    /// as when the parent was made: where a full read finds the same, nothing is looked up.
    pub fn trusted(&self, disk: &Name) -> Result<Option<TreeRef>, BackupError> {
        let Some(parent) = self.parent else { return Ok(None) };
        let is_trusted = match self.is_reliable {
            Some(known) => known,
            None => self.is_noted(parent)?,
        };
        Ok(parent.manifest.disk(disk).map(DiskEntry::tree).filter(|_| is_trusted))
    }

    /// Whether the parent was made here, and nothing was lost since.
    fn is_noted(&self, parent: &Point) -> Result<bool, BackupError> {
        let Some(noted) = &self.hints.sources else { return Ok(false) };
        Ok(noted.point == parent.id && noted.loss_mark == self.catalog.loss_mark()?)
    }

    fn changed(
        &self,
        captured: &dyn Captured,
        disk: &Name,
        source: &dyn Source,
        parent: PointId,
    ) -> Result<Result<ChangedExtents, Option<String>>, BackupError> {
        if self.hints.read_everything {
            return Ok(Err(None));
        }
        if let Some(distrust) = self.hints.distrust(disk) {
            return Ok(Err(Some(format!(
                "what is told of its changes is not believed since {}, when it told of too few",
                distrust.since
            ))));
        }
        if let Some(handed) = self.hints.lists.get(disk) {
            let list = handed.list(&source.files());
            let found = list.and_then(|list| list.within(parent, source.size_bytes()));
            return Ok(found.map_err(Some));
        }
        let Some(base) = self.noted.get(disk) else { return Ok(Err(None)) };
        match captured.changed_since(disk, base).map_err(|e| BackupError::source(disk, e))? {
            Changed::Unknown(reason) => Ok(Err(reason)),
            Changed::Known(changed) => Ok(within(changed, source.size_bytes()).map_err(Some)),
        }
    }

    /// Whether a new point may rely on everything that `parent` refers to. Where the catalog has
    /// lost nothing since `parent` was made, it was looked at then; else all of its trees are
    /// walked, which reads about a four-hundredth of its disks' data.
    fn is_reliable(&mut self, parent: &Point) -> Result<bool, BackupError> {
        if let Some(known) = self.is_reliable {
            return Ok(known);
        }
        let is_reliable = self.is_noted(parent)? || self.is_whole(parent)?;
        self.is_reliable = Some(is_reliable);
        Ok(is_reliable)
    }

    /// The parent turned out not to be reliable.
    pub fn distrust(&mut self) {
        self.is_reliable = Some(false);
    }

    fn is_whole(&self, parent: &Point) -> Result<bool, StoreError> {
        let mut objects = self.repository.reader(self.catalog)?;
        let mut check = Check { catalog: self.catalog, seen: HashSet::new(), asked: Vec::new() };
        for disk in &parent.manifest.disks {
            let walked = TreeReader::new(&mut objects).visit(&disk.tree(), &mut check);
            match walked.and_then(|()| check.ask()) {
                Ok(()) => {}
                Err(Doubt::Unreliable) => return Ok(false),
                Err(Doubt::Store(StoreError::Damaged(_) | StoreError::Unknown { .. })) => {
                    return Ok(false);
                }
                Err(Doubt::Store(error)) => return Err(error),
            }
        }
        Ok(true)
    }
}

/// Changes that a disk of `size_bytes` can have; `Err` with why these are none.
fn within(changed: ChangedExtents, size_bytes: u64) -> Result<ChangedExtents, String> {
    let sorted = changed.extents.windows(2).all(|pair| pair[0].end() < pair[1].start());
    match changed.extents.last().map_or(0, Extent::end) {
        _ if !sorted => Err("what was told of its changes is out of order".to_owned()),
        end if end > size_bytes => {
            Err(format!("changes were told up to byte {end} of a disk of {size_bytes}"))
        }
        _ => Ok(changed),
    }
}

/// More regions are not grafted, to bound memory: 16 TiB of a disk in regions of 16 MiB.
const REGIONS_TOUCHED_MAX: u64 = 1024 * 1024;

/// At most so many regions are touched.
fn regions_touched(extents: &[Extent], region_bytes: u64) -> u64 {
    extents.iter().map(|it| it.end().div_ceil(region_bytes) - it.start() / region_bytes).sum()
}

/// Names asked for at once.
const NAMES_ASKED: usize = 4096;

struct Check<'a> {
    catalog: &'a Catalog,
    /// Tree objects that were entered.
    seen: HashSet<TreeName>,
    asked: Vec<ObjectName>,
}

enum Doubt {
    Unreliable,
    Store(StoreError),
}

impl From<StoreError> for Doubt {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Check<'_> {
    fn ask(&mut self) -> Result<(), Doubt> {
        let names = std::mem::take(&mut self.asked);
        let known = self.catalog.contains(&names).map_err(StoreError::from)?;
        if known.contains(&false) { Err(Doubt::Unreliable) } else { Ok(()) }
    }
}

impl TreeVisitor for Check<'_> {
    type Error = Doubt;

    fn enter(&mut self, name: TreeName) -> Result<bool, Doubt> {
        self.asked.push(name.into());
        Ok(self.seen.insert(name))
    }

    fn chunk(&mut self, name: ChunkName, _: u32) -> Result<(), Doubt> {
        self.asked.push(name.into());
        if self.asked.len() >= NAMES_ASKED { self.ask() } else { Ok(()) }
    }

    fn leave(&mut self, _: TreeName) -> Result<(), Doubt> {
        Ok(())
    }
}

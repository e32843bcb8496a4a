//! The difference between two points of a machine: what must be done to its disks, region by region,
//! and what that needs.

use super::ReplayError;
use crate::destination::JournalDisk;
use crate::extent::Extent;
use crate::point::{
    Leaf, Point, RegionChange, Span, SpanChange, TreeReader, TreeRef, data_bytes, diff_spans,
};
use crate::progress::Progress;
use crate::store::{ObjectIndex, ObjectReader, Repository, StoreError};
use crate::units::Name;
use crate::workers::{WorkerLost, in_parallel};
use std::sync::{Mutex, PoisonError};

/// Bytes that a record's header, and rounding, may add to a chunk in the journal.
const RECORD_OVERHEAD_BYTES: u64 = 64;

/// More changes are not kept between planning and staging, to bound memory (about 50 MiB): they are
/// looked up again.
const KEPT_CHANGES_MAX: usize = 1 << 20;

/// What a delta needs, known before anything is written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Needs {
    /// Data in it, in bytes.
    pub data_bytes: u64,
    /// Bytes that the journal will take.
    pub journal_bytes: u64,
    /// Bytes that each target may take in addition to what it has.
    pub growth_bytes: Vec<u64>,
}

/// What must be done to a region.
#[derive(Debug)]
pub(super) struct RegionPlan {
    /// First byte of the region in its disk.
    pub start: u64,
    /// Ascending, in bytes from the region's start.
    pub changes: Vec<SpanChange>,
}

/// What was found out of a delta before it is staged.
#[derive(Debug, Default)]
pub(super) struct Planned {
    pub needs: Needs,
    /// The regions of each disk, in order; `None`: they were too many to be kept.
    pub regions: Option<Vec<Vec<RegionPlan>>>,
}

/// The difference between two points of a machine.
pub(super) struct Delta<'a> {
    pub repository: &'a Repository,
    pub index: &'a dyn ObjectIndex,
    pub from: &'a Point,
    pub to: &'a Point,
    /// Threads that read it.
    pub workers: usize,
}

/// What the workers find out of a disk's difference.
#[derive(Debug, Default)]
struct Found {
    data_bytes: u64,
    journal_bytes: u64,
    growth_bytes: u64,
    changes: usize,
    regions: Vec<RegionPlan>,
}

impl Delta<'_> {
    pub(super) fn trees(&self) -> impl Iterator<Item = (&Name, TreeRef, TreeRef)> + '_ {
        self.to.manifest.disks.iter().map(|disk| {
            let old = self.from.manifest.disk(&disk.name).map_or(TreeRef::EMPTY, |d| d.tree());
            (&disk.name, old, disk.tree())
        })
    }

    pub(super) fn disks(&self) -> Vec<JournalDisk> {
        let disks = self.trees().map(|(name, old, new)| JournalDisk {
            name: name.clone(),
            size_before_bytes: old.size_bytes,
            size_bytes: new.size_bytes,
        });
        disks.collect()
    }

    /// Finds out what must be done and what that needs, from the trees alone.
    pub fn plan(&self, progress: &Progress) -> Result<Planned, ReplayError> {
        let mut needs = Needs { journal_bytes: 64 * 1024, ..Needs::default() };
        let mut regions = Some(Vec::new());
        let mut room = KEPT_CHANGES_MAX;
        for (_, old, new) in self.trees() {
            let found = self.plan_disk(&old, &new, room, progress)?;
            needs.data_bytes += found.data_bytes;
            needs.journal_bytes += found.journal_bytes;
            needs.growth_bytes.push(found.growth_bytes);
            match room.checked_sub(found.changes) {
                Some(rest) => room = rest,
                None => regions = None,
            }
            if let Some(regions) = &mut regions {
                regions.push(found.regions);
            }
        }
        Ok(Planned { needs, regions })
    }

    fn plan_disk(
        &self,
        old: &TreeRef,
        new: &TreeRef,
        room: usize,
        progress: &Progress,
    ) -> Result<Found, ReplayError> {
        let found = Mutex::new(Found::default());
        in_parallel(
            self.workers,
            |send| self.each_region(old, new, progress, &mut |region| send(region)),
            || Ok(self.repository.reader(self.index)?),
            |objects, region| {
                let (plan, growth_bytes) = self.look(objects, old, new, region)?;
                let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                found.add(plan, growth_bytes, room);
                Ok::<(), ReplayError>(())
            },
        )?;
        let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
        found.regions.sort_unstable_by_key(|region| region.start);
        Ok(found)
    }

    /// Hands out the regions that differ, until nobody takes them any more: then the reason is a
    /// worker's, whose error comes first.
    pub(super) fn each_region(
        &self,
        old: &TreeRef,
        new: &TreeRef,
        progress: &Progress,
        send: &mut dyn FnMut(RegionChange) -> bool,
    ) -> Result<(), ReplayError> {
        let mut objects = self.repository.reader(self.index)?;
        TreeReader::new(&mut objects).differing::<ReplayError>(old, new, &mut |region| {
            progress.check()?;
            if send(region) { Ok(()) } else { Err(WorkerLost.into()) }
        })
    }

    /// What must be done to a region, and the bytes that its disk may take in addition.
    pub(super) fn look(
        &self,
        objects: &mut ObjectReader<'_>,
        old: &TreeRef,
        new: &TreeRef,
        region: RegionChange,
    ) -> Result<(RegionPlan, u64), ReplayError> {
        let cut = self.repository.header().cut;
        let mut leaf = |name: Option<_>, disk_bytes| {
            let len = cut.region_len(region.region, disk_bytes);
            name.map(|name| TreeReader::new(objects).leaf(name, len)).transpose()
        };
        let old = leaf(region.old, old.size_bytes)?;
        let leaf = leaf(region.new, new.size_bytes)?;
        let len = cut.region_len(region.region, new.size_bytes);
        let changes = diff_spans(old.as_ref(), leaf.as_ref(), len);
        let growth = changes.iter().map(|change| match change {
            SpanChange::Write { start, len, .. } => hole_bytes(old.as_ref(), *start, *len),
            SpanChange::Zero { .. } => 0,
        });
        let growth_bytes = growth.sum();
        Ok((RegionPlan { start: cut.region_start(region.region), changes }, growth_bytes))
    }

    /// Whether every tree of the new point can be read; its chunks are not looked at.
    pub fn is_target_readable(&self) -> Result<bool, ReplayError> {
        for (_, _, new) in self.trees() {
            match data_bytes(self.repository, self.index, &new) {
                Ok(_) => {}
                Err(StoreError::Damaged(_) | StoreError::Unknown { .. }) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }
}

impl Found {
    fn add(&mut self, region: RegionPlan, growth_bytes: u64, room: usize) {
        for change in &region.changes {
            self.journal_bytes += RECORD_OVERHEAD_BYTES;
            if let SpanChange::Write { len, .. } = change {
                self.data_bytes += u64::from(*len);
                self.journal_bytes += u64::from(*len);
            }
        }
        self.growth_bytes += growth_bytes;
        self.changes += region.changes.len();
        if self.changes <= room {
            self.regions.push(region);
        } else {
            self.regions = Vec::new();
        }
    }
}

/// Bytes of the range that hold no data in `leaf`.
fn hole_bytes(leaf: Option<&Leaf>, start: u32, len: u32) -> u64 {
    let range = Extent::between(u64::from(start), u64::from(start) + u64::from(len));
    let mut data = 0;
    let mut at = 0;
    for span in leaf.map_or(&[][..], |leaf| &leaf.spans) {
        let extent = Extent::between(at, at + u64::from(span.len()));
        at = extent.end();
        if matches!(span, Span::Chunk { .. }) {
            data += extent.intersection(range).len();
        }
    }
    range.len() - data
}

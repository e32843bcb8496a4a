//! Staging a delta: everything that leads from the sync point to the newest point, verified, in
//! the redo journal.

use super::ReplayError;
use super::spare::Spare;
use crate::destination::{JournalDisk, JournalHeader, JournalRef, JournalWriter, Target};
use crate::extent::Extent;
use crate::fsio::FileSystem;
use crate::point::{
    Leaf, LeafChange, Point, Span, SpanChange, TreeRef, data_bytes, diff_spans, differing_leaves,
};
use crate::progress::Progress;
use crate::store::{ObjectIndex, ObjectReader, Repository, StoreError, Wanted};
use crate::units::{Name, ReplicaId};
use std::path::Path;
use std::sync::Arc;

/// Bytes that a record's header, and rounding, may add to a chunk in the journal.
const RECORD_OVERHEAD_BYTES: u64 = 64;

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

/// The difference between two points of a machine.
pub(super) struct Delta<'a> {
    pub repository: &'a Repository,
    pub index: &'a dyn ObjectIndex,
    pub from: &'a Point,
    pub to: &'a Point,
}

impl Delta<'_> {
    fn trees(&self) -> impl Iterator<Item = (&Name, TreeRef, TreeRef)> + '_ {
        self.to.manifest.disks.iter().map(|disk| {
            let old = self.from.manifest.disk(&disk.name).map_or(TreeRef::EMPTY, |d| d.tree());
            (&disk.name, old, disk.tree())
        })
    }

    fn disks(&self) -> Vec<JournalDisk> {
        let disks = self.trees().map(|(name, old, new)| JournalDisk {
            name: name.clone(),
            size_before_bytes: old.size_bytes,
            size_bytes: new.size_bytes,
        });
        disks.collect()
    }

    fn each_region(
        &self,
        old: &TreeRef,
        new: &TreeRef,
        visit: &mut dyn FnMut(LeafChange) -> Result<(), ReplayError>,
    ) -> Result<(), ReplayError> {
        differing_leaves(self.repository, self.index, old, new, visit)
    }

    /// Adds up what the delta needs, from the trees alone.
    pub fn needs(&self, progress: &Progress) -> Result<Needs, ReplayError> {
        let mut needs = Needs { journal_bytes: 64 * 1024, ..Needs::default() };
        for (_, old, new) in self.trees() {
            let mut growth_bytes = 0;
            self.each_region(&old, &new, &mut |region| {
                progress.check()?;
                for change in changes(&region) {
                    if let SpanChange::Write { start, len, .. } = change {
                        needs.data_bytes += u64::from(len);
                        needs.journal_bytes += u64::from(len) + RECORD_OVERHEAD_BYTES;
                        growth_bytes += hole_bytes(region.old.as_ref(), start, len);
                    } else {
                        needs.journal_bytes += RECORD_OVERHEAD_BYTES;
                    }
                }
                Ok(())
            })?;
            needs.growth_bytes.push(growth_bytes);
        }
        Ok(needs)
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

    /// Writes the delta to the journal at `path` and makes it durable: what `targets`, those of the
    /// new point's disks in their order, do not hold yet.
    pub fn stage(
        &self,
        fs: &Arc<dyn FileSystem>,
        path: &Path,
        targets: &[Target],
        replica_id: ReplicaId,
        progress: &Progress,
    ) -> Result<JournalRef, ReplayError> {
        let (from, to) = (self.from.id, self.to.id);
        let header = JournalHeader { replica_id, from, to, disks: self.disks() };
        let mut journal = JournalWriter::create(fs, path, header)?;
        let mut objects = self.repository.reader(self.index)?;
        for (number, (_, old, new)) in self.trees().enumerate() {
            let mut staged = Staged {
                journal: &mut journal,
                disk: number as u16,
                spare: Spare::new(targets.get(number), old.size_bytes),
            };
            self.each_region(&old, &new, &mut |region| {
                progress.check()?;
                stage_region(&mut staged, &mut objects, &region, progress)
            })?;
        }
        Ok(journal.finish()?)
    }
}

fn changes(region: &LeafChange) -> Vec<SpanChange> {
    diff_spans(region.old.as_ref(), region.new.as_ref(), region.len)
}

/// Where a disk's content goes.
struct Staged<'a> {
    journal: &'a mut JournalWriter,
    /// Position of the disk in the journal's header.
    disk: u16,
    spare: Spare<'a>,
}

impl Staged<'_> {
    fn data(&mut self, start: u64, content: &[u8]) -> Result<(), ReplayError> {
        for run in self.spare.differing(start, content) {
            self.journal.data(self.disk, start + run.start as u64, &content[run])?;
        }
        Ok(())
    }
}

fn stage_region(
    staged: &mut Staged<'_>,
    objects: &mut ObjectReader<'_>,
    region: &LeafChange,
    progress: &Progress,
) -> Result<(), ReplayError> {
    let mut wanted = Vec::new();
    let mut places = Vec::new();
    for change in changes(region) {
        match change {
            SpanChange::Write { start, name, len } => {
                wanted.push(Wanted { name, len });
                places.push(region.start + u64::from(start));
            }
            SpanChange::Zero { start, len } => {
                let start = region.start + u64::from(start);
                let extent = Extent::between(start, start + u64::from(len));
                staged.journal.zeros(staged.disk, extent)?;
            }
        }
    }
    objects.chunks::<ReplayError>(&wanted, |index, content| {
        staged.data(places[index], content)?;
        progress.add_read(content.len() as u64);
        progress.add_done(content.len() as u64);
        Ok(())
    })
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

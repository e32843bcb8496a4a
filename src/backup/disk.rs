//! Backing one disk up: its regions are read as far as they may hold data, or may differ from those
//! of its base, and become a tree.

use super::base::Base;
use super::streamed::Streamed;
use super::touched::Touched;
use super::{BackupError, Context};
use crate::chunk::CutParameters;
use crate::extent::Extent;
use crate::fsio::AlignedBuffer;
use crate::point::{RegionStore, TreePath, TreeRef, TreeSource, grow_tree};
use crate::source::Source;
use crate::units::{Name, RegionIndex, TreeName};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// Backs a disk up and returns the root of its tree; `None` when it holds only zeros.
pub(super) fn back_up(
    context: &Context<'_>,
    name: &Name,
    source: &dyn Source,
    built: Built<'_>,
) -> Result<Option<TreeName>, BackupError> {
    let cut = context.regions.repository.header().cut;
    let (base, before) = match built {
        Built::On(base) => (Some(base), Some(base.tree)),
        Built::Anew(before) => (None, before),
    };
    let disk = Disk { context, name, source, base, before, cut, cursor: Mutex::new(0) };
    let path = if base.is_some() { disk.path()? } else { None };
    grow_tree(context.regions, &disk, path, context.workers)
}

/// How a disk's tree comes about.
#[derive(Debug, Clone, Copy)]
pub(super) enum Built<'a> {
    /// From what changed since a base.
    On(&'a Base),
    /// From all of the disk. Where it is the same as in this tree, that can be relied on.
    Anew(Option<TreeRef>),
}

/// One disk, as its workers share it.
struct Disk<'a> {
    context: &'a Context<'a>,
    name: &'a Name,
    source: &'a dyn Source,
    base: Option<&'a Base>,
    /// The base's tree, or one that can be relied on where the disk is the same.
    before: Option<TreeRef>,
    cut: CutParameters,
    /// Where the search for the next region goes on, in bytes.
    cursor: Mutex<u64>,
}

/// What one thread needs.
struct Worker<'w> {
    /// The region's content.
    buffer: AlignedBuffer,
    before: Option<TreePath<'w>>,
}

impl TreeSource for Disk<'_> {
    type Item = ();
    type Worker<'w>
        = Worker<'w>
    where
        Self: 'w;
    type Error = BackupError;

    fn regions(&self) -> u64 {
        self.cut.region_count(self.source.size_bytes())
    }

    /// Regions without data, or without changes, are never visited: they hold zeros, or what they
    /// held.
    fn next(&self) -> Result<Option<(RegionIndex, ())>, BackupError> {
        let size = self.source.size_bytes();
        let mut cursor = self.cursor.lock().unwrap_or_else(PoisonError::into_inner);
        if *cursor >= size {
            return Ok(None);
        }
        let found = match self.base {
            Some(base) => next_changed(&base.changed, *cursor),
            None => self
                .source
                .next_data(*cursor)
                .map_err(|error| BackupError::source(self.name, error))?,
        };
        let region = found.map(|offset| RegionIndex(offset / u64::from(self.cut.region_bytes)));
        let start = region.map_or(size, |region| self.cut.region_start(region));
        self.context.regions.progress.add_done(start - (*cursor).min(start));
        *cursor = match region {
            None => size,
            Some(region) => start + u64::from(self.cut.region_len(region, size)),
        };
        Ok(region.map(|region| (region, ())))
    }

    fn worker(&self) -> Result<Worker<'_>, BackupError> {
        Ok(Worker { buffer: AlignedBuffer::default(), before: self.path()? })
    }

    fn leaf(
        &self,
        worker: &mut Worker<'_>,
        store: &mut RegionStore<'_>,
        region: RegionIndex,
        (): (),
    ) -> Result<Option<TreeName>, BackupError> {
        let len = self.cut.region_len(region, self.source.size_bytes());
        let changed = self.changed_in(region, len);
        let leaf = match (&mut worker.before, &changed[..]) {
            (Some(before), [first, ..]) if *first != (0..len as usize) => {
                let old = before.leaf(region)?;
                worker.buffer.resize(len as usize);
                let mut content = Touched {
                    name: self.name,
                    source: self.source,
                    progress: self.context.regions.progress,
                    start: self.cut.region_start(region),
                    buffer: &mut worker.buffer,
                    read: Vec::new(),
                };
                store.put_changed(old, len, &changed, &mut content)?
            }
            _ => {
                let known = worker.before.as_mut().map(|before| before.leaf_name(region));
                // What cannot be read of it is no help, and no harm.
                let known = known.and_then(|name| name.ok().flatten());
                let mut content = self.stream(&mut worker.buffer, region)?;
                store.put_region_over(len as usize, &mut content, known)?
            }
        };
        self.context.regions.progress.add_done(u64::from(len));
        Ok(leaf)
    }
}

impl Disk<'_> {
    fn path(&self) -> Result<Option<TreePath<'_>>, BackupError> {
        let Some(before) = self.before else { return Ok(None) };
        let repository = self.context.regions.repository;
        Ok(Some(TreePath::new(repository, self.context.catalog, before)?))
    }

    /// Where the region may differ from the base, in bytes from its start; nothing without one.
    fn changed_in(&self, region: RegionIndex, len: u32) -> Vec<Range<usize>> {
        let changed = self.base.map_or(&[][..], |base| &base.changed);
        let start = self.cut.region_start(region);
        let whole = Extent::between(start, start + u64::from(len));
        let first = changed.partition_point(|extent| extent.end() <= start);
        let inside = changed[first..].iter().take_while(|extent| extent.start() < whole.end());
        inside
            .map(|extent| extent.intersection(whole))
            .map(|it| (it.start() - start) as usize..(it.end() - start) as usize)
            .collect()
    }

    /// The region's content, of which only what may hold data is read.
    fn stream<'b>(
        &'b self,
        buffer: &'b mut AlignedBuffer,
        region: RegionIndex,
    ) -> Result<Streamed<'b>, BackupError> {
        let start = self.cut.region_start(region);
        let len = self.cut.region_len(region, self.source.size_bytes());
        let range = Extent::between(start, start + u64::from(len));
        let data = self.source.data_extents(range);
        let data = data.map_err(|error| BackupError::source(self.name, error))?;
        buffer.resize(len as usize);
        let (name, source, progress) = (self.name, self.source, self.context.regions.progress);
        Ok(Streamed { name, source, progress, range, data, buffer, read_to: 0 })
    }
}

/// The first byte at or after `offset` that may have changed.
fn next_changed(changed: &[Extent], offset: u64) -> Option<u64> {
    let first = changed.partition_point(|extent| extent.end() <= offset);
    changed.get(first).map(|extent| extent.start().max(offset))
}

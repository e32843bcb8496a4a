//! One tree: its regions are read from one repository and stored in the other, except those that
//! a point which both have holds already.

use super::{Copy, TransferError};
use crate::chunk::CutParameters;
use crate::point::{ContentReader, RegionStore, TreeReader, TreeRef, TreeSource, grow_tree};
use crate::store::StoreError;
use crate::units::{RegionIndex, TreeName};
use std::collections::{BTreeSet, VecDeque};
use std::sync::{Mutex, PoisonError};

/// The same content in both repositories.
#[derive(Debug, Clone, Copy)]
pub(super) struct TreePair {
    pub theirs: TreeRef,
    pub ours: TreeRef,
}

/// Where a region's leaf comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Job {
    /// This leaf of the second repository holds it.
    Reuse(TreeName),
    /// This leaf of the first repository holds it, and has its length.
    Leaf(TreeName),
    /// It is read by its place.
    Range,
}

/// Copies a tree and returns its root; `None` when it holds only zeros.
pub(super) fn copy(
    copy: &Copy<'_>,
    tree: TreeRef,
    base: Option<TreePair>,
) -> Result<Option<TreeName>, TransferError> {
    let jobs = jobs(copy, &tree, base)?;
    let cut = copy.to.repository.header().cut;
    let shared = Mutex::new(Shared { jobs: jobs.into(), cursor: 0 });
    let disk = Disk { copy, tree, cut, shared };
    let root = grow_tree(copy.regions, &disk, None, copy.request.workers)?;
    Ok(root)
}

/// The regions of the new tree that hold data, in order. Takes 48 bytes a region.
fn jobs(
    copy: &Copy<'_>,
    tree: &TreeRef,
    base: Option<TreePair>,
) -> Result<Vec<(u64, Job)>, TransferError> {
    let (from, to) = (copy.from.repository.header().cut, copy.to.repository.header().cut);
    if from.region_bytes != to.region_bytes {
        return ranges(copy, tree, &from, &to);
    }
    let merged = match base {
        Some(pair) => merge(copy, tree, &pair),
        None => return leaves(copy, tree),
    };
    match merged {
        Ok(jobs) => Ok(jobs),
        // What cannot be read of the points before costs time, not the new point.
        Err(StoreError::Damaged(_) | StoreError::Unknown { .. }) => leaves(copy, tree),
        Err(error) => Err(error.into()),
    }
}

/// Regions whose leaf in the first repository differs from `old`.
fn differing(
    copy: &Copy<'_>,
    old: &TreeRef,
    new: &TreeRef,
) -> Result<Vec<(u64, Option<TreeName>)>, StoreError> {
    let mut objects = copy.from.repository.reader(copy.from.catalog)?;
    let mut found = Vec::new();
    TreeReader::new(&mut objects).differing::<StoreError>(old, new, &mut |change| {
        found.push((change.region.0, change.new));
        Ok(())
    })?;
    Ok(found)
}

/// Every region with data, from the first repository.
fn leaves(copy: &Copy<'_>, tree: &TreeRef) -> Result<Vec<(u64, Job)>, TransferError> {
    let found = differing(copy, &TreeRef::EMPTY, tree).map_err(TransferError::Source)?;
    let job = |(region, leaf): (u64, Option<TreeName>)| Some((region, Job::Leaf(leaf?)));
    Ok(found.into_iter().filter_map(job).collect())
}

/// Every region with data, where the two repositories have regions of different sizes.
fn ranges(
    copy: &Copy<'_>,
    tree: &TreeRef,
    from: &CutParameters,
    to: &CutParameters,
) -> Result<Vec<(u64, Job)>, TransferError> {
    let found = differing(copy, &TreeRef::EMPTY, tree).map_err(TransferError::Source)?;
    let mut regions = BTreeSet::new();
    for (region, _) in found.into_iter().filter(|(_, leaf)| leaf.is_some()) {
        let region = RegionIndex(region);
        let start = from.region_start(region);
        let end = start + u64::from(from.region_len(region, tree.size_bytes));
        let width = u64::from(to.region_bytes);
        regions.extend(start / width..end.div_ceil(width));
    }
    Ok(regions.into_iter().map(|region| (region, Job::Range)).collect())
}

/// What changed since the base, from the first repository; what did not, from the base's tree in
/// the second.
fn merge(copy: &Copy<'_>, tree: &TreeRef, base: &TreePair) -> Result<Vec<(u64, Job)>, StoreError> {
    let cut = copy.to.repository.header().cut;
    let regions = cut.region_count(tree.size_bytes);
    let changed: VecDeque<_> = differing(copy, &base.theirs, tree)?.into();
    let mut objects = copy.to.repository.reader(copy.to.catalog)?;
    let mut jobs = Vec::new();
    let mut merging = Merging { changed, jobs: &mut jobs };
    TreeReader::new(&mut objects).differing::<StoreError>(
        &TreeRef::EMPTY,
        &base.ours,
        &mut |kept| {
            if let Some(leaf) = kept.new.filter(|_| kept.region.0 < regions) {
                merging.keep(kept.region.0, leaf);
            }
            Ok(())
        },
    )?;
    merging.rest();
    Ok(jobs)
}

struct Merging<'j> {
    changed: VecDeque<(u64, Option<TreeName>)>,
    jobs: &'j mut Vec<(u64, Job)>,
}

impl Merging<'_> {
    /// The base holds a region with data: it is kept unless it changed.
    fn keep(&mut self, region: u64, leaf: TreeName) {
        while self.changed.front().is_some_and(|(changed, _)| *changed < region) {
            self.next();
        }
        match self.changed.front() {
            Some((changed, _)) if *changed == region => self.next(),
            _ => self.jobs.push((region, Job::Reuse(leaf))),
        }
    }

    fn rest(&mut self) {
        while !self.changed.is_empty() {
            self.next();
        }
    }

    fn next(&mut self) {
        if let Some((region, Some(leaf))) = self.changed.pop_front() {
            self.jobs.push((region, Job::Leaf(leaf)));
        }
    }
}

/// One tree, as its workers share it.
struct Disk<'a> {
    copy: &'a Copy<'a>,
    tree: TreeRef,
    /// Of the second repository.
    cut: CutParameters,
    shared: Mutex<Shared>,
}

struct Shared {
    jobs: VecDeque<(u64, Job)>,
    /// Where the last region ended, in bytes.
    cursor: u64,
}

/// What one thread needs.
struct Worker<'w> {
    content: ContentReader<'w>,
    buffer: Vec<u8>,
}

impl TreeSource for Disk<'_> {
    type Item = Job;
    type Worker<'w>
        = Worker<'w>
    where
        Self: 'w;
    type Error = TransferError;

    fn regions(&self) -> u64 {
        self.cut.region_count(self.tree.size_bytes)
    }

    fn next(&self) -> Result<Option<(RegionIndex, Job)>, TransferError> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let next = shared.jobs.pop_front().map(|(region, job)| (RegionIndex(region), job));
        let size = self.tree.size_bytes;
        let (start, end) = next.map_or((size, size), |(region, _)| {
            let start = self.cut.region_start(region);
            (start, start + u64::from(self.cut.region_len(region, size)))
        });
        self.copy.regions.progress.add_done(start.saturating_sub(shared.cursor));
        shared.cursor = end;
        Ok(next)
    }

    fn worker(&self) -> Result<Worker<'_>, TransferError> {
        let from = self.copy.from;
        let content = ContentReader::new(from.repository, from.catalog);
        Ok(Worker { content: content.map_err(TransferError::Source)?, buffer: Vec::new() })
    }

    fn leaf(
        &self,
        worker: &mut Worker<'_>,
        store: &mut RegionStore<'_>,
        region: RegionIndex,
        job: Job,
    ) -> Result<Option<TreeName>, TransferError> {
        let len = self.cut.region_len(region, self.tree.size_bytes);
        let leaf = match job {
            Job::Reuse(leaf) if self.copy.to.catalog.contains(&[leaf.into()])? == [true] => {
                Some(leaf)
            }
            job => {
                worker.buffer.resize(len as usize, 0);
                let (content, buffer) = (&mut worker.content, &mut worker.buffer);
                let read = match job {
                    Job::Leaf(leaf) => content.read_leaf(leaf, buffer),
                    _ => content.read_range(&self.tree, self.cut.region_start(region), buffer),
                };
                self.copy.regions.progress.add_read(read.map_err(TransferError::Source)?);
                store.put_region(buffer)?
            }
        };
        self.copy.regions.progress.add_done(u64::from(len));
        Ok(leaf)
    }
}

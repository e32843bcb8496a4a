//! Making a target hold the content of a tree, or finding out whether it does: regions are
//! walked in order and worked on in parallel; every chunk is checked by its name before any byte
//! of it is written.

mod outcome;

pub use outcome::{CopyError, CopyMode, CopyOptions, CopyOutcome, Damaged};

use super::target::{Background, Target};
use crate::chunk::{CutParameters, Namer, is_zero};
use crate::extent::{Extent, joined, push_joined};
use crate::fsio::AlignedBuffer;
use crate::point::{Branch, Leaf, Span, TreeReader, TreeRef, surviving};
use crate::progress::Progress;
use crate::store::{ObjectIndex, ObjectReader, Repository, StoreError, Wanted};
use crate::units::{Breakage, RegionIndex, TreeName, is_broken};
use crate::workers::in_parallel;
use std::sync::{Mutex, PoisonError};

/// Differing ranges that are kept one by one; further ones only count.
const DIFFERENCES_MAX: usize = 10_000;
/// Missing ranges that are kept exactly; further ones are kept as whole regions.
const MISSING_MAX: usize = 1_000_000;

/// A region to work on; `None` when it holds only zeros.
type Work = (RegionIndex, Option<TreeName>);

/// Copies `tree` to `target`, or compares the two. The target has at least the tree's size. The
/// caller syncs.
///
/// # Errors
/// The first one met, with all workers stopped.
pub fn copy_tree(
    repository: &Repository,
    index: &dyn ObjectIndex,
    tree: &TreeRef,
    target: &Target,
    options: CopyOptions,
    progress: &Progress,
) -> Result<CopyOutcome, CopyError> {
    let cut = repository.header().cut;
    let outcome = Mutex::new(CopyOutcome::default());
    let copy = Copy { repository, index, tree, target, options, progress, cut, outcome };
    let workers = match options.mode {
        // They wait for the medium half of the time, past the page cache.
        CopyMode::Fresh | CopyMode::Overwrite if options.workers > 1 => options.workers * 2,
        _ => options.workers,
    };
    in_parallel(workers, |send| copy.walk(send), || copy.worker(), Worker::region)?;
    let outcome = copy.outcome.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(CopyOutcome {
        differing: joined(outcome.differing),
        differing_bytes: outcome.differing_bytes,
        missing: joined(outcome.missing),
    })
}

/// Stops the walk when the workers are gone; the reason is theirs.
enum WalkEnd {
    Failed(StoreError),
    NobodyListens,
}

impl From<StoreError> for WalkEnd {
    fn from(error: StoreError) -> Self {
        Self::Failed(error)
    }
}

fn end_of_walk(walked: Result<(), WalkEnd>) -> Result<(), CopyError> {
    match walked {
        Ok(()) | Err(WalkEnd::NobodyListens) => Ok(()),
        Err(WalkEnd::Failed(error)) => Err(error.into()),
    }
}

/// Whether the error says that content is damaged or gone.
fn is_damage(error: &StoreError) -> bool {
    matches!(error, StoreError::Damaged(_) | StoreError::Unknown { .. })
}

struct Copy<'a> {
    repository: &'a Repository,
    index: &'a dyn ObjectIndex,
    tree: &'a TreeRef,
    target: &'a Target,
    options: CopyOptions,
    progress: &'a Progress,
    cut: CutParameters,
    outcome: Mutex<CopyOutcome>,
}

impl Copy<'_> {
    /// Sends out all regions that need work, in order.
    fn walk(&self, send: &dyn Fn(Work) -> bool) -> Result<(), CopyError> {
        let mut objects = self.repository.reader(self.index)?;
        let send = |work: Work| if send(work) { Ok(()) } else { Err(WalkEnd::NobodyListens) };
        let mut next = 0;
        if self.options.damaged == Damaged::Skip {
            return self.walk_surviving(&mut objects, &send);
        }
        let walked = TreeReader::new(&mut objects).differing::<WalkEnd>(
            &TreeRef::EMPTY,
            self.tree,
            &mut |change| {
                self.send_zeros(next, change.region.0, &send)?;
                next = change.region.0 + 1;
                send((change.region, change.new))
            },
        );
        let regions = self.cut.region_count(self.tree.size_bytes);
        end_of_walk(walked.and_then(|()| self.send_zeros(next, regions, &send)))
    }

    /// As [`Copy::walk`], past what is damaged: that is sent as zeros.
    fn walk_surviving(
        &self,
        objects: &mut ObjectReader<'_>,
        send: &dyn Fn(Work) -> Result<(), WalkEnd>,
    ) -> Result<(), CopyError> {
        let mut next = 0;
        let mut reader = TreeReader::new(objects);
        let walked = surviving::<WalkEnd>(&mut reader, self.tree, &mut |branch| match branch {
            Branch::Leaf(region, name) => {
                self.send_zeros(next, region.0, send)?;
                next = region.0 + 1;
                send((region, Some(name)))
            }
            Branch::Lost(extent, _) => {
                self.missing(extent);
                Ok(())
            }
        });
        let regions = self.cut.region_count(self.tree.size_bytes);
        end_of_walk(walked.and_then(|()| self.send_zeros(next, regions, send)))
    }

    fn send_zeros(
        &self,
        from: u64,
        to: u64,
        send: &dyn Fn(Work) -> Result<(), WalkEnd>,
    ) -> Result<(), WalkEnd> {
        if self.options.mode == CopyMode::Fresh {
            let skipped = Extent::between(self.start(from), self.start(to));
            self.progress.add_done(skipped.len());
            return Ok(());
        }
        (from..to).try_for_each(|region| send((RegionIndex(region), None)))
    }

    fn start(&self, region: u64) -> u64 {
        self.cut.region_start(RegionIndex(region)).min(self.tree.size_bytes)
    }

    fn worker(&self) -> Result<Worker<'_>, CopyError> {
        Ok(Worker {
            copy: self,
            objects: self.repository.reader(self.index)?,
            namer: self.repository.keys().namer(),
            buffer: AlignedBuffer::default(),
        })
    }

    /// The repository cannot give `extent` back. All of them are kept, as the list is the only
    /// thing that tells these zeros from true ones; a list that grows without end gets coarser,
    /// and then says too much, never too little.
    fn missing(&self, extent: Extent) {
        let mut outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        if outcome.missing.len() < MISSING_MAX {
            return outcome.missing.push(extent);
        }
        let region_bytes = u64::from(self.cut.region_bytes);
        let end = extent.end().next_multiple_of(region_bytes).min(self.tree.size_bytes);
        let whole = Extent::between(extent.start() / region_bytes * region_bytes, end);
        if outcome.missing.last() != Some(&whole) {
            outcome.missing.push(whole);
        }
    }

    fn differs(&self, extent: Extent) {
        let mut outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        outcome.differing_bytes += extent.len();
        if outcome.differing.len() < DIFFERENCES_MAX {
            outcome.differing.push(extent);
        }
    }
}

struct Worker<'a> {
    copy: &'a Copy<'a>,
    objects: ObjectReader<'a>,
    namer: Namer,
    /// A region's content, at its place.
    buffer: AlignedBuffer,
}

impl Worker<'_> {
    fn region(&mut self, (region, name): Work) -> Result<(), CopyError> {
        let copy = self.copy;
        copy.progress.check()?;
        let len = copy.cut.region_len(region, copy.tree.size_bytes);
        let start = copy.cut.region_start(region);
        let read = name.map(|name| TreeReader::new(&mut self.objects).leaf(name, len));
        let leaf = match read.transpose() {
            Ok(leaf) => leaf.unwrap_or(Leaf { spans: vec![Span::Hole { len }] }),
            Err(error) if copy.options.damaged == Damaged::Skip && is_damage(&error) => {
                copy.missing(Extent::between(start, start + u64::from(len)));
                Leaf { spans: vec![Span::Hole { len }] }
            }
            Err(error) => return Err(error.into()),
        };
        self.spans(start, len, &leaf)?;
        copy.progress.add_done(u64::from(len));
        Ok(())
    }

    fn spans(&mut self, start: u64, len: u32, leaf: &Leaf) -> Result<(), CopyError> {
        let reads = matches!(self.copy.options.mode, CopyMode::Repair | CopyMode::Compare);
        if reads && !self.read(start, len, leaf.is_hole())? {
            return Ok(());
        }
        let mut wanted = Vec::new();
        let mut places = Vec::new();
        let mut at = 0;
        for span in &leaf.spans {
            let extent = Extent::between(start + at as u64, start + at as u64 + span.len() as u64);
            match *span {
                Span::Hole { .. } => self.hole(extent, at)?,
                Span::Chunk { name, len } => {
                    let held = || self.namer.chunk(&self.buffer[at..at + len as usize]);
                    if !reads || held() != name {
                        wanted.push(Wanted { name, len });
                        places.push(extent);
                    }
                }
            }
            at += span.len() as usize;
        }
        if reads {
            places.iter().for_each(|extent| self.copy.differs(*extent));
        } else {
            // Only what chunks fill is written: whatever else the buffer holds does not matter.
            self.buffer.resize(len as usize);
        }
        self.write(start, &wanted, &places)
    }

    /// Fetches chunks into their places in the buffer, then writes each run of them at once: many
    /// small writes that begin within a page cost more than all the rest.
    fn write(&mut self, start: u64, wanted: &[Wanted], places: &[Extent]) -> Result<(), CopyError> {
        let Self { copy, objects, buffer, .. } = self;
        let background = match copy.options.mode {
            CopyMode::Fresh => Background::Zeros,
            CopyMode::Overwrite | CopyMode::Repair => Background::Unknown,
            CopyMode::Compare => return Ok(()),
        };
        let range =
            |extent: &Extent| (extent.start() - start) as usize..(extent.end() - start) as usize;
        let fetched = objects.chunks::<CopyError>(wanted, |index, content| {
            buffer[range(&places[index])].copy_from_slice(content);
            copy.progress.add_read(content.len() as u64);
            Ok(())
        });
        match fetched {
            Err(CopyError::Store(error))
                if copy.options.damaged == Damaged::Skip && is_damage(&error) =>
            {
                return self.write_singly(start, wanted, places);
            }
            other => other?,
        }
        self.write_runs(start, places, background)
    }

    /// As [`Worker::write`], where at least one of the chunks is damaged.
    fn write_singly(
        &mut self,
        start: u64,
        wanted: &[Wanted],
        places: &[Extent],
    ) -> Result<(), CopyError> {
        let mut good = Vec::with_capacity(wanted.len());
        for (chunk, place) in wanted.iter().zip(places) {
            let Self { copy, objects, buffer, .. } = self;
            let at = (place.start() - start) as usize..(place.end() - start) as usize;
            let fetched = objects.chunks::<CopyError>(&[*chunk], |_, content| {
                buffer[at.clone()].copy_from_slice(content);
                copy.progress.add_read(content.len() as u64);
                Ok(())
            });
            match fetched {
                Ok(()) => good.push(*place),
                Err(CopyError::Store(error)) if is_damage(&error) => {
                    copy.missing(*place);
                    if copy.options.mode != CopyMode::Fresh {
                        copy.target.zero(*place, Background::Unknown)?;
                    }
                }
                Err(error) => return Err(error),
            }
        }
        let background = match self.copy.options.mode {
            CopyMode::Fresh => Background::Zeros,
            _ => Background::Unknown,
        };
        self.write_runs(start, &good, background)
    }

    fn write_runs(
        &self,
        start: u64,
        places: &[Extent],
        background: Background,
    ) -> Result<(), CopyError> {
        let (copy, buffer) = (self.copy, &self.buffer);
        let range =
            |extent: &Extent| (extent.start() - start) as usize..(extent.end() - start) as usize;
        let mut runs = Vec::new();
        places.iter().for_each(|extent| push_joined(&mut runs, *extent));
        for run in &runs {
            let bytes = &buffer[range(run)];
            let thinned = match copy.options.mode {
                // It is about to be read again, or was just now.
                CopyMode::Repair | CopyMode::Compare => {
                    copy.target.write_thin(run.start(), bytes, background)?
                }
                CopyMode::Fresh | CopyMode::Overwrite => {
                    copy.target.write_thin_past_cache(run.start(), bytes, background)?
                }
            };
            copy.progress.add_written(thinned.data_bytes);
        }
        // What forgets to sync must be found out, not helped.
        if let (Some(first), Some(last)) = (runs.first(), runs.last())
            && !is_broken(Breakage::RestoreUnsynced)
        {
            copy.target.begin_write_back(Extent::between(first.start(), last.end()));
        }
        Ok(())
    }

    fn hole(&self, extent: Extent, at: usize) -> Result<(), CopyError> {
        let copy = self.copy;
        match copy.options.mode {
            CopyMode::Fresh => {}
            CopyMode::Overwrite => copy.target.zero(extent, Background::Unknown)?,
            CopyMode::Repair | CopyMode::Compare => {
                if !is_zero(&self.buffer[at..at + extent.len() as usize]) {
                    copy.differs(extent);
                    if copy.options.mode == CopyMode::Repair {
                        copy.target.zero(extent, Background::Unknown)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Reads what the target holds of a region; `false`, without touching the buffer, when that is
    /// only zeros and shall be: of a large and sparse disk that is nearly every region.
    fn read(&mut self, start: u64, len: u32, is_hole: bool) -> Result<bool, CopyError> {
        let end = start + u64::from(len);
        let target = self.copy.target;
        let data = target.next_data(start)?.filter(|data| *data < end);
        if data.is_none() && is_hole {
            return Ok(false);
        }
        self.buffer.resize(len as usize);
        let skip = data.map_or(len as usize, |data| (data - start) as usize);
        self.buffer[..skip].fill(0);
        match data {
            Some(data) => {
                target.read_exact_at(&mut self.buffer[skip..], data)?;
                self.copy.progress.add_read(end - data);
                Ok(true)
            }
            None => Ok(true),
        }
    }
}

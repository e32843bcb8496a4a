//! Staging a delta: everything that leads from the sync point to the newest point, verified, in
//! the redo journal.

use super::ReplayError;
use super::delta::{Delta, RegionPlan};
use super::spare::Spare;
use crate::destination::{JournalHeader, JournalRef, JournalWriter, Target};
use crate::extent::Extent;
use crate::fsio::FileSystem;
use crate::point::{RegionChange, SpanChange, TreeRef};
use crate::progress::Progress;
use crate::store::{ObjectReader, Wanted};
use crate::units::ReplicaId;
use crate::workers::{WorkerLost, in_parallel};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Where a delta is staged.
pub(super) struct Stage<'a> {
    pub fs: &'a Arc<dyn FileSystem>,
    /// The journal.
    pub path: &'a Path,
    pub replica_id: ReplicaId,
    /// Those of the new point's disks, in their order.
    pub targets: &'a [Target],
}

impl Stage<'_> {
    /// Writes the delta to the journal and makes it durable: what the targets do not hold yet.
    /// `regions`: what was planned for each disk, as far as that was kept.
    pub fn run(
        &self,
        delta: &Delta<'_>,
        regions: Option<Vec<Vec<RegionPlan>>>,
        progress: &Progress,
    ) -> Result<JournalRef, ReplayError> {
        let (from, to) = (delta.from.id, delta.to.id);
        let header = JournalHeader { replica_id: self.replica_id, from, to, disks: delta.disks() };
        let journal = Mutex::new(JournalWriter::create(self.fs, self.path, header)?);
        let mut planned = regions.map(Vec::into_iter);
        for (number, (_, old, new)) in delta.trees().enumerate() {
            let staging = Staging {
                delta,
                trees: (old, new),
                journal: &journal,
                disk: number as u16,
                spare: Spare::new(self.targets.get(number), old.size_bytes),
                progress,
            };
            staging.run(planned.as_mut().and_then(Iterator::next))?;
        }
        Ok(journal.into_inner().unwrap_or_else(PoisonError::into_inner).finish()?)
    }
}

/// A region to be staged.
enum Job {
    Planned(RegionPlan),
    Differs(RegionChange),
}

/// What one thread stages with.
struct Worker<'a> {
    objects: ObjectReader<'a>,
    /// What a target holds.
    held: Vec<u8>,
}

/// Where a disk's content goes, for all workers. Their regions are disjoint: it does not matter
/// whose records come first.
struct Staging<'a> {
    delta: &'a Delta<'a>,
    /// What the disk held, and what it will hold.
    trees: (TreeRef, TreeRef),
    journal: &'a Mutex<JournalWriter>,
    /// Position of the disk in the journal's header.
    disk: u16,
    spare: Spare<'a>,
    progress: &'a Progress,
}

impl Staging<'_> {
    fn run(&self, planned: Option<Vec<RegionPlan>>) -> Result<(), ReplayError> {
        let delta = self.delta;
        in_parallel(
            delta.workers,
            |send| self.feed(planned, send),
            || Ok(Worker { objects: delta.repository.reader(delta.index)?, held: Vec::new() }),
            |worker, job| self.region(worker, job),
        )
    }

    fn feed(
        &self,
        planned: Option<Vec<RegionPlan>>,
        send: &dyn Fn(Job) -> bool,
    ) -> Result<(), ReplayError> {
        let Some(planned) = planned else {
            let ((old, new), progress) = (&self.trees, self.progress);
            let mut send = |region| send(Job::Differs(region));
            return self.delta.each_region(old, new, progress, &mut send);
        };
        match planned.into_iter().all(|plan| send(Job::Planned(plan))) {
            true => Ok(()),
            // The reason is a worker's, whose error comes first.
            false => Err(WorkerLost.into()),
        }
    }

    fn journal(&self) -> MutexGuard<'_, JournalWriter> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn region(&self, worker: &mut Worker<'_>, job: Job) -> Result<(), ReplayError> {
        let Worker { objects, held } = worker;
        let region = match job {
            Job::Planned(plan) => plan,
            Job::Differs(region) => {
                self.delta.look(objects, &self.trees.0, &self.trees.1, region)?.0
            }
        };
        let mut wanted = Vec::new();
        let mut places = Vec::new();
        for change in region.changes {
            match change {
                SpanChange::Write { start, name, len } => {
                    wanted.push(Wanted { name, len });
                    places.push(region.start + u64::from(start));
                }
                SpanChange::Zero { start, len } => {
                    let start = region.start + u64::from(start);
                    let extent = Extent::between(start, start + u64::from(len));
                    self.journal().zeros(self.disk, extent)?;
                }
            }
        }
        objects.chunks::<ReplayError>(&wanted, |index, content| {
            self.progress.check()?;
            self.data(held, places[index], content)?;
            self.progress.add_read(content.len() as u64);
            self.progress.add_done(content.len() as u64);
            Ok(())
        })
    }

    fn data(&self, held: &mut Vec<u8>, start: u64, content: &[u8]) -> Result<(), ReplayError> {
        let differing = self.spare.differing(held, start, content);
        // Before the journal is locked: others wait for it.
        self.progress.pace(self.spare.reads(start, content.len() as u64));
        if differing.is_empty() {
            return Ok(());
        }
        let mut journal = self.journal();
        for run in differing {
            journal.data(self.disk, start + run.start as u64, &content[run])?;
        }
        Ok(())
    }
}

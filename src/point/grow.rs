//! A new tree: workers take its regions in turn, and what they give becomes leaves and nodes.

use super::builder::{ClosedNode, TreeBuilder};
use super::graft::{ChangedLeaves, graft};
use super::path::TreePath;
use super::region::{RegionContext, RegionStore};
use crate::progress::Cancelled;
use crate::store::{ObjectKind, StoreError};
use crate::units::{RegionIndex, TreeName};
use crate::workers::WorkerLost;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Where a new tree comes from.
pub trait TreeSource: Sync {
    /// What a region is made from.
    type Item: Send;
    /// What one thread needs to make regions.
    type Worker<'w>
    where
        Self: 'w;
    /// Why there is no tree.
    type Error: From<StoreError> + From<Cancelled> + From<WorkerLost> + Send;

    /// How many regions the disk has.
    fn regions(&self) -> u64;

    /// The next region that may hold data, in ascending order; those between hold zeros. Where
    /// the tree has a base, the next one that may differ from it. Called by one thread at a time.
    ///
    /// # Errors
    /// Ends the whole tree.
    fn next(&self) -> Result<Option<(RegionIndex, Self::Item)>, Self::Error>;

    /// What one more thread needs.
    ///
    /// # Errors
    /// Ends the whole tree.
    fn worker(&self) -> Result<Self::Worker<'_>, Self::Error>;

    /// The leaf of a region, stored; `None` when it holds only zeros.
    ///
    /// # Errors
    /// Ends the whole tree.
    fn leaf(
        &self,
        worker: &mut Self::Worker<'_>,
        store: &mut RegionStore<'_>,
        region: RegionIndex,
        item: Self::Item,
    ) -> Result<Option<TreeName>, Self::Error>;
}

/// Grows a tree with `workers` threads and returns its root; `None` when it holds only zeros. With
/// a `base`, of as many regions, those that `source` does not give are the base's.
///
/// # Errors
/// The first error of `source`, or of storing, or of reading the base.
pub fn grow_tree<S: TreeSource>(
    context: RegionContext<'_>,
    source: &S,
    base: Option<TreePath<'_>>,
    workers: usize,
) -> Result<Option<TreeName>, S::Error> {
    let crop = match base {
        None => Crop::Whole(TreeBuilder::default()),
        Some(_) => Crop::Changes(ChangedLeaves::new()),
    };
    let growth = Growth { context, source, shared: Mutex::new(Shared { crop, failed: false }) };
    if workers <= 1 {
        growth.work()?;
    } else {
        growth.work_together(workers)?;
    }
    let shared = growth.shared.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut store = RegionStore::new(context)?;
    let put = |encoded: &[u8]| store.put_tree(ObjectKind::Node, encoded);
    Ok(match (shared.crop, base) {
        (Crop::Whole(builder), _) => builder.finish(source.regions(), put)?,
        (Crop::Changes(changed), Some(mut base)) => graft(&mut base, changed, put)?,
        (Crop::Changes(_), None) => None,
    })
}

/// One tree, as its workers share it.
struct Growth<'a, S> {
    context: RegionContext<'a>,
    source: &'a S,
    shared: Mutex<Shared>,
}

struct Shared {
    crop: Crop,
    failed: bool,
}

/// What has been grown so far.
enum Crop {
    /// All of the tree up to some region.
    Whole(TreeBuilder),
    /// Where it differs from its base.
    Changes(ChangedLeaves),
}

impl Shared {
    fn begin(&mut self, region: RegionIndex) {
        if let Crop::Whole(builder) = &mut self.crop {
            builder.begin(region);
        }
    }

    /// A region is done. Returns the nodes that are complete now.
    fn end(&mut self, region: RegionIndex, leaf: Option<TreeName>) -> Vec<ClosedNode> {
        match &mut self.crop {
            Crop::Whole(builder) => builder.end(region, leaf),
            Crop::Changes(changed) => {
                changed.insert(region, leaf);
                Vec::new()
            }
        }
    }

    fn stored(&mut self, node: &ClosedNode, name: TreeName) {
        if let Crop::Whole(builder) = &mut self.crop {
            builder.stored(node, name);
        }
    }
}

impl<S: TreeSource> Growth<'_, S> {
    fn work_together(&self, workers: usize) -> Result<(), S::Error> {
        let outcomes: Vec<Result<(), S::Error>> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..workers).map(|_| scope.spawn(|| self.work())).collect();
            workers
                .into_iter()
                .map(|worker| worker.join().unwrap_or_else(|_| Err(WorkerLost.into())))
                .collect()
        });
        // A worker that only saw that another one failed ends well; the reason is the other's.
        outcomes.into_iter().collect()
    }

    fn work(&self) -> Result<(), S::Error> {
        let result = self.work_until_done();
        if result.is_err() {
            self.lock().failed = true;
        }
        result
    }

    fn work_until_done(&self) -> Result<(), S::Error> {
        let mut worker = self.source.worker()?;
        let mut store = RegionStore::new(self.context)?;
        while let Some((region, item)) = self.next()? {
            self.context.progress.check()?;
            let leaf = self.source.leaf(&mut worker, &mut store, region, item)?;
            let closed = self.lock().end(region, leaf);
            for node in closed {
                let name = store.put_tree(ObjectKind::Node, node.encoded())?;
                self.lock().stored(&node, name);
            }
        }
        Ok(())
    }

    fn next(&self) -> Result<Option<(RegionIndex, S::Item)>, S::Error> {
        let mut shared = self.lock();
        if shared.failed {
            return Ok(None);
        }
        let next = self.source.next()?;
        if let Some((region, _)) = &next {
            shared.begin(*region);
        }
        Ok(next)
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

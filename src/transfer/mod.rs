//! Copying points from one repository to another.
//!
//! The two differ in their keys, so in all names, in where disks are cut, and may differ in chunk
//! sizes: content is read, every chunk checked by its name, and cut, named and stored as the
//! other repository has it. Regions that a point shares with one that was copied before keep the
//! leaf that they have there.
//!
//! Invariants: a leaf of another point is used again only if that point is in the repository
//! while this run holds its lease, so that nothing of it can be removed; every pack is read back,
//! all of it, before the catalog knows it and before any point refers to it; points are committed
//! one by one, the oldest first, so an interrupted copy leaves whole points and goes on after
//! them.

mod disk;
mod error;
mod plan;
mod sink;
#[cfg(test)]
mod tests;

pub use error::TransferError;

use crate::catalog::{Catalog, CatalogError};
use crate::fsio::LockHolder;
use crate::point::{DiskEntry, FileEntry, Manifest, Point, RegionContext, TreeRef, commit_point};
use crate::progress::Progress;
use crate::store::{Damage, PackWriter, Repository, Stage, StoreError};
use crate::units::{Name, PointId, RunId, TreeName};
use disk::TreePair;
use plan::Plan;
use sink::AuditingSink;

/// A repository with its catalog.
#[derive(Debug, Clone, Copy)]
pub struct Side<'a> {
    /// The repository.
    pub repository: &'a Repository,
    /// Its catalog.
    pub catalog: &'a Catalog,
}

/// What to copy.
#[derive(Debug)]
pub struct CopyRequest<'a> {
    /// The machine.
    pub machine: &'a Name,
    /// Only this point; all that are missing, if none is named.
    pub only: Option<PointId>,
    /// The run.
    pub run: RunId,
    /// Threads that read, cut and compress.
    pub workers: usize,
}

/// What a copy did.
#[derive(Debug, Default)]
pub struct CopyResult {
    /// The new points, the oldest first.
    pub copied: Vec<Point>,
    /// How many of the points asked for were there already.
    pub already: usize,
    /// Points of the first repository that cannot be read to their end, and why.
    pub unreadable: Vec<(Point, StoreError)>,
    /// Damage of the first repository that was met on the way.
    pub from_damages: Vec<Damage>,
    /// Damage of the second.
    pub to_damages: Vec<Damage>,
    /// Why the catalog does not know a new point, which is durable all the same.
    pub not_noted: Option<CatalogError>,
}

/// Copies the points of a machine that `to` has not. When this returns, those in the result are
/// durable.
///
/// # Errors
/// Points that were complete before stay. A point that cannot be read to its end is no error: the
/// others are copied, and it is told in the result.
pub fn copy_points(
    from: Side<'_>,
    to: Side<'_>,
    request: &CopyRequest<'_>,
    progress: &Progress,
) -> Result<CopyResult, TransferError> {
    let id = to.repository.header().id;
    if from.repository.header().id == id {
        return Err(TransferError::SameRepository { id });
    }
    let work = format!("copy of {}", request.machine);
    let _from = from.repository.lock_for_reading(&work).map_err(TransferError::Source)?;
    let lease = to.repository.lock_shared(&work)?;
    let _machine = to.repository.lock_machine(request.machine, "copy")?;
    let from_damages = from.catalog.sync(from.repository).map_err(TransferError::SourceCatalog)?;
    let to_damages = to.catalog.sync(to.repository)?.damages;
    let theirs = from.catalog.points(Some(request.machine));
    let theirs = theirs.map_err(TransferError::SourceCatalog)?;
    let ours = to.catalog.points(Some(request.machine))?;
    let plan = plan::plan(&theirs, &ours, request)?;
    let mut result = CopyResult {
        already: plan.already,
        from_damages: from_damages.damages,
        to_damages,
        ..CopyResult::default()
    };
    if plan.missing.is_empty() {
        return Ok(result);
    }
    for point in &plan.missing {
        point.manifest.trees().for_each(|tree| progress.add_total(tree.size_bytes));
    }
    // While packs are condemned, a point that is there may still refer to them: what is taken over
    // from it without a look at each chunk might go with them.
    let is_settled = lease.condemned().stage() == Stage::Idle;
    let trusts_bases = is_settled && result.to_damages.is_empty() && damage_is_healed(to.catalog)?;
    let sink = AuditingSink::new(to, progress);
    let writer = to.repository.writer(&sink, request.run)?;
    let regions =
        RegionContext { repository: to.repository, known: to.catalog, writer: &writer, progress };
    let copy = Copy { from, to, regions, request, trusts_bases };
    copy.all(plan, &mut result)?;
    Ok(result)
}

/// Whether all that is known to be damaged lies elsewhere, too. If not, a point that is there may
/// be damaged, and what it shares with a new one is read and looked up again.
fn damage_is_healed(catalog: &Catalog) -> Result<bool, CatalogError> {
    let names: Vec<_> = catalog.damaged_copies()?.into_iter().map(|(name, _)| name).collect();
    Ok(catalog.contains(&names)?.into_iter().all(|known| known))
}

/// What all points of a copy need.
struct Copy<'a> {
    from: Side<'a>,
    to: Side<'a>,
    regions: RegionContext<'a>,
    request: &'a CopyRequest<'a>,
    trusts_bases: bool,
}

impl Copy<'_> {
    fn all(&self, plan: Plan, result: &mut CopyResult) -> Result<(), TransferError> {
        let mut pairs = plan.pairs;
        for theirs in plan.missing {
            let base = match self.trusts_bases {
                true => plan::choose_base(&pairs, &theirs),
                false => None,
            };
            match self.point(&theirs, base, &pairs) {
                Ok(ours) => {
                    result.not_noted =
                        self.to.catalog.add_point(&ours).err().or(result.not_noted.take());
                    result.copied.push(ours.clone());
                    pairs.push((theirs, ours));
                }
                Err(TransferError::Source(
                    error @ (StoreError::Damaged(_) | StoreError::Unknown { .. }),
                )) => result.unreadable.push((theirs, error)),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Copies one point. `base` is one of the pairs: a point of both repositories.
    fn point(
        &self,
        theirs: &Point,
        base: Option<&(Point, Point)>,
        pairs: &[(Point, Point)],
    ) -> Result<Point, TransferError> {
        let manifest = &theirs.manifest;
        let mut disks = Vec::with_capacity(manifest.disks.len());
        for disk in &manifest.disks {
            let tree_of = |point: &Point| point.manifest.disk(&disk.name).map(DiskEntry::tree);
            let root = self.tree(disk.tree(), base, tree_of)?;
            disks.push(DiskEntry { root, ..disk.clone() });
        }
        let mut definition = Vec::with_capacity(manifest.definition.len());
        for file in &manifest.definition {
            let tree_of = |point: &Point| {
                let files = &point.manifest.definition;
                files.iter().find(|it| it.name == file.name).map(FileEntry::tree)
            };
            let root = self.tree(file.tree(), base, tree_of)?;
            definition.push(FileEntry { root, ..file.clone() });
        }
        let writer: &PackWriter<'_> = self.regions.writer;
        writer.flush()?;
        if let Some(pack) = self.to.catalog.vanished_pack(self.to.repository)? {
            return Err(TransferError::PackVanished { pack });
        }
        self.regions.progress.check()?;
        let parent = manifest.parent.and_then(|parent| plan::counterpart(pairs, parent));
        let manifest = Manifest {
            repository: self.to.repository.header().id,
            parent,
            disks,
            definition,
            run: self.request.run,
            host: LockHolder::this_process("").host,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..manifest.clone()
        };
        Ok(commit_point(self.to.repository, writer.session(), manifest)?)
    }

    fn tree(
        &self,
        tree: TreeRef,
        base: Option<&(Point, Point)>,
        tree_of: impl Fn(&Point) -> Option<TreeRef>,
    ) -> Result<Option<TreeName>, TransferError> {
        let base = base.and_then(|(theirs, ours)| {
            let pair = TreePair { theirs: tree_of(theirs)?, ours: tree_of(ours)? };
            (pair.theirs.size_bytes == pair.ours.size_bytes).then_some(pair)
        });
        disk::copy(self, tree, base)
    }
}

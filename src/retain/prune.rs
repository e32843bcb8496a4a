//! Removing points. The order of durable steps: the record of what goes; the manifests; the
//! catalog. Cut anywhere, every point is there as it was or is gone on purpose, and the next prune
//! decides anew on what is there.

use super::RetainError;
use super::plan::{Plan, PruneRequest, Snapshot};
use super::replicas::{Locking, needs};
use crate::catalog::{Catalog, CatalogError};
use crate::fsio::{FileSystem, LockHolder, LockMode};
use crate::point::{Holds, Removal, commit_removal, removed_among};
use crate::progress::Progress;
use crate::store::{Damage, Repository, StoreError};
use crate::units::{Breakage, Name, PointId, RunId, is_broken};
use std::collections::BTreeSet;

/// Points that one record lists: a record stays far below the longest document that is read.
const RECORDED_MAX: usize = 10_000;

/// What a prune did.
#[derive(Debug)]
pub struct Pruned {
    /// The points that are gone.
    pub removed: BTreeSet<PointId>,
    /// How many points the machine has left.
    pub kept: usize,
    /// What is damaged or missing in the repository; it stopped nothing.
    pub damages: Vec<Damage>,
    /// Why the catalog was not told; the next run brings it up to date.
    pub not_noted: Option<CatalogError>,
}

/// Removes those of the `approved` points of a machine that still need not be kept, now that
/// nothing else removes or pins points and its replicas stand still.
///
/// # Errors
/// Busy, or a doubt: nothing was removed. An error of the repository: what was removed until then
/// is gone, the rest is there.
pub fn prune(
    fs: &dyn FileSystem,
    repository: &Repository,
    catalog: &Catalog,
    request: &PruneRequest<'_>,
    approved: &BTreeSet<PointId>,
    run: RunId,
    progress: &Progress,
) -> Result<Pruned, RetainError> {
    let _lease = repository.lock_shared(&format!("prune of {}", request.machine))?;
    let _alone = repository.lock_prune(LockMode::Exclusive, "a prune")?;
    let snapshot = Snapshot::take(repository, catalog)?;
    let (needs, _still) = needs(fs, request.machine, request.replicas, Locking::All)?;
    let decisions = snapshot.decide(request, &needs)?;
    let count = decisions.len();
    let plan = Plan { decisions, damages: snapshot.damages };
    let removed: BTreeSet<PointId> = plan.going().intersection(approved).copied().collect();
    let mut not_noted = None;
    if !removed.is_empty() {
        progress.check()?;
        let what = Removed { machine: request.machine, points: &removed, time: request.now, run };
        not_noted = remove_points(repository, catalog, &what)?;
    }
    sweep_holds(repository, catalog, &snapshot.holds)?;
    Ok(Pruned { kept: count - removed.len(), removed, damages: plan.damages, not_noted })
}

/// Points that are to go, and what is recorded of that.
#[derive(Debug)]
pub struct Removed<'a> {
    /// Their machine.
    pub machine: &'a Name,
    /// The points.
    pub points: &'a BTreeSet<PointId>,
    /// The time now.
    pub time: jiff::Timestamp,
    /// The run that removes them.
    pub run: RunId,
}

/// Removes points, whatever would keep them, and gives back why the catalog was not told.
///
/// # Errors
/// What was removed until then is gone on purpose, the rest is there.
pub fn remove_points(
    repository: &Repository,
    catalog: &Catalog,
    what: &Removed<'_>,
) -> Result<Option<CatalogError>, StoreError> {
    let session = repository.begin_writing(what.run)?;
    let all: Vec<PointId> = what.points.iter().copied().collect();
    for part in all.chunks(RECORDED_MAX) {
        let removal = Removal {
            machine: what.machine.clone(),
            points: part.iter().copied().collect(),
            time: what.time,
            run: what.run,
            host: LockHolder::this_process("").host,
        };
        if !is_broken(Breakage::RemovalUnrecorded) {
            commit_removal(repository, &session, &removal)?;
        }
    }
    let (fs, layout) = (repository.file_system(), repository.layout());
    for &id in &all {
        match fs.remove_file(&layout.point(id)) {
            Err(error) if !error.not_found() => return Err(error.into()),
            _ => {}
        }
    }
    fs.sync_dir(&layout.points())?;
    Ok(catalog.forget_points(&all).err())
}

/// Removes what held points that are gone on purpose. What holds a point that is missing stays:
/// the point may come back.
fn sweep_holds(
    repository: &Repository,
    catalog: &Catalog,
    holds: &Holds,
) -> Result<(), StoreError> {
    let present: BTreeSet<PointId> = repository.list_points()?.into_iter().collect();
    let held: BTreeSet<PointId> = holds.iter().map(|(_, hold)| hold.point).collect();
    let gone: BTreeSet<PointId> = held.difference(&present).copied().collect();
    if gone.is_empty() {
        return Ok(());
    }
    let (removed, _) = removed_among(repository, &gone)?;
    for (id, _) in holds.iter().filter(|(_, hold)| removed.contains(&hold.point)) {
        catalog.remove_hold(repository, id)?;
    }
    Ok(())
}

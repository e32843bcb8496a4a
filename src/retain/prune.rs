//! Removing points. The order of durable steps: the record of what goes; the manifests; the
//! catalog. Cut anywhere, every point is there as it was or is gone on purpose, and the next prune
//! decides anew on what is there.

use super::RetainError;
use crate::catalog::{Catalog, CatalogError};
use crate::fsio::LockHolder;
use crate::point::{Holds, Removal, commit_removal, remove_hold, removed_among};
use crate::progress::Progress;
use crate::store::Repository;
use crate::units::{Name, PointId, RunId};
use jiff::Timestamp;
use std::collections::BTreeSet;

/// Points that one record lists: a record stays far below the longest document that is read.
const RECORDED_MAX: usize = 10_000;

/// What is to be removed, and by whom.
#[derive(Debug)]
pub struct RemoveRequest<'a> {
    /// The machine.
    pub machine: &'a Name,
    /// The points.
    pub points: &'a BTreeSet<PointId>,
    /// The run.
    pub run: RunId,
    /// The time now.
    pub now: Timestamp,
}

/// Removes points. The caller holds the repository shared and its prune lock exclusively, and has
/// decided under them. Says why the catalog could not be told, where it could not: the next run
/// brings it up to date.
///
/// # Errors
/// What was removed until then is gone, the rest is there.
pub fn remove_points(
    repository: &Repository,
    catalog: &Catalog,
    request: &RemoveRequest<'_>,
    progress: &Progress,
) -> Result<Option<CatalogError>, RetainError> {
    progress.check()?;
    let session = repository.begin_writing(request.run)?;
    let all: Vec<PointId> = request.points.iter().copied().collect();
    for part in all.chunks(RECORDED_MAX) {
        let removal = Removal {
            machine: request.machine.clone(),
            points: part.iter().copied().collect(),
            time: request.now,
            run: request.run,
            host: LockHolder::this_process("").host,
        };
        commit_removal(repository, &session, &removal)?;
    }
    let (fs, layout) = (repository.file_system(), repository.layout());
    for &id in &all {
        match fs.remove_file(&layout.point(id)) {
            Err(error) if !error.not_found() => return Err(error_of(error)),
            _ => {}
        }
    }
    fs.sync_dir(&layout.points()).map_err(error_of)?;
    Ok(all.iter().find_map(|&id| catalog.forget_point(id).err()))
}

/// Removes what held points that are gone on purpose, and gives their number. What holds a point
/// that is missing stays: the point may come back.
///
/// # Errors
/// When the repository fails.
pub fn sweep_holds(repository: &Repository, holds: &Holds) -> Result<usize, RetainError> {
    let present: BTreeSet<PointId> = repository.list_points()?.into_iter().collect();
    let held: BTreeSet<PointId> = holds.iter().map(|(_, hold)| hold.point).collect();
    let gone: BTreeSet<PointId> = held.difference(&present).copied().collect();
    if gone.is_empty() {
        return Ok(0);
    }
    let (removed, _) = removed_among(repository, &gone)?;
    let stale = holds.iter().filter(|(_, hold)| removed.contains(&hold.point));
    let mut count = 0;
    for (id, _) in stale {
        remove_hold(repository, id)?;
        count += 1;
    }
    Ok(count)
}

fn error_of(error: crate::fsio::FileError) -> RetainError {
    RetainError::Store(error.into())
}

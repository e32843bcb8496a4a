//! What the replicas of a machine need, read from their superblocks.

use super::RetainError;
use crate::destination::{PointRef, ReplicaHome, ReplicaRecord, Superblock};
use crate::fsio::{FileLock, FileSystem, LockError, LockHolder, LockMode};
use crate::units::{Breakage, Name, PointId, Sequence, is_broken};

/// A replica of the settings.
#[derive(Debug, Clone)]
pub struct ReplicaPlace {
    /// The replica.
    pub replica: Name,
    /// Where its files are.
    pub home: ReplicaHome,
    /// Whether the history knows that it was brought to a point: then it has a superblock.
    pub was_fed: bool,
}

/// What a replica needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaNeeds {
    /// The replica.
    pub replica: Name,
    /// The points that it is at, or on its way from or to.
    pub points: Vec<PointId>,
    /// Somebody works on it now, and may bring it to any point from this one on.
    pub in_use_from: Option<Sequence>,
}

/// Whether replicas are held still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Locking {
    /// Only looked at.
    None,
    /// As long as the locks live, none moves to another point.
    All,
}

/// What the replicas of `machine` need, and their locks. One that is locked already may be on its
/// way to any point after its own.
pub(super) fn needs(
    fs: &dyn FileSystem,
    machine: &Name,
    places: &[ReplicaPlace],
    locking: Locking,
) -> Result<(Vec<ReplicaNeeds>, Vec<FileLock>), RetainError> {
    let (mut needs, mut locks) = (Vec::new(), Vec::new());
    if is_broken(Breakage::ReplicaNeedsIgnored) {
        return Ok((needs, locks));
    }
    for place in places {
        let unknown = |reason: String| RetainError::Replica {
            machine: machine.clone(),
            replica: place.replica.clone(),
            reason,
        };
        let busy = match locking {
            Locking::None => false,
            Locking::All => {
                !hold_still(fs, &place.home, &mut locks).map_err(|e| unknown(e.to_string()))?
            }
        };
        needs.push(one(fs, place, busy).map_err(unknown)?);
    }
    Ok((needs, locks))
}

/// Takes the lock of a replica that is there; `false` when another one has it.
fn hold_still(
    fs: &dyn FileSystem,
    home: &ReplicaHome,
    locks: &mut Vec<FileLock>,
) -> Result<bool, LockError> {
    if fs.stat(home.folder())?.is_none() {
        return Ok(true);
    }
    let holder = LockHolder::this_process("a prune");
    match FileLock::try_take(fs, &home.lock(), LockMode::Exclusive, &holder) {
        Ok(lock) => {
            locks.push(lock);
            Ok(true)
        }
        Err(LockError::Busy { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

fn one(fs: &dyn FileSystem, place: &ReplicaPlace, busy: bool) -> Result<ReplicaNeeds, String> {
    let path = place.home.superblock();
    let replica = place.replica.clone();
    if fs.stat(&path).map_err(|error| error.to_string())?.is_none() {
        if place.was_fed {
            let path = path.display();
            return Err(format!("its superblock {path} is gone, though it was fed before"));
        }
        let in_use_from = busy.then_some(Sequence(0));
        return Ok(ReplicaNeeds { replica, points: Vec::new(), in_use_from });
    }
    let read = Superblock::read_both(fs, &path, &replica);
    let (record, other) = read.map_err(|error| error.to_string())?;
    let points: Vec<PointRef> =
        [Some(record), other].iter().flatten().flat_map(ReplicaRecord::points).collect();
    // Of one that is fed straight from its machine it is not known what it goes over to.
    let first = points.iter().map(|point| point.sequence).min().or(Some(Sequence(0)));
    Ok(ReplicaNeeds {
        replica,
        points: points.iter().map(|point| point.id).collect(),
        in_use_from: first.filter(|_| busy),
    })
}

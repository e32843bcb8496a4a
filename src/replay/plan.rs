//! What to do with a replica: a pure function of what is known of it and of the points.

use crate::destination::{IdentityChange, NO_REPOSITORY, PointRef, ReplicaRecord, State};
use crate::point::Point;
use crate::units::{Name, RepositoryId};
use std::path::{Path, PathBuf};

/// What was seen of a replica.
#[derive(Debug, Clone, Copy)]
pub struct Observed<'a> {
    /// Its superblock; `None`: it has none. A journal was redone already, if it could be.
    pub record: Option<&'a ReplicaRecord>,
    /// Configured disks, with the paths of their targets.
    pub disks: &'a [(Name, PathBuf)],
    /// Targets that hold something though the superblock does not know them.
    pub occupied: &'a [PathBuf],
    /// Why a journal that a crash left cannot be redone.
    pub unfinished: Option<&'a str>,
    /// The first target that is not as it was left.
    pub changed: Option<&'a IdentityChange>,
    /// The first target that may be somebody else's: it is not known to be the one that was
    /// recorded, and what it holds does not look like this replica.
    pub foreign: Option<&'a Path>,
    /// The user said that what is in occupied and foreign targets may be overwritten.
    pub adopt: bool,
}

/// What will be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// Nothing: the replica is at the newest point, or past it.
    Skip {
        /// Where it is.
        at: PointRef,
    },
    /// The first copy.
    Seed,
    /// Compare everything with the newest point, and repair what differs.
    Repair {
        /// Why, in words for people.
        reason: String,
    },
    /// Replay what differs between the sync point and the newest point.
    Replay {
        /// The sync point.
        from: Box<Point>,
    },
}

/// What must not be decided without the user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanConflict {
    /// The replica is in use.
    #[error(
        "the replica is promoted since point {} (#{}): a guest may be writing to it, so nothing \
         is replicated to it", point.id.short(), point.sequence.0
    )]
    Promoted {
        /// Where the guest started.
        point: PointRef,
    },
    /// A target holds something that afterimage did not put there.
    #[error(
        "{} holds something already; move it away, or run `afterimage replicate now REPLICA \
         --adopt` to compare it with the newest point and overwrite what differs", path.display()
    )]
    Occupied {
        /// The target.
        path: PathBuf,
    },
    /// A target may be somebody else's.
    #[error(
        "{} is not the file or device that was replicated to before (or that cannot be known since \
         the system was started anew), and what it holds does not look like this replica; so \
         nothing was written. If it is the right one, run `afterimage replicate now REPLICA \
         --adopt`: it is compared with the newest point, and what differs is overwritten",
        path.display()
    )]
    Foreign {
        /// The target.
        path: PathBuf,
    },
    /// The superblock is of another machine or repository.
    #[error(
        "the replica's folder belongs to {was}, the settings say {is}; give this replica targets \
         of its own, or remove that folder to start over with --adopt"
    )]
    OtherOwner {
        /// Machine and repository in the superblock.
        was: String,
        /// Machine and repository in the settings.
        is: String,
    },
    /// The newest point has a disk that the replica has no target for.
    #[error(
        "{of} has a disk {disk}, for which the replica has no target; add a \
         [[replica.NAME.disk]] for it to the settings"
    )]
    DiskWithoutTarget {
        /// The disk.
        disk: Name,
        /// The point, or the machine.
        of: String,
    },
}

/// Where a replica is, whatever it is fed from.
pub(super) enum Standing<'a> {
    /// It is to be made, and nothing is in the way.
    New,
    /// What it holds is not known: everything must be compared.
    Unsure {
        /// Why, in words for people.
        reason: String,
    },
    /// It is as it was left.
    At {
        /// What its superblock says.
        record: &'a ReplicaRecord,
        /// The point, or the capture.
        at: PointRef,
    },
}

/// Finds out where a replica is, that is to hold these `disks` of `of`; `is_ours` says to whom it
/// belongs.
///
/// # Errors
/// [`PlanConflict`], with the evidence.
pub(super) fn standing<'a, 'd>(
    observed: &Observed<'a>,
    is_ours: impl Fn(&ReplicaRecord) -> Result<(), PlanConflict>,
    disks: impl Iterator<Item = &'d Name>,
    of: impl Fn() -> String,
) -> Result<Standing<'a>, PlanConflict> {
    if let Some(record) = observed.record {
        is_ours(record)?;
        if let State::Promoted { point } = &record.state {
            return Err(PlanConflict::Promoted { point: *point });
        }
    }
    check_disks(observed, disks, of)?;
    check_occupied(observed)?;
    let unsure = |reason: String| Ok(Standing::Unsure { reason });
    let Some(record) = observed.record else {
        return match observed.occupied {
            [] => Ok(Standing::New),
            _ => unsure("its targets were adopted".to_owned()),
        };
    };
    let at = match &record.state {
        State::Seeding { .. } => return unsure("its copy was not complete".to_owned()),
        State::Clean { point } => *point,
        State::Applying { .. } | State::Promoted { .. } => {
            let why = observed.unfinished.unwrap_or("its journal was not redone");
            return unsure(format!("an interrupted update cannot be finished: {why}"));
        }
    };
    if let Some(change) = observed.changed {
        return unsure(change.to_string());
    }
    if let Some((disk, path)) = observed.disks.iter().find(|disk| has_moved(record, disk)) {
        return unsure(format!("the target of disk {disk} is {} now", path.display()));
    }
    Ok(Standing::At { record, at })
}

/// Decides. `sync_point` is the point that the replica is at, if the repository still has it.
///
/// # Errors
/// [`PlanConflict`], with the evidence.
pub fn plan(
    observed: &Observed<'_>,
    machine: &Name,
    repository: RepositoryId,
    sync_point: Option<&Point>,
    newest: &Point,
) -> Result<Plan, PlanConflict> {
    let is_ours = |record: &ReplicaRecord| {
        let is_other = record.repository != repository && record.repository != NO_REPOSITORY;
        match &record.machine == machine && !is_other {
            true => Ok(()),
            false => Err(PlanConflict::OtherOwner {
                was: format!("machine {} of repository {}", record.machine, record.repository),
                is: format!("machine {machine} of repository {repository}"),
            }),
        }
    };
    let disks = newest.manifest.disks.iter().map(|disk| &disk.name);
    let of = || format!("point {}", newest.id.short());
    let (record, at) = match standing(observed, is_ours, disks, of)? {
        Standing::New => return Ok(Plan::Seed),
        Standing::Unsure { reason } => return Ok(Plan::Repair { reason }),
        Standing::At { record, at } => (record, at),
    };
    let repair = |reason: String| Ok(Plan::Repair { reason });
    if record.direct.is_some() {
        // What it holds is in no repository. No replica goes back by itself.
        return match newest.manifest.time > at.time {
            true => repair("it was fed straight from its machine before".to_owned()),
            false => Ok(Plan::Skip { at }),
        };
    }
    if !is_newer(newest, at) {
        return Ok(Plan::Skip { at });
    }
    let Some(from) = sync_point else {
        return repair(format!("the repository no longer has its sync point {}", at.id.short()));
    };
    if same_disks(record, newest) {
        Ok(Plan::Replay { from: Box::new(from.clone()) })
    } else {
        repair("the machine's disks are others now".to_owned())
    }
}

/// Whether the machine went on since `at`. When its newest points were removed, the number of one
/// of them is given again: then the time tells. No replica goes back by itself.
fn is_newer(newest: &Point, at: PointRef) -> bool {
    let (sequence, time) = (newest.manifest.sequence, newest.manifest.time);
    newest.id != at.id && (sequence > at.sequence || time > at.time)
}

fn has_moved(record: &ReplicaRecord, (name, path): &(Name, PathBuf)) -> bool {
    record.disks.iter().any(|disk| &disk.name == name && &disk.path != path)
}

/// Nothing that the replica does not know is overwritten unasked.
fn check_occupied(observed: &Observed<'_>) -> Result<(), PlanConflict> {
    match (observed.occupied.first(), observed.foreign) {
        _ if observed.adopt => Ok(()),
        (Some(path), _) => Err(PlanConflict::Occupied { path: path.clone() }),
        (None, Some(path)) => Err(PlanConflict::Foreign { path: path.to_owned() }),
        (None, None) => Ok(()),
    }
}

fn check_disks<'d>(
    observed: &Observed<'_>,
    mut disks: impl Iterator<Item = &'d Name>,
    of: impl Fn() -> String,
) -> Result<(), PlanConflict> {
    let has_target = |name: &Name| observed.disks.iter().any(|(disk, _)| disk == name);
    match disks.find(|name| !has_target(name)) {
        None => Ok(()),
        Some(disk) => Err(PlanConflict::DiskWithoutTarget { disk: disk.clone(), of: of() }),
    }
}

fn same_disks(record: &ReplicaRecord, newest: &Point) -> bool {
    let recorded = record.disks.iter().map(|disk| &disk.name);
    recorded.eq(newest.manifest.disks.iter().map(|disk| &disk.name))
}

//! What a replica can be, and what may follow what; pure.
//!
//! ```text
//! seeding --> clean <--> applying        clean --> promoted (epoch raised)
//! any --> seeding (compare everything; from promoted only with the epoch raised)
//! ```

use crate::destination::{JournalRef, TargetIdentity};
use crate::fsio::boot_id;
use crate::source::{DiskBase, known_bases};
use crate::units::{DISK_BYTES_MAX, Epoch, Name, PointId, ReplicaId, RepositoryId, Sequence};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// A point, as the superblock remembers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PointRef {
    /// Its name.
    pub id: PointId,
    /// Its position in the machine's history.
    pub sequence: Sequence,
    /// The instant that it holds.
    pub time: Timestamp,
}

/// What a replica holds.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum State {
    /// No point yet: the first copy, or a comparison that repairs, is under way.
    Seeding {
        /// The point that it will be at.
        to: PointRef,
    },
    /// Exactly a point.
    Clean {
        /// Which.
        point: PointRef,
    },
    /// Exactly a point once the journal is redone.
    Applying {
        /// The point that it was at.
        from: PointRef,
        /// The point that it is at, together with the journal.
        to: PointRef,
        /// What is to be redone.
        journal: JournalRef,
    },
    /// In use: a guest writes to it. Nothing is replicated to it.
    Promoted {
        /// The point that the guest started from.
        point: PointRef,
    },
}

impl State {
    /// The state in one word.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Seeding { .. } => "seeding",
            Self::Clean { .. } => "clean",
            Self::Applying { .. } => "applying",
            Self::Promoted { .. } => "promoted",
        }
    }
}

/// One disk of a replica.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskRecord {
    /// Its name.
    pub name: Name,
    /// Size of the disk in bytes (of a device: what is used of it).
    pub size_bytes: u64,
    /// Where its target is: what is there belongs to this replica, also while it is seeding.
    pub path: PathBuf,
    /// The target when it was last synced; `None` while it is not yet there, which only a
    /// replica that is seeding may say.
    pub identity: Option<TargetIdentity>,
}

impl DiskRecord {
    /// Whether a target with the identity `now` is the one that was recorded, whatever was
    /// written to it since.
    pub fn is_at(&self, now: &TargetIdentity) -> bool {
        self.identity.as_ref().is_some_and(|identity| identity.is_same_place(now))
    }
}

/// What is known of a replica that is fed straight from its machine: the point that it is at is a
/// capture, which no repository has.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DirectFeed {
    /// The capture that the state leads to, by the name that it was given as a point.
    pub capture: PointId,
    /// The [`boot_id`](crate::fsio::boot_id) when it was taken.
    pub boot_id: Option<String>,
    /// When all of the machine was last compared with the replica.
    pub compared: Timestamp,
    /// What the next capture of each disk can build upon.
    #[serde(deserialize_with = "known_bases")]
    pub bases: BTreeMap<Name, DiskBase>,
}

/// All that a superblock holds.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplicaRecord {
    /// The replica.
    pub replica: Name,
    /// Its identity, which outlives its name.
    pub replica_id: ReplicaId,
    /// The repository that it is fed from.
    pub repository: RepositoryId,
    /// The machine that it is a copy of.
    pub machine: Name,
    /// Whose turn it is; the highest wins.
    pub epoch: Epoch,
    /// What it holds.
    pub state: State,
    /// Its disks, in the order that journals number them.
    pub disks: Vec<DiskRecord>,
    /// Of a replica that is fed straight from its machine; `None`: from backups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direct: Option<DirectFeed>,
}

/// Stands for the repository of a replica that was never fed from one.
pub const NO_REPOSITORY: RepositoryId = RepositoryId([0; 16]);

impl DirectFeed {
    /// What of it still counts.
    pub fn known(&self) -> BTreeMap<Name, DiskBase> {
        let same_boot = self.boot_id.is_some() && self.boot_id == boot_id();
        let counts = |base: &DiskBase| same_boot || base.outlives_boot();
        let bases = self.bases.iter().filter(|(_, base)| counts(base));
        bases.map(|(disk, base)| (disk.clone(), base.clone())).collect()
    }
}

impl State {
    /// The point that it leads to.
    pub fn point(&self) -> PointRef {
        match self {
            Self::Seeding { to: at }
            | Self::Clean { point: at }
            | Self::Applying { to: at, .. }
            | Self::Promoted { point: at } => *at,
        }
    }
}

impl ReplicaRecord {
    /// The points of its repository that it is at, was at, or will be at.
    pub fn points(&self) -> Vec<PointRef> {
        match (&self.state, &self.direct) {
            (_, Some(_)) => Vec::new(),
            (State::Applying { from, to, .. }, None) => vec![*from, *to],
            (state, None) => vec![state.point()],
        }
    }

    /// Whether there can be such a replica: what is read from a file need not be.
    pub(super) fn is_possible(&self) -> bool {
        let is_seeding = matches!(self.state, State::Seeding { .. });
        let fits = match &self.direct {
            Some(direct) => direct.capture == self.state.point().id,
            None => self.repository != NO_REPOSITORY,
        };
        let names: BTreeSet<&Name> = self.disks.iter().map(|disk| &disk.name).collect();
        fits && names.len() == self.disks.len()
            && self.disks.iter().all(|disk| {
                disk.size_bytes <= DISK_BYTES_MAX && (is_seeding || disk.identity.is_some())
            })
    }
}

/// Why a state may not follow another.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransitionError {
    /// A new replica that claims to hold something.
    #[error("a new replica begins as seeding, not as {to}; run `afterimage replicate now` for it")]
    NotSeeding {
        /// The state that was asked for.
        to: &'static str,
    },
    /// Not the same replica.
    #[error(
        "its {what} cannot change; give the new one a replica and targets of its own, and run \
         `afterimage config check`"
    )]
    Identity {
        /// What would change.
        what: &'static str,
    },
    /// The epoch would fall.
    #[error(
        "its epoch {} is higher than {}: it was failed over since; see `afterimage status`",
        from.0, to.0
    )]
    EpochFell {
        /// The current one.
        from: Epoch,
        /// The lower one.
        to: Epoch,
    },
    /// The epoch must rise.
    #[error(
        "from {from} to {to} needs an epoch higher than {}; run `afterimage failover` or \
         `afterimage failback`, which raise it", epoch.0
    )]
    EpochNotRaised {
        /// The current state.
        from: &'static str,
        /// The next state.
        to: &'static str,
        /// The current epoch.
        epoch: Epoch,
    },
    /// The states do not follow each other.
    #[error(
        "it is {from} and cannot become {to} (a promoted replica refuses replication, a started \
         apply is finished first); see `afterimage status`"
    )]
    State {
        /// The current state.
        from: &'static str,
        /// The next state.
        to: &'static str,
    },
    /// The states do, but not at this point or with this journal.
    #[error(
        "from {from} to {to} at another point or with another journal than it is at; run \
         `afterimage replicate now` for it again"
    )]
    Point {
        /// The current state.
        from: &'static str,
        /// The next state.
        to: &'static str,
    },
    /// Another set of disks.
    #[error(
        "its disks differ from those that it has; only seeding can change them: run `afterimage \
         replicate now` for it"
    )]
    Disks,
    /// A disk that nothing is known of.
    #[error(
        "it cannot be {to} while the target of disk {disk} is not known; run `afterimage \
         replicate now` for it"
    )]
    Unidentified {
        /// The next state.
        to: &'static str,
        /// The disk.
        disk: Name,
    },
}

/// Whether `first` may be the first record of a replica.
pub(super) fn check_first(first: &ReplicaRecord) -> Result<(), TransitionError> {
    match first.state {
        State::Seeding { .. } => Ok(()),
        _ => Err(TransitionError::NotSeeding { to: first.state.word() }),
    }
}

/// Whether the record `to` may follow `from`.
///
/// # Errors
/// The first rule that it breaks.
pub fn check_transition(from: &ReplicaRecord, to: &ReplicaRecord) -> Result<(), TransitionError> {
    check_same_replica(from, to)?;
    if to.epoch < from.epoch {
        return Err(TransitionError::EpochFell { from: from.epoch, to: to.epoch });
    }
    check_states(&from.state, &to.state)?;
    let (was, next) = (from.state.word(), to.state.word());
    let starts_writing = matches!(&to.state, State::Promoted { .. }) && was != next;
    let gives_back = matches!(&from.state, State::Promoted { .. }) && was != next;
    if (starts_writing || gives_back) && to.epoch == from.epoch {
        return Err(TransitionError::EpochNotRaised { from: was, to: next, epoch: from.epoch });
    }
    check_disks(from, to)
}

fn check_same_replica(from: &ReplicaRecord, to: &ReplicaRecord) -> Result<(), TransitionError> {
    // It was only ever fed straight from its machine.
    let gets_repository =
        from.repository == NO_REPOSITORY && matches!(to.state, State::Seeding { .. });
    let changed = [
        ("name", from.replica != to.replica),
        ("identity", from.replica_id != to.replica_id),
        ("repository", from.repository != to.repository && !gets_repository),
        ("machine", from.machine != to.machine),
    ];
    match changed.into_iter().find(|(_, changed)| *changed) {
        Some((what, _)) => Err(TransitionError::Identity { what }),
        None => Ok(()),
    }
}

fn check_states(from: &State, to: &State) -> Result<(), TransitionError> {
    use State::{Applying, Clean, Promoted, Seeding};
    let same_point = match (from, to) {
        // A comparison of everything, to any point, is always possible.
        (_, Seeding { .. }) => true,
        (Seeding { to: at }, Clean { point })
        | (Clean { point: at }, Clean { point })
        | (Applying { to: at, .. }, Clean { point })
        | (Clean { point: at }, Promoted { point })
        | (Promoted { point: at }, Promoted { point }) => at == point,
        (Clean { point }, Applying { from, to, .. }) => point == from && from.id != to.id,
        (Applying { .. }, Applying { .. }) => from == to,
        _ => return Err(TransitionError::State { from: from.word(), to: to.word() }),
    };
    if same_point {
        Ok(())
    } else {
        Err(TransitionError::Point { from: from.word(), to: to.word() })
    }
}

fn check_disks(from: &ReplicaRecord, to: &ReplicaRecord) -> Result<(), TransitionError> {
    if matches!(to.state, State::Seeding { .. }) {
        return Ok(());
    }
    if !from.disks.iter().map(|disk| &disk.name).eq(to.disks.iter().map(|disk| &disk.name)) {
        return Err(TransitionError::Disks);
    }
    match to.disks.iter().find(|disk| disk.identity.is_none()) {
        Some(disk) => {
            Err(TransitionError::Unidentified { to: to.state.word(), disk: disk.name.clone() })
        }
        None => Ok(()),
    }
}

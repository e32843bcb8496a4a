//! Why nothing was removed.

use super::Candidate;
use crate::catalog::CatalogError;
use crate::progress::Cancelled;
use crate::store::{Damage, StoreError};
use crate::units::Name;
use jiff::Timestamp;
use std::path::PathBuf;

/// Why nothing was removed.
#[derive(Debug, thiserror::Error)]
pub enum RetainError {
    /// A point is dated in the future.
    #[error(
        "nothing is removed: point #{} {} of {machine} is dated {}, but the clock of this host \
         shows {now}; set the clock right and run this again, or, if it was wrong when the point \
         was made, wait until that date", point.sequence.0, point.id.short(), point.time
    )]
    FuturePoint {
        /// Its machine.
        machine: Name,
        /// The point.
        point: Candidate,
        /// The time now.
        now: Timestamp,
    },
    /// The clock went back.
    #[error(
        "nothing is removed: the clock of this host shows {now}, but a run that is in the history \
         was under way at {recorded}, so the clock went back; set it right and run this again, or, if it was wrong \
         during that run, wait until that date"
    )]
    ClockWentBack {
        /// The latest instant of the history.
        recorded: Timestamp,
        /// The time now.
        now: Timestamp,
    },
    /// A pin or lock cannot be read.
    #[error(
        "nothing is removed from this repository: {damage}, and it may keep any point; bring the \
         file back from a copy of {}, or, if you know what it was, remove it and pin the point \
         again with `afterimage points pin`", folder.display()
    )]
    Hold {
        /// What is wrong.
        damage: Damage,
        /// The folder of all of them.
        folder: PathBuf,
    },
    /// What a replica needs is not known.
    #[error(
        "nothing of {machine} is removed: what replica {replica} needs is not known, because \
         {reason}; see `afterimage status`, or take the replica out of the settings if it is no \
         more"
    )]
    Replica {
        /// The machine.
        machine: Name,
        /// The replica.
        replica: Name,
        /// Why not.
        reason: String,
    },
    /// More would go than may go without a word.
    #[error(
        "{removed} of {points} points of {machine} would go, more than {max_percent} % of them \
         (`prune_max_percent`); nothing was removed: `afterimage prune {machine} --dry-run` tells \
         why, and if that is what you want, run `afterimage prune {machine} --yes`"
    )]
    TooMany {
        /// The machine.
        machine: Name,
        /// How many would go.
        removed: usize,
        /// How many there are.
        points: usize,
        /// The most that may go.
        max_percent: u8,
    },
    /// The repository failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The user stopped it.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl RetainError {
    /// Whether trying the same again can not help.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Store(error) => error.is_permanent(),
            Self::FuturePoint { .. } | Self::ClockWentBack { .. } | Self::Cancelled(_) => false,
            Self::Hold { .. } | Self::Replica { .. } | Self::TooMany { .. } | Self::Catalog(_) => {
                true
            }
        }
    }
}

//! Why points were not copied.

use crate::catalog::CatalogError;
use crate::progress::Cancelled;
use crate::store::StoreError;
use crate::units::{Name, PackName, PointId, RepositoryId, Sequence};
use crate::workers::WorkerLost;

/// Why points were not copied. Those that were complete before stay.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// Both are one repository.
    #[error(
        "both are the repository {id}: a copy goes to another one; name one that `afterimage \
             init` created on its own"
    )]
    SameRepository {
        /// Its identity.
        id: RepositoryId,
    },
    /// The same name stands for two machines.
    #[error(
        "the points of {machine} are those of two machines of that name, which must not become \
         one history; copy to a repository that has none of {machine} yet"
    )]
    OtherMachine {
        /// The name.
        machine: Name,
    },
    /// Both repositories went on with the machine on their own.
    #[error(
        "{machine} #{} is of {theirs} in one history and of {ours} in the other: they went apart, \
         and nothing of it was copied; copy to a repository that {machine} is not backed up to",
        sequence.0
    )]
    Diverged {
        /// The machine.
        machine: Name,
        /// The position that both have.
        sequence: Sequence,
        /// The instant that the point to copy holds.
        theirs: jiff::Timestamp,
        /// The instant of the point that is there.
        ours: jiff::Timestamp,
    },
    /// The point that was asked for was removed meanwhile.
    #[error("the point {} of {machine} is no longer there; see `afterimage points {machine}`",
        point.short())]
    PointGone {
        /// The machine.
        machine: Name,
        /// The point.
        point: PointId,
    },
    /// The first repository failed.
    #[error("reading: {0}")]
    Source(#[source] StoreError),
    /// The catalog of the first repository failed.
    #[error("reading: {0}")]
    SourceCatalog(#[source] CatalogError),
    /// The second repository failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The catalog of the second repository failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// A pack that the new point refers to disappeared meanwhile.
    #[error(
        "pack {} disappeared from the repository while points were copied to it, so the point was \
         not made; find out what removes files there, then run this again", pack.short()
    )]
    PackVanished {
        /// The pack.
        pack: PackName,
    },
    /// A worker ended without a result.
    #[error(transparent)]
    WorkerLost(#[from] WorkerLost),
    /// The user stopped it.
    #[error(
        "stopped on request; points that were complete stay, run the same command again to \
             go on"
    )]
    Cancelled(#[from] Cancelled),
}

impl TransferError {
    /// Whether trying the same again can not help.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Source(error) | Self::Store(error) => error.is_permanent(),
            Self::PackVanished { .. } | Self::Cancelled(_) => false,
            _ => true,
        }
    }
}

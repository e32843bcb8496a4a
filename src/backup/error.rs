//! Why a backup failed.

use crate::capture::CaptureError;
use crate::catalog::CatalogError;
use crate::fsio::FileError;
use crate::progress::Cancelled;
use crate::source::SourceError;
use crate::store::StoreError;
use crate::units::{Name, PackName};
use crate::workers::WorkerLost;

/// Why a backup failed. There is no point of it.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The machine could not be captured.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// A disk could not be read.
    #[error("disk {disk}: {error}")]
    Source {
        /// The disk.
        disk: Name,
        /// The reason.
        #[source]
        error: Box<SourceError>,
    },
    /// A file of the definition could not be read.
    #[error("the machine's definition: {0}")]
    Definition(#[source] FileError),
    /// The repository failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// A pack that the new point refers to disappeared while the backup ran.
    #[error(
        "pack {} disappeared from the repository while the backup ran, so no point was made; \
         find out what removes files there, then run this again", pack.short()
    )]
    PackVanished {
        /// The pack.
        pack: PackName,
    },
    /// A worker ended without a result.
    #[error(transparent)]
    WorkerLost(#[from] WorkerLost),
    /// The user stopped it.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl BackupError {
    pub(super) fn source(disk: &Name, error: SourceError) -> Self {
        Self::Source { disk: disk.clone(), error: Box::new(error) }
    }

    /// Whether trying the same again can not help.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Capture(error) => error.is_permanent(),
            Self::Source { error, .. } => error.is_permanent(),
            Self::Definition(error) => error.is_permanent(),
            Self::Store(error) => error.is_permanent(),
            Self::Catalog(error) => !error.is_passing(),
            Self::WorkerLost(_) => true,
            Self::PackVanished { .. } | Self::Cancelled(_) => false,
        }
    }
}

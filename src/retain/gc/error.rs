//! Why garbage was not collected.

use crate::catalog::CatalogError;
use crate::fsio::LockError;
use crate::progress::Cancelled;
use crate::store::{Damage, StoreError};

/// Why garbage was not collected. Nothing that is needed was removed.
#[derive(Debug, thiserror::Error)]
pub enum GcError {
    /// Something cannot be read; it may be what says that something else is needed.
    #[error(
        "nothing was removed, because not everything can be read: {damage}; run `afterimage \
         verify --all`, then `afterimage repair`"
    )]
    Unreadable {
        /// What is wrong.
        damage: Damage,
    },
    /// The repository failed.
    #[error(transparent)]
    Store(StoreError),
    /// The catalog failed.
    #[error(transparent)]
    Catalog(CatalogError),
    /// Another collection runs.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The user stopped it.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl From<StoreError> for GcError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Damaged(damage) => Self::Unreadable { damage },
            StoreError::Unknown { name } => {
                let reason = "it lies in no pack; a pack was lost";
                Self::Unreadable { damage: Damage::Tree { object: name, reason } }
            }
            other => Self::Store(other),
        }
    }
}

impl From<CatalogError> for GcError {
    fn from(error: CatalogError) -> Self {
        match error {
            CatalogError::Store(error) => error.into(),
            other => Self::Catalog(other),
        }
    }
}

impl GcError {
    /// Whether trying the same again can not help.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Store(error) => error.is_permanent(),
            Self::Unreadable { .. } | Self::Catalog(_) => true,
            Self::Lock(_) | Self::Cancelled(_) => false,
        }
    }
}

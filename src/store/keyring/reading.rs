//! The first slots of a repository, and what is read of its slots without changing them.

use crate::fsio::{FileLock, LockError, LockMode};
use crate::store::keys::SecretKey;
use crate::store::slots::{self, SlotProblem};
use crate::store::{
    InitOptions, Keys, Layout, Repository, Secret, StoreError, WriterSession, check_slots,
};
use crate::units::{RepositoryId, SlotId};
use std::collections::BTreeMap;

/// The slots of a new repository, and their index.
pub(in crate::store) fn first_slots(
    session: &WriterSession,
    id: RepositoryId,
    secret: &Secret,
    options: &InitOptions<'_>,
) -> Result<Keys, StoreError> {
    let master = SecretKey::new(slots::random()?);
    let keys = Keys::from_master(id, &master);
    let recovery = options.recovery_key.map(|key| Secret::RecoveryKey(key.clone()));
    let mut digests = BTreeMap::new();
    for secret in [Some(secret), recovery.as_ref()].into_iter().flatten() {
        let slot = slots::wrap(id, secret, None, &master, options.now)?;
        slots::publish(session, &slot)?;
        digests.insert(slot.id, slots::digest(&slot.text));
    }
    slots::Index::new(id, digests).store(session, &keys)?;
    Ok(keys)
}

impl Repository {
    /// Holds the key slots against their index.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn check_slots(&self) -> Result<Vec<SlotProblem>, StoreError> {
        check_slots(self.file_system().as_ref(), self.layout(), Some(self.keys()))
    }

    /// The key slots that `secret` opens.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub fn slots_opened_by(&self, secret: &Secret) -> Result<Vec<SlotId>, StoreError> {
        slots::opened_by(self.file_system().as_ref(), self.layout(), self.header().id, secret)
    }

    /// Held while key slots are read together. As [`Repository::lock_for_reading`], without it
    /// where there is none to take.
    ///
    /// # Errors
    /// Busy while they are changed.
    pub fn lock_keys_for_reading(&self) -> Result<Option<FileLock>, StoreError> {
        let (path, holder) = (self.layout().keys_lock(), Layout::holder("an export of the keys"));
        match FileLock::try_take(self.file_system().as_ref(), &path, LockMode::Shared, &holder) {
            Err(LockError::File(error))
                if error.source.kind() == std::io::ErrorKind::ReadOnlyFilesystem =>
            {
                Ok(None)
            }
            other => Ok(other.map(Some)?),
        }
    }
}

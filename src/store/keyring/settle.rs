//! What a change that was cut off has left, and how it is brought to an end.

use super::rotate::{new_key_path, old_key_path};
use super::{Keyring, KeyringError};
use crate::fsio::parent_dir;
use crate::store::slots::{self, Change};
use crate::store::{Secret, StoreError};
use crate::units::{Breakage, SlotId, is_broken};
use std::path::Path;

/// The key that the settings name.
#[derive(Debug, Clone, Copy)]
pub struct Own<'a> {
    /// It; `None` when it cannot be read.
    pub secret: Option<&'a Secret>,
    /// Its file, if it is a key file.
    pub key_file: Option<&'a Path>,
}

/// What to do about a rotation of which it cannot be said how far it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// Change nothing.
    Refuse,
    /// Keep all slots, the old ones and the new one.
    KeepAll,
}

/// How a change that was cut off ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// A rotation was brought to its end: only the new key opens the repository.
    RotationFinished,
    /// A rotation was undone: only the old key opens the repository.
    RotationUndone,
    /// What was there is listed.
    AsFound,
}

impl Settled {
    /// In words.
    pub fn describe(self) -> &'static str {
        match self {
            Self::RotationFinished => "a rotation that was interrupted was brought to its end",
            Self::RotationUndone => {
                "a rotation that was interrupted was undone: the old key is still the one"
            }
            Self::AsFound => {
                "a change of the keys that was interrupted was ended with the slots as they are"
            }
        }
    }
}

impl Keyring {
    /// Ends a change that was cut off, by what the key of the settings is by now: a rotation that
    /// came to exchange it goes forward, one that did not goes back.
    ///
    /// # Errors
    /// When that key is neither the old nor the new one, unless `doubt` keeps all.
    pub fn settle(&mut self, own: Own<'_>, doubt: Doubt) -> Result<Option<Settled>, StoreError> {
        let Some(change) = self.index.change.clone() else { return Ok(None) };
        if !change.is_rotation() {
            self.finish()?;
            return Ok(Some(Settled::AsFound));
        }
        let opened = own.secret.map_or(Ok(Vec::new()), |secret| self.opened_by(secret))?;
        let settled = if opened.iter().any(|slot| change.adding.contains_key(slot)) {
            if let Some(path) = own.key_file.filter(|_| change.in_place)
                && !is_broken(Breakage::FoundKeyUnsynced)
            {
                // Whoever exchanged the key file may not have come to sync its name: the old key
                // could come back, and must not do so after its slots are gone.
                self.fs().sync_dir(&parent_dir(path))?;
            }
            self.remove_traces(&change, own, change.removing.iter())?;
            Settled::RotationFinished
        } else if opened.iter().any(|slot| change.removing.contains(slot)) {
            self.remove_traces(&change, own, change.adding.keys())?;
            Settled::RotationUndone
        } else if doubt == Doubt::KeepAll {
            Settled::AsFound
        } else {
            let (path, change) = (self.layout().root().to_owned(), change.describe());
            return Err(KeyringError::UnfinishedElsewhere { path, change }.into());
        };
        self.finish()?;
        Ok(Some(settled))
    }

    /// Removes slots of the side that is given up, then the files beside the key file. The note
    /// says that they are this change's own.
    pub(super) fn remove_traces<'s>(
        &self,
        change: &Change,
        own: Own<'_>,
        given_up: impl Iterator<Item = &'s SlotId>,
    ) -> Result<(), StoreError> {
        let slots: Vec<_> = given_up.map(|slot| self.layout().slot(*slot)).collect();
        slots::remove_files(self.fs(), &slots)?;
        match own.key_file {
            Some(path) if change.in_place => {
                slots::remove_files(self.fs(), &[new_key_path(path), old_key_path(path)])
            }
            _ => Ok(()),
        }
    }
}

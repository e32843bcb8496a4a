//! The keys of a repository: listing, adding, removing, exchanging, exporting, recovering.
//!
//! Each change holds `keys.lock` alone and the repository's lock shared, and first settles a
//! change that was cut off.

mod change;
mod list;
mod recover;
#[cfg(test)]
mod tests;

pub use change::{NewKey, RemoveRequest, add_key, remove_key, repair_key_index, rotate_key};
pub use list::{KeysReport, key_slot, list_keys};
pub use recover::{export_keys, put_back_keys, recover_key};

use super::OperationError;
use super::error::known;
use super::open::secret;
use crate::catalog::RunStatus;
use crate::fsio::{FileSystem, RealFileSystem};
use crate::report::{Action, Summary};
use crate::settings::{EncryptionSettings, RepositorySettings, Settings};
use crate::store::{KeyringError, Own, Secret, StoreError};
use crate::units::Name;
use jiff::Timestamp;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A repository whose keys a command is about.
struct Place<'a> {
    fs: Arc<dyn FileSystem>,
    all: &'a Settings,
    name: &'a Name,
    settings: &'a RepositorySettings,
    started: Timestamp,
}

impl<'a> Place<'a> {
    fn find(all: &'a Settings, name: &Name) -> Result<Self, OperationError> {
        let (name, settings) = known(all, "repository", &all.repositories, name.as_str())?;
        let (fs, started) = (RealFileSystem::shared(), Timestamp::now());
        Ok(Self { fs, all, name, settings, started })
    }

    fn root(&self) -> &'a Path {
        &self.settings.path
    }

    /// The key that the settings name.
    fn secret(&self) -> Result<Secret, StoreError> {
        let found = secret(self.fs.as_ref(), &self.settings.encryption)?;
        let path = self.root().to_owned();
        found.ok_or_else(|| KeyringError::NotEncrypted { path }.into())
    }

    /// The key file that the settings name, behind symbolic links: what takes its place must not
    /// take the link's.
    fn key_file(&self) -> Option<PathBuf> {
        match &self.settings.encryption {
            EncryptionSettings::KeyFile(path) => {
                Some(std::fs::canonicalize(path).unwrap_or_else(|_| path.clone()))
            }
            _ => None,
        }
    }

    fn summary(&self, status: RunStatus) -> Summary {
        let mut summary = Summary::new(Action::Key, status, self.started);
        summary.repository = Some(self.name.clone());
        summary
    }

    fn completed(&self, detail: impl Into<String>) -> Summary {
        let mut summary = self.summary(RunStatus::Completed);
        summary.detail = Some(detail.into());
        summary
    }

    fn skipped(&self, reason: impl Into<String>) -> Summary {
        let mut summary = self.summary(RunStatus::Skipped);
        summary.reason = Some(reason.into());
        summary
    }

    /// Without the file of a new key, no other key is of help.
    fn must_exist(&self, path: &Path, advice: &'static str) -> Result<(), OperationError> {
        match self.fs.stat(path)? {
            Some(_) => Ok(()),
            None => Err(OperationError::NoKeyFile { path: path.to_owned(), advice }),
        }
    }

    /// `path`, unless it lies in the repository: what opens it must not be lost with it.
    fn outside<'p>(&self, path: &'p Path) -> Result<&'p Path, OperationError> {
        let parent = crate::fsio::parent_dir(path);
        let real =
            |path: &Path| std::fs::canonicalize(path).or_else(|_| std::path::absolute(path)).ok();
        match (real(&parent), real(self.root())) {
            (Some(parent), Some(root)) if parent.starts_with(&root) => {
                Err(OperationError::WithinRepository { path: path.to_owned() })
            }
            _ => Ok(path),
        }
    }
}

/// The key of the settings, as far as it is there.
fn own<'s>(secret: Option<&'s Secret>, key_file: Option<&'s Path>) -> Own<'s> {
    Own { secret, key_file }
}

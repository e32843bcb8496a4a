//! Why an operation failed, and what that means for the caller of the process.

use super::reasons::{CatalogProblem, DefinitionNameReason};
use crate::backup::BackupError;
use crate::capture::OwnerError;
use crate::catalog::CatalogError;
use crate::destination::CopyError;
use crate::fsio::{FileError, LockError};
use crate::recover::{ChoosePointError, RestoreError};
use crate::replay::ReplayError;
use crate::report::ExitCode;
use crate::retain::{GcError, RetainError};
use crate::scrub::VerifyError;
use crate::settings::{Settings, nearest};
use crate::store::{KeyringError, StoreError};
use crate::transfer::TransferError;
use crate::units::{Name, format_count};
use crate::usage::UsageError;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
pub enum OperationError {
    /// A name is not in the settings.
    #[error("there is no {kind} `{name}` in {}; {hint}", file.display())]
    UnknownName {
        /// `machine`, `replica`, …
        kind: &'static str,
        /// What was asked for.
        name: String,
        /// The settings file.
        file: PathBuf,
        /// The nearest name, or all.
        hint: String,
    },
    /// No time zone has this name.
    #[error("there is no time zone `{zone}`; name one such as Europe/Berlin, or none")]
    UnknownZone {
        /// What was asked for.
        zone: String,
    },
    /// A file of a machine's definition has a name that cannot travel.
    #[error(
        "the definition of machine {machine}: {} cannot travel in a point under its own name \
         ({reason}); rename it", path.display()
    )]
    DefinitionName {
        /// The machine.
        machine: Name,
        /// The file.
        path: PathBuf,
        /// What is wrong with its name.
        reason: DefinitionNameReason,
    },
    /// A source that is captured for all disks of a machine at once stands beside others.
    #[error(
        "machine {machine}: a source of the kind `{kind}` is captured for all disks of a machine at \
        once, and others stand beside it; run `afterimage config check`"
    )]
    CannotCapture {
        /// The machine.
        machine: Name,
        /// The kind.
        kind: &'static str,
    },
    /// Which installation this is, is not known.
    #[error(transparent)]
    Owner(#[from] OwnerError),
    /// The repository failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A local database failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// A file failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// A backup failed.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// A replication failed.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// A restore failed.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// A verification could not be done.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// Garbage could not be collected.
    #[error(transparent)]
    Gc(#[from] GcError),
    /// Nothing was removed.
    #[error(transparent)]
    Retain(#[from] RetainError),
    /// The note of a pin cannot be stored.
    #[error("this note cannot be kept: {reason}; use one short line")]
    Note {
        /// What is wrong with it.
        reason: String,
    },
    /// The zone of the settings is not known any more.
    #[error("the time zone {name} cannot be used: {reason}; run `afterimage config check`")]
    TimeZone {
        /// Its name.
        name: String,
        /// Why.
        reason: String,
    },
    /// Points could not be copied.
    #[error(transparent)]
    Copy(#[from] TransferError),
    /// Costs could not be found out.
    #[error(transparent)]
    Usage(#[from] UsageError),
    /// A local catalog cannot be relied on.
    #[error(
        "the catalog of repository {repository}, {}, {problem}; build it anew with `afterimage \
         catalog rebuild {repository}`", path.display()
    )]
    CatalogUnfit {
        /// The repository.
        repository: Name,
        /// The catalog's file.
        path: PathBuf,
        /// Why.
        problem: CatalogProblem,
    },
    /// A replica is not what its point says.
    #[error(
        "replica {replica} differs from {at}: {ranges}; run `afterimage replicate now \
         {replica}` to compare and repair it"
    )]
    Differs {
        /// The replica.
        replica: Name,
        /// The point.
        at: String,
        /// What differs.
        ranges: String,
    },
    /// A verification found damage in a repository.
    #[error(
        "repository {repository} is damaged in {}; {points}; run `afterimage repair {repository}`",
        format_count(*count as u64, "place")
    )]
    DamageFound {
        /// The repository.
        repository: Name,
        /// How many things are damaged.
        count: usize,
        /// Which points are harmed, in words.
        points: String,
    },
    /// The key file is that of another repository too.
    #[error(
        "{} is the key file of repository {other} too, which a new key in it would lock out; give \
         one of the two a key file of its own: `afterimage key add --generate --key-file FILE \
         {other}`, then name that file in the settings", path.display()
    )]
    KeyFileShared {
        /// The file.
        path: PathBuf,
        /// The other repository.
        other: Name,
    },
    /// The new pass phrase was not given.
    #[error(
        "a pass phrase is not made up by afterimage: write the new one to a file, and give it with \
         `--passphrase-file FILE`"
    )]
    NewPassphraseNeeded,
    /// A new key was to be in a file that is not there.
    #[error("there is no {}: {advice}", path.display())]
    NoKeyFile {
        /// The file.
        path: PathBuf,
        /// What to do.
        advice: &'static str,
    },
    /// A file is there that is not overwritten.
    #[error("{} exists already, and is not overwritten; name a new file", path.display())]
    FileExists {
        /// The file.
        path: PathBuf,
    },
    /// A file would lie in the folder that it must outlive.
    #[error("{} lies in the repository's folder; keep it elsewhere, best on another machine", path.display())]
    WithinRepository {
        /// The file.
        path: PathBuf,
    },
    /// Something of the repository is damaged or lost.
    #[error("{error}; points affected: {points}")]
    Damaged {
        /// How that was met.
        error: Box<OperationError>,
        /// The points that need it.
        points: String,
    },
}

/// What an error comes down to, whichever verb met it.
pub(super) enum Root<'e> {
    Store(&'e StoreError),
    Busy,
    Cancelled,
    Other,
}

impl OperationError {
    /// What the process exits with because of it.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::UnknownName { .. }
            | Self::UnknownZone { .. }
            | Self::DefinitionName { .. }
            | Self::CannotCapture { .. }
            | Self::Note { .. }
            | Self::KeyFileShared { .. }
            | Self::NewPassphraseNeeded
            | Self::WithinRepository { .. }
            | Self::Copy(TransferError::SameRepository { .. })
            | Self::Retain(RetainError::TooMany { .. }) => return ExitCode::Usage,
            Self::Restore(RestoreError::Choice(
                ChoosePointError::NotAChoice { .. } | ChoosePointError::Ambiguous { .. },
            )) => return ExitCode::Usage,
            Self::NoKeyFile { .. } => return ExitCode::WrongKey,
            Self::Damaged { error, .. } => return error.exit_code(),
            _ => {}
        }
        match self.root() {
            Root::Busy => ExitCode::Busy,
            Root::Cancelled => ExitCode::Interrupted,
            Root::Store(StoreError::Missing { .. } | StoreError::HeaderLost { .. }) => {
                ExitCode::NoRepository
            }
            Root::Store(StoreError::Keyring(
                KeyringError::UnknownSlot { .. } | KeyringError::AmbiguousSlot { .. },
            )) => ExitCode::Usage,
            Root::Store(
                StoreError::WrongKey { .. }
                | StoreError::Secret(_)
                | StoreError::EncryptionDiffers { .. },
            ) => ExitCode::WrongKey,
            Root::Store(_) | Root::Other => ExitCode::Failed,
        }
    }

    /// Whether trying the same again can not help.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Store(error) => error.is_permanent(),
            Self::File(error) => error.is_permanent(),
            Self::Backup(error) => error.is_permanent(),
            Self::Replay(error) => error.is_permanent(),
            Self::Gc(error) => error.is_permanent(),
            Self::Retain(error) => error.is_permanent(),
            Self::Copy(error) => error.is_permanent(),
            Self::Catalog(error) if error.is_passing() => false,
            Self::Damaged { error, .. } => error.is_permanent(),
            other => match other.root() {
                Root::Busy | Root::Cancelled => false,
                Root::Store(error) => error.is_permanent(),
                Root::Other => true,
            },
        }
    }

    pub(super) fn root(&self) -> Root<'_> {
        match self {
            Self::Store(error) => of_store(error),
            Self::Catalog(error) => of_catalog(error),
            Self::Backup(error) => match error {
                BackupError::Store(error) => of_store(error),
                BackupError::Catalog(error) => of_catalog(error),
                BackupError::Cancelled(_) => Root::Cancelled,
                _ => Root::Other,
            },
            Self::Replay(error) => match error {
                ReplayError::Store(error) => of_store(error),
                ReplayError::Catalog(error) => of_catalog(error),
                ReplayError::Copy { error, .. } => of_copy(error),
                ReplayError::Lock(error) => of_lock(error),
                ReplayError::Cancelled(_) => Root::Cancelled,
                _ => Root::Other,
            },
            Self::Restore(error) => match error {
                RestoreError::Store(error) => of_store(error),
                RestoreError::Catalog(error) => of_catalog(error),
                RestoreError::Copy { error, .. } => of_copy(error),
                RestoreError::Cancelled(_) => Root::Cancelled,
                _ => Root::Other,
            },
            Self::Verify(error) => match error {
                VerifyError::Store(error) => of_store(error),
                VerifyError::Catalog(error) => of_catalog(error),
                VerifyError::Copy { error, .. } => of_copy(error),
                VerifyError::Lock(error) => of_lock(error),
                VerifyError::Cancelled(_) => Root::Cancelled,
                _ => Root::Other,
            },
            Self::Gc(error) => match error {
                GcError::Store(error) => of_store(error),
                GcError::Catalog(error) => of_catalog(error),
                GcError::Lock(error) => of_lock(error),
                GcError::Cancelled(_) => Root::Cancelled,
                GcError::Unreadable { .. } => Root::Other,
            },
            Self::Retain(error) => match error {
                RetainError::Store(error) => of_store(error),
                RetainError::Catalog(error) => of_catalog(error),
                RetainError::Cancelled(_) => Root::Cancelled,
                _ => Root::Other,
            },
            Self::Copy(error) => match error {
                TransferError::Source(error) | TransferError::Store(error) => of_store(error),
                TransferError::SourceCatalog(error) | TransferError::Catalog(error) => {
                    of_catalog(error)
                }
                TransferError::Cancelled(_) => Root::Cancelled,
                _ => Root::Other,
            },
            Self::Usage(error) => match error {
                UsageError::Store(error) => of_store(error),
                UsageError::Catalog(error) => of_catalog(error),
                UsageError::Cancelled(_) => Root::Cancelled,
            },
            Self::Damaged { error, .. } => error.root(),
            Self::UnknownName { .. }
            | Self::UnknownZone { .. }
            | Self::DefinitionName { .. }
            | Self::CatalogUnfit { .. }
            | Self::Note { .. }
            | Self::TimeZone { .. }
            | Self::KeyFileShared { .. }
            | Self::NewPassphraseNeeded
            | Self::WithinRepository { .. }
            | Self::NoKeyFile { .. }
            | Self::FileExists { .. }
            | Self::File(_)
            | Self::Differs { .. }
            | Self::CannotCapture { .. }
            | Self::Owner(_)
            | Self::DamageFound { .. } => Root::Other,
        }
    }
}

fn of_store(error: &StoreError) -> Root<'_> {
    match error {
        StoreError::Lock(error) => of_lock(error),
        other => Root::Store(other),
    }
}

fn of_catalog(error: &CatalogError) -> Root<'_> {
    match error {
        CatalogError::Store(error) => of_store(error),
        CatalogError::Lock(error) => of_lock(error),
        CatalogError::Cancelled(_) => Root::Cancelled,
        _ => Root::Other,
    }
}

fn of_copy(error: &CopyError) -> Root<'_> {
    match error {
        CopyError::Store(error) => of_store(error),
        CopyError::Cancelled(_) => Root::Cancelled,
        _ => Root::Other,
    }
}

fn of_lock(error: &LockError) -> Root<'_> {
    match error {
        LockError::Busy { .. } => Root::Busy,
        LockError::File(_) => Root::Other,
    }
}

/// What the settings say under `name` in the table `kind`.
///
/// # Errors
/// [`OperationError::UnknownName`], with the nearest name.
pub fn known<'s, T>(
    settings: &Settings,
    kind: &'static str,
    table: &'s BTreeMap<Name, T>,
    name: &str,
) -> Result<(&'s Name, &'s T), OperationError> {
    if let Some(found) = table.iter().find(|(known, _)| known.as_str() == name) {
        return Ok(found);
    }
    let names: Vec<&str> = table.keys().map(Name::as_str).collect();
    let hint = match (nearest(name, &names), names.is_empty()) {
        (Some(near), _) => format!("did you mean `{near}`?"),
        (None, true) => format!("it has no {kind} at all"),
        (None, false) => format!("it has: {}", names.join(", ")),
    };
    Err(OperationError::UnknownName {
        kind,
        name: name.chars().take(80).collect(),
        file: settings.file.clone(),
        hint,
    })
}

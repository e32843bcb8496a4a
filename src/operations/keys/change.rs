//! Adding, removing and exchanging keys.

use super::{Place, own};
use crate::operations::OperationError;
use crate::operations::run::now;
use crate::report::{RecoveryKeyText, Summary};
use crate::settings::{EncryptionSettings, Settings};
use crate::store::{
    Doubt, IndexTrust, Keyring, KeyringError, RecoveryKey, Rotated, Secret, Settled, SlotLabel,
    StoreError, generate_key_file, rotate_in_place, rotate_to,
};
use crate::units::Name;
use std::path::{Path, PathBuf};

/// What rotation does not do, in plain words.
const ROTATION_LIMITS: &str = "the old key opens nothing in this folder any more, but the master \
    key stays the same: whoever has the old key together with an older copy of the folder or an \
    export of its keys, or has kept the master key, still reads everything, also what is written \
    from now on. If the old key may be in wrong hands, make a new repository, copy the points \
    there with `afterimage copy`, and let this one go: only that gives new keys";

/// Other places of a key file that was exchanged.
const ROTATION_COPIES: &str = "copies of the old key, on other hosts or put away, open nothing any \
    more: exchange them for the new one; and make a new export with `afterimage key export`";

/// A key that a repository is to open with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NewKey {
    /// A key file.
    KeyFile {
        /// The file.
        path: PathBuf,
        /// Whether to write a new key to it first.
        generate: bool,
    },
    /// A pass phrase in a file.
    PassphraseFile(PathBuf),
    /// A new recovery key.
    RecoveryKey,
}

/// Which slot to remove.
#[derive(Debug, Clone, Copy)]
pub struct RemoveRequest<'a> {
    /// The first digits of its id.
    pub digits: &'a str,
    /// Whether the key of the settings may open nothing any more.
    pub own_key_too: bool,
}

/// Adds a slot that opens with `key`.
///
/// # Errors
/// Busy while the keys are changed; when the key of the settings does not open the repository, or
/// the new one cannot be read or written.
pub fn add_key(
    settings: &Settings,
    name: &Name,
    key: &NewKey,
    label: Option<SlotLabel>,
) -> Result<Summary, OperationError> {
    add(&Place::find(settings, name)?, key, label)
}

pub(super) fn add(
    place: &Place<'_>,
    key: &NewKey,
    label: Option<SlotLabel>,
) -> Result<Summary, OperationError> {
    let mut open = Open::own(place, IndexTrust::Needed)?;
    let _lease = open.keyring.repository().lock_shared("adding a key")?;
    open.settle(place, Doubt::Refuse)?;
    let (secret, recovery_key) = match key {
        NewKey::RecoveryKey => {
            let key = RecoveryKey::random()?;
            let text = RecoveryKeyText(key.text());
            (Secret::RecoveryKey(key), Some(text))
        }
        given => (given_secret(place, given)?, None),
    };
    if let Some(slot) = open.keyring.opened_by(&secret)?.first() {
        let kind = secret.describe();
        let mut summary = place.skipped(format!("the {kind} opens slot {slot} already"));
        summary.slot = Some(*slot);
        return Ok(open.told(summary));
    }
    let slot = open.keyring.add(&secret, label, now())?;
    let mut summary = place.completed(format!("added key slot {slot} for a {}", secret.describe()));
    (summary.slot, summary.recovery_key) = (Some(slot), recovery_key);
    Ok(open.told(summary))
}

/// The secret that the user gave a file of.
fn given_secret(place: &Place<'_>, key: &NewKey) -> Result<Secret, OperationError> {
    let fs = place.fs.as_ref();
    let secret = match key {
        NewKey::KeyFile { path, generate } => {
            place.outside(path)?;
            if *generate {
                generate_key_file(&place.fs, path)?;
            }
            place.must_exist(path, "add `--generate` if a new key is to be written to it")?;
            Secret::from_key_file(fs, path)
        }
        NewKey::PassphraseFile(path) => {
            place.must_exist(path, "write the new pass phrase to it first")?;
            Secret::from_passphrase_file(fs, place.outside(path)?)
        }
        NewKey::RecoveryKey => return Ok(Secret::RecoveryKey(RecoveryKey::random()?)),
    };
    Ok(secret.map_err(StoreError::from)?)
}

/// Removes a slot.
///
/// # Errors
/// When it is the last good one, or the only one that the key of the settings opens.
pub fn remove_key(
    settings: &Settings,
    name: &Name,
    request: RemoveRequest<'_>,
) -> Result<Summary, OperationError> {
    remove(&Place::find(settings, name)?, request)
}

pub(super) fn remove(
    place: &Place<'_>,
    request: RemoveRequest<'_>,
) -> Result<Summary, OperationError> {
    let mut open = Open::own(place, IndexTrust::Needed)?;
    let _lease = open.keyring.repository().lock_shared("removing a key")?;
    let slot = open.keyring.find(request.digits)?;
    open.settle(place, Doubt::Refuse)?;
    // One that is gone was removed by the command that was cut off.
    if open.keyring.knows(slot)? {
        open.keyring.remove(slot, &open.secret, request.own_key_too)?;
    }
    let mut summary = place.completed(format!("removed key slot {slot}"));
    summary.slot = Some(slot);
    summary.warnings.push(
        "whoever has a copy of that slot and its key, or the master key, can still read everything"
            .to_owned(),
    );
    Ok(open.told(summary))
}

/// Writes the index anew, from the slots that are there.
///
/// # Errors
/// Busy while the keys are changed; when the key of the settings does not open the repository.
pub fn repair_key_index(settings: &Settings, name: &Name) -> Result<Summary, OperationError> {
    repair(&Place::find(settings, name)?)
}

pub(super) fn repair(place: &Place<'_>) -> Result<Summary, OperationError> {
    let mut open = Open::own(place, IndexTrust::Anew)?;
    let _lease = open.keyring.repository().lock_shared("writing the index of keys")?;
    open.settle(place, Doubt::KeepAll)?;
    let problems: Vec<String> = open.keyring.problems().iter().map(ToString::to_string).collect();
    open.keyring.accept_slots()?;
    let count = open.keyring.slots()?.len();
    let found = match problems.is_empty() {
        true => "nothing was wrong before".to_owned(),
        false => format!("before, {}", problems.join("; ")),
    };
    let detail = format!("the index of key slots lists the {count} that are there; {found}");
    Ok(open.told(place.completed(detail)))
}

/// Exchanges the key of the settings: a key file for a new one in its place, or any key for `to`.
///
/// # Errors
/// When a step fails: the old or the new key then opens the repository, and a second rotation
/// brings it to an end.
pub fn rotate_key(
    settings: &Settings,
    name: &Name,
    to: Option<&NewKey>,
) -> Result<Summary, OperationError> {
    rotate(&Place::find(settings, name)?, to)
}

pub(super) fn rotate(place: &Place<'_>, to: Option<&NewKey>) -> Result<Summary, OperationError> {
    match (to, place.key_file()) {
        (Some(to), _) => rotate_to_other(place, to),
        (None, Some(key_file)) => rotate_own_file(place, &key_file),
        (None, None) if place.settings.encryption == EncryptionSettings::None => {
            let path = place.root().to_owned();
            Err(StoreError::from(KeyringError::NotEncrypted { path }).into())
        }
        (None, None) => Err(OperationError::NewPassphraseNeeded),
    }
}

fn rotate_own_file(place: &Place<'_>, key_file: &Path) -> Result<Summary, OperationError> {
    check_not_shared(place, key_file)?;
    let mut open = Open::own(place, IndexTrust::Needed)?;
    let _lease = open.keyring.repository().lock_shared("exchanging the key")?;
    let settled = open.settle(place, Doubt::Refuse)?;
    let rotated = rotate_in_place(&mut open.keyring, key_file, settled, now())?;
    let mut summary = told_rotation(place, &rotated, &format!("{}", key_file.display()));
    summary.warnings.push(ROTATION_COPIES.to_owned());
    Ok(open.told(summary))
}

/// Another repository with the same key file would be locked out.
fn check_not_shared(place: &Place<'_>, key_file: &Path) -> Result<(), OperationError> {
    for (name, settings) in &place.all.repositories {
        let other = Place { settings, name, fs: place.fs.clone(), ..*place };
        if name != place.name && other.key_file().as_deref() == Some(key_file) {
            let (path, other) = (key_file.to_owned(), name.clone());
            return Err(OperationError::KeyFileShared { path, other });
        }
    }
    Ok(())
}

fn rotate_to_other(place: &Place<'_>, to: &NewKey) -> Result<Summary, OperationError> {
    let (mut open, fresh) = match Open::own(place, IndexTrust::Needed) {
        Ok(open) => (open, None),
        // A rotation that was cut off may have come to where only the new key opens.
        Err(error @ StoreError::WrongKey { .. }) => match reopen(place, to) {
            Some(open) => (open, Some(())),
            None => return Err(error.into()),
        },
        Err(error) => return Err(error.into()),
    };
    let _lease = open.keyring.repository().lock_shared("exchanging the key")?;
    let settled = open.settle(place, Doubt::Refuse)?;
    let change = match to {
        NewKey::KeyFile { path, .. } => format!("encryption = {{ key_file = {path:?} }}"),
        NewKey::PassphraseFile(path) => format!("encryption = {{ passphrase_file = {path:?} }}"),
        NewKey::RecoveryKey => return Err(OperationError::NewPassphraseNeeded),
    };
    let rotated = match (settled, fresh) {
        (Some(Settled::RotationFinished), _) | (_, Some(())) => {
            Rotated { added: None, removed: Vec::new(), old_key_opens: false }
        }
        _ => {
            let fresh = given_secret(place, to)?;
            rotate_to(&mut open.keyring, &open.secret, &fresh, now())?
        }
    };
    let mut summary = told_rotation(place, &rotated, "the new one");
    let warning = format!("now write {change} in {}", place.all.file.display());
    summary.warnings.insert(0, warning);
    Ok(open.told(summary))
}

/// The repository, if the key that was to take the old one's place opens it.
fn reopen(place: &Place<'_>, to: &NewKey) -> Option<Open> {
    let secret = match to {
        NewKey::KeyFile { path, .. } => Secret::from_key_file(place.fs.as_ref(), path).ok()?,
        NewKey::PassphraseFile(path) => {
            Secret::from_passphrase_file(place.fs.as_ref(), path).ok()?
        }
        NewKey::RecoveryKey => return None,
    };
    Open::with(place, secret, IndexTrust::Needed).ok()
}

fn told_rotation(place: &Place<'_>, rotated: &Rotated, key: &str) -> Summary {
    let detail = match rotated.added {
        None => "the rotation that was interrupted was brought to its end".to_owned(),
        Some(slot) => {
            let removed: Vec<String> = rotated.removed.iter().map(ToString::to_string).collect();
            format!("{key} opens the new key slot {slot}; removed: {}", removed.join(", "))
        }
    };
    let mut summary = place.completed(detail);
    summary.slot = rotated.added;
    if rotated.old_key_opens {
        let warning = "the old key still opens the repository, by a copy of its slot under another \
                       name in keys/; `afterimage key list` names it: remove it";
        summary.warnings.push(warning.to_owned());
    }
    summary.warnings.push(ROTATION_LIMITS.to_owned());
    summary
}

/// A keyring, the key that opened it, and what was found when it was.
pub(super) struct Open {
    pub keyring: Keyring,
    pub secret: Secret,
    warnings: Vec<String>,
}

impl Open {
    /// Opens with the key of the settings.
    pub fn own(place: &Place<'_>, trust: IndexTrust) -> Result<Self, StoreError> {
        // Before the key: where there is no repository, that is what is wrong.
        if place.fs.stat(&crate::store::Layout::new(place.root().to_owned()).header())?.is_none() {
            return Err(crate::store::Repository::missing(place.fs.as_ref(), place.root()));
        }
        Self::with(place, place.secret()?, trust)
    }

    /// Opens with any key.
    pub fn with(place: &Place<'_>, secret: Secret, trust: IndexTrust) -> Result<Self, StoreError> {
        let keyring = Keyring::open(&place.fs, place.root(), &secret, trust)?;
        let damage = keyring.problems().iter().filter(|problem| problem.is_damage());
        let warnings = damage.map(ToString::to_string).collect();
        Ok(Self { keyring, secret, warnings })
    }

    /// Ends a change that was cut off, by the key that opened.
    pub fn settle(
        &mut self,
        place: &Place<'_>,
        doubt: Doubt,
    ) -> Result<Option<Settled>, StoreError> {
        let key_file = place.key_file();
        let own = own(Some(&self.secret), key_file.as_deref());
        let settled = self.keyring.settle(own, doubt)?;
        self.warnings.extend(settled.map(|it| it.describe().to_owned()));
        Ok(settled)
    }

    /// Ends a change that was cut off, by the key of the settings, which did not open.
    pub fn settle_by(&mut self, own: crate::store::Own<'_>) -> Result<(), StoreError> {
        let settled = self.keyring.settle(own, Doubt::KeepAll)?;
        self.warnings.extend(settled.map(|it| it.describe().to_owned()));
        Ok(())
    }

    /// The summary, with what was found on the way.
    pub fn told(self, mut summary: Summary) -> Summary {
        summary.warnings.extend(self.warnings);
        summary
    }
}

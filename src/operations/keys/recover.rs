//! Getting back in: with the recovery key, or from an export.

use super::change::Open;
use super::{Place, own};
use crate::operations::OperationError;
use crate::operations::run::now;
use crate::report::Summary;
use crate::settings::{EncryptionSettings, Settings};
use crate::store::{
    IndexTrust, KeyExport, PutBack, RecoveryKey, Repository, Secret, StoreError, generate_key_file,
    put_back,
};
use crate::units::{Name, format_count};
use std::path::Path;

/// Writes header, index and slots to one new file.
///
/// # Errors
/// An existing file is never overwritten. When the key of the settings does not open the
/// repository: what cannot be checked is not exported.
pub fn export_keys(settings: &Settings, name: &Name, to: &Path) -> Result<Summary, OperationError> {
    export(&Place::find(settings, name)?, to)
}

pub(super) fn export(place: &Place<'_>, to: &Path) -> Result<Summary, OperationError> {
    place.outside(to)?;
    if place.fs.stat(to)?.is_some() {
        return Err(OperationError::FileExists { path: to.to_owned() });
    }
    let secret = place.secret()?;
    let repository = Repository::open(&place.fs, place.root(), Some(&secret), 1)?;
    // Without it slots could change between the index and them.
    let _keys = repository.lock_keys_for_reading()?;
    let export = KeyExport::of(&repository, now())?;
    let slots = export.slots();
    export.write(&place.fs, to)?;
    let mut summary = place.completed(format!(
        "exported the header and {} to {}",
        format_count(slots as u64, "key slot"),
        to.display()
    ));
    summary.warnings.push(
        "the export opens nothing without a key; keep it with the recovery key, away from the \
         repository, and make a new one whenever the keys change"
            .to_owned(),
    );
    let problems = repository.check_slots()?;
    summary.warnings.extend(problems.iter().map(ToString::to_string));
    Ok(summary)
}

/// Puts back from an export what was lost of header, index and slots. `recovery_key` helps to
/// check it.
///
/// # Errors
/// When the export is of another repository, or damaged.
pub fn put_back_keys(
    settings: &Settings,
    name: &Name,
    from: &Path,
    recovery_key: Option<&RecoveryKey>,
) -> Result<Summary, OperationError> {
    put_back_from(&Place::find(settings, name)?, from, recovery_key)
}

/// Lets the key of the settings in with the recovery key. A key file that does not exist is
/// generated.
///
/// # Errors
/// When the recovery key does not open the repository.
pub fn recover_key(
    settings: &Settings,
    name: &Name,
    recovery_key: &RecoveryKey,
) -> Result<Summary, OperationError> {
    let_in(&Place::find(settings, name)?, recovery_key)
}

pub(super) fn put_back_from(
    place: &Place<'_>,
    from: &Path,
    recovery_key: Option<&RecoveryKey>,
) -> Result<Summary, OperationError> {
    let own = match place.secret() {
        Err(error @ StoreError::Keyring(_)) => return Err(error.into()),
        // A key that is lost too is no reason not to put the rest back.
        other => other.ok(),
    };
    let recovery = recovery_key.map(|key| Secret::RecoveryKey(key.clone()));
    let secrets: Vec<Secret> = own.into_iter().chain(recovery).collect();
    let done = put_back(&place.fs, place.root(), from, &secrets)?;
    Ok(told(place, from, &done))
}

fn told(place: &Place<'_>, from: &Path, done: &PutBack) -> Summary {
    let files: Vec<String> = done.files.iter().map(|file| file.display().to_string()).collect();
    let mut summary = match files.is_empty() {
        true => place.skipped("nothing was missing or damaged that the export has"),
        false => place.completed(format!("put back from {}: {}", from.display(), files.join(", "))),
    };
    if !done.is_checked {
        summary.warnings.push(
            "neither the key of the settings nor a recovery key opens the export, so its content \
             could not be checked; it is when the repository is opened next"
                .to_owned(),
        );
    }
    if done.without_index && !files.is_empty() {
        summary.warnings.push(
            "there was no index to go by: slots that were removed after the export was made may be \
             back; look with `afterimage key list`, and remove them again"
                .to_owned(),
        );
    }
    summary
}

pub(super) fn let_in(place: &Place<'_>, key: &RecoveryKey) -> Result<Summary, OperationError> {
    let mut open = Open::with(place, Secret::RecoveryKey(key.clone()), IndexTrust::Anew)?;
    let _lease = open.keyring.repository().lock_shared("recovering the key")?;
    let key_file = place.key_file();
    let before = place.secret().ok();
    open.settle_by(own(before.as_ref(), key_file.as_deref()))?;
    let mut generated = None;
    if let EncryptionSettings::KeyFile(path) = &place.settings.encryption
        && place.fs.stat(path)?.is_none()
    {
        generate_key_file(&place.fs, path)?;
        generated = Some(path);
    }
    let secret = place.secret()?;
    if let Some(slot) = open.keyring.opened_by(&secret)?.first() {
        let reason = format!("the key of the settings opens slot {slot} already");
        return Ok(open.told(place.skipped(reason)));
    }
    let slot = open.keyring.add(&secret, None, now())?;
    let mut summary = place.completed(format!(
        "the {} of the settings opens the repository, by the new key slot {slot}",
        secret.describe()
    ));
    summary.slot = Some(slot);
    summary.warnings.extend(generated.map(|path| {
        format!("a new key was written to {}; keep a copy of it elsewhere", path.display())
    }));
    summary.warnings.push(
        "slots of keys that are lost are still there: if they may be in wrong hands, remove them \
         with `afterimage key remove`"
            .to_owned(),
    );
    Ok(open.told(summary))
}

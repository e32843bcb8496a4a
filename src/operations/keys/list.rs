//! Showing the key slots.

use super::Place;
use crate::operations::OperationError;
use crate::report::KeySlotLine;
use crate::settings::Settings;
use crate::store::{
    Layout, Repository, SlotInfo, SlotProblem, StoreError, check_slots, list_slots, new_key_path,
    old_key_path,
};
use crate::units::{Name, SlotId};

/// The key slots of a repository.
#[derive(Debug)]
pub struct KeysReport {
    /// The slots that are readable.
    pub slots: Vec<KeySlotLine>,
    /// What is not as it should be.
    pub warnings: Vec<String>,
    /// Whether the key of the settings opens the repository and nothing is damaged or lost.
    pub is_complete: bool,
}

/// Lists the key slots. No key is needed; without the right one less is known of them.
///
/// # Errors
/// When there is no repository, it is not encrypted, or its slots cannot be listed.
pub fn list_keys(settings: &Settings, name: &Name) -> Result<KeysReport, OperationError> {
    list(&Place::find(settings, name)?)
}

pub(super) fn list(place: &Place<'_>) -> Result<KeysReport, OperationError> {
    let (fs, layout) = (place.fs.as_ref(), Layout::new(place.root().to_owned()));
    if fs.stat(&layout.header())?.is_none() {
        return Err(Repository::missing(fs, place.root()).into());
    }
    let opened = open(place);
    let (mut warnings, mut is_complete) = (Vec::new(), true);
    let (own, problems) = match opened {
        Ok((repository, own)) => (Some(own), repository.check_slots()?),
        Err(error @ (StoreError::Keyring(_) | StoreError::EncryptionDiffers { .. })) => {
            return Err(error.into());
        }
        Err(error) => {
            warnings.push(error.to_string());
            is_complete = false;
            (None, check_slots(fs, &layout, None)?)
        }
    };
    for problem in &problems {
        is_complete &= !problem.is_damage();
        warnings.push(problem.to_string());
        if matches!(problem, SlotProblem::Unfinished { .. }) {
            warnings.extend(traces(place));
        }
    }
    let line = |slot: SlotInfo| {
        let opens = own.as_ref().map(|own| own.contains(&slot.id));
        let mut problems = problems.iter().filter(|problem| problem.slot() == Some(slot.id));
        let problem = problems.next().map(ToString::to_string);
        let SlotInfo { id, kind, created, label } = slot;
        KeySlotLine {
            repository: place.name.clone(),
            slot: id,
            kind,
            created,
            label,
            opens,
            problem,
        }
    };
    let slots = list_slots(fs, &layout)?.into_iter().map(line).collect();
    Ok(KeysReport { slots, warnings, is_complete })
}

/// The repository, and the slots that the key of the settings opens.
fn open(place: &Place<'_>) -> Result<(Repository, Vec<SlotId>), StoreError> {
    let secret = place.secret()?;
    let repository = Repository::open(&place.fs, place.root(), Some(&secret), 1)?;
    let own = repository.slots_opened_by(&secret)?;
    Ok((repository, own))
}

/// The files that a rotation has beside the key file of the settings.
fn traces(place: &Place<'_>) -> Vec<String> {
    let Some(key_file) = place.key_file() else { return Vec::new() };
    let paths = [new_key_path(&key_file), old_key_path(&key_file)];
    let there = paths.iter().filter(|path| place.fs.stat(path).is_ok_and(|it| it.is_some()));
    there.map(|path| format!("{} is left of a rotation of the key", path.display())).collect()
}

/// The slot whose id begins with `digits`, to show it before it is removed.
///
/// # Errors
/// When it cannot be listed. A slot that is not readable is no error: there is nothing to show.
pub fn key_slot(
    settings: &Settings,
    name: &Name,
    digits: &str,
) -> Result<Option<KeySlotLine>, OperationError> {
    let report = list_keys(settings, name)?;
    let wanted = digits.trim().to_ascii_lowercase();
    let mut found =
        report.slots.into_iter().filter(|line| line.slot.to_string().starts_with(&wanted));
    Ok(found.next().filter(|_| found.next().is_none()))
}

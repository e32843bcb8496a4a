//! Exchanging a key for another one.
//!
//! A key file is exchanged where it is, so that no settings have to change:
//!
//! ```text
//!  1  note in the index: the new slot, the old ones
//!  2  KEYFILE.new          a new key, durable
//!  3  new slot             durable
//!  4  KEYFILE.new is read and opens the new slot, both from disk
//!  5  KEYFILE.old          a copy of KEYFILE, durable
//!  6  KEYFILE.new becomes KEYFILE, durable
//!  7  KEYFILE is read and opens the new slot, both from disk
//!  8  old slots go
//!  9  KEYFILE.old goes
//! 10  index: the new slot, no note
//! ```
//!
//! Invariant: what stands at KEYFILE opens the repository, at every moment: before step 6 by the
//! old slots, after it by the new one, and both are there from step 3 to step 7.

use super::settle::{Own, Settled};
use super::{Keyring, KeyringError};
use crate::fsio::{self, FileSystem};
use crate::store::slots::{self, Change, NewSlot, SlotLabel};
use crate::store::{Secret, StoreError};
use crate::units::{Breakage, SlotId, is_broken};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// A rotation that was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotated {
    /// The slot that the new key opens; `None` when an interrupted rotation was brought to its end.
    pub added: Option<SlotId>,
    /// Slots that the old key opened, and that are gone.
    pub removed: Vec<SlotId>,
    /// Whether the old key opens the repository all the same, by a file of another name.
    pub old_key_opens: bool,
}

/// Where the new key stands until it takes the old one's place.
pub fn new_key_path(key_file: &Path) -> PathBuf {
    beside(key_file, ".new")
}

/// Where the old key stands until its slots are gone.
pub fn old_key_path(key_file: &Path) -> PathBuf {
    beside(key_file, ".old")
}

fn beside(key_file: &Path, end: &str) -> PathBuf {
    let mut name = key_file.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// Exchanges the key in `key_file`, which opened `keyring`, for a new one.
///
/// # Errors
/// When files stand in the way, or a step fails; the key file then still opens the repository.
pub fn rotate_in_place(
    keyring: &mut Keyring,
    key_file: &Path,
    settled: Option<Settled>,
    now: jiff::Timestamp,
) -> Result<Rotated, StoreError> {
    if settled == Some(Settled::RotationFinished) {
        return Ok(Rotated { added: None, removed: Vec::new(), old_key_opens: false });
    }
    let (new, old) = (new_key_path(key_file), old_key_path(key_file));
    for path in [&new, &old] {
        if keyring.fs().stat(path)?.is_some() {
            return Err(KeyringError::InTheWay { path: path.clone() }.into());
        }
    }
    let secret = Secret::from_key_file(keyring.fs(), key_file)?;
    let text = slots::new_key_text()?;
    let fresh = Secret::KeyFile(Zeroizing::new(text.to_vec()));
    let (slot, change) = keyring.plan_rotation(&secret, &fresh, true, now)?;
    keyring.begin(change.clone())?;
    let fs = keyring.fs();
    slots::write_in_place(fs, &new, &text)?;
    slots::publish(&keyring.session, &slot)?;
    keyring.check_opens(slot.id, &Secret::from_key_file(fs, &new)?)?;
    copy(fs, key_file, &old)?;
    if is_broken(Breakage::OldSlotsFirst) {
        let slots: Vec<_> = change.removing.iter().map(|it| keyring.layout().slot(*it)).collect();
        slots::remove_files(fs, &slots)?;
    }
    fs.rename(&new, key_file)?;
    if !is_broken(Breakage::KeyNameUnsynced) {
        fs.sync_dir(&fsio::parent_dir(key_file))?;
    }
    let own = Secret::from_key_file(fs, key_file)?;
    keyring.check_opens(slot.id, &own)?;
    let own = Own { secret: Some(&own), key_file: Some(key_file) };
    keyring.end_rotation(slot.id, &change, own, &secret)
}

/// Exchanges the key `old`, which opened `keyring`, for `fresh`, which somebody keeps already.
///
/// # Errors
/// When a step fails; one of the two still opens the repository.
pub fn rotate_to(
    keyring: &mut Keyring,
    old: &Secret,
    fresh: &Secret,
    now: jiff::Timestamp,
) -> Result<Rotated, StoreError> {
    let (slot, change) = keyring.plan_rotation(old, fresh, false, now)?;
    keyring.begin(change.clone())?;
    keyring.publish(&slot, fresh)?;
    let own = Own { secret: Some(fresh), key_file: None };
    keyring.end_rotation(slot.id, &change, own, old)
}

fn copy(fs: &dyn FileSystem, from: &Path, to: &Path) -> Result<(), StoreError> {
    let content = Zeroizing::new(fsio::read_whole(fs, from, slots::SECRET_BYTES_MAX)?);
    Ok(slots::write_in_place(fs, to, &content)?)
}

impl Keyring {
    /// The new slot, with the label of the old one, and the note of the change.
    fn plan_rotation(
        &self,
        old: &Secret,
        fresh: &Secret,
        in_place: bool,
        now: jiff::Timestamp,
    ) -> Result<(NewSlot, Change), StoreError> {
        let removing = self.opened_by(old)?;
        if removing.is_empty() {
            return Err(KeyringError::Misnamed { path: self.layout().slots() }.into());
        }
        let labels = self.slots()?.into_iter().filter(|slot| removing.contains(&slot.id));
        let label: Option<SlotLabel> = labels.filter_map(|slot| slot.label).next();
        let slot = self.wrap(fresh, label, now)?;
        let adding = [(slot.id, slots::digest(&slot.text))].into();
        Ok((slot, Change { adding, removing: removing.into_iter().collect(), in_place }))
    }

    fn end_rotation(
        &mut self,
        added: SlotId,
        change: &Change,
        own: Own<'_>,
        old: &Secret,
    ) -> Result<Rotated, StoreError> {
        self.remove_traces(change, own, change.removing.iter())?;
        self.finish()?;
        let removed = change.removing.iter().copied().collect();
        let is_same = self.opened_by(old)?.contains(&added);
        let opens = slots::unlock(self.fs(), self.layout(), self.id(), old).is_ok();
        Ok(Rotated { added: Some(added), removed, old_key_opens: opens && !is_same })
    }
}

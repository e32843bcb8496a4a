//! Changing the keys of a repository.
//!
//! Each change is noted in the index before its first step, and the note goes with its last one:
//!
//! ```text
//! add      note, slot, check that it opens from disk, index
//! remove   note, slot goes, index
//! rotate   note, new slot, check, [key file exchanged], old slots go, index
//! ```
//!
//! Invariants:
//! - while a note stands, slots and files that it names are known to be traces of that change;
//!   anything else that is there is never removed by the way;
//! - a slot goes only after another one was opened from disk with a key that stays.

mod error;
mod reading;
mod rotate;
mod settle;

pub use error::KeyringError;
pub(super) use reading::first_slots;
pub use rotate::{Rotated, new_key_path, old_key_path, rotate_in_place, rotate_to};
pub use settle::{Doubt, Own, Settled};

use super::keys::SecretKey;
use super::slots::{
    self, Change, Files, Index, IndexState, NewSlot, SLOTS_MAX, SlotInfo, SlotLabel, SlotProblem,
};
use super::{Layout, Repository, Secret, StoreError, WriterSession};
use crate::fsio::{self, FileLock, FileSystem, LockMode};
use crate::units::{RepositoryId, RunId, SlotId};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

/// What to do about an index that cannot be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IndexTrust {
    /// Change nothing.
    Needed,
    /// Write it anew from the slots that are there.
    Anew,
}

/// The keys of an open repository, while nobody else changes them.
#[derive(Debug)]
pub struct Keyring {
    repository: Repository,
    master: SecretKey,
    session: WriterSession,
    index: Index,
    /// What was wrong when it was opened.
    problems: Vec<SlotProblem>,
    _alone: FileLock,
}

impl Keyring {
    /// Opens a repository to change its keys.
    ///
    /// # Errors
    /// Busy while another process does. When it is not encrypted, `secret` does not open it, or
    /// its index is damaged and `trust` is needed.
    pub fn open(
        fs: &Arc<dyn FileSystem>,
        root: &Path,
        secret: &Secret,
        trust: IndexTrust,
    ) -> Result<Self, StoreError> {
        let layout = Layout::new(root.to_owned());
        if fs.stat(&layout.header())?.is_none() {
            return Err(Repository::missing(fs.as_ref(), root));
        }
        let alone = lock(fs.as_ref(), &layout)?;
        // No level of compression matters to keys.
        let (repository, master) = Repository::open_with_master(fs, root, Some(secret), 1)?;
        let Some(master) = master else {
            return Err(KeyringError::NotEncrypted { path: root.to_owned() }.into());
        };
        let problems = repository.check_slots()?;
        let index = match slots::read_index(fs.as_ref(), &layout, Some(repository.keys()))? {
            IndexState::Good(index) => index,
            IndexState::Damaged(reason) if trust == IndexTrust::Needed => {
                let path = root.to_owned();
                return Err(KeyringError::IndexDamaged { path, reason }.into());
            }
            IndexState::Missing | IndexState::Damaged(_) => {
                Index::new(repository.header().id, Files::read(fs.as_ref(), &layout)?.good())
            }
        };
        let session = repository.begin_writing(RunId::random().map_err(StoreError::Random)?)?;
        Ok(Self { repository, master, session, index, problems, _alone: alone })
    }

    /// The repository.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// What was wrong with the slots when they were opened.
    pub fn problems(&self) -> &[SlotProblem] {
        &self.problems
    }

    /// The slots.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub fn slots(&self) -> Result<Vec<SlotInfo>, StoreError> {
        slots::list_slots(self.fs(), self.layout())
    }

    /// The slots that `secret` opens.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub fn opened_by(&self, secret: &Secret) -> Result<Vec<SlotId>, StoreError> {
        self.repository.slots_opened_by(secret)
    }

    /// Adds a slot that `secret` opens.
    ///
    /// # Errors
    /// When there are too many already, or it cannot be written.
    pub fn add(
        &mut self,
        secret: &Secret,
        label: Option<SlotLabel>,
        now: jiff::Timestamp,
    ) -> Result<SlotId, StoreError> {
        let slot = self.wrap(secret, label, now)?;
        let adding = [(slot.id, slots::digest(&slot.text))].into();
        self.begin(Change { adding, ..Change::default() })?;
        self.publish(&slot, secret)?;
        self.finish()?;
        Ok(slot.id)
    }

    /// Removes a slot. `own` is the key of the settings; `own_key_too` is whether it may open
    /// nothing any more.
    ///
    /// # Errors
    /// When it is the last good one, or the only one that `own` opens.
    pub fn remove(
        &mut self,
        slot: SlotId,
        own: &Secret,
        own_key_too: bool,
    ) -> Result<(), StoreError> {
        // One that is damaged, or only listed, opens nothing anyway.
        let good = self.slots()?;
        if good.iter().any(|found| found.id == slot) {
            if good.len() == 1 {
                return Err(KeyringError::LastSlot { slot }.into());
            }
            if !own_key_too && self.opened_by(own)? == [slot] {
                return Err(KeyringError::OnlyOwnSlot { slot }.into());
            }
        }
        self.begin(Change { removing: [slot].into(), ..Change::default() })?;
        slots::remove_files(self.fs(), &[self.layout().slot(slot)])?;
        self.finish()
    }

    /// The slot whose id begins with `digits`, among those that are there or listed.
    ///
    /// # Errors
    /// When none or several do.
    pub fn find(&self, digits: &str) -> Result<SlotId, StoreError> {
        let wanted = digits.trim().to_ascii_lowercase();
        let mut known: Vec<SlotId> = self.known()?.into_iter().collect();
        known.retain(|id| !wanted.is_empty() && id.to_string().starts_with(&wanted));
        match known.as_slice() {
            [slot] => Ok(*slot),
            [] => {
                Err(KeyringError::UnknownSlot { digits: digits.chars().take(40).collect() }.into())
            }
            _ => Err(KeyringError::AmbiguousSlot { digits: wanted }.into()),
        }
    }

    /// Whether a slot is there or listed.
    ///
    /// # Errors
    /// When the slots cannot be listed.
    pub fn knows(&self, slot: SlotId) -> Result<bool, StoreError> {
        Ok(self.known()?.contains(&slot))
    }

    fn known(&self) -> Result<BTreeSet<SlotId>, StoreError> {
        let files = Files::read(self.fs(), self.layout())?;
        Ok(files.slots.keys().chain(self.index.slots.keys()).copied().collect())
    }

    /// Writes the index anew: the slots that are there and look good are the slots.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn accept_slots(&mut self) -> Result<(), StoreError> {
        let good = Files::read(self.fs(), self.layout())?.good();
        self.index = Index::new(self.id(), good);
        self.store()
    }

    fn fs(&self) -> &dyn FileSystem {
        self.repository.file_system().as_ref()
    }

    fn layout(&self) -> &Layout {
        self.repository.layout()
    }

    fn id(&self) -> RepositoryId {
        self.repository.header().id
    }

    fn store(&self) -> Result<(), StoreError> {
        self.index.store(&self.session, self.repository.keys())
    }

    fn wrap(
        &self,
        secret: &Secret,
        label: Option<SlotLabel>,
        now: jiff::Timestamp,
    ) -> Result<NewSlot, StoreError> {
        let count = Files::read(self.fs(), self.layout())?.slots.len();
        if count >= SLOTS_MAX {
            return Err(KeyringError::TooManySlots { count }.into());
        }
        slots::wrap(self.id(), secret, label, &self.master, now)
    }

    /// Notes a change that begins.
    fn begin(&mut self, change: Change) -> Result<(), StoreError> {
        if let Some(before) = &self.index.change {
            let path = self.layout().root().to_owned();
            let change = before.describe();
            return Err(KeyringError::UnfinishedElsewhere { path, change }.into());
        }
        self.index.change = Some(change);
        self.store()
    }

    fn publish(&self, slot: &NewSlot, secret: &Secret) -> Result<(), StoreError> {
        slots::publish(&self.session, slot)?;
        self.check_opens(slot.id, secret)
    }

    /// Opens a slot from disk, as the next command will.
    fn check_opens(&self, slot: SlotId, secret: &Secret) -> Result<(), StoreError> {
        let text = fsio::read_whole(self.fs(), &self.layout().slot(slot), slots::SLOT_BYTES_MAX)?;
        match slots::open_text(&text, self.id(), secret) {
            Some(master) if master == self.master => Ok(()),
            _ => Err(KeyringError::DoesNotOpen { slot }.into()),
        }
    }

    /// Ends a change: what it added is listed if it is there, what it removed is not if it is
    /// gone. So the end of one that was cut off is the same.
    fn finish(&mut self) -> Result<(), StoreError> {
        let change = self.index.change.take().unwrap_or_default();
        let files = Files::read(self.fs(), self.layout())?;
        for (slot, expected) in change.adding {
            // One that cannot be read just now is there: left out, it would look like an intruder's.
            let is_meant = |file: &Result<Vec<u8>, String>| {
                file.as_ref().map_or(true, |text| slots::digest(text) == expected)
            };
            let is_there = files.slots.get(&slot).is_some_and(is_meant);
            if is_there {
                self.index.slots.insert(slot, expected);
            }
        }
        for slot in change.removing {
            if !files.slots.contains_key(&slot) {
                self.index.slots.remove(&slot);
            }
        }
        self.store()
    }
}

/// Held by the one process that changes the keys.
pub(super) fn lock(fs: &dyn FileSystem, layout: &Layout) -> Result<FileLock, StoreError> {
    let holder = Layout::holder("a change of the keys");
    Ok(FileLock::try_take(fs, &layout.keys_lock(), LockMode::Exclusive, &holder)?)
}

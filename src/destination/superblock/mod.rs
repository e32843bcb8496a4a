//! The superblock: one small file, the only truth of what a replica holds.
//!
//! Two slots of 64 KiB. Each store writes the slot that is not current, syncs, and then does the
//! same with the other one, so that at rest both say the same.
//!
//! *Invariants*
//! - The slot that is current never gets other bytes. So a store that is cut short leaves the
//!   state before it or the state after it.
//! - At rest the damage of one slot loses nothing, not even a step back to the state before;
//!   that matters most for `promoted`.
//! - Whoever acts on what is stored knows that it is durable: where a store was cut short, of which
//!   the medium may have less than memory, opening brings it to its end. And before the other slot
//!   is written to, the current one is written again, with the same bytes.
//! - Only states that may follow each other are stored ([`check_transition`]).
//! - Whoever stores holds the replica's lock; reading needs none.

mod slot;
mod state;
#[cfg(test)]
mod tests;

pub use state::{
    DirectFeed, DiskRecord, NO_REPOSITORY, PointRef, ReplicaRecord, State, TransitionError,
    check_transition,
};

use super::home::temporary_path;
use crate::fsio::{FileError, FileHandle, FileSystem, OpenMode, parent_dir, write_new};
use crate::units::{Breakage, Name, is_broken};
pub use slot::SlotFault;
use slot::{FILE_BYTES, SLOT_BYTES, Slot, slot_offset};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A reader without the lock may meet a store at its first slot and again at its second: each
/// time one slot is whole, but not the same. That it happens thrice in a row is not believable.
const READ_ATTEMPTS: u32 = 3;

/// Why a superblock was not read or stored.
#[derive(Debug, thiserror::Error)]
pub enum SuperblockError {
    /// The file failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// Neither slot is whole.
    #[error(
        "the superblock {} of replica {replica} is damaged ({first}; {second}): what its images \
         hold is not known, and they are left alone. If the replica was failed over, copy the \
         images first: they hold what its guest wrote. Then move the damaged file away and run \
         `afterimage replicate now {replica}`, which reads the images in full, compares them with \
         the newest point and overwrites what differs",
        path.display()
    )]
    Damaged {
        /// The superblock.
        path: PathBuf,
        /// The replica.
        replica: Name,
        /// What is wrong with the first slot.
        first: SlotFault,
        /// What is wrong with the second slot.
        second: SlotFault,
    },
    /// A newer program wrote it.
    #[error(
        "the superblock {} of replica {replica} has format {found}, this program knows up to {}; \
         run the newer afterimage that wrote it", path.display(), slot::VERSION
    )]
    NewerFormat {
        /// The superblock.
        path: PathBuf,
        /// The replica.
        replica: Name,
        /// Its version.
        found: u32,
    },
    /// It belongs to another replica.
    #[error(
        "the superblock {} belongs to replica {found}, not to {replica}; if the replica was \
         renamed, name it {found} again, else give {replica} other targets; then run `afterimage \
         config check`", path.display()
    )]
    Foreign {
        /// The superblock.
        path: PathBuf,
        /// The replica that was asked for.
        replica: Name,
        /// The replica that it says.
        found: Name,
    },
    /// The next state may not follow.
    #[error("replica {replica}: {reason}")]
    Transition {
        /// The replica.
        replica: Name,
        /// Why not.
        #[source]
        reason: TransitionError,
    },
    /// The record does not fit in a slot, or is no JSON.
    #[error(
        "the superblock {} of replica {replica} cannot hold its record: {reason}; use fewer disks \
         or shorter paths (of UTF-8) for it, then run `afterimage config check`", path.display()
    )]
    Unstorable {
        /// The superblock.
        path: PathBuf,
        /// The replica.
        replica: Name,
        /// What does not fit.
        reason: String,
    },
    /// An earlier store failed half-way.
    #[error(
        "the superblock {} of replica {replica} failed to be stored before, what is on the medium \
         is unknown; run the command again, which reads it anew", path.display()
    )]
    GivenUp {
        /// The superblock.
        path: PathBuf,
        /// The replica.
        replica: Name,
    },
}

impl SuperblockError {
    /// Whether trying the same again can not help.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::File(error) => error.is_permanent(),
            _ => true,
        }
    }
}

/// A replica's superblock, open for storing.
#[derive(Debug)]
pub struct Superblock {
    handle: Arc<dyn FileHandle>,
    path: PathBuf,
    record: ReplicaRecord,
    generation: u64,
    /// Whether the slot that is current is known to be on the medium.
    is_safe: bool,
    given_up: bool,
}

impl Superblock {
    /// Creates the superblock of a new replica, which is `seeding`; its folder exists.
    ///
    /// # Errors
    /// [`FileError::already_exists`] when there is one, [`SuperblockError::Transition`] for
    /// any other state.
    pub fn create(
        fs: &Arc<dyn FileSystem>,
        path: &Path,
        record: ReplicaRecord,
    ) -> Result<Self, SuperblockError> {
        let replica = record.replica.clone();
        state::check_first(&record)
            .map_err(|reason| SuperblockError::Transition { replica, reason })?;
        let mut file = vec![0; FILE_BYTES];
        let (first, second) = file.split_at_mut(SLOT_BYTES);
        // Generation 1 belongs to the second slot, 2 to the first one.
        second.copy_from_slice(&encode(path, &record, 1)?);
        first.copy_from_slice(&encode(path, &record, 2)?);
        write_new(fs, temporary_path(path), path, &file)?;
        let replica = record.replica.clone();
        let created = Self::open(fs.as_ref(), path, &replica)?;
        Ok(Self { is_safe: true, ..created })
    }

    /// Opens the superblock of `replica` for storing. A damaged slot beside a whole one is the
    /// trace of a store that was cut short, and no error. What [`Superblock::current`] then says is
    /// durable: a store that was cut short may have left it in memory only.
    pub fn open(fs: &dyn FileSystem, path: &Path, replica: &Name) -> Result<Self, SuperblockError> {
        let handle = fs.open(path, OpenMode::Write)?;
        let found = read(handle.as_ref(), replica)?;
        let (generation, record) = (found.generation, found.record);
        let path = path.to_owned();
        let mut superblock =
            Self { handle, path, record, generation, is_safe: false, given_up: false };
        let is_at_rest = found.other.as_ref() == Some(&superblock.record);
        if !is_at_rest && !is_broken(Breakage::FoundStateUnsynced) {
            superblock.settle()?;
        }
        if matches!(superblock.record.state, State::Seeding { .. }) {
            // Its name may be as new.
            fs.sync_dir(&parent_dir(&superblock.path))?;
        }
        Ok(superblock)
    }

    /// Reads the superblock of `replica`, also while another process stores.
    pub fn read_only(
        fs: &dyn FileSystem,
        path: &Path,
        replica: &Name,
    ) -> Result<ReplicaRecord, SuperblockError> {
        let handle = fs.open(path, OpenMode::Read)?;
        read(handle.as_ref(), replica).map(|found| found.record)
    }

    /// As [`Superblock::read_only`], with what the other slot says where that is something else: of
    /// a store that was cut short, a power cut may leave the one or the other.
    pub fn read_both(
        fs: &dyn FileSystem,
        path: &Path,
        replica: &Name,
    ) -> Result<(ReplicaRecord, Option<ReplicaRecord>), SuperblockError> {
        let handle = fs.open(path, OpenMode::Read)?;
        let found = read(handle.as_ref(), replica)?;
        let other = found.other.filter(|other| *other != found.record);
        Ok((found.record, other))
    }

    /// What is stored.
    pub fn current(&self) -> &ReplicaRecord {
        &self.record
    }

    /// Makes `next` the replica's state, durably. The commit is the first of its two syncs.
    ///
    /// # Errors
    /// [`SuperblockError::Transition`] when `next` may not follow: nothing changed. After an
    /// error of the file it may be stored or not: this superblock then stores nothing any more,
    /// and a journal that `next` names must stay.
    pub fn store(&mut self, next: ReplicaRecord) -> Result<(), SuperblockError> {
        if self.given_up {
            let (path, replica) = (self.path.clone(), self.record.replica.clone());
            return Err(SuperblockError::GivenUp { path, replica });
        }
        check_transition(&self.record, &next).map_err(|reason| SuperblockError::Transition {
            replica: self.record.replica.clone(),
            reason,
        })?;
        let slots = [
            (self.generation + 1, encode(&self.path, &next, self.generation + 1)?),
            (self.generation + 2, encode(&self.path, &next, self.generation + 2)?),
        ];
        if !self.is_safe && !is_broken(Breakage::FoundStateUnsynced) {
            self.secure()?;
        }
        self.write(&slots)?;
        self.record = next;
        Ok(())
    }

    /// Brings a store that was cut short to its end.
    fn settle(&mut self) -> Result<(), SuperblockError> {
        self.secure()?;
        let generation = self.generation + 1;
        let slot = encode(&self.path, &self.record, generation)?;
        self.write(&[(generation, slot)])
    }

    /// Writes the current slot again, with the same bytes, before the other one is touched, which
    /// may be the only one that the medium has. Syncing alone does nothing after a sync that
    /// failed, and nobody knows how the last store ended.
    fn secure(&mut self) -> Result<(), SuperblockError> {
        let slot = encode(&self.path, &self.record, self.generation)?;
        self.write(&[(self.generation, slot)])?;
        self.is_safe = true;
        Ok(())
    }

    /// Writes slots, one after the other. After an error nothing more is written.
    fn write(&mut self, slots: &[(u64, Vec<u8>)]) -> Result<(), SuperblockError> {
        self.given_up = true;
        for (index, (generation, slot)) in slots.iter().enumerate() {
            self.handle.write_all_at(slot, slot_offset(*generation))?;
            let waits = is_broken(Breakage::SlotsTogether) && index + 1 < slots.len();
            if !waits && !is_broken(Breakage::SuperblockUnsynced) {
                self.handle.sync()?;
            }
            self.generation = *generation;
        }
        self.given_up = false;
        Ok(())
    }
}

fn encode(
    path: &Path,
    record: &ReplicaRecord,
    generation: u64,
) -> Result<Vec<u8>, SuperblockError> {
    slot::encode(record, generation).map_err(|reason| SuperblockError::Unstorable {
        path: path.to_owned(),
        replica: record.replica.clone(),
        reason,
    })
}

/// What stands in both slots.
struct Found {
    generation: u64,
    record: ReplicaRecord,
    /// What the older slot says, if it is whole.
    other: Option<ReplicaRecord>,
}

fn read(handle: &dyn FileHandle, replica: &Name) -> Result<Found, SuperblockError> {
    let mut attempt = 1;
    loop {
        match read_once(handle, replica) {
            Err(SuperblockError::Damaged { .. }) if attempt < READ_ATTEMPTS => attempt += 1,
            other => return other,
        }
    }
}

fn read_once(handle: &dyn FileHandle, replica: &Name) -> Result<Found, SuperblockError> {
    let path = handle.path().to_owned();
    let replica = replica.clone();
    let (newest, older) = match (read_slot(handle, 0)?, read_slot(handle, 1)?) {
        (Ok(first), Ok(second)) if first.generation >= second.generation => (first, Some(second)),
        (first, Ok(second)) => (second, first.ok()),
        (Ok(first), Err(_)) => (first, None),
        (Err(first), Err(second)) => {
            return Err(SuperblockError::Damaged { path, replica, first, second });
        }
    };
    match newest.record {
        Err(found) => Err(SuperblockError::NewerFormat { path, replica, found }),
        Ok(record) if record.replica != replica => {
            Err(SuperblockError::Foreign { path, replica, found: record.replica })
        }
        Ok(record) => {
            let other = older.and_then(|slot| slot.record.ok()).map(|record| *record);
            Ok(Found { generation: newest.generation, record: *record, other })
        }
    }
}

/// A slot that lies past the end of a cut file is a damaged slot, not an error of the file.
fn read_slot(
    handle: &dyn FileHandle,
    index: u64,
) -> Result<Result<Slot, SlotFault>, SuperblockError> {
    let offset = slot_offset(index);
    let mut bytes = vec![0; slot::FIRST_READ_BYTES];
    read_up_to(handle, &mut bytes, 0, offset)?;
    // Nearly all records end here.
    let have = bytes.len();
    let all = slot::len_of(&bytes).min(SLOT_BYTES);
    if have == slot::FIRST_READ_BYTES && all > have {
        bytes.resize(all, 0);
        read_up_to(handle, &mut bytes, have, offset)?;
    }
    Ok(slot::decode(&bytes, index))
}

/// Fills `bytes` from its byte `len` on with what stands at `offset`, and cuts it off where the file
/// ends.
fn read_up_to(
    handle: &dyn FileHandle,
    bytes: &mut Vec<u8>,
    mut len: usize,
    offset: u64,
) -> Result<(), SuperblockError> {
    while let Some(rest) = bytes.get_mut(len..).filter(|rest| !rest.is_empty()) {
        match handle.read_at(rest, offset + len as u64)? {
            0 => break,
            count => len += count,
        }
    }
    bytes.truncate(len);
    Ok(())
}

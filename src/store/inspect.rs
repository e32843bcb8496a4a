//! Reading a whole pack once, from its first byte to its last: the hash of the file, and every
//! object in it. Memory is bounded by one read, or one larger object.

use super::codec::Codec;
use super::opening::Opener;
use super::pack::{Location, PACK_HEADER_BYTES, PackHeader, PackRecord};
use super::seal::Sealer;
use super::{Damage, Repository, StoreError};
use crate::fsio::{FileHandle, OpenMode};
use crate::units::{MIB, PackName};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// Objects are fetched together up to this many bytes.
const READ_BYTES: u32 = MIB as u32;

/// What became of a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PackState {
    /// Every byte is what it must be.
    Good,
    /// It is not what its name says.
    Damaged(PackDamage),
    /// There is no such file.
    Missing,
}

/// What is wrong with a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackDamage {
    /// In words.
    pub reason: String,
    /// Objects that are good in spite of it, as far as its trailer tells of them.
    pub good: Vec<Location>,
    /// Objects of its trailer that are not.
    pub damaged: Vec<Location>,
}

/// Looks into packs. One for each thread.
pub struct PackInspector<'r> {
    repository: &'r Repository,
    opener: Opener,
    raw: Vec<u8>,
}

impl std::fmt::Debug for PackInspector<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PackInspector").finish_non_exhaustive()
    }
}

/// The part of a pack that was read so far.
struct Reading<'h> {
    handle: &'h Arc<dyn FileHandle>,
    hash: Sha256,
    at: u64,
    /// Why a part of it could not be read.
    unreadable: Option<String>,
}

impl<'r> PackInspector<'r> {
    pub(super) fn new(repository: &'r Repository) -> Result<Self, StoreError> {
        let codec = Codec::new(repository.compression_level())?;
        let keys = repository.keys();
        let opener = Opener::new(keys.repository(), keys.namer(), codec);
        Ok(Self { repository, opener, raw: Vec::new() })
    }

    /// Reads all of a pack that was just written. The system's cache of it is dropped before, where
    /// that can be had, so that the medium answers.
    ///
    /// # Errors
    /// As [`PackInspector::inspect`].
    pub fn inspect_medium(&mut self, name: PackName) -> Result<PackState, StoreError> {
        match self
            .repository
            .file_system()
            .open(&self.repository.layout().pack(name), OpenMode::Read)
        {
            Ok(handle) => handle.drop_cache(),
            Err(error) if error.not_found() => {}
            Err(error) => return Err(error.into()),
        }
        self.inspect(name, &mut |_| Ok::<(), StoreError>(()))
    }

    /// Reads all of a pack. `on_bytes` is told of every part that was read, and can end it.
    ///
    /// # Errors
    /// When it cannot be read for a reason that says nothing of what it holds, and the first error
    /// of `on_bytes`.
    pub fn inspect<E: From<StoreError>>(
        &mut self,
        name: PackName,
        on_bytes: &mut dyn FnMut(u64) -> Result<(), E>,
    ) -> Result<PackState, E> {
        let path = self.repository.layout().pack(name);
        let handle = match self.repository.file_system().open(&path, OpenMode::Read) {
            Ok(handle) => handle,
            Err(error) if error.not_found() => return Ok(PackState::Missing),
            Err(error) => return Err(StoreError::from(error).into()),
        };
        let bytes = handle.size().map_err(StoreError::from)?;
        let mut reading = Reading { handle: &handle, hash: Sha256::new(), at: 0, unreadable: None };
        let (mut good, mut damaged) = (Vec::new(), Vec::new());
        let problem = match self.repository.read_pack_record(name) {
            Ok(record) => {
                self.objects(&record, &mut reading, &mut good, &mut damaged, on_bytes)?;
                None
            }
            Err(StoreError::Damaged(Damage::Pack { reason, .. })) => Some(reason),
            Err(error) => return Err(error.into()),
        };
        self.rest(&mut reading, bytes, on_bytes)?;
        let is_named = PackName(reading.hash.finalize().into()) == name;
        let wrong = reading.unreadable.or(problem);
        let reason = match (wrong, is_named, damaged.len()) {
            (None, true, 0) => return Ok(PackState::Good),
            (Some(reason), ..) => reason,
            (None, false, 0) => "its bytes do not match its name, its objects can be read".into(),
            (None, _, 1) => "an object in it is damaged".to_owned(),
            (None, _, count) => format!("{count} objects in it are damaged"),
        };
        Ok(PackState::Damaged(PackDamage { reason, good, damaged }))
    }

    /// Header and objects, in the order in which they lie.
    fn objects<E: From<StoreError>>(
        &mut self,
        record: &PackRecord,
        reading: &mut Reading<'_>,
        good: &mut Vec<Location>,
        damaged: &mut Vec<Location>,
        on_bytes: &mut dyn FnMut(u64) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut header = [0; PACK_HEADER_BYTES];
        reading.take(&mut header)?;
        on_bytes(header.len() as u64)?;
        let header = PackHeader::decode(&header, self.repository.keys());
        let sealer = header.ok().and_then(|header| header.sealer(self.repository.keys()));
        let places: Vec<Location> = record.locations().collect();
        let mut rest = &places[..];
        while let Some(first) = rest.first() {
            let fits = |place: &&Location| place.end() - first.offset <= READ_BYTES;
            let count = rest.iter().take_while(fits).count().max(1);
            let (batch, later) = rest.split_at(count);
            let len = batch.iter().map(|place| place.entry.stored_len as usize).sum();
            self.raw.resize(len, 0);
            if reading.take(&mut self.raw)? {
                self.open_batch(batch, sealer.as_ref(), good, damaged);
            } else {
                self.open_singly(batch, reading.handle, sealer.as_ref(), good, damaged);
            }
            on_bytes(len as u64)?;
            rest = later;
        }
        Ok(())
    }

    fn open_batch(
        &mut self,
        batch: &[Location],
        sealer: Option<&Sealer>,
        good: &mut Vec<Location>,
        damaged: &mut Vec<Location>,
    ) {
        let mut stored = &mut self.raw[..];
        for place in batch {
            let (this, later) = stored.split_at_mut(place.entry.stored_len as usize);
            let opened = self.opener.open(place, sealer, this);
            if opened.is_ok() {
                good.push(*place)
            } else {
                damaged.push(*place)
            }
            stored = later;
        }
    }

    /// After a read of several objects failed: those that can be read alone are good.
    fn open_singly(
        &mut self,
        batch: &[Location],
        handle: &Arc<dyn FileHandle>,
        sealer: Option<&Sealer>,
        good: &mut Vec<Location>,
        damaged: &mut Vec<Location>,
    ) {
        for place in batch {
            self.raw.resize(place.entry.stored_len as usize, 0);
            let read = handle.read_exact_at(&mut self.raw, u64::from(place.offset));
            let is_good =
                read.is_ok() && self.opener.open(place, sealer, &mut self.raw[..]).is_ok();
            if is_good { good.push(*place) } else { damaged.push(*place) }
        }
    }

    /// What is behind the objects, or all of a pack whose objects are not known.
    fn rest<E: From<StoreError>>(
        &mut self,
        reading: &mut Reading<'_>,
        bytes: u64,
        on_bytes: &mut dyn FnMut(u64) -> Result<(), E>,
    ) -> Result<(), E> {
        while reading.at < bytes {
            let len = (bytes - reading.at).min(u64::from(READ_BYTES));
            self.raw.resize(len as usize, 0);
            reading.take(&mut self.raw)?;
            on_bytes(len)?;
        }
        Ok(())
    }
}

impl Reading<'_> {
    /// Reads on. `false` when the medium gives nothing back, which is damage.
    fn take(&mut self, buffer: &mut [u8]) -> Result<bool, StoreError> {
        let read = self.handle.read_exact_at(buffer, self.at);
        self.at += buffer.len() as u64;
        match read {
            Ok(()) => {
                self.hash.update(buffer);
                Ok(true)
            }
            Err(error) if error.is_damage() => {
                self.unreadable.get_or_insert(error.to_string());
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }
}

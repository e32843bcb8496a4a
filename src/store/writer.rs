//! Writing packs.
//!
//! Invariants: an object is appended only after it was decoded again and found to be what its
//! name says; a pack gets its name only when it is complete and synced; names are told to the
//! sink only after that.

use super::codec::{Codec, Encoded};
use super::pack::{
    ObjectKind, PACK_BYTES_TARGET, PACK_HEADER_BYTES, PACK_OBJECTS_MAX, PackEntry, PackHeader,
    PackKind, PackRecord, encode_trailer, object_bound,
};
use super::seal::Sealer;
use super::{Keys, Repository, StoreError, WriterSession};
use crate::chunk::{Fingerprint, Namer};
use crate::fsio::{FileError, TemporaryFile};
use crate::units::{ChunkName, MIB, ObjectName, PackName, RunId, TreeName};
use sha2::{Digest, Sha256};
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes collected before they are written to a pack's file.
const BUFFER_BYTES: usize = MIB as usize;

/// Learns of packs when they are durable.
pub trait PackSink: Sync {
    /// `record` can be read from now on.
    ///
    /// # Errors
    /// When it cannot be noted; the pack is then garbage that a later run may find.
    fn pack_written(&self, record: &PackRecord) -> Result<(), StoreError>;
}

/// Knows which objects a new point may rely on.
pub trait KnownObjects: Sync + std::fmt::Debug {
    /// Whether each of `names` lies in a pack where a new point may rely on it, in the order asked.
    ///
    /// # Errors
    /// [`StoreError::Index`] when that cannot be found out.
    fn contains(&self, names: &[ObjectName]) -> Result<Vec<bool>, StoreError>;
}

/// What became of an object that was put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// Another thread of this writer has put it.
    InFlight,
    /// It was added.
    Stored,
}

/// Writes packs of a repository, for any number of threads.
pub struct PackWriter<'r> {
    repository: &'r Repository,
    namer: Namer,
    sink: &'r dyn PackSink,
    /// Before the session: its files go before the lock that says whose they are.
    state: Mutex<State>,
    session: WriterSession,
}

#[derive(Default)]
struct State {
    data: Option<OpenPack>,
    tree: Option<OpenPack>,
    /// Names put since the last time that their pack was handed to the sink. Bounded: they are
    /// those of the packs that are open or about to be durable.
    in_flight: HashSet<ObjectName>,
}

impl State {
    fn slot(&mut self, kind: PackKind) -> &mut Option<OpenPack> {
        match kind {
            PackKind::Data => &mut self.data,
            PackKind::Tree => &mut self.tree,
        }
    }
}

impl std::fmt::Debug for PackWriter<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PackWriter").field("session", &self.session).finish_non_exhaustive()
    }
}

impl<'r> PackWriter<'r> {
    pub(super) fn new(
        repository: &'r Repository,
        sink: &'r dyn PackSink,
        run: RunId,
    ) -> Result<Self, StoreError> {
        let session = repository.begin_writing(run)?;
        let namer = repository.keys().namer();
        Ok(Self { repository, namer, sink, state: Mutex::default(), session })
    }

    /// The right to temporary files that this writer has.
    pub fn session(&self) -> &WriterSession {
        &self.session
    }

    /// Adds a chunk that is not yet in the repository.
    ///
    /// # Errors
    /// When it cannot be written, or memory is failing.
    pub fn put_chunk(
        &self,
        name: ChunkName,
        content: &[u8],
        codec: &mut Codec,
    ) -> Result<Put, StoreError> {
        let is_same = |restored: &[u8]| self.namer.chunk(restored) == name;
        self.put(name.into(), ObjectKind::Chunk, content, codec, is_same)
    }

    /// As [`PackWriter::put_chunk`], of content whose fingerprint was taken when it was named: what
    /// decodes to the same fingerprint is what was named, and needs no second hash.
    ///
    /// # Errors
    /// As [`PackWriter::put_chunk`].
    pub fn put_named(
        &self,
        name: ChunkName,
        fingerprint: Fingerprint,
        content: &[u8],
        codec: &mut Codec,
    ) -> Result<Put, StoreError> {
        let is_same = |restored: &[u8]| Fingerprint::of(restored) == fingerprint;
        self.put(name.into(), ObjectKind::Chunk, content, codec, is_same)
    }

    /// Adds a leaf or node that is not yet in the repository.
    ///
    /// # Errors
    /// When it cannot be written, or memory is failing.
    pub fn put_tree(
        &self,
        name: TreeName,
        kind: ObjectKind,
        encoded: &[u8],
        codec: &mut Codec,
    ) -> Result<Put, StoreError> {
        let is_same = |restored: &[u8]| self.namer.tree(restored) == name;
        self.put(name.into(), kind, encoded, codec, is_same)
    }

    fn put(
        &self,
        name: ObjectName,
        kind: ObjectKind,
        plain: &[u8],
        codec: &mut Codec,
        is_same: impl FnOnce(&[u8]) -> bool,
    ) -> Result<Put, StoreError> {
        if !self.lock().in_flight.insert(name) {
            return Ok(Put::InFlight);
        }
        let encoded = codec.encode(plain, is_same)?;
        if let Some(pack) = self.append(name, kind, encoded)? {
            self.finish_pack(pack)?;
        }
        Ok(Put::Stored)
    }

    /// Appends to the open pack; gives it back when it is full.
    fn append(
        &self,
        name: ObjectName,
        kind: ObjectKind,
        encoded: Encoded<'_>,
    ) -> Result<Option<OpenPack>, StoreError> {
        let mut state = self.lock();
        let slot = state.slot(kind.pack_kind());
        let pack = match slot {
            Some(pack) => pack,
            None => {
                let file = self.session.create()?;
                slot.insert(OpenPack::begin(file, kind.pack_kind(), self.repository.keys())?)
            }
        };
        pack.append(name, kind, encoded)?;
        if pack.is_full() {
            return Ok(slot.take());
        }
        if pack.buffer.len() < BUFFER_BYTES {
            return Ok(None);
        }
        let shared = Arc::clone(&pack.file);
        // Taken before the others may go on appending: what is written keeps its order.
        let mut file = lock(&shared);
        let buffer = std::mem::replace(&mut pack.buffer, std::mem::take(&mut file.spare));
        pack.handed_on += buffer.len() as u64;
        drop(state);
        file.write(&buffer)?;
        file.spare = buffer;
        file.spare.clear();
        Ok(None)
    }

    /// Closes the open packs. When this returns, everything that was put is durable.
    ///
    /// # Errors
    /// When a pack cannot be written; nothing that was put may then be referred to.
    pub fn flush(&self) -> Result<(), StoreError> {
        let (data, tree) = {
            let mut state = self.lock();
            (state.data.take(), state.tree.take())
        };
        for pack in [data, tree].into_iter().flatten() {
            self.finish_pack(pack)?;
        }
        Ok(())
    }

    fn finish_pack(&self, pack: OpenPack) -> Result<(), StoreError> {
        let record = pack.publish(self.repository)?;
        self.sink.pack_written(&record)?;
        let mut state = self.lock();
        for entry in &record.entries {
            state.in_flight.remove(&entry.name);
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

// A thread that panicked has failed the run; the others only need to get to its end.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A pack that is being filled.
struct OpenPack {
    kind: PackKind,
    header: [u8; PACK_HEADER_BYTES],
    repository: crate::units::RepositoryId,
    sealer: Option<Sealer>,
    /// What goes to the file next.
    buffer: Vec<u8>,
    /// Bytes before the buffer, which were handed on to the file.
    handed_on: u64,
    entries: Vec<PackEntry>,
    /// Written by one thread while others go on filling the buffer.
    file: Arc<Mutex<PackFile>>,
}

/// The file of a pack, as far as it is written.
struct PackFile {
    path: PathBuf,
    /// `None`: a write failed, and with it the pack.
    file: Option<TemporaryFile>,
    /// Why: the system's number.
    failed: Option<i32>,
    hash: Sha256,
    written: u64,
    /// Memory for the next buffer.
    spare: Vec<u8>,
}

impl PackFile {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let file = self.take()?;
        self.hash.update(bytes);
        if let Err(error) = file.handle().write_all_at(bytes, self.written) {
            self.failed = error.source.raw_os_error();
            return Err(error.into());
        }
        file.handle().begin_write_back(self.written, bytes.len() as u64);
        self.written += bytes.len() as u64;
        self.file = Some(file);
        Ok(())
    }

    fn take(&mut self) -> Result<TemporaryFile, FileError> {
        self.file.take().ok_or_else(|| {
            let again = std::io::Error::from_raw_os_error;
            let unknown = || std::io::Error::other("an earlier write to it failed");
            FileError::new("write to", &self.path, self.failed.map_or_else(unknown, again))
        })
    }
}

impl OpenPack {
    fn begin(file: TemporaryFile, kind: PackKind, keys: &Keys) -> Result<Self, StoreError> {
        let header = PackHeader {
            kind,
            sealed: keys.is_encrypted(),
            repository: keys.repository(),
            salt: super::slots::random()?,
        };
        let sealer = header.sealer(keys);
        let header = header.encode();
        let mut buffer = Vec::with_capacity(BUFFER_BYTES * 2);
        buffer.extend_from_slice(&header);
        let file = PackFile {
            path: file.handle().path().to_owned(),
            file: Some(file),
            failed: None,
            hash: Sha256::new(),
            written: 0,
            spare: Vec::new(),
        };
        Ok(Self {
            kind,
            header,
            repository: keys.repository(),
            sealer,
            buffer,
            handed_on: 0,
            entries: Vec::new(),
            file: Arc::new(Mutex::new(file)),
        })
    }

    fn offset(&self) -> u64 {
        self.handed_on + self.buffer.len() as u64
    }

    fn is_full(&self) -> bool {
        self.offset() >= PACK_BYTES_TARGET || self.entries.len() >= PACK_OBJECTS_MAX
    }

    fn append(
        &mut self,
        name: ObjectName,
        kind: ObjectKind,
        encoded: Encoded<'_>,
    ) -> Result<(), StoreError> {
        let offset = self.offset();
        let from = self.buffer.len();
        self.buffer.extend_from_slice(encoded.bytes);
        let mut entry = PackEntry {
            name,
            kind,
            encoding: encoded.encoding,
            stored_len: encoded.bytes.len() as u32,
            plain_len: encoded.plain_len,
        };
        if let Some(sealer) = &self.sealer {
            let bound = object_bound(self.repository, &entry);
            if !sealer.seal(offset, &bound, &mut self.buffer, from) {
                return Err(StoreError::MemoryFault);
            }
            check_seal(sealer, offset, &bound, &self.buffer[from..], encoded.bytes)?;
            entry.stored_len = (self.buffer.len() - from) as u32;
        }
        self.entries.push(entry);
        Ok(())
    }

    fn publish(self, repository: &Repository) -> Result<PackRecord, StoreError> {
        let trailer =
            encode_trailer(&self.header, &self.entries, self.sealer.as_ref(), self.offset())
                .ok_or(StoreError::MemoryFault)?;
        let mut buffer = self.buffer;
        buffer.extend_from_slice(&trailer);
        let mut pack = lock(&self.file);
        pack.write(&buffer)?;
        let (file, bytes) = (pack.take()?, pack.written);
        let name = PackName(std::mem::take(&mut pack.hash).finalize().into());
        let layout = repository.layout();
        repository.file_system().create_dir_all(&layout.pack_folder(name.0[0]))?;
        file.publish(&layout.pack(name))?;
        Ok(PackRecord { name, kind: self.kind, bytes, entries: self.entries })
    }
}

fn check_seal(
    sealer: &Sealer,
    offset: u64,
    bound: &[u8],
    sealed: &[u8],
    meant: &[u8],
) -> Result<(), StoreError> {
    let mut copy = sealed.to_vec();
    match sealer.open(offset, bound, &mut copy) {
        Some(plain) if plain == meant => Ok(()),
        _ => Err(StoreError::MemoryFault),
    }
}

//! Reading objects from packs, each one checked against its name.

use super::codec::Codec;
use super::pack::{Location, ObjectKind, PACK_HEADER_BYTES, PackHeader, damaged, object_bound};
use super::seal::Sealer;
use super::{Damage, Repository, StoreError};
use crate::chunk::Namer;
use crate::fsio::{FileHandle, OpenMode};
use crate::units::{ChunkName, ObjectName, PackName, TreeName};
use std::collections::HashMap;
use std::sync::Arc;

/// Packs kept open by one reader.
const OPEN_PACKS_MAX: usize = 32;
/// Objects of a pack that are at most this far apart are fetched with one read.
const READ_GAP_BYTES: u32 = 32 * 1024;
/// The most bytes of one read, except for one larger object.
const READ_BYTES_MAX: u32 = 4 * 1024 * 1024;

/// Knows where objects lie.
pub trait ObjectIndex: Send + Sync {
    /// A place of each object, in the order asked; `None` for one that is known nowhere.
    ///
    /// # Errors
    /// [`StoreError::Index`] when the index itself fails.
    fn locate(&self, names: &[ObjectName]) -> Result<Vec<Option<Location>>, StoreError>;

    /// All places of an object, the one that [`ObjectIndex::locate`] gives first.
    ///
    /// # Errors
    /// [`StoreError::Index`] when the index itself fails.
    fn copies(&self, name: ObjectName) -> Result<Vec<Location>, StoreError> {
        Ok(self.locate(&[name])?.into_iter().flatten().collect())
    }
}

/// A chunk that is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Its name.
    pub name: ChunkName,
    /// The length that it must have.
    pub len: u32,
}

/// Reads objects. One for each thread.
pub struct ObjectReader<'r> {
    repository: &'r Repository,
    index: &'r dyn ObjectIndex,
    namer: Namer,
    codec: Codec,
    open: HashMap<PackName, OpenPack>,
    clock: u64,
    raw: Vec<u8>,
    plain: Vec<u8>,
}

pub(super) struct OpenPack {
    pub handle: Arc<dyn FileHandle>,
    pub sealer: Option<Sealer>,
    last_use: u64,
}

impl std::fmt::Debug for ObjectReader<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ObjectReader").field("open", &self.open.len()).finish_non_exhaustive()
    }
}

impl<'r> ObjectReader<'r> {
    pub(super) fn new(
        repository: &'r Repository,
        index: &'r dyn ObjectIndex,
    ) -> Result<Self, StoreError> {
        Ok(Self {
            repository,
            index,
            namer: repository.keys().namer(),
            codec: Codec::new(repository.compression_level())?,
            open: HashMap::new(),
            clock: 0,
            raw: Vec::new(),
            plain: Vec::new(),
        })
    }

    /// The repository that is read.
    pub fn repository(&self) -> &'r Repository {
        self.repository
    }

    /// The bytes of a leaf or node.
    ///
    /// # Errors
    /// [`StoreError::Unknown`] or [`StoreError::Damaged`].
    pub fn tree_object(&mut self, name: TreeName, kind: ObjectKind) -> Result<Vec<u8>, StoreError> {
        let location = self.locate_all(&[name.into()])?[0];
        if location.entry.kind != kind {
            return Err(object_damage(&location, "it is of another kind").into());
        }
        self.fetch(&[location])?;
        self.decode(&location, 0)?;
        if self.namer.tree(&self.plain) == name {
            Ok(std::mem::take(&mut self.plain))
        } else {
            Err(object_damage(&location, "its content does not match its name").into())
        }
    }

    /// Gives each wanted chunk's content to `use_chunk`, with its index in `wanted`, in whatever
    /// order reads best. Memory is bounded by a few reads, however many are wanted.
    ///
    /// # Errors
    /// [`StoreError::Unknown`] or [`StoreError::Damaged`] before any wrong byte is handed out, and
    /// the first error of `use_chunk`.
    pub fn chunks<E: From<StoreError>>(
        &mut self,
        wanted: &[Wanted],
        mut use_chunk: impl FnMut(usize, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let names: Vec<ObjectName> = wanted.iter().map(|want| want.name.into()).collect();
        let located = self.locate_all(&names)?;
        let mut order: Vec<usize> = (0..wanted.len()).collect();
        order.sort_by_key(|&index| (located[index].pack, located[index].offset));
        let mut rest = &order[..];
        while !rest.is_empty() {
            let count = batch_len(rest, &located);
            let (batch, later) = rest.split_at(count);
            let places: Vec<Location> = batch.iter().map(|&index| located[index]).collect();
            self.fetch(&places)?;
            let mut decoded: Option<(Location, Wanted)> = None;
            for (&index, place) in batch.iter().zip(&places) {
                let this = (*place, wanted[index]);
                // Opening a seal consumes the sealed bytes: what is wanted twice is decoded once.
                if decoded != Some(this) {
                    let at = (place.offset - places[0].offset) as usize;
                    self.check_chunk(&wanted[index], place, at)?;
                    decoded = Some(this);
                }
                use_chunk(index, &self.plain)?;
            }
            rest = later;
        }
        Ok(())
    }

    fn check_chunk(
        &mut self,
        want: &Wanted,
        place: &Location,
        at: usize,
    ) -> Result<(), StoreError> {
        if place.entry.kind != ObjectKind::Chunk || place.entry.plain_len != want.len {
            return Err(object_damage(place, "its kind or length is not the one expected").into());
        }
        self.decode(place, at)?;
        if self.namer.chunk(&self.plain) == want.name {
            Ok(())
        } else {
            Err(object_damage(place, "its content does not match its name").into())
        }
    }

    fn locate_all(&self, names: &[ObjectName]) -> Result<Vec<Location>, StoreError> {
        let located = self.index.locate(names)?;
        names
            .iter()
            .zip(located)
            .map(|(&name, location)| match location {
                Some(location) if location.is_possible() => Ok(location),
                Some(_) => Err(StoreError::Misplaced { name }),
                None => Err(StoreError::Unknown { name }),
            })
            .collect()
    }

    /// Reads neighbouring objects of one pack into `raw`.
    fn fetch(&mut self, places: &[Location]) -> Result<(), StoreError> {
        let Some(first) = places.first() else { return Ok(()) };
        let end = places.iter().map(Location::end).max().unwrap_or(first.offset);
        let len = end - first.offset;
        self.raw.resize(len as usize, 0);
        let mut raw = std::mem::take(&mut self.raw);
        let handle = Arc::clone(&self.open_pack(first.pack)?.handle);
        let read = handle.read_exact_at(&mut raw, u64::from(first.offset));
        self.raw = raw;
        read.map_err(|error| match error.source.kind() {
            std::io::ErrorKind::UnexpectedEof => damaged(first.pack, "it was cut off").into(),
            _ => StoreError::from(error),
        })
    }

    fn open_pack(&mut self, pack: PackName) -> Result<&OpenPack, StoreError> {
        self.clock += 1;
        if !self.open.contains_key(&pack) {
            if self.open.len() >= OPEN_PACKS_MAX {
                let oldest = self.open.iter().min_by_key(|(_, open)| open.last_use);
                if let Some(name) = oldest.map(|(name, _)| *name) {
                    self.open.remove(&name);
                }
            }
            let opened = open_pack(self.repository, pack)?;
            self.open.insert(pack, opened);
        }
        let clock = self.clock;
        let open = self.open.get_mut(&pack).ok_or_else(|| damaged(pack, "it cannot be opened"))?;
        open.last_use = clock;
        Ok(open)
    }

    /// Decodes the object that lies at `at` in `raw` into `plain`.
    fn decode(&mut self, place: &Location, at: usize) -> Result<(), StoreError> {
        let stored = &mut self.raw[at..at + place.entry.stored_len as usize];
        let encoded: &[u8] = match self.open.get(&place.pack).and_then(|open| open.sealer.as_ref())
        {
            None => stored,
            Some(sealer) => {
                let bound = object_bound(self.repository.keys().repository(), &place.entry);
                sealer
                    .open(u64::from(place.offset), &bound, stored)
                    .ok_or_else(|| object_damage(place, "its seal is broken"))?
            }
        };
        self.plain.resize(place.entry.plain_len as usize, 0);
        if self.codec.decode(place.entry.encoding, encoded, &mut self.plain) {
            Ok(())
        } else {
            Err(object_damage(place, "it does not decompress").into())
        }
    }
}

fn object_damage(place: &Location, reason: &'static str) -> Damage {
    Damage::Object { pack: place.pack, object: place.entry.name, reason }
}

/// How many of the first places can be fetched with one read.
fn batch_len(order: &[usize], located: &[Location]) -> usize {
    let first = &located[order[0]];
    let mut end = first.end();
    let mut count = 1;
    for place in order[1..].iter().map(|&index| &located[index]) {
        let near = place.offset <= end + READ_GAP_BYTES;
        if place.pack != first.pack || !near || place.end() - first.offset > READ_BYTES_MAX {
            break;
        }
        end = end.max(place.end());
        count += 1;
    }
    count
}

pub(super) fn open_pack(repository: &Repository, pack: PackName) -> Result<OpenPack, StoreError> {
    let path = repository.layout().pack(pack);
    let handle = repository.file_system().open(&path, OpenMode::Read).map_err(|error| {
        if error.not_found() {
            damaged(pack, "it is missing").into()
        } else {
            StoreError::from(error)
        }
    })?;
    let mut bytes = [0; PACK_HEADER_BYTES];
    handle.read_exact_at(&mut bytes, 0).map_err(|_| damaged(pack, "its header cannot be read"))?;
    let header =
        PackHeader::decode(&bytes, repository.keys()).map_err(|reason| damaged(pack, reason))?;
    Ok(OpenPack { handle, sealer: header.sealer(repository.keys()), last_use: 0 })
}

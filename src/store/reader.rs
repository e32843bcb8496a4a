//! Reading objects from packs, each one checked against its name.

use super::codec::Codec;
use super::opening::Opener;
use super::pack::{Location, ObjectKind, PACK_HEADER_BYTES, PackHeader, damaged};
use super::seal::Sealer;
use super::{Damage, Repository, StoreError};
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

/// Damaged copies that a reader remembers.
const FAULTS_MAX: usize = 256;

/// Knows where objects lie.
pub trait ObjectIndex: Send + Sync {
    /// A place of each object, in the order asked; `None` for one that is known nowhere.
    ///
    /// # Errors
    /// [`StoreError::Index`] when the index itself fails.
    fn locate(&self, names: &[ObjectName]) -> Result<Vec<Option<Location>>, StoreError>;

    /// All places of an object, those first that [`ObjectIndex::locate`] prefers.
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

/// What an object must be.
struct Expected {
    name: ObjectName,
    kind: ObjectKind,
    len: Option<u32>,
}

impl From<Wanted> for Expected {
    fn from(want: Wanted) -> Self {
        Self { name: want.name.into(), kind: ObjectKind::Chunk, len: Some(want.len) }
    }
}

/// Reads objects. One for each thread.
pub struct ObjectReader<'r> {
    repository: &'r Repository,
    index: &'r dyn ObjectIndex,
    opener: Opener,
    open: HashMap<PackName, OpenPack>,
    clock: u64,
    raw: Vec<u8>,
    faults: Vec<Damage>,
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
        let (keys, codec) = (repository.keys(), Codec::new(repository.compression_level())?);
        Ok(Self {
            repository,
            index,
            opener: Opener::new(keys.repository(), keys.namer(), codec),
            open: HashMap::new(),
            clock: 0,
            raw: Vec::new(),
            faults: Vec::new(),
        })
    }

    /// The repository that is read.
    pub fn repository(&self) -> &'r Repository {
        self.repository
    }

    /// Copies that were found to be damaged, also where another copy served: the first ones since
    /// they were last taken.
    pub fn take_faults(&mut self) -> Vec<Damage> {
        std::mem::take(&mut self.faults)
    }

    /// The bytes of a leaf or node.
    ///
    /// # Errors
    /// [`StoreError::Unknown`] or [`StoreError::Damaged`], when no copy of it is good.
    pub fn tree_object(&mut self, name: TreeName, kind: ObjectKind) -> Result<Vec<u8>, StoreError> {
        let location = self.locate_all(&[name.into()])?[0];
        let expected = Expected { name: name.into(), kind, len: None };
        if let Err(error) = self.open_at(&expected, &location) {
            self.open_another(&expected, location, error)?;
        }
        Ok(self.opener.plain().to_vec())
    }

    /// The content of the object that lies at `place`, whatever an index says of it.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when it is not what its name says.
    pub fn object_at(&mut self, place: &Location) -> Result<&[u8], StoreError> {
        let entry = place.entry;
        if !place.is_possible() {
            return Err(StoreError::Misplaced { name: entry.name });
        }
        let expected = Expected { name: entry.name, kind: entry.kind, len: None };
        self.open_at(&expected, place)?;
        Ok(self.opener.plain())
    }

    /// Gives each wanted chunk's content to `use_chunk`, with its index in `wanted`, in whatever
    /// order reads best. Memory is bounded by a few reads, however many are wanted. Where a copy
    /// of a chunk is damaged or gone, the others are tried.
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
            if let Err(error) = self.fetch(&places) {
                require_damage(error)?;
                self.chunks_singly(wanted, batch, &places, &mut use_chunk)?;
                rest = later;
                continue;
            }
            let mut failed = Vec::new();
            let mut opened: Option<(Location, Wanted)> = None;
            for (&index, place) in batch.iter().zip(&places) {
                let this = (*place, wanted[index]);
                // Opening a seal consumes the sealed bytes: what is wanted twice is opened once.
                if opened != Some(this) {
                    let at = (place.offset - places[0].offset) as usize;
                    if let Err(error) = self.open_fetched(&wanted[index].into(), place, at) {
                        failed.push((index, *place, error));
                        continue;
                    }
                    opened = Some(this);
                }
                use_chunk(index, self.opener.plain())?;
            }
            for (index, place, error) in failed {
                self.open_another(&wanted[index].into(), place, error)?;
                use_chunk(index, self.opener.plain())?;
            }
            rest = later;
        }
        Ok(())
    }

    /// After a read of several chunks failed: each by itself, from whichever copy is good.
    fn chunks_singly<E: From<StoreError>>(
        &mut self,
        wanted: &[Wanted],
        batch: &[usize],
        places: &[Location],
        use_chunk: &mut impl FnMut(usize, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        for (&index, place) in batch.iter().zip(places) {
            let expected = wanted[index].into();
            if let Err(error) = self.open_at(&expected, place) {
                self.open_another(&expected, *place, error)?;
            }
            use_chunk(index, self.opener.plain())?;
        }
        Ok(())
    }

    /// Opens whichever other copy is good, after the one at `failed` was found to be damaged.
    fn open_another(
        &mut self,
        expected: &Expected,
        failed: Location,
        error: StoreError,
    ) -> Result<(), StoreError> {
        let error = require_damage(error)?;
        self.note(&error);
        for place in self.index.copies(expected.name)? {
            if place == failed || !place.is_possible() {
                continue;
            }
            match self.open_at(expected, &place) {
                Ok(()) => return Ok(()),
                Err(error) => self.note(&require_damage(error)?),
            }
        }
        Err(error)
    }

    fn note(&mut self, error: &StoreError) {
        if let StoreError::Damaged(damage) = error
            && self.faults.len() < FAULTS_MAX
        {
            self.faults.push(damage.clone());
        }
    }

    fn open_at(&mut self, expected: &Expected, place: &Location) -> Result<(), StoreError> {
        self.fetch(&[*place])?;
        self.open_fetched(expected, place, 0)
    }

    /// Opens the object that lies at `at` in `raw`.
    fn open_fetched(
        &mut self,
        expected: &Expected,
        place: &Location,
        at: usize,
    ) -> Result<(), StoreError> {
        let entry = &place.entry;
        let is_expected = entry.kind == expected.kind
            && entry.name == expected.name
            && expected.len.is_none_or(|len| len == entry.plain_len);
        if !is_expected {
            return Err(object_damage(place, "its kind or length is not the one expected").into());
        }
        let stored = &mut self.raw[at..at + entry.stored_len as usize];
        let sealer = self.open.get(&place.pack).and_then(|open| open.sealer.as_ref());
        match self.opener.open(place, sealer, stored) {
            Ok(_) => Ok(()),
            Err(reason) => Err(object_damage(place, reason).into()),
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
            _ if error.is_of_the_medium() => damaged(first.pack, error.to_string()).into(),
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
}

fn object_damage(place: &Location, reason: &'static str) -> Damage {
    Damage::Object { pack: place.pack, object: place.entry.name, reason }
}

/// Only damage of one copy is a reason to look for another.
fn require_damage(error: StoreError) -> Result<StoreError, StoreError> {
    if matches!(error, StoreError::Damaged(_)) { Ok(error) } else { Err(error) }
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

//! Bringing what is needed of sparse packs to new ones.
//!
//! Invariant: a pack is condemned only when each of its objects that a point needs was read, found
//! to be what its name says, and is durable in another pack.

use super::filter::NameFilter;
use super::{GcError, GcRequest};
use crate::catalog::Catalog;
use crate::progress::Progress;
use crate::store::{
    Codec, Damage, Location, ObjectIndex, ObjectKind, PackEntry, PackRecord, PackSink, PackWriter,
    Repository, StoreError, Wanted,
};
use crate::units::{ChunkName, ObjectName, PackName, TreeName};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

/// What came of rewriting.
#[derive(Debug, Default)]
pub(super) struct Rewritten {
    /// Packs that nothing needs any more.
    pub packs: BTreeSet<PackName>,
    /// Why others are kept although they are sparse.
    pub damages: Vec<Damage>,
}

/// Writes what is needed of `candidates` to new packs. When this returns, it is durable.
pub(super) fn rewrite(
    repository: &Repository,
    catalog: &Catalog,
    candidates: &[PackName],
    live: &NameFilter,
    request: &GcRequest,
    progress: &Progress,
) -> Result<Rewritten, GcError> {
    let sink = NotingSink { catalog, progress, written: Mutex::default() };
    let writer = repository.writer(&sink, request.run)?;
    let mut rewriter = Rewriter {
        repository,
        catalog,
        live,
        writer: &writer,
        sink: &sink,
        codec: Codec::new(repository.compression_level())?,
        leaving: candidates.iter().copied().collect(),
    };
    let mut rewritten = Rewritten::default();
    for &name in candidates {
        progress.check()?;
        match rewriter.pack(name, progress) {
            Ok(()) => {
                rewritten.packs.insert(name);
            }
            // What cannot be read is not deleted, nor is anything beside it in its pack.
            Err(StoreError::Damaged(damage)) => {
                rewriter.leaving.remove(&name);
                rewritten.damages.push(damage);
            }
            Err(error) => return Err(error.into()),
        }
    }
    writer.flush()?;
    Ok(rewritten)
}

/// Tells the catalog of new packs, and remembers them.
struct NotingSink<'a> {
    catalog: &'a Catalog,
    progress: &'a Progress,
    written: Mutex<HashSet<PackName>>,
}

impl PackSink for NotingSink<'_> {
    fn pack_written(&self, record: &PackRecord) -> Result<(), StoreError> {
        self.progress.add_stored(record.bytes);
        self.written.lock().unwrap_or_else(PoisonError::into_inner).insert(record.name);
        self.catalog.pack_written(record)
    }
}

struct Rewriter<'a> {
    repository: &'a Repository,
    catalog: &'a Catalog,
    live: &'a NameFilter,
    writer: &'a PackWriter<'a>,
    sink: &'a NotingSink<'a>,
    codec: Codec,
    /// Packs that are to go: a copy in one of them is worth nothing.
    leaving: HashSet<PackName>,
}

impl Rewriter<'_> {
    fn pack(&mut self, name: PackName, progress: &Progress) -> Result<(), StoreError> {
        // The pack's own word counts, not the catalog's.
        let record = self.repository.read_pack_record(name)?;
        let needed = self.needed(&record, progress)?;
        let index = OnePack::new(&record);
        let mut reader = self.repository.reader(&index)?;
        let (writer, codec) = (self.writer, &mut self.codec);
        let is_chunk = |entry: &&PackEntry| entry.kind == ObjectKind::Chunk;
        let chunks: Vec<Wanted> = needed
            .iter()
            .filter(is_chunk)
            .map(|entry| Wanted { name: ChunkName(entry.name.0), len: entry.plain_len })
            .collect();
        reader.chunks::<StoreError>(&chunks, |at, content| {
            progress.add_read(content.len() as u64);
            writer.put_chunk(chunks[at].name, content, codec).map(|_| ())
        })?;
        for entry in needed.iter().filter(|entry| entry.kind != ObjectKind::Chunk) {
            let name = TreeName(entry.name.0);
            let encoded = reader.tree_object(name, entry.kind)?;
            progress.add_read(encoded.len() as u64);
            writer.put_tree(name, entry.kind, &encoded, codec)?;
        }
        Ok(())
    }

    /// The objects of a pack that a point needs and that lie nowhere else.
    fn needed(
        &self,
        record: &PackRecord,
        progress: &Progress,
    ) -> Result<Vec<PackEntry>, StoreError> {
        let mut needed = Vec::new();
        let mut seen = HashSet::new();
        for entry in record.entries.iter().filter(|entry| self.live.contains(entry.name)) {
            if seen.insert(entry.name) && !self.is_elsewhere(entry, progress)? {
                needed.push(*entry);
            }
        }
        Ok(needed)
    }

    /// Whether a copy that can be read lies in a pack that stays. What lies in a pack that is still
    /// open is the writer's matter: it takes nothing twice.
    fn is_elsewhere(&self, entry: &PackEntry, progress: &Progress) -> Result<bool, StoreError> {
        for location in self.catalog.reliable_copies(entry.name)? {
            if self.leaving.contains(&location.pack) {
                continue;
            }
            let is_ours = {
                let written = self.sink.written.lock().unwrap_or_else(PoisonError::into_inner);
                written.contains(&location.pack)
            };
            if is_ours {
                return Ok(true);
            }
            progress.pace(u64::from(entry.stored_len));
            if self.can_be_read(&location) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A copy that is to be the only one is read before the other one goes.
    fn can_be_read(&self, location: &Location) -> bool {
        let index = OnePack { places: HashMap::from([(location.entry.name, *location)]) };
        let Ok(mut reader) = self.repository.reader(&index) else { return false };
        let name = location.entry.name;
        match location.entry.kind {
            ObjectKind::Chunk => {
                let wanted = Wanted { name: ChunkName(name.0), len: location.entry.plain_len };
                reader.chunks::<StoreError>(&[wanted], |_, _| Ok(())).is_ok()
            }
            kind => reader.tree_object(TreeName(name.0), kind).is_ok(),
        }
    }
}

/// Knows only where things lie in one pack.
struct OnePack {
    places: HashMap<ObjectName, Location>,
}

impl OnePack {
    fn new(record: &PackRecord) -> Self {
        Self { places: record.locations().map(|at| (at.entry.name, at)).collect() }
    }
}

impl ObjectIndex for OnePack {
    fn locate(&self, names: &[ObjectName]) -> Result<Vec<Option<Location>>, StoreError> {
        Ok(names.iter().map(|name| self.places.get(name).copied()).collect())
    }
}

//! Backing one disk up: workers take regions in turn; each reads, cuts, names, looks up and
//! stores what is new, and the leaves become a tree.

use super::{BackupError, Context};
use crate::chunk::{Cutter, Namer, Piece, PieceKind};
use crate::extent::Extent;
use crate::point::{Leaf, Span, TreeBuilder};
use crate::source::Source;
use crate::store::{Codec, ObjectKind, Put, StoreError};
use crate::units::{ChunkName, Name, RegionIndex, TreeName};
use std::sync::{Mutex, PoisonError};

/// Backs a disk up and returns the root of its tree; `None` when it holds only zeros.
pub(super) fn back_up(
    context: &Context<'_>,
    name: &Name,
    source: &dyn Source,
) -> Result<Option<TreeName>, BackupError> {
    let disk = Disk { context, name, source, shared: Mutex::default() };
    let outcomes: Vec<Result<(), BackupError>> = std::thread::scope(|scope| {
        let workers: Vec<_> =
            (0..context.workers.max(1)).map(|_| scope.spawn(|| disk.work())).collect();
        workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or(Err(BackupError::WorkerLost)))
            .collect()
    });
    // A worker that only saw that another one failed ends well; the reason is the other's.
    outcomes.into_iter().collect::<Result<(), BackupError>>()?;
    let shared = disk.shared.into_inner().unwrap_or_else(PoisonError::into_inner);
    let regions = context.repository.header().cut.region_count(source.size_bytes());
    let mut store = TreeStore::new(context)?;
    shared.builder.finish(regions, |encoded| store.put(ObjectKind::Node, encoded))
}

/// One disk, as its workers share it.
struct Disk<'a> {
    context: &'a Context<'a>,
    name: &'a Name,
    source: &'a dyn Source,
    shared: Mutex<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Where the search for the next region with data goes on, in bytes.
    cursor: u64,
    builder: TreeBuilder,
    failed: bool,
}

impl Disk<'_> {
    fn work(&self) -> Result<(), BackupError> {
        let result = self.work_until_done();
        if result.is_err() {
            self.lock().failed = true;
        }
        result
    }

    fn work_until_done(&self) -> Result<(), BackupError> {
        let mut worker = Worker::new(self)?;
        while let Some(region) = self.next_region()? {
            self.context.progress.check()?;
            let leaf = worker.region(region)?;
            let closed = self.lock().builder.end(region, leaf);
            for node in closed {
                let name = worker.tree.put(ObjectKind::Node, node.encoded())?;
                self.lock().builder.stored(&node, name);
            }
        }
        Ok(())
    }

    /// The next region that may hold data. Those without are never visited: they hold zeros.
    fn next_region(&self) -> Result<Option<RegionIndex>, BackupError> {
        let cut = self.context.repository.header().cut;
        let size = self.source.size_bytes();
        let mut shared = self.lock();
        if shared.failed || shared.cursor >= size {
            return Ok(None);
        }
        let found = self
            .source
            .next_data(shared.cursor)
            .map_err(|error| BackupError::source(self.name, error))?;
        let region = found.map(|offset| RegionIndex(offset / u64::from(cut.region_bytes)));
        let start = region.map_or(size, |region| cut.region_start(region));
        self.context.progress.add_done(start - shared.cursor.min(start));
        match region {
            None => shared.cursor = size,
            Some(region) => {
                shared.cursor = start + u64::from(cut.region_len(region, size));
                shared.builder.begin(region);
            }
        }
        Ok(region)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one thread needs to turn a region into a leaf.
struct Worker<'a> {
    disk: &'a Disk<'a>,
    cutter: Cutter,
    namer: Namer,
    codec: Codec,
    tree: TreeStore<'a>,
    buffer: Vec<u8>,
}

impl<'a> Worker<'a> {
    fn new(disk: &'a Disk<'a>) -> Result<Self, BackupError> {
        let repository = disk.context.repository;
        Ok(Self {
            disk,
            cutter: repository.cutter(),
            namer: repository.keys().namer(),
            codec: Codec::new(repository.compression_level())?,
            tree: TreeStore::new(disk.context)?,
            buffer: Vec::new(),
        })
    }

    /// Stores what is new of a region, and its leaf; `None` when it holds only zeros.
    fn region(&mut self, region: RegionIndex) -> Result<Option<TreeName>, BackupError> {
        let len = self.read(region)?;
        let pieces = self.cutter.cut(&self.buffer);
        let leaf = self.name_pieces(&pieces);
        let known = self.known(&leaf)?;
        for ((piece, span), known) in pieces.iter().zip(&leaf.spans).zip(known) {
            if let (Span::Chunk { name, .. }, false) = (span, known) {
                self.store(*name, piece)?;
            }
        }
        self.disk.context.progress.add_done(u64::from(len));
        if leaf.is_hole() {
            return Ok(None);
        }
        self.tree.put(ObjectKind::Leaf, &leaf.encode()).map(Some)
    }

    /// Fills the buffer with the region's content, reading only what may hold data.
    fn read(&mut self, region: RegionIndex) -> Result<u32, BackupError> {
        let source = self.disk.source;
        let cut = self.cutter.parameters();
        let start = cut.region_start(region);
        let len = cut.region_len(region, source.size_bytes());
        let range = Extent::between(start, start + u64::from(len));
        let error = |error| BackupError::source(self.disk.name, error);
        let data = source.data_extents(range).map_err(error)?;
        if data != [range] {
            self.buffer.clear();
        }
        self.buffer.resize(len as usize, 0);
        for extent in data {
            let from = (extent.start() - start) as usize;
            let piece = &mut self.buffer[from..from + extent.len() as usize];
            source.read_exact_at(piece, extent.start()).map_err(error)?;
            self.disk.context.progress.add_read(extent.len());
        }
        Ok(len)
    }

    fn name_pieces(&self, pieces: &[Piece]) -> Leaf {
        let name = |piece: &Piece| match piece.kind {
            PieceKind::Hole => Span::Hole { len: piece.len },
            PieceKind::Data => {
                Span::Chunk { name: self.namer.chunk(self.content(piece)), len: piece.len }
            }
        };
        Leaf { spans: pieces.iter().map(name).collect() }
    }

    /// Whether each span needs no storing: it is a hole, or a chunk that the repository has.
    fn known(&self, leaf: &Leaf) -> Result<Vec<bool>, BackupError> {
        let names = leaf.chunk_names();
        let mut found = self.disk.context.catalog.contains(&names)?.into_iter();
        let known = |span: &Span| match span {
            Span::Hole { .. } => true,
            Span::Chunk { .. } => found.next().unwrap_or(false),
        };
        Ok(leaf.spans.iter().map(known).collect())
    }

    fn store(&mut self, name: ChunkName, piece: &Piece) -> Result<(), BackupError> {
        let start = piece.start as usize;
        let content = &self.buffer[start..start + piece.len as usize];
        let put = self.disk.context.writer.put_chunk(name, content, &mut self.codec)?;
        if matches!(put, Put::Stored) {
            self.disk.context.progress.add_new(u64::from(piece.len));
        }
        Ok(())
    }

    fn content(&self, piece: &Piece) -> &[u8] {
        let start = piece.start as usize;
        &self.buffer[start..start + piece.len as usize]
    }
}

/// Stores leaves and nodes that are not yet in the repository.
struct TreeStore<'a> {
    context: &'a Context<'a>,
    namer: Namer,
    codec: Codec,
}

impl<'a> TreeStore<'a> {
    fn new(context: &'a Context<'a>) -> Result<Self, StoreError> {
        let repository = context.repository;
        let namer = repository.keys().namer();
        Ok(Self { context, namer, codec: Codec::new(repository.compression_level())? })
    }

    fn put(&mut self, kind: ObjectKind, encoded: &[u8]) -> Result<TreeName, BackupError> {
        let name = self.namer.tree(encoded);
        if self.context.catalog.contains(&[name.into()])? != [true] {
            self.context.writer.put_tree(name, kind, encoded, &mut self.codec)?;
        }
        Ok(name)
    }
}

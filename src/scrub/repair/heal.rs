//! Healing from content: a disk is read region by region, cut and named as a backup does it, and
//! whatever is wanted of that is put.

use super::super::VerifyError;
use super::salvage::put;
use crate::chunk::{Cutter, Namer, PieceKind};
use crate::extent::Extent;
use crate::point::{Leaf, Span, TreeBuilder};
use crate::progress::Progress;
use crate::source::{Source, SourceError};
use crate::store::{Codec, ObjectKind, PackWriter, Repository, StoreError};
use crate::units::{ObjectName, RegionIndex, TreeName};
use std::collections::{BTreeSet, HashSet};

/// Looks for wanted objects in disks.
pub(super) struct Healer<'a> {
    writer: &'a PackWriter<'a>,
    cutter: Cutter,
    namer: Namer,
    codec: Codec,
    buffer: Vec<u8>,
    wanted: HashSet<ObjectName>,
    healed: usize,
    /// Why something could not be put: that ends the repair, a source that fails does not.
    failed: Option<VerifyError>,
}

/// A region's leaf, or why there is none.
enum Region {
    Leaf(Option<TreeName>),
    Unreadable(SourceError),
}

impl<'a> Healer<'a> {
    pub fn new(
        repository: &'a Repository,
        writer: &'a PackWriter<'a>,
        wanted: HashSet<ObjectName>,
    ) -> Result<Self, StoreError> {
        Ok(Self {
            writer,
            cutter: repository.cutter(),
            namer: repository.keys().namer(),
            codec: Codec::new(repository.compression_level())?,
            buffer: Vec::new(),
            wanted,
            healed: 0,
            failed: None,
        })
    }

    /// Whether nothing is wanted any more, or nothing can be put.
    pub fn is_done(&self) -> bool {
        self.wanted.is_empty() || self.failed.is_some()
    }

    pub fn healed(&self) -> usize {
        self.healed
    }

    pub fn take_error(&mut self) -> Result<(), VerifyError> {
        self.failed.take().map_or(Ok(()), Err)
    }

    /// Looks into some regions of a disk.
    pub fn regions(
        &mut self,
        source: &dyn Source,
        regions: &BTreeSet<u64>,
        progress: &Progress,
    ) -> Result<(), String> {
        let count = self.cutter.parameters().region_count(source.size_bytes());
        let mut problem = None;
        for region in regions.iter().take_while(|region| **region < count) {
            if self.is_done() || self.stopped(progress) {
                break;
            }
            if let Region::Unreadable(error) = self.region(source, RegionIndex(*region), progress) {
                problem.get_or_insert(error.to_string());
            }
        }
        problem.map_or(Ok(()), Err)
    }

    /// Looks into all of a disk, for the nodes over its regions too.
    pub fn whole(&mut self, source: &dyn Source, progress: &Progress) -> Result<(), String> {
        let (cut, size) = (*self.cutter.parameters(), source.size_bytes());
        progress.add_total(size);
        let mut builder = TreeBuilder::default();
        let (mut at, mut problem) = (0, None);
        while at < size && !self.is_done() && !self.stopped(progress) {
            let data = source.next_data(at).map_err(|error| error.to_string())?.unwrap_or(size);
            let region = RegionIndex(data / u64::from(cut.region_bytes));
            if data >= size {
                progress.add_done(size - at);
                at = size;
                break;
            }
            builder.begin(region);
            let leaf = match self.region(source, region, progress) {
                Region::Leaf(leaf) => leaf,
                Region::Unreadable(error) => {
                    problem.get_or_insert(error.to_string());
                    None
                }
            };
            for node in builder.end(region, leaf) {
                let name = self.offer_tree(ObjectKind::Node, node.encoded());
                builder.stored(&node, name);
            }
            let end = cut.region_start(region) + u64::from(cut.region_len(region, size));
            progress.add_done(end - at);
            at = end;
        }
        if at >= size {
            // A wrong node, of a disk that could not be read in full, is wanted by nobody.
            let regions = cut.region_count(size);
            let _ = builder.finish::<std::convert::Infallible>(regions, |encoded| {
                Ok(self.offer_tree(ObjectKind::Node, encoded))
            });
        }
        problem.map_or(Ok(()), Err)
    }

    fn stopped(&mut self, progress: &Progress) -> bool {
        if let Err(cancelled) = progress.check() {
            self.failed.get_or_insert(cancelled.into());
        }
        self.failed.is_some()
    }

    fn region(&mut self, source: &dyn Source, region: RegionIndex, progress: &Progress) -> Region {
        if let Err(error) = self.read(source, region, progress) {
            return Region::Unreadable(error);
        }
        let pieces = self.cutter.cut(&self.buffer);
        let mut leaf = Leaf::default();
        for piece in pieces {
            if piece.kind == PieceKind::Hole {
                leaf.spans.push(Span::Hole { len: piece.len });
                continue;
            }
            let range = piece.start as usize..(piece.start + piece.len) as usize;
            let name = self.namer.chunk(&self.buffer[range.clone()]);
            leaf.spans.push(Span::Chunk { name, len: piece.len });
            if self.wanted.contains(&name.into()) {
                let content = std::mem::take(&mut self.buffer);
                self.offer(name.into(), ObjectKind::Chunk, &content[range]);
                self.buffer = content;
            }
        }
        if leaf.is_hole() {
            return Region::Leaf(None);
        }
        Region::Leaf(Some(self.offer_tree(ObjectKind::Leaf, &leaf.encode())))
    }

    fn read(
        &mut self,
        source: &dyn Source,
        region: RegionIndex,
        progress: &Progress,
    ) -> Result<(), SourceError> {
        let cut = self.cutter.parameters();
        let start = cut.region_start(region);
        let len = cut.region_len(region, source.size_bytes());
        self.buffer.clear();
        self.buffer.resize(len as usize, 0);
        for extent in source.data_extents(Extent::between(start, start + u64::from(len)))? {
            let from = (extent.start() - start) as usize;
            let piece = &mut self.buffer[from..from + extent.len() as usize];
            source.read_exact_at(piece, extent.start())?;
            progress.add_read(extent.len());
        }
        Ok(())
    }

    fn offer_tree(&mut self, kind: ObjectKind, encoded: &[u8]) -> TreeName {
        let name = self.namer.tree(encoded);
        self.offer(name.into(), kind, encoded);
        name
    }

    fn offer(&mut self, name: ObjectName, kind: ObjectKind, content: &[u8]) {
        if self.failed.is_some() || !self.wanted.contains(&name) {
            return;
        }
        match put(self.writer, name, kind, content, &mut self.codec) {
            Ok(()) => {
                self.wanted.remove(&name);
                self.healed += 1;
            }
            Err(error) => self.failed = Some(error.into()),
        }
    }
}

//! Offline qcow2 images with their backing chains, read without QEMU.
//!
//! The reader is our own because the library for this, `imago`, reads neither clusters that are
//! compressed with zstd nor extended L2 entries (subclusters), and both are in use. It never
//! writes. Snapshots inside an image are not looked at: the disk is the active layer.
//!
//! Invariant: no number of an image is believed before it was checked, and what is allocated for
//! it is bounded: a header's cluster, 16 MiB of tables for a whole chain, and for each read of a
//! compressed cluster its stream (two clusters), its content and the decoder's window.

mod bitmaps;
mod cache;
mod chain;
mod clones;
mod compressed;
mod header;
mod map;

pub use bitmaps::StoredBitmap;

pub(super) use header::MAGIC;

use super::changes::are_unmodified;
use super::error::SourceError;
use super::file::SourceFile;
use super::{ChangedExtents, Evidence, FileIdentity, Source, require_within};
use crate::extent::{Extent, joined, push_joined};
use crate::fsio::FileStat;
use cache::TableCache;
use chain::{Layer, Qcow2Layer};
use map::{CompressedCluster, Content, Tables};
use std::ops::ControlFlow;
use std::path::PathBuf;

/// A qcow2 image and all that it stands on.
#[derive(Debug)]
pub(super) struct Qcow2Source {
    path: PathBuf,
    size_bytes: u64,
    /// The active layer first.
    layers: Vec<Layer>,
    tables: TableCache,
}

/// What the disk holds in a range, whichever image it comes from.
enum Piece<'a> {
    Zeros,
    /// Bytes of a file from an offset on.
    Stored(&'a SourceFile, u64),
    Compressed(&'a Qcow2Layer, CompressedCluster),
}

type Visited = Result<ControlFlow<()>, SourceError>;

impl Qcow2Source {
    /// Opens the image in `file` and what it stands on.
    pub(super) fn open(file: SourceFile, quiesced: bool) -> Result<Self, SourceError> {
        let path = file.path().to_owned();
        let layers = chain::open(file, quiesced)?;
        let size_bytes = layers.first().map_or(0, Layer::size_bytes);
        Ok(Self { path, size_bytes, layers, tables: TableCache::default() })
    }

    // Calls `visit` with the pieces of `range`, in order, as seen from layer `depth` downwards,
    // until it breaks. Going down for each gap, rather than up for each position, passes over
    // every table once, however large the gaps are.
    fn walk<'a>(
        &'a self,
        depth: usize,
        range: Extent,
        visit: &mut dyn FnMut(Extent, Piece<'a>) -> Visited,
    ) -> Visited {
        if range.is_empty() {
            return Ok(ControlFlow::Continue(()));
        }
        let Some(layer) = self.layers.get(depth) else {
            return visit(range, Piece::Zeros);
        };
        // Where a backing file is shorter than what stands on it, zeros follow.
        let inside = range.intersection(Extent::between(0, layer.size_bytes()));
        let flow = match layer {
            _ if inside.is_empty() => ControlFlow::Continue(()),
            Layer::Raw(file) => visit(inside, Piece::Stored(file, inside.start()))?,
            Layer::Qcow2(layer) => self.walk_qcow2(depth, layer, inside, visit)?,
        };
        let beyond = Extent::between(range.start().max(layer.size_bytes()), range.end());
        if flow.is_break() || beyond.is_empty() {
            return Ok(flow);
        }
        visit(beyond, Piece::Zeros)
    }

    fn walk_qcow2<'a>(
        &'a self,
        depth: usize,
        layer: &'a Qcow2Layer,
        range: Extent,
        visit: &mut dyn FnMut(Extent, Piece<'a>) -> Visited,
    ) -> Visited {
        let Qcow2Layer { header, file, .. } = layer;
        let tables = Tables { header, file, cache: &self.tables, layer: depth };
        let mut start = range.start();
        while start < range.end() {
            let (content, end) = tables.content_at(start, range.end())?;
            let extent = Extent::between(start, end);
            let flow = match content {
                Content::Unallocated => self.walk(depth + 1, extent, visit)?,
                Content::Zeros => visit(extent, Piece::Zeros)?,
                Content::Stored(offset) => visit(extent, Piece::Stored(layer.data(), offset))?,
                Content::Compressed(cluster) => visit(extent, Piece::Compressed(layer, cluster))?,
            };
            if flow.is_break() {
                return Ok(flow);
            }
            start = end;
        }
        Ok(ControlFlow::Continue(()))
    }
}

impl Qcow2Source {
    /// What is not as the layer at `depth` has it: what any layer above it says, and what lies past
    /// its end.
    fn written_above(&self, depth: usize) -> Result<Vec<Extent>, SourceError> {
        let mut list = Vec::new();
        for (place, layer) in self.layers[..depth].iter().enumerate() {
            let Layer::Qcow2(layer) = layer else { continue };
            let size_bytes = layer.header.size_bytes.min(self.size_bytes);
            let Qcow2Layer { header, file, .. } = layer.as_ref();
            let tables = Tables { header, file, cache: &self.tables, layer: place };
            let mut start = 0;
            while start < size_bytes {
                let (content, end) = tables.content_at(start, size_bytes)?;
                if !matches!(content, Content::Unallocated) {
                    list.push(Extent::between(start, end));
                }
                start = end;
            }
        }
        // A layer that is shorter than what stands on it hides what lies below past its end.
        let shortest = self.layers[..=depth].iter().map(Layer::size_bytes).min().unwrap_or(0);
        list.push(Extent::between(shortest, self.size_bytes));
        Ok(joined(list))
    }
}

// Clusters that were allocated ahead of use (`preallocation=metadata`) lie in holes of the file:
// what the file system knows to be zero is passed over here too. `found` gets disk extents.
fn data_in(
    extent: Extent,
    piece: &Piece<'_>,
    mut found: impl FnMut(Extent),
) -> Result<(), SourceError> {
    match piece {
        Piece::Zeros => {}
        Piece::Compressed(..) => found(extent),
        Piece::Stored(file, offset) => {
            let end = offset.saturating_add(extent.len());
            for part in file.data_extents(Extent::between(*offset, end))? {
                let start = extent.start() + (part.start() - offset);
                found(Extent::between(start, start + part.len()));
            }
        }
    }
    Ok(())
}

impl Source for Qcow2Source {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn next_data(&self, offset: u64) -> Result<Option<u64>, SourceError> {
        let mut first = None;
        let _ = self.walk(0, Extent::between(offset, self.size_bytes), &mut |extent, piece| {
            match &piece {
                Piece::Zeros => {}
                Piece::Compressed(..) => first = Some(extent.start()),
                Piece::Stored(file, at) => {
                    let stored = Extent::between(*at, at.saturating_add(extent.len()));
                    first = file.next_data(stored)?.map(|data| extent.start() + (data - at));
                }
            }
            Ok(if first.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        Ok(first)
    }

    fn data_extents(&self, range: Extent) -> Result<Vec<Extent>, SourceError> {
        require_within(range, self.size_bytes, &self.path)?;
        let mut list = Vec::new();
        let _ = self.walk(0, range, &mut |extent, piece| {
            data_in(extent, &piece, |data| push_joined(&mut list, data))?;
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(list)
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), SourceError> {
        let range = Extent::between(offset, offset.saturating_add(buffer.len() as u64));
        require_within(range, self.size_bytes, &self.path)?;
        let mut rest = buffer;
        let _ = self.walk(0, range, &mut |extent, piece| {
            let (part, after) = std::mem::take(&mut rest).split_at_mut(extent.len() as usize);
            rest = after;
            match piece {
                Piece::Zeros => part.fill(0),
                Piece::Stored(file, at) => file.read_exact_at(part, at)?,
                Piece::Compressed(layer, cluster) => {
                    let content = compressed::read(&layer.file, &layer.header, cluster)?;
                    let skipped = (extent.start() - cluster.disk_start) as usize;
                    part.copy_from_slice(&content[skipped..skipped + part.len()]);
                }
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(())
    }

    fn check_unchanged(&self) -> Result<(), SourceError> {
        self.layers.iter().flat_map(Layer::files).try_for_each(SourceFile::check_unchanged)
    }

    fn description(&self) -> &'static str {
        "qcow2 image"
    }

    fn files(&self) -> Vec<FileStat> {
        self.layers.iter().flat_map(Layer::files).map(|file| *file.stat()).collect()
    }

    fn identities(&self, opened: jiff::Timestamp) -> Option<Vec<FileIdentity>> {
        self.layers.iter().flat_map(Layer::files).map(|file| file.identity(opened)).collect()
    }

    fn stored_bitmap(&self, name: &str) -> Result<StoredBitmap, String> {
        match self.layers.first() {
            Some(Layer::Qcow2(layer)) => bitmaps::read(layer, name),
            _ => Err("it is no qcow2 image".to_owned()),
        }
    }

    /// Knows what was written since an overlay was put on what was read before: that stands below
    /// it now, unmodified.
    fn changed_since(
        &self,
        before: &[FileIdentity],
    ) -> Result<Option<ChangedExtents>, SourceError> {
        let files = |layers: &[Layer]| -> Vec<FileStat> {
            layers.iter().flat_map(Layer::files).map(|file| *file.stat()).collect()
        };
        let depth = (0..self.layers.len())
            .find(|depth| are_unmodified(before, &files(&self.layers[*depth..])));
        let Some(depth) = depth else { return Ok(None) };
        let evidence = if depth == 0 { Evidence::Unmodified } else { Evidence::Overlay };
        Ok(Some(ChangedExtents { extents: self.written_above(depth)?, evidence }))
    }
}

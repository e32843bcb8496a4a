//! The content of regions becomes objects of a repository: what is known is only named, what is
//! new is stored.

use super::leaf::{Leaf, Span};
use crate::chunk::{Before, Cutter, Namer, Piece, PieceKind, Recut, RegionContent};
use crate::progress::Progress;
use crate::store::{Codec, KnownObjects, ObjectKind, PackWriter, Put, Repository, StoreError};
use crate::units::{ObjectName, TreeName};
use std::ops::Range;

/// What objects are stored with, for all threads of a run.
#[derive(Debug, Clone, Copy)]
pub struct RegionContext<'a> {
    /// The repository that gains them.
    pub repository: &'a Repository,
    /// Knows which objects need no storing.
    pub known: &'a dyn KnownObjects,
    /// Writes them.
    pub writer: &'a PackWriter<'a>,
    /// Counts what is new.
    pub progress: &'a Progress,
}

/// Stores regions and nodes. One for each thread.
#[derive(Debug)]
pub struct RegionStore<'a> {
    context: RegionContext<'a>,
    cutter: Cutter,
    namer: Namer,
    codec: Codec,
}

impl<'a> RegionStore<'a> {
    /// A store for one thread.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn new(context: RegionContext<'a>) -> Result<Self, StoreError> {
        let repository = context.repository;
        Ok(Self {
            context,
            cutter: repository.cutter(),
            namer: repository.keys().namer(),
            codec: Codec::new(repository.compression_level())?,
        })
    }

    /// Stores what is new of a region's `content`, and its leaf; `None` when it holds only zeros.
    ///
    /// # Errors
    /// When it cannot be written, or what is known cannot be asked.
    pub fn put_region(&mut self, content: &[u8]) -> Result<Option<TreeName>, StoreError> {
        let pieces = self.cutter.cut(content);
        let mut content = Whole(content);
        let leaf = Leaf { spans: self.name_pieces(&pieces, &mut content)? };
        self.put_chunks(&pieces, &leaf.spans, &mut content)?;
        self.put_leaf(&leaf)
    }

    /// As [`RegionStore::put_region`], of a region of `len` bytes that held the leaf `old` (`None`:
    /// only zeros) and may differ from it in the ranges `changed`, in bytes from its start: sorted,
    /// disjoint, not empty, within the region. Only what may be cut otherwise than before is read
    /// and looked up; the rest is relied on.
    ///
    /// # Errors
    /// As [`RegionStore::put_region`], and the first of `content`.
    pub fn put_changed<C: RegionContent<Error: From<StoreError>>>(
        &mut self,
        old: Option<(TreeName, Leaf)>,
        len: u32,
        changed: &[Range<usize>],
        content: &mut C,
    ) -> Result<Option<TreeName>, C::Error> {
        let (old_name, old) = match old {
            Some((name, leaf)) => (Some(name), leaf),
            None => (None, Leaf { spans: vec![Span::Hole { len }] }),
        };
        let before = old.pieces();
        if !self.cutter.may_have_cut(&before) {
            return Ok(self.put_region(content.bytes(0..len as usize)?)?);
        }
        let cuts = self.cutter.recut(Before { pieces: &before, changed }, content)?;
        let pieces: Vec<Piece> = cuts.iter().filter_map(Recut::new_piece).collect();
        let named = self.name_pieces(&pieces, content)?;
        let mut new = named.iter().copied();
        let span = |cut: &Recut| match *cut {
            Recut::Kept(index) => old.spans.get(index).copied(),
            Recut::New(_) => new.next(),
        };
        let leaf = Leaf { spans: cuts.iter().filter_map(span).collect() };
        if leaf == old {
            return Ok(old_name);
        }
        self.put_chunks(&pieces, &named, content)?;
        Ok(self.put_leaf(&leaf)?)
    }

    fn put_leaf(&mut self, leaf: &Leaf) -> Result<Option<TreeName>, StoreError> {
        if leaf.is_hole() {
            return Ok(None);
        }
        self.put_tree(ObjectKind::Leaf, &leaf.encode()).map(Some)
    }

    /// Stores those of the chunks `spans`, which are `pieces` with their names, that are new.
    fn put_chunks<C: RegionContent<Error: From<StoreError>>>(
        &mut self,
        pieces: &[Piece],
        spans: &[Span],
        content: &mut C,
    ) -> Result<(), C::Error> {
        let chunks =
            || pieces.iter().zip(spans).filter_map(|(piece, span)| Some((piece, span.chunk()?)));
        let names: Vec<ObjectName> = chunks().map(|(_, name)| name.into()).collect();
        let known = self.context.known.contains(&names)?;
        for ((piece, name), known) in chunks().zip(known) {
            if known {
                continue;
            }
            let bytes = content.bytes(piece.range())?;
            let put = self.context.writer.put_chunk(name, bytes, &mut self.codec)?;
            if matches!(put, Put::Stored) {
                self.context.progress.add_new(u64::from(piece.len));
            }
        }
        Ok(())
    }

    /// Stores a leaf or node, if it is new.
    ///
    /// # Errors
    /// As [`RegionStore::put_region`].
    pub fn put_tree(&mut self, kind: ObjectKind, encoded: &[u8]) -> Result<TreeName, StoreError> {
        let name = self.namer.tree(encoded);
        if self.context.known.contains(&[name.into()])? != [true] {
            self.context.writer.put_tree(name, kind, encoded, &mut self.codec)?;
        }
        Ok(name)
    }

    fn name_pieces<C: RegionContent>(
        &self,
        pieces: &[Piece],
        content: &mut C,
    ) -> Result<Vec<Span>, C::Error> {
        let mut name = |piece: &Piece| {
            Ok(match piece.kind {
                PieceKind::Hole => Span::Hole { len: piece.len },
                PieceKind::Data => Span::Chunk {
                    name: self.namer.chunk(content.bytes(piece.range())?),
                    len: piece.len,
                },
            })
        };
        pieces.iter().map(&mut name).collect()
    }
}

/// A region's content that is in memory as a whole.
struct Whole<'c>(&'c [u8]);

impl RegionContent for Whole<'_> {
    type Error = StoreError;

    fn bytes(&mut self, range: Range<usize>) -> Result<&[u8], StoreError> {
        Ok(&self.0[range])
    }
}

//! The content of regions becomes objects of a repository: what is known is only named, what is
//! new is stored.

use super::leaf::{Leaf, Span};
use crate::chunk::{
    Before, Cutter, Fingerprint, InMemory, Namer, Piece, PieceKind, Recut, RegionContent,
};
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
        self.put_region_over(content.len(), &mut InMemory::new(content), None)
    }

    /// As [`RegionStore::put_region`], of a region of `len` bytes whose `content` is asked for from
    /// its start to its end. Where the leaf `known` and all that it refers to can be relied on, a
    /// region that holds it still needs no look-up.
    ///
    /// # Errors
    /// As [`RegionStore::put_region`], and the first of `content`.
    pub fn put_region_over<C: RegionContent<Error: From<StoreError>>>(
        &mut self,
        len: usize,
        content: &mut C,
        known: Option<TreeName>,
    ) -> Result<Option<TreeName>, C::Error> {
        let mut cuts = Vec::new();
        let namer = &self.namer;
        self.cutter.cut_each(len, content, |piece, bytes| {
            cuts.push(match piece.kind {
                PieceKind::Hole => NamedPiece::hole(piece),
                PieceKind::Data if known.is_some() => NamedPiece::known_chunk(namer, piece, bytes),
                PieceKind::Data => NamedPiece::chunk(namer, piece, bytes),
            });
        })?;
        let leaf = Leaf { spans: cuts.iter().map(|cut| cut.span).collect() };
        if known.is_some() && known == Some(self.namer.tree(&leaf.encode())) {
            return Ok(known);
        }
        self.put_chunks(&cuts, content)?;
        Ok(self.put_leaf(&leaf)?)
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
            return self.put_region_over(len as usize, content, None);
        }
        let cuts = self.cutter.recut(Before { pieces: &before, changed }, content)?;
        let (mut spans, mut new) = (Vec::with_capacity(cuts.len()), Vec::new());
        for cut in cuts {
            spans.push(match cut {
                Recut::Kept(index) => old.spans[index],
                Recut::New(piece) => {
                    let named = match piece.kind {
                        PieceKind::Hole => NamedPiece::hole(piece),
                        PieceKind::Data => {
                            NamedPiece::chunk(&self.namer, piece, content.bytes(piece.range())?)
                        }
                    };
                    new.push(named);
                    named.span
                }
            });
        }
        let leaf = Leaf { spans };
        if leaf == old {
            return Ok(old_name);
        }
        self.put_chunks(&new, content)?;
        Ok(self.put_leaf(&leaf)?)
    }

    fn put_leaf(&mut self, leaf: &Leaf) -> Result<Option<TreeName>, StoreError> {
        if leaf.is_hole() {
            return Ok(None);
        }
        self.put_tree(ObjectKind::Leaf, &leaf.encode()).map(Some)
    }

    /// Stores those of the chunks that are new.
    fn put_chunks<C: RegionContent<Error: From<StoreError>>>(
        &mut self,
        cuts: &[NamedPiece],
        content: &mut C,
    ) -> Result<(), C::Error> {
        let chunks = || cuts.iter().filter_map(|cut| Some((cut, cut.span.chunk()?)));
        let names: Vec<ObjectName> = chunks().map(|(_, name)| name.into()).collect();
        let known = self.context.known.contains(&names)?;
        for ((cut, name), _) in chunks().zip(known).filter(|(_, known)| !known) {
            let bytes = content.bytes(cut.piece.range())?;
            let (writer, codec) = (self.context.writer, &mut self.codec);
            let put = match cut.fingerprint {
                Some(fingerprint) => writer.put_named(name, fingerprint, bytes, codec)?,
                None => writer.put_chunk(name, bytes, codec)?,
            };
            if matches!(put, Put::Stored) {
                self.context.progress.add_new(u64::from(cut.piece.len));
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
}

/// A piece of a region, named.
#[derive(Debug, Clone, Copy)]
struct NamedPiece {
    piece: Piece,
    span: Span,
    /// Of the content of a chunk, if it was taken when that was named.
    fingerprint: Option<Fingerprint>,
}

impl NamedPiece {
    fn hole(piece: Piece) -> Self {
        Self { piece, span: Span::Hole { len: piece.len }, fingerprint: None }
    }

    /// A chunk that is most likely known already.
    fn known_chunk(namer: &Namer, piece: Piece, content: &[u8]) -> Self {
        let span = Span::Chunk { name: namer.chunk(content), len: piece.len };
        Self { piece, span, fingerprint: None }
    }

    fn chunk(namer: &Namer, piece: Piece, content: &[u8]) -> Self {
        let span = Span::Chunk { name: namer.chunk(content), len: piece.len };
        Self { piece, span, fingerprint: Some(Fingerprint::of(content)) }
    }
}

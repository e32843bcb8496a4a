//! The content of regions becomes objects of a repository: what is known is only named, what is
//! new is stored.

use super::leaf::{Leaf, Span};
use crate::chunk::{Cutter, Namer, Piece, PieceKind};
use crate::progress::Progress;
use crate::store::{Codec, KnownObjects, ObjectKind, PackWriter, Put, Repository, StoreError};
use crate::units::TreeName;

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
        let leaf = self.name_pieces(content, &pieces);
        let mut known = self.context.known.contains(&leaf.chunk_names())?.into_iter();
        for (piece, span) in pieces.iter().zip(&leaf.spans) {
            let Span::Chunk { name, len } = span else { continue };
            if known.next().unwrap_or(false) {
                continue;
            }
            let put =
                self.context.writer.put_chunk(*name, piece_of(content, piece), &mut self.codec)?;
            if matches!(put, Put::Stored) {
                self.context.progress.add_new(u64::from(*len));
            }
        }
        if leaf.is_hole() {
            return Ok(None);
        }
        self.put_tree(ObjectKind::Leaf, &leaf.encode()).map(Some)
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

    fn name_pieces(&self, content: &[u8], pieces: &[Piece]) -> Leaf {
        let name = |piece: &Piece| match piece.kind {
            PieceKind::Hole => Span::Hole { len: piece.len },
            PieceKind::Data => {
                Span::Chunk { name: self.namer.chunk(piece_of(content, piece)), len: piece.len }
            }
        };
        Leaf { spans: pieces.iter().map(name).collect() }
    }
}

/// The cutter's pieces lie within what it cut.
fn piece_of<'c>(content: &'c [u8], piece: &Piece) -> &'c [u8] {
    let start = piece.start as usize;
    &content[start..start + piece.len as usize]
}

//! A leaf: what one region of a disk holds.
//!
//! ```text
//! 'L' u8 | 1 u8 | spans: length u32, its highest bit set for a hole; then for a chunk name 32
//! ```
//!
//! Invariants: spans cover the region exactly; no span is empty; no two holes are neighbours; a
//! region without any chunk has no leaf at all.

use crate::chunk::{CutParameters, Piece, PieceKind};
use crate::units::{ChunkName, DIGEST_BYTES, ObjectName};

const MAGIC: [u8; 2] = [b'L', 1];
const HOLE_FLAG: u32 = 1 << 31;

/// A run of bytes of a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// Content that is stored as a chunk.
    Chunk {
        /// Its name.
        name: ChunkName,
        /// Its length in bytes.
        len: u32,
    },
    /// Zeros.
    Hole {
        /// Length in bytes.
        len: u32,
    },
}

impl Span {
    /// Length in bytes.
    pub fn len(&self) -> u32 {
        match self {
            Self::Chunk { len, .. } | Self::Hole { len } => *len,
        }
    }

    /// The name of its chunk; `None` of a hole.
    pub fn chunk(&self) -> Option<ChunkName> {
        match *self {
            Self::Chunk { name, .. } => Some(name),
            Self::Hole { .. } => None,
        }
    }

    /// Never: a leaf holds no empty span.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The spans of one region, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Leaf {
    /// Spans from the region's start to its end.
    pub spans: Vec<Span>,
}

impl Leaf {
    /// Whether it holds only zeros; such a leaf is not stored.
    pub fn is_hole(&self) -> bool {
        self.spans.iter().all(|span| matches!(span, Span::Hole { .. }))
    }

    /// Names of its chunks, in order.
    pub fn chunk_names(&self) -> Vec<ObjectName> {
        self.spans.iter().filter_map(|span| span.chunk().map(ObjectName::from)).collect()
    }

    /// Where its region is cut.
    pub fn pieces(&self) -> Vec<Piece> {
        let mut start = 0;
        let piece = |span: &Span| {
            let kind = if span.chunk().is_some() { PieceKind::Data } else { PieceKind::Hole };
            let piece = Piece { start, len: span.len(), kind };
            start += span.len();
            piece
        };
        self.spans.iter().map(piece).collect()
    }

    /// The encoded form, from which its name follows.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(2 + self.spans.len() * (4 + DIGEST_BYTES));
        bytes.extend_from_slice(&MAGIC);
        for span in &self.spans {
            match span {
                Span::Chunk { name, len } => {
                    bytes.extend_from_slice(&len.to_le_bytes());
                    bytes.extend_from_slice(&name.0);
                }
                Span::Hole { len } => bytes.extend_from_slice(&(len | HOLE_FLAG).to_le_bytes()),
            }
        }
        bytes
    }

    /// Reads a leaf of a region of `region_len` bytes.
    ///
    /// # Errors
    /// Names the invariant that it breaks.
    pub fn decode(
        bytes: &[u8],
        region_len: u32,
        cut: &CutParameters,
    ) -> Result<Self, &'static str> {
        let mut rest = bytes.strip_prefix(&MAGIC).ok_or("it does not begin like a leaf")?;
        let mut spans: Vec<Span> = Vec::new();
        let mut left = region_len;
        while let Some((len, after)) = rest.split_first_chunk::<4>() {
            let flagged = u32::from_le_bytes(*len);
            let len = flagged & !HOLE_FLAG;
            if len == 0 || len > left {
                return Err("its spans do not fit the region");
            }
            left -= len;
            if flagged & HOLE_FLAG != 0 {
                if matches!(spans.last(), Some(Span::Hole { .. })) {
                    return Err("two holes are neighbours");
                }
                spans.push(Span::Hole { len });
                rest = after;
            } else {
                let (name, after) =
                    after.split_first_chunk::<DIGEST_BYTES>().ok_or("it was cut off")?;
                if len > cut.chunk_bytes_max {
                    return Err("a chunk is longer than this repository's longest");
                }
                spans.push(Span::Chunk { name: ChunkName(*name), len });
                rest = after;
            }
        }
        let leaf = Self { spans };
        if left > 0 || !rest.is_empty() {
            Err("its spans do not fill the region")
        } else if leaf.is_hole() {
            Err("it holds only zeros, and such a region has no leaf")
        } else {
            Ok(leaf)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cut() -> CutParameters {
        CutParameters::with_average(16 * 1024).unwrap()
    }

    #[test]
    fn a_leaf_survives_its_encoding_and_only_in_its_own_length() {
        let chunk = |byte, len| Span::Chunk { name: ChunkName([byte; 32]), len };
        let leaf = Leaf { spans: vec![chunk(1, 100), Span::Hole { len: 32768 }, chunk(2, 7)] };
        let bytes = leaf.encode();
        assert_eq!(Leaf::decode(&bytes, 32875, &cut()), Ok(leaf));
        assert!(Leaf::decode(&bytes, 32874, &cut()).is_err());
        assert!(Leaf::decode(&bytes, 32876, &cut()).is_err());
        for len in 0..bytes.len() {
            assert!(Leaf::decode(&bytes[..len], 32875, &cut()).is_err(), "{len}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = Leaf::decode(&bytes, 1 << 24, &cut());
            let _ = Leaf::decode(&[&MAGIC, &bytes[..]].concat(), 1 << 24, &cut());
        }
    }
}

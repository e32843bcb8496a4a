//! What a run surely does not have: a Bloom filter beside it, in pieces that are read when they
//! are first needed and stay in memory.

use super::part::impossible;
use rusqlite::Connection;
use std::sync::OnceLock;

/// Length of a piece, in bytes.
const PIECE_BYTES: usize = 8 * 1024;
/// A piece stands for two to the power of this many buckets.
const PIECE_BUCKET_BITS: u32 = 3;
/// The bits of one key lie in one line of the processor's cache.
const LINE_BITS: usize = 512;
const KEY_BITS: u32 = 5;

/// A piece of a filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece(Box<[u8]>);

impl Piece {
    pub fn new() -> Self {
        Self(vec![0; PIECE_BYTES].into())
    }

    /// The piece that a bucket belongs to.
    pub fn of_bucket(bucket: u32) -> u32 {
        bucket >> PIECE_BUCKET_BITS
    }

    pub fn insert(&mut self, key: u64) {
        for bit in bits(key) {
            self.0[bit / 8] |= 1 << (bit % 8);
        }
    }

    pub fn may_hold(&self, key: u64) -> bool {
        bits(key).all(|bit| self.0[bit / 8] & (1 << (bit % 8)) != 0)
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The piece in a row; without a row, nothing is in it.
    pub fn find(connection: &Connection, row_no: i64) -> rusqlite::Result<Self> {
        let mut find = connection.prepare_cached("SELECT bits FROM filter WHERE no = ?1")?;
        let mut rows = find.query([row_no])?;
        let Some(row) = rows.next()? else { return Ok(Self::new()) };
        let bits: Vec<u8> = row.get(0)?;
        match bits.len() {
            PIECE_BYTES => Ok(Self(bits.into())),
            _ => Err(impossible(0, "a filter has an impossible length")),
        }
    }
}

/// The bits of a key: names are digests, so multiplying is enough to mix them. The first bits of
/// the key, which all in a piece have in common, count little in what is used.
fn bits(key: u64) -> impl Iterator<Item = usize> {
    let mixed = key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let line = (mixed >> 57) as usize;
    (0..KEY_BITS).map(move |at| line * LINE_BITS + (mixed >> (9 * at + 8)) as usize % LINE_BITS)
}

/// The pieces of one run.
#[derive(Debug)]
pub(super) struct PieceStore(Vec<OnceLock<Piece>>);

impl PieceStore {
    /// Of a run with two to the power of `bits` buckets.
    pub fn new(bits: u32) -> Self {
        let pieces = 1_usize << bits.saturating_sub(PIECE_BUCKET_BITS);
        Self((0..pieces).map(|_| OnceLock::new()).collect())
    }

    /// `false`: the key is not in it.
    pub fn may_hold(
        &self,
        connection: &Connection,
        row_no: i64,
        piece: u32,
        key: u64,
    ) -> rusqlite::Result<bool> {
        let Some(place) = self.0.get(piece as usize) else { return Ok(true) };
        if let Some(piece) = place.get() {
            return Ok(piece.may_hold(key));
        }
        let read = Piece::find(connection, row_no)?;
        Ok(place.get_or_init(|| read).may_hold(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_it_is_never_denied_and_little_else_is_not() {
        let key = |number: u64| number.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 15;
        let mut piece = Piece::new();
        (0..6000).for_each(|number| piece.insert(key(number)));
        assert!((0..6000).all(|number| piece.may_hold(key(number))));
        let wrong = (6000..106_000).filter(|&number| piece.may_hold(key(number))).count();
        assert!(wrong < 4000, "{wrong} of 100000");
    }
}

//! Cutting a region: zero granules become holes, FastCDC cuts each run of data between them.
//!
//! Source of the algorithm: Xia et al., "The Design of Fast Content-Defined Chunking for Data
//! Deduplication Based Storage Systems", IEEE TPDS 31(9), 2020, with normalization level 2.
//!
//! Invariants: cutting is a pure function of the region's content, the parameters and the seed;
//! the pieces cover the region without gap; no two holes are neighbours; FastCDC starts anew at
//! the start of each run.

use super::content::{InMemory, RegionContent};
use super::{CutParameters, is_zero};
use fastcdc::v2020::{Normalization, cut_gear, get_gear_with_seed, select_masks};
use std::borrow::Cow;
use std::convert::Infallible;
use std::ops::Range;

/// What a piece of a region holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PieceKind {
    /// Data: becomes a chunk.
    Data,
    /// Only zeros: becomes a hole.
    Hole,
}

/// A piece of a region, in bytes from the region's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// First byte.
    pub start: u32,
    /// Length; never 0.
    pub len: u32,
    /// Data or hole.
    pub kind: PieceKind,
}

impl Piece {
    /// First byte past it, from the region's start.
    pub fn end(&self) -> usize {
        self.start as usize + self.len as usize
    }

    /// Its bytes, from the region's start.
    pub fn range(&self) -> std::ops::Range<usize> {
        self.start as usize..self.end()
    }
}

/// Cuts regions. Cheap to share between threads.
#[derive(Clone)]
pub struct Cutter {
    parameters: CutParameters,
    mask_small: u64,
    mask_large: u64,
    gear: Cow<'static, [u64]>,
    gear_shifted: Cow<'static, [u64]>,
}

// The seed is a secret; nothing that could tell it is shown.
impl std::fmt::Debug for Cutter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cutter").field("parameters", &self.parameters).finish_non_exhaustive()
    }
}

impl Cutter {
    /// A cutter for checked parameters. `seed` 0 is the published table; an encrypted repository
    /// has a secret one, so that chunk lengths say nothing about known content.
    pub fn new(parameters: CutParameters, seed: u64) -> Self {
        let average = parameters.chunk_bytes_average as usize;
        let (mask_small, mask_large) = select_masks(average, Normalization::Level2);
        let (gear, gear_shifted) = get_gear_with_seed(seed);
        Self { parameters, mask_small, mask_large, gear, gear_shifted }
    }

    /// The parameters.
    pub fn parameters(&self) -> &CutParameters {
        &self.parameters
    }

    /// Cuts the content of one region (at most a region long) into pieces.
    pub fn cut(&self, region: &[u8]) -> Vec<Piece> {
        let average = self.parameters.chunk_bytes_average as usize;
        let mut pieces = Vec::with_capacity(region.len() / average + 16);
        let mut content = InMemory::<Infallible>::new(region);
        let Ok(()) = self.cut_each(region.len(), &mut content, |piece, _| pieces.push(piece));
        pieces
    }

    /// As [`Cutter::cut`], of a region of `len` bytes that is asked for piece by piece, from its
    /// start to its end; gives each piece to `each`, with its content, while that is in the
    /// processor's cache.
    ///
    /// # Errors
    /// The first of `content`.
    pub fn cut_each<C: RegionContent>(
        &self,
        len: usize,
        content: &mut C,
        mut each: impl FnMut(Piece, &[u8]),
    ) -> Result<(), C::Error> {
        let mut hole = 0..0;
        while hole.end < len {
            let granule = self.granule(hole.end, len);
            if is_zero(content.bytes(granule.clone())?) {
                hole.end = granule.end;
                continue;
            }
            push_hole(&hole, &mut each);
            let end = self.cut_run(granule, len, content, &mut each)?;
            hole = end..end;
        }
        push_hole(&hole, &mut each);
        Ok(())
    }

    fn granule(&self, start: usize, len: usize) -> Range<usize> {
        start..(start + self.parameters.granule_bytes as usize).min(len)
    }

    /// Cuts the run of data that begins with the granule `first`, and returns where it ends.
    fn cut_run<C: RegionContent>(
        &self,
        first: Range<usize>,
        len: usize,
        content: &mut C,
        each: &mut impl FnMut(Piece, &[u8]),
    ) -> Result<usize, C::Error> {
        let ahead_bytes = self.parameters.chunk_bytes_max as usize;
        let Range { start: mut at, mut end } = first;
        let mut goes_on = true;
        while at < end {
            // A cut depends on no more than the longest chunk, and on where the run ends.
            while goes_on && end - at <= ahead_bytes {
                let next = self.granule(end, len);
                goes_on = !next.is_empty() && !is_zero(content.bytes(next.clone())?);
                end = if goes_on { next.end } else { end };
            }
            let run = content.bytes(at..end)?;
            let cut = self.first_cut(run, at);
            let piece = Piece { start: at as u32, len: cut as u32, kind: PieceKind::Data };
            each(piece, &run[..cut]);
            at += cut;
        }
        Ok(end)
    }

    /// Length of the first chunk of a run of data, which begins at `start` of its region.
    pub(super) fn first_cut(&self, run: &[u8], start: usize) -> usize {
        let p = &self.parameters;
        let run = &run[..self.file_end(run, start).unwrap_or(run.len())];
        let (_, len) = cut_gear(
            run,
            p.chunk_bytes_min as usize,
            p.chunk_bytes_average as usize,
            p.chunk_bytes_max as usize,
            self.mask_small,
            self.mask_large,
            self.mask_small << 1,
            self.mask_large << 1,
            &self.gear,
            &self.gear_shifted,
        );
        len
    }

    /// Where, in a run that begins at `start` of its region, the first block after the smallest
    /// chunk ends that ends with zeros: most likely a file ends there, and the next one begins. The
    /// same files then give the same chunks, whatever their neighbours are.
    fn file_end(&self, run: &[u8], start: usize) -> Option<usize> {
        let p = &self.parameters;
        let block_bytes = p.block_bytes? as usize;
        let first = (start + p.chunk_bytes_min as usize).next_multiple_of(block_bytes) - start;
        let last = run.len().min(p.chunk_bytes_max as usize);
        let ends_file = |end: &usize| run[end - FILE_END_ZEROS..*end] == [0; FILE_END_ZEROS];
        (first..=last).step_by(block_bytes).find(ends_file)
    }
}

fn push_hole(hole: &Range<usize>, each: &mut impl FnMut(Piece, &[u8])) {
    if !hole.is_empty() {
        let (start, len) = (hole.start as u32, hole.len() as u32);
        each(Piece { start, len, kind: PieceKind::Hole }, &[]);
    }
}

/// So many zeros at the end of a block are taken for what is left of it behind a file's end.
const FILE_END_ZEROS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOLDEN_BLOCK_ENDS: [usize; 9] =
        [4096, 12_288, 16_384, 33_197, 40_960, 55_961, 73_728, 96_759, 98_304];

    fn parameters() -> CutParameters {
        CutParameters::with_average(16 * 1024).unwrap()
    }

    /// A fixed sequence (SplitMix64), so that the golden boundaries depend on nothing else.
    fn golden_content(len: usize) -> Vec<u8> {
        let mut state = 0x0005_eed0_u64;
        let mut content = Vec::with_capacity(len + 8);
        while content.len() < len {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut word = state;
            word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            content.extend_from_slice(&(word ^ (word >> 31)).to_le_bytes());
        }
        content.truncate(len);
        content
    }

    fn lens(seed: u64) -> Vec<u32> {
        let content = golden_content(256 * 1024);
        Cutter::new(parameters(), seed).cut(&content).iter().map(|piece| piece.len).collect()
    }

    /// A run of files, each with zeros behind it up to the next block.
    fn files(seeds: &[u64]) -> Vec<u8> {
        let mut content = Vec::new();
        for seed in seeds {
            let len = (*seed as usize * 7919) % 30_000 + 100;
            content.extend(crate::testing::noise(*seed, len));
            content.resize((content.len() + 16).next_multiple_of(4096), 0);
        }
        content
    }

    /// Bytes in chunks that two disks share, on which the same files lie in another order, and all.
    fn shared(cutter: &Cutter) -> (usize, usize) {
        let chunks = |content: &[u8]| -> std::collections::BTreeSet<Vec<u8>> {
            cutter.cut(content).iter().map(|it| content[it.range()].to_vec()).collect()
        };
        let one = chunks(&files(&(1..200).collect::<Vec<_>>()));
        let other = chunks(&files(&(1..200).rev().collect::<Vec<_>>()));
        (one.intersection(&other).map(Vec::len).sum(), one.iter().map(Vec::len).sum())
    }

    #[test]
    fn files_are_cut_alike_whatever_their_neighbours_are() {
        // Where less than the smallest chunk is left of a file, it goes with its neighbour.
        let (bytes, all) = shared(&Cutter::new(parameters(), 0));
        assert!(bytes * 10 >= all * 8, "{bytes} of {all} bytes");
        let by_content = CutParameters { block_bytes: None, ..parameters() };
        let (bytes, all) = shared(&Cutter::new(by_content, 0));
        assert!(bytes * 10 < all * 4, "{bytes} of {all} bytes");
    }

    #[test]
    fn golden_boundaries_at_the_ends_of_blocks() {
        let cutter = Cutter::new(parameters(), 0);
        let mut content = golden_content(96 * 1024);
        for end in [4096, 12_288, 16_384, 40_960, 73_728] {
            content[end - 8..end].fill(0);
        }
        // Seven zeros are too few.
        content[65_536 - 7..65_536].fill(0);
        let ends: Vec<usize> = cutter.cut(&content).iter().map(Piece::end).collect();
        assert_eq!(ends, GOLDEN_BLOCK_ENDS);
    }

    #[test]
    fn boundaries_are_those_that_every_repository_was_written_with() {
        assert_eq!(lens(0), GOLDEN_SEED_0);
        assert_eq!(lens(0x1234_5678_9abc_def0), GOLDEN_SEEDED);
    }

    const GOLDEN_SEED_0: &[u32] = &[
        16419, 16778, 20390, 21300, 21872, 19448, 22992, 23248, 10712, 23536, 21905, 19332, 20786,
        3426,
    ];
    const GOLDEN_SEEDED: &[u32] = &[
        16620, 15303, 19546, 7453, 4880, 18010, 17578, 16457, 17636, 16767, 17719, 18341, 18516,
        22134, 8287, 21200, 5697,
    ];

    /// The algorithm as the paper has it, byte for byte: a gear hash that begins anew past the
    /// smallest length, a strict mask up to the average, a loose one after it. The library looks
    /// at pairs of bytes, so that the last byte of an odd length is no candidate.
    fn reference_cut(run: &[u8], parameters: &CutParameters, seed: u64) -> usize {
        let p = parameters;
        let bits = p.chunk_bytes_average.ilog2();
        let (strict, loose) = select_masks(p.chunk_bytes_average as usize, Normalization::Level2);
        assert_eq!((strict.count_ones(), loose.count_ones()), (bits + 2, bits - 2));
        let gear = get_gear_with_seed(seed).0;
        let len = run.len().min(p.chunk_bytes_max as usize);
        let average = p.chunk_bytes_average as usize;
        let mut hash = 0_u64;
        for at in p.chunk_bytes_min as usize..len & !1 {
            hash = (hash << 1).wrapping_add(gear[usize::from(run[at])]);
            let mask = if at < average { strict } else { loose };
            if hash & mask == 0 {
                return at;
            }
        }
        len
    }

    #[test]
    fn boundaries_are_those_of_the_published_algorithm() {
        let content = golden_content(3 << 20);
        for (average, seed) in [(4096, 0), (16 * 1024, 0), (16 * 1024, 0xfeed_beef), (65536, 7)] {
            let parameters = CutParameters::with_average(average).unwrap();
            let cutter = Cutter::new(parameters, seed);
            for tail in [0, 1, average as usize - 1, average as usize / 4 + 1] {
                let run = &content[..content.len() - tail];
                let mut at = 0;
                for piece in cutter.cut(run) {
                    let expected = reference_cut(&run[at..], &parameters, seed);
                    assert_eq!(piece.len as usize, expected, "average {average}, byte {at}");
                    at += expected;
                }
                assert_eq!(at, run.len());
            }
        }
    }

    proptest! {
        #[test]
        fn pieces_cover_any_region_and_holes_are_exactly_the_zero_granules(
            granules in prop::collection::vec(0_u8..3, 1..40),
            tail in 0_usize..32768,
            seed in any::<u64>(),
        ) {
            let granule_bytes = parameters().granule_bytes as usize;
            let mut region = Vec::new();
            for kind in &granules {
                match kind {
                    0 => region.extend(std::iter::repeat_n(0, granule_bytes)),
                    1 => region.extend(golden_content(granule_bytes)),
                    _ => {
                        region.extend(std::iter::repeat_n(0, granule_bytes - 1));
                        region.push(1);
                    }
                }
            }
            region.extend(std::iter::repeat_n(0, tail));
            let pieces = Cutter::new(parameters(), seed).cut(&region);
            let mut at = 0;
            let mut hole_bytes = 0;
            for (index, piece) in pieces.iter().enumerate() {
                prop_assert_eq!(piece.start as usize, at);
                let content = &region[at..at + piece.len as usize];
                if piece.kind == PieceKind::Hole {
                    prop_assert!(is_zero(content));
                    prop_assert!(index == 0 || pieces[index - 1].kind == PieceKind::Data);
                    hole_bytes += content.len();
                } else {
                    prop_assert!(piece.len <= parameters().chunk_bytes_max);
                }
                at += piece.len as usize;
            }
            prop_assert_eq!(at, region.len());
            let zero_bytes: usize = region
                .chunks(granule_bytes)
                .filter(|granule| is_zero(granule))
                .map(<[u8]>::len)
                .sum();
            prop_assert_eq!(hole_bytes, zero_bytes);
        }
    }
}

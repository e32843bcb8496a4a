//! Cutting a region again where it changed, and only there.
//!
//! A cut depends on nothing but the bytes from its chunk's start up to and including the first byte
//! past it, and on where the run of data ends. So an old chunk whose bytes, and the one after them,
//! did not change is cut the same way again, if a cut falls on its start.
//!
//! Invariant: the pieces are those that [`Cutter::cut`] gives for the region's new content.

use super::content::RegionContent;
use super::cut::{Cutter, Piece, PieceKind};
use super::is_zero;
use std::ops::Range;

/// A piece of the region's new content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recut {
    /// The old piece of this number, at the place where it was, with the content that it had.
    Kept(usize),
    /// A piece that may have new content. Holes are always given this way.
    New(Piece),
}

/// Where a region was cut before, and where it may have changed since.
#[derive(Debug, Clone, Copy)]
pub struct Before<'a> {
    /// Its pieces; they cover the region.
    pub pieces: &'a [Piece],
    /// Ranges that may have changed, in bytes from the region's start: sorted, disjoint, not
    /// empty, within the region. Everything else is as it was.
    pub changed: &'a [Range<usize>],
}

impl Cutter {
    /// Whether pieces can be a region that was cut by these parameters: holes begin and end between
    /// granules. Of others [`Cutter::recut`] knows nothing.
    pub fn may_have_cut(&self, pieces: &[Piece]) -> bool {
        let granule_bytes = self.parameters().granule_bytes as usize;
        let len = pieces.last().map_or(0, Piece::end);
        let fits = |at: usize| at.is_multiple_of(granule_bytes) || at == len;
        let holes = pieces.iter().filter(|piece| piece.kind == PieceKind::Hole);
        holes.map(|it| it.range()).all(|hole| fits(hole.start) && fits(hole.end))
    }

    /// Cuts a region whose old pieces are known, reading only what may be cut otherwise than
    /// before: from the start of the chunk that holds a changed byte until a cut falls on an old
    /// one past the change.
    ///
    /// # Errors
    /// The first of `content`.
    pub fn recut<C: RegionContent>(
        &self,
        before: Before<'_>,
        content: &mut C,
    ) -> Result<Vec<Recut>, C::Error> {
        let mut cuts = Vec::with_capacity(before.pieces.len() + 16);
        let len = before.pieces.last().map_or(0, Piece::end);
        let mut at = 0;
        for run in self.runs(&before, len, content)? {
            push_hole(&mut cuts, at..run.start);
            at = run.end;
            self.recut_run(&before, run, content, &mut cuts)?;
        }
        push_hole(&mut cuts, at..len);
        Ok(cuts)
    }

    /// The runs of granules that are not all zero.
    fn runs<C: RegionContent>(
        &self,
        before: &Before<'_>,
        len: usize,
        content: &mut C,
    ) -> Result<Vec<Range<usize>>, C::Error> {
        let granule_bytes = self.parameters().granule_bytes as usize;
        let mut runs: Vec<Range<usize>> = Vec::new();
        let (mut piece, mut changed) = (0, 0);
        for start in (0..len).step_by(granule_bytes) {
            let granule = start..(start + granule_bytes).min(len);
            while before.pieces[piece].end() <= start {
                piece += 1;
            }
            while before.changed.get(changed).is_some_and(|range| range.end <= start) {
                changed += 1;
            }
            // Holes begin and end between granules, so the piece at its start tells for all of it.
            let was_data = before.pieces[piece].kind == PieceKind::Data;
            let ranges = &before.changed[changed..];
            if !is_data(was_data, ranges, &granule, content)? {
                continue;
            }
            match runs.last_mut() {
                Some(run) if run.end == granule.start => run.end = granule.end,
                _ => runs.push(granule),
            }
        }
        Ok(runs)
    }

    fn recut_run<C: RegionContent>(
        &self,
        before: &Before<'_>,
        run: Range<usize>,
        content: &mut C,
        cuts: &mut Vec<Recut>,
    ) -> Result<(), C::Error> {
        let mut at = run.start;
        let mut old = before.pieces.partition_point(|piece| piece.end() <= at);
        while at < run.end {
            while before.pieces[old].end() <= at {
                old += 1;
            }
            if before.stands(old, at, run.end) {
                cuts.push(Recut::Kept(old));
                at = before.pieces[old].end();
                continue;
            }
            let end = self.recut_chunk(before, old, at..run.end, content)?;
            let (start, len) = (at as u32, (end - at) as u32);
            cuts.push(Recut::New(Piece { start, len, kind: PieceKind::Data }));
            at = end;
        }
        Ok(())
    }

    /// Where the chunk that begins at `rest.start` ends, in a run of data until `rest.end`. The old
    /// piece `old` holds its first byte.
    fn recut_chunk<C: RegionContent>(
        &self,
        before: &Before<'_>,
        old: usize,
        rest: Range<usize>,
        content: &mut C,
    ) -> Result<usize, C::Error> {
        let p = self.parameters();
        let limit = rest.end.min(rest.start + p.chunk_bytes_max as usize);
        let shortest = rest.start + p.chunk_bytes_min as usize;
        let mut pieces = before.pieces[old..].iter();
        loop {
            // Most likely it ends where an old chunk does. Whether it does shows in the pair of
            // bytes that follows.
            let likely =
                pieces.find(|piece| piece.kind == PieceKind::Hole || piece.end() > shortest);
            let end = match likely {
                Some(piece) if piece.kind == PieceKind::Data => limit.min(piece.end() + 2),
                _ => limit,
            };
            let len = self.first_cut(content.bytes(rest.start..end)?, rest.start);
            // A cut before the end does not depend on what follows; one at the end only says that
            // there is none before it.
            if rest.start + len < end || end == limit {
                return Ok(rest.start + len);
            }
        }
    }
}

impl Before<'_> {
    /// Whether the old piece `old` is a chunk that is cut the same way again by a cutter that has
    /// come to `at`, in a run that ends at `run_end`.
    fn stands(&self, old: usize, at: usize, run_end: usize) -> bool {
        let piece = &self.pieces[old];
        let end = piece.end();
        if piece.start as usize != at || piece.kind != PieceKind::Data {
            return false;
        }
        let ended_run = self.pieces.get(old + 1).is_none_or(|next| next.kind == PieceKind::Hole);
        // The cutter looks at pairs of bytes: a run that ends one byte past a cut hides it.
        let same_end = end == run_end || (!ended_run && end + 2 <= run_end);
        same_end && !self.changes(at..end + usize::from(!ended_run))
    }

    fn changes(&self, range: Range<usize>) -> bool {
        let first = self.changed.partition_point(|changed| changed.end <= range.start);
        self.changed.get(first).is_some_and(|changed| changed.start < range.end)
    }
}

/// Whether a granule holds anything but zeros; `changed` begins with what may reach into it.
fn is_data<C: RegionContent>(
    was_data: bool,
    changed: &[Range<usize>],
    granule: &Range<usize>,
    content: &mut C,
) -> Result<bool, C::Error> {
    let inside = changed.iter().take_while(|range| range.start < granule.end);
    let mut all_changed = true;
    let mut at = granule.start;
    let mut touched = false;
    for range in inside {
        let part = range.start.max(granule.start)..range.end.min(granule.end);
        all_changed &= part.start == at;
        at = part.end;
        touched = true;
        if !is_zero(content.bytes(part)?) {
            return Ok(true);
        }
    }
    all_changed &= at == granule.end;
    match (touched, was_data) {
        (false, _) => Ok(was_data),
        // What did not change of a hole is zero still.
        (true, false) => Ok(false),
        (true, true) if all_changed => Ok(false),
        (true, true) => Ok(!is_zero(content.bytes(granule.clone())?)),
    }
}

fn push_hole(cuts: &mut Vec<Recut>, range: Range<usize>) {
    if !range.is_empty() {
        let (start, len) = (range.start as u32, range.len() as u32);
        cuts.push(Recut::New(Piece { start, len, kind: PieceKind::Hole }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::CutParameters;
    use proptest::prelude::*;
    use std::convert::Infallible;

    /// Content in memory that notes what is asked for.
    struct Noted<'a> {
        content: &'a [u8],
        asked: Vec<bool>,
    }

    impl<'a> Noted<'a> {
        fn new(content: &'a [u8]) -> Self {
            Self { content, asked: vec![false; content.len()] }
        }

        fn asked_bytes(&self) -> usize {
            self.asked.iter().filter(|asked| **asked).count()
        }
    }

    impl RegionContent for Noted<'_> {
        type Error = Infallible;

        fn bytes(&mut self, range: Range<usize>) -> Result<&[u8], Infallible> {
            self.asked[range.clone()].fill(true);
            Ok(&self.content[range])
        }
    }

    fn small() -> Cutter {
        let parameters = CutParameters {
            region_bytes: 64 * 1024,
            granule_bytes: 1024,
            chunk_bytes_min: 128,
            chunk_bytes_average: 512,
            chunk_bytes_max: 2048,
            block_bytes: Some(512),
        };
        parameters.check().unwrap();
        Cutter::new(parameters, 0)
    }

    /// One stretch of a disk: how long, and what: zeros, one byte over and over, or noise.
    fn stretch() -> impl Strategy<Value = (usize, u8, u64)> {
        (prop_oneof![1..3000_usize, (1..4_usize).prop_map(|it| it * 1024)], 0..4_u8, any::<u64>())
    }

    fn fill(range: &mut [u8], kind: u8, seed: u64) {
        match kind {
            0 => range.fill(0),
            1 => range.fill(seed as u8),
            _ => range.copy_from_slice(&crate::testing::noise(seed, range.len())),
        }
    }

    fn pieces(cuts: &[Recut], old: &[Piece]) -> Vec<Piece> {
        let piece = |cut: &Recut| match *cut {
            Recut::Kept(index) => old[index],
            Recut::New(piece) => piece,
        };
        cuts.iter().map(piece).collect()
    }

    /// Sorted and disjoint; what touches may stay apart.
    fn disjoint(mut ranges: Vec<Range<usize>>) -> Vec<Range<usize>> {
        ranges.sort_by_key(|range| range.start);
        let mut joined: Vec<Range<usize>> = Vec::new();
        for range in ranges.into_iter().filter(|range| !range.is_empty()) {
            match joined.last_mut() {
                Some(last) if last.end > range.start => last.end = last.end.max(range.end),
                _ => joined.push(range),
            }
        }
        joined
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]
        #[test]
        fn what_is_cut_again_is_cut_as_the_whole_would_be(
            stretches in prop::collection::vec(stretch(), 1..40),
            writes in prop::collection::vec((any::<prop::sample::Index>(), stretch(), 0..900_usize), 0..8),
        ) {
            let cutter = small();
            let mut old = Vec::new();
            for (len, kind, seed) in stretches {
                let from = old.len();
                old.resize((from + len).min(64 * 1024), 0);
                fill(&mut old[from..], kind, seed);
            }
            let mut new = old.clone();
            let mut changed = Vec::new();
            for (at, (len, kind, seed), more) in writes {
                let start = at.index(new.len());
                let end = (start + len).min(new.len());
                fill(&mut new[start..end], kind, seed);
                // What is told may be more than what changed.
                changed.push(start.saturating_sub(more)..(end + more).min(new.len()));
            }
            let changed = disjoint(changed);
            let before = cutter.cut(&old);
            let mut content = Noted::new(&new);
            let known = Before { pieces: &before, changed: &changed };
            let cuts = cutter.recut(known, &mut content).unwrap();
            prop_assert_eq!(pieces(&cuts, &before), cutter.cut(&new));
            for cut in &cuts {
                match *cut {
                    Recut::Kept(index) => {
                        let piece = &before[index];
                        let range = piece.start as usize..piece.end();
                        prop_assert_eq!(piece.kind, PieceKind::Data);
                        prop_assert_eq!(&old[range.clone()], &new[range]);
                    }
                    Recut::New(piece) if piece.kind == PieceKind::Data => {
                        // Whoever names it finds its content read already.
                        let range = piece.start as usize..piece.end();
                        prop_assert!(content.asked[range].iter().all(|asked| *asked));
                    }
                    Recut::New(_) => {}
                }
            }
        }
    }

    #[test]
    fn little_more_than_the_chunks_that_changed_is_read() {
        let cutter = Cutter::new(CutParameters::with_average(16 * 1024).unwrap(), 0);
        let old = crate::testing::noise(3, 16 << 20);
        let before = cutter.cut(&old);
        let (mut asked, mut touched) = (0, 0);
        for write in 0..100 {
            let start = write * 163_840;
            let changed = start..start + 4096;
            let mut new = old.clone();
            fill(&mut new[changed.clone()], 2, write as u64 + 10);
            let mut content = Noted::new(&new);
            let known = Before { pieces: &before, changed: std::slice::from_ref(&changed) };
            let cuts = cutter.recut(known, &mut content).unwrap();
            assert_eq!(pieces(&cuts, &before), cutter.cut(&new));
            asked += content.asked_bytes();
            let is_touched =
                |it: &&Piece| (it.start as usize) < changed.end && changed.start < it.end();
            touched += before.iter().filter(is_touched).map(|it| it.len as usize).sum::<usize>();
        }
        assert!(asked * 10 <= touched * 13, "{asked} bytes were read for {touched}");
    }

    #[test]
    fn nothing_is_read_where_nothing_changed() {
        let cutter = small();
        let old = crate::testing::noise(5, 64 * 1024);
        let before = cutter.cut(&old);
        let mut content = Noted::new(&old);
        let known = Before { pieces: &before, changed: &[] };
        let cuts = cutter.recut(known, &mut content).unwrap();
        assert_eq!(cuts, (0..before.len()).map(Recut::Kept).collect::<Vec<_>>());
        assert_eq!(content.asked_bytes(), 0);
        let nothing = cutter.recut(Before { pieces: &[], changed: &[] }, &mut content).unwrap();
        assert_eq!(nothing, []);
    }
}

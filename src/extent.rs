//! Byte ranges of a disk.

use std::ops::Range;

/// A byte range. Invariant: `start + len` fits in 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Extent {
    start: u64,
    len: u64,
}

impl Extent {
    /// The range of `len` bytes from `start`; `None` when its end does not fit in 64 bits.
    pub fn new(start: u64, len: u64) -> Option<Self> {
        start.checked_add(len).map(|_| Self { start, len })
    }

    /// The range from `start` up to, not including, `end`; empty when `end` is not past `start`.
    pub fn between(start: u64, end: u64) -> Self {
        Self { start, len: end.saturating_sub(start) }
    }

    /// First byte.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// First byte past the range.
    pub fn end(&self) -> u64 {
        self.start + self.len
    }

    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it holds no byte.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What it has in common with `other`; empty when that is nothing.
    pub fn intersection(&self, other: Self) -> Self {
        Self::between(self.start.max(other.start), self.end().min(other.end()))
    }
}

/// Appends `extent` to a sorted list, joining it with the last one where they touch. Empty
/// extents are left out.
pub fn push_joined(list: &mut Vec<Extent>, extent: Extent) {
    if extent.is_empty() {
        return;
    }
    match list.last_mut() {
        Some(last) if last.end() == extent.start => last.len += extent.len,
        _ => list.push(extent),
    }
}

/// The same ranges in order, each as long as it can be.
pub fn joined(mut ranges: Vec<Extent>) -> Vec<Extent> {
    ranges.sort_unstable();
    let mut joined: Vec<Extent> = Vec::new();
    for range in ranges {
        // What was told twice, or beside parts of it, counts once.
        let from = joined.last().map_or(0, Extent::end).max(range.start());
        push_joined(&mut joined, Extent::between(from, range.end()));
    }
    joined
}

/// What of sorted `extents` lies in none of the sorted `told`.
pub fn outside(extents: &[Extent], told: &[Extent]) -> Vec<Extent> {
    let mut rest = Vec::new();
    let mut next = 0;
    for extent in extents {
        let mut at = extent.start();
        while told.get(next).is_some_and(|it| it.end() <= at) {
            next += 1;
        }
        for known in told[next..].iter().take_while(|it| it.start() < extent.end()) {
            push_joined(&mut rest, Extent::between(at, known.start()));
            at = at.max(known.end());
        }
        push_joined(&mut rest, Extent::between(at, extent.end()));
    }
    rest
}

/// What is compared as one, in bytes, and where it begins on the disk: the block of nearly all file
/// systems.
const BLOCK_BYTES: u64 = 4096;

/// The same sorted ranges, each made longer until it is whole blocks, on a disk of `disk_bytes`.
pub fn whole_blocks(extents: &[Extent], disk_bytes: u64) -> Vec<Extent> {
    let mut blocks: Vec<Extent> = Vec::new();
    for extent in extents {
        let start = extent.start() / BLOCK_BYTES * BLOCK_BYTES;
        let end = extent.end().checked_next_multiple_of(BLOCK_BYTES).unwrap_or(u64::MAX);
        // The block where the one before ends can be the one where this one begins.
        let from = blocks.last().map_or(start, |last| start.max(last.end()));
        push_joined(&mut blocks, Extent::between(from, end.min(disk_bytes)));
    }
    blocks
}

/// Runs of blocks of `content` that differ from what is `held` in its place, both from the byte
/// `start` of a disk on. Where nothing is held, it differs.
pub fn differing_blocks(start: u64, held: &[u8], content: &[u8]) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    let mut at = 0;
    while at < content.len() {
        let into = (start + at as u64) % BLOCK_BYTES;
        let end = content.len().min(at + (BLOCK_BYTES - into) as usize);
        if held.get(at..end) != content.get(at..end) {
            match runs.last_mut() {
                Some(run) if run.end == at => run.end = end,
                _ => runs.push(at..end),
            }
        }
        at = end;
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn blocks_are_whole_and_end_with_the_disk() {
        let ranges = [(10, 20), (4090, 4097), (8192, 8193), (20_000, 20_001)];
        let ranges = ranges.map(|(start, end)| Extent::between(start, end));
        let blocks = [Extent::between(0, 12_288), Extent::between(16_384, 20_100)];
        assert_eq!(whole_blocks(&ranges, 20_100), blocks);
        assert_eq!(
            whole_blocks(&[Extent::between(u64::MAX - 1, u64::MAX)], u64::MAX)[0].len(),
            4095
        );
    }

    #[test]
    fn extents_join_and_intersect() {
        let mut list = Vec::new();
        for (start, end) in [(0, 10), (10, 20), (20, 20), (30, 40)] {
            push_joined(&mut list, Extent::between(start, end));
        }
        assert_eq!(list, [Extent::between(0, 20), Extent::between(30, 40)]);
        assert_eq!(list[0].intersection(Extent::between(15, 35)), Extent::between(15, 20));
        assert!(list[0].intersection(list[1]).is_empty());
        assert_eq!(Extent::new(u64::MAX, 1), None);
    }

    fn extents(runs: &[(u64, u64)]) -> Vec<Extent> {
        let mut list = Vec::new();
        let mut at = 0;
        for (gap, len) in runs {
            push_joined(&mut list, Extent::between(at + gap, at + gap + len));
            at += gap + len;
        }
        list
    }

    proptest! {
        #[test]
        fn what_is_left_out_is_the_same_and_little_more_is_told(
            start in 0..10_000_u64,
            len in 1..40_000_usize,
            changes in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let held = crate::testing::noise(start, len);
            let mut content = held.clone();
            for change in &changes {
                content[change.index(len)] ^= 1;
            }
            let runs = differing_blocks(start, &held, &content);
            let mut redone = held.clone();
            for run in &runs {
                redone[run.clone()].copy_from_slice(&content[run.clone()]);
            }
            prop_assert_eq!(redone, content);
            let told: usize = runs.iter().map(Range::len).sum();
            prop_assert!(told <= changes.len() * BLOCK_BYTES as usize);
            prop_assert!(runs.windows(2).all(|pair| pair[0].end < pair[1].start));
        }

        #[test]
        fn what_is_outside_is_in_the_one_and_not_in_the_other(
            all in prop::collection::vec((1..9_u64, 1..9_u64), 0..12),
            told in prop::collection::vec((1..9_u64, 1..9_u64), 0..12),
        ) {
            let (all, told) = (extents(&all), extents(&told));
            let rest = outside(&all, &told);
            let holds = |list: &[Extent], at: u64| list.iter().any(|it| it.start() <= at && at < it.end());
            for at in 0..250 {
                prop_assert_eq!(holds(&rest, at), holds(&all, at) && !holds(&told, at), "{}", at);
            }
        }
    }
}

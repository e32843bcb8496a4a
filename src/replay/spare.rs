//! What of new content a target does not hold yet. A chunk is the unit of the repository; what
//! changed in it is mostly a few blocks, and only these go through the journal.
//!
//! Invariant: content and journal together say for every byte what the target must hold: what is
//! left out was read from the target, which is known to be durably at its sync point.

use crate::destination::Target;
use std::ops::Range;

/// What is compared, in bytes, and where it begins on the disk: the block of nearly all file systems.
const BLOCK_BYTES: u64 = 4096;

/// Compares content with a target. One for each disk.
#[derive(Debug)]
pub(super) struct Spare<'a> {
    /// `None`: nothing is known of what it holds.
    target: Option<&'a Target>,
    /// What lies past it was no part of the disk, and is made zeros before the journal is redone,
    /// whatever is there now.
    size_before_bytes: u64,
}

impl<'a> Spare<'a> {
    pub fn new(target: Option<&'a Target>, size_before_bytes: u64) -> Self {
        Self { target, size_before_bytes }
    }

    /// The parts of `content`, which belongs at `start`, that the target does not hold. What it
    /// holds is read to `held`.
    pub fn differing(&self, held: &mut Vec<u8>, start: u64, content: &[u8]) -> Vec<Range<usize>> {
        let end = start + content.len() as u64;
        held.resize(content.len(), 0);
        match self.target.filter(|it| end <= self.size_before_bytes.min(it.size())) {
            Some(target) if target.read_exact_at(held, start).is_ok() => {
                differing_blocks(start, held, content)
            }
            // What cannot be read is written.
            _ => std::iter::once(0..content.len()).collect(),
        }
    }
}

/// Runs of blocks that differ, of two contents of the same length that belong at `start`. Where
/// nothing is `held`, all of it differs.
pub(super) fn differing_blocks(start: u64, held: &[u8], content: &[u8]) -> Vec<Range<usize>> {
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
    }
}

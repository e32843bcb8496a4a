//! What of new content a target does not hold yet. A chunk is the unit of the repository; what
//! changed in it is mostly a few blocks, and only these go through the journal.
//!
//! Invariant: content and journal together say for every byte what the target must hold: what is
//! left out was read from the target, which is known to be durably at its sync point.

use crate::destination::Target;
use crate::extent::differing_blocks;
use std::ops::Range;

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

    /// How many bytes of the target [`Self::differing`] reads for as much content at `start`.
    pub fn reads(&self, start: u64, len: u64) -> u64 {
        self.target_of(start + len).map_or(0, |_| len)
    }

    /// The parts of `content`, which belongs at `start`, that the target does not hold. What it
    /// holds is read to `held`.
    pub fn differing(&self, held: &mut Vec<u8>, start: u64, content: &[u8]) -> Vec<Range<usize>> {
        let end = start + content.len() as u64;
        held.resize(content.len(), 0);
        match self.target_of(end) {
            Some(target) if target.read_exact_at(held, start).is_ok() => {
                differing_blocks(start, held, content)
            }
            // What cannot be read is written.
            _ => std::iter::once(0..content.len()).collect(),
        }
    }

    /// The target, when what it holds up to `end` is known.
    fn target_of(&self, end: u64) -> Option<&'a Target> {
        self.target.filter(|it| end <= self.size_before_bytes.min(it.size()))
    }
}

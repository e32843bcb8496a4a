//! Writing without allocating what is zero.
//!
//! Invariant: what a range reads as afterwards never depends on the background that was named
//! correctly; the background only decides what is worth a call.

use crate::chunk::is_zero;
use crate::fsio::{FileHandle, Result};
use std::ops::Range;

/// Holes are made in multiples of this, in bytes: the block size of nearly all file systems.
const BLOCK_BYTES: usize = 4096;
const _: () = assert!(BLOCK_BYTES.is_power_of_two());

/// What is known of the content that is about to be overwritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Background {
    /// It reads as zeros, as all of a fresh sparse image does.
    Zeros,
    /// Anything may be there.
    Unknown,
}

/// What a thin write did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Thinned {
    /// Bytes written as data.
    pub data_bytes: u64,
    /// Bytes made to read as zeros, or left so.
    pub zero_bytes: u64,
}

/// The longest possible stretch of data or of zeros.
#[derive(Debug, PartialEq, Eq)]
struct Run {
    zeros: bool,
    range: Range<usize>,
}

/// Cuts `bytes`, which belong at `offset` of the disk, in runs, in order and without gaps.
struct Runs<'a> {
    offset: u64,
    bytes: &'a [u8],
    background: Background,
    /// Beginning of the next run.
    at: usize,
}

impl Runs<'_> {
    /// What the block of the disk that holds `at` is, and where it, or `bytes`, ends.
    fn block(&self, at: usize) -> (bool, usize) {
        let into = ((self.offset + at as u64) % BLOCK_BYTES as u64) as usize;
        let end = self.bytes.len().min(at + (BLOCK_BYTES - into));
        let whole = end - at == BLOCK_BYTES;
        // A hole in a part of a block saves nothing: it costs a call and is written anyway.
        let worth_it = whole || self.background == Background::Zeros;
        (worth_it && self.bytes.get(at..end).is_some_and(is_zero), end)
    }
}

impl Iterator for Runs<'_> {
    type Item = Run;

    fn next(&mut self) -> Option<Run> {
        if self.at >= self.bytes.len() {
            return None;
        }
        let start = self.at;
        let (zeros, mut end) = self.block(start);
        while end < self.bytes.len() {
            match self.block(end) {
                (same, next) if same == zeros => end = next,
                _ => break,
            }
        }
        self.at = end;
        Some(Run { zeros, range: start..end })
    }
}

/// Makes the range at `offset` hold `bytes`; `write` writes what is not zeros.
pub(super) fn write(
    handle: &dyn FileHandle,
    offset: u64,
    bytes: &[u8],
    background: Background,
    write: impl Fn(&[u8], u64) -> Result<()>,
) -> Result<Thinned> {
    let mut done = Thinned::default();
    for run in (Runs { offset, bytes, background, at: 0 }) {
        let start = offset + run.range.start as u64;
        let len = run.range.len() as u64;
        match (run.zeros, background) {
            (true, Background::Zeros) => done.zero_bytes += len,
            (true, Background::Unknown) => {
                handle.zero_range(start, len)?;
                done.zero_bytes += len;
            }
            (false, _) => {
                write(&bytes[run.range], start)?;
                done.data_bytes += len;
            }
        }
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn runs(offset: u64, bytes: &[u8], background: Background) -> Vec<Run> {
        Runs { offset, bytes, background, at: 0 }.collect()
    }

    #[test]
    fn zero_blocks_are_found_where_the_disk_is_aligned_not_the_buffer() {
        let mut bytes = vec![0; 4 * BLOCK_BYTES];
        bytes[0] = 1;
        let run = |zeros, start, end| Run { zeros, range: start..end };
        let expected = [run(false, 0, 4096), run(true, 4096, 16384)];
        assert_eq!(runs(8192, &bytes, Background::Unknown), expected);
        let expected = [run(false, 0, 96), run(true, 96, 12384), run(false, 12384, 16384)];
        assert_eq!(runs(4000, &bytes, Background::Unknown), expected);
        let expected = [run(false, 0, 96), run(true, 96, 16384)];
        assert_eq!(runs(4000, &bytes, Background::Zeros), expected);
    }

    proptest! {
        #[test]
        fn runs_cover_everything_once_and_zeros_are_zeros(
            offset in 0_u64..10_000,
            blocks in proptest::collection::vec((any::<bool>(), 1_usize..5000), 0..12),
            background in prop_oneof![Just(Background::Zeros), Just(Background::Unknown)],
        ) {
            let mut bytes = Vec::new();
            for (zeros, len) in blocks {
                bytes.resize(bytes.len() + len, if zeros { 0 } else { 7 });
            }
            let found = runs(offset, &bytes, background);
            let mut at = 0;
            for run in &found {
                prop_assert_eq!(run.range.start, at);
                at = run.range.end;
                prop_assert!(!run.zeros || bytes[run.range.clone()].iter().all(|byte| *byte == 0));
            }
            prop_assert_eq!(at, bytes.len());
            prop_assert!(found.windows(2).all(|pair| pair[0].zeros != pair[1].zeros));
        }
    }
}

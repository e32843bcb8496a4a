//! Where the parts of a file lie, as its file system tells.
//!
//! Invariant: what is not certain is doubtful; doubtful parts are never said to be the same.

use crate::extent::Extent;
use crate::sys::{self, MappedExtent};
use std::collections::VecDeque;
use std::fs::File;
use std::io;

// From Linux's `fiemap.h`.
const LAST: u32 = 0x1;
const UNWRITTEN: u32 = 0x800;
const SHARED: u32 = 0x2000;
/// An extent that has any other flag lies where an address does not tell its content: it is not
/// written yet, compressed, encrypted, packed with something else or kept in the metadata.
const PLAIN: u32 = LAST | UNWRITTEN | SHARED;

/// What a part of a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mapping {
    /// Nothing is allocated: it reads as zeros.
    Hole,
    /// Bytes at an address that more than one file refers to.
    Shared {
        /// Address of the first byte.
        physical: u64,
        /// It is allocated, but reads as zeros.
        is_unwritten: bool,
    },
    /// Anything else.
    Doubtful,
}

impl Mapping {
    /// What lies `bytes` further on.
    fn advanced(self, bytes: u64) -> Self {
        match self {
            Self::Shared { physical, is_unwritten } => match physical.checked_add(bytes) {
                Some(physical) => Self::Shared { physical, is_unwritten },
                None => Self::Doubtful,
            },
            other => other,
        }
    }

    fn of(extent: &MappedExtent) -> Self {
        // Nobody else refers to what is not shared; two files that both lie there, and a file system
        // that says so, contradict each other.
        if extent.flags & !PLAIN == 0 && extent.flags & SHARED != 0 {
            let is_unwritten = extent.flags & UNWRITTEN != 0;
            Self::Shared { physical: extent.physical, is_unwritten }
        } else {
            Self::Doubtful
        }
    }
}

/// A part of a file. Invariant: not empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) range: Extent,
    pub(super) mapping: Mapping,
}

impl Segment {
    /// What is left of it from `start` on, which lies within it.
    pub(super) fn from(self, start: u64) -> Self {
        let mapping = self.mapping.advanced(start - self.range.start());
        Self { range: Extent::between(start, self.range.end()), mapping }
    }
}

/// The extents of a file from a byte on: the first of them, or none when there are no more.
pub(super) trait Extents {
    fn from(&mut self, start: u64) -> io::Result<Vec<MappedExtent>>;
}

impl Extents for &File {
    fn from(&mut self, start: u64) -> io::Result<Vec<MappedExtent>> {
        sys::mapped_extents(&**self, start)
    }
}

/// The parts of a file of `size_bytes`, in order and without gaps.
#[derive(Debug)]
pub(super) struct Segments<E> {
    extents: E,
    size_bytes: u64,
    /// Everything before it was given.
    position: u64,
    waiting: VecDeque<MappedExtent>,
    /// Nothing is allocated past those that wait.
    is_complete: bool,
}

impl<E: Extents> Segments<E> {
    pub(super) fn new(extents: E, size_bytes: u64) -> Self {
        let waiting = VecDeque::new();
        Self { extents, size_bytes, position: 0, waiting, is_complete: false }
    }

    /// The next part; `None` at the end of the file.
    ///
    /// # Errors
    /// When the file system does not tell, or contradicts itself.
    pub(super) fn next(&mut self) -> io::Result<Option<Segment>> {
        if self.position >= self.size_bytes {
            return Ok(None);
        }
        let found = self.next_extent()?;
        let segment = match found {
            Some(extent) if extent.logical <= self.position => {
                self.waiting.pop_front();
                let end = extent.logical + extent.len_bytes;
                let whole = Extent::between(extent.logical, end.min(self.size_bytes));
                Segment { range: whole, mapping: Mapping::of(&extent) }.from(self.position)
            }
            other => {
                let end = other.map_or(self.size_bytes, |it| it.logical.min(self.size_bytes));
                Segment { range: Extent::between(self.position, end), mapping: Mapping::Hole }
            }
        };
        self.position = segment.range.end();
        Ok(Some(segment))
    }

    /// The first extent that ends past the position.
    fn next_extent(&mut self) -> io::Result<Option<MappedExtent>> {
        if self.waiting.is_empty() && !self.is_complete {
            let found = self.extents.from(self.position)?;
            require_order(&found, self.position)?;
            self.is_complete = found.last().is_none_or(|extent| extent.flags & LAST != 0);
            self.waiting.extend(found);
        }
        Ok(self.waiting.front().copied())
    }
}

/// Extents that overlap, are empty or lie before what was asked for would be taken for others.
fn require_order(extents: &[MappedExtent], start: u64) -> io::Result<()> {
    let mut position = start;
    for (index, extent) in extents.iter().enumerate() {
        let end = extent.logical.checked_add(extent.len_bytes);
        let is_begun = index == 0 && extent.logical < start;
        match end {
            Some(end) if end > position && (is_begun || extent.logical >= position) => {
                position = end;
            }
            _ => return Err(io::Error::other("the file system's list of extents is out of order")),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tells what it was given, at most two extents at a time.
    struct Told(Vec<MappedExtent>);

    impl Extents for Told {
        fn from(&mut self, start: u64) -> io::Result<Vec<MappedExtent>> {
            let later = self.0.iter().filter(|it| it.logical + it.len_bytes > start);
            Ok(later.take(2).copied().collect())
        }
    }

    fn extent(logical: u64, physical: u64, len_bytes: u64, flags: u32) -> MappedExtent {
        MappedExtent { logical, physical, len_bytes, flags }
    }

    fn segments(told: Vec<MappedExtent>, size_bytes: u64) -> io::Result<Vec<Segment>> {
        let mut segments = Segments::new(Told(told), size_bytes);
        std::iter::from_fn(|| segments.next().transpose()).collect()
    }

    fn segment(start: u64, end: u64, mapping: Mapping) -> Segment {
        Segment { range: Extent::between(start, end), mapping }
    }

    fn shared(physical: u64) -> Mapping {
        Mapping::Shared { physical, is_unwritten: false }
    }

    #[test]
    fn a_file_is_covered_without_gaps_up_to_its_end() {
        let told = vec![
            extent(100, 5000, 100, SHARED),
            extent(200, 9000, 50, SHARED | UNWRITTEN),
            extent(300, 7000, 50, 0),
            extent(380, 8000, 50, SHARED),
            // Allocated past the end.
            extent(500, 8500, 50, SHARED | LAST),
        ];
        let expected = [
            segment(0, 100, Mapping::Hole),
            segment(100, 200, shared(5000)),
            segment(200, 250, Mapping::Shared { physical: 9000, is_unwritten: true }),
            segment(250, 300, Mapping::Hole),
            segment(300, 350, Mapping::Doubtful),
            segment(350, 380, Mapping::Hole),
            segment(380, 400, shared(8000)),
        ];
        assert_eq!(segments(told.clone(), 400).unwrap(), expected);
        assert_eq!(segments(told, 0).unwrap(), []);
        assert_eq!(segments(vec![], 10).unwrap(), [segment(0, 10, Mapping::Hole)]);
    }

    #[test]
    fn every_flag_that_an_address_does_not_explain_is_a_doubt() {
        for bit in 0..32 {
            let flags = SHARED | LAST | 1 << bit;
            let found = segments(vec![extent(0, 4096, 10, flags)], 10).unwrap()[0].mapping;
            let is_plain = [LAST, UNWRITTEN, SHARED].contains(&(1 << bit));
            assert_eq!(found != Mapping::Doubtful, is_plain, "{flags:#x}");
        }
    }

    #[test]
    fn what_is_out_of_order_is_an_error() {
        for told in [
            vec![extent(0, 0, 10, SHARED), extent(9, 0, 10, SHARED)],
            vec![extent(0, 0, 0, SHARED)],
            vec![extent(8, 0, u64::MAX, SHARED)],
        ] {
            let mut segments = Segments::new(Fixed(told.clone()), 100);
            let all = std::iter::from_fn(|| segments.next().transpose());
            assert!(all.collect::<io::Result<Vec<_>>>().is_err(), "{told:?}");
        }
    }

    /// Tells the same, whatever it is asked.
    struct Fixed(Vec<MappedExtent>);

    impl Extents for Fixed {
        fn from(&mut self, _: u64) -> io::Result<Vec<MappedExtent>> {
            Ok(self.0.clone())
        }
    }
}

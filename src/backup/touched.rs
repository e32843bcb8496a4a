//! The new content of a region of which only parts are read.

use super::BackupError;
use crate::chunk::RegionContent;
use crate::extent::Extent;
use crate::progress::Progress;
use crate::source::Source;
use crate::units::Name;
use std::ops::Range;

/// Of longer ranges it pays to ask where their holes are.
const HOLES_WORTH_BYTES: usize = 256 * 1024;

/// A region's content, read where it is asked for.
pub(super) struct Touched<'a> {
    pub name: &'a Name,
    pub source: &'a dyn Source,
    pub progress: &'a Progress,
    /// First byte of the region in its disk.
    pub start: u64,
    /// As long as the region. What was not read is of no meaning.
    pub buffer: &'a mut [u8],
    /// What was read: sorted, disjoint, never touching.
    pub read: Vec<Range<usize>>,
}

impl Touched<'_> {
    fn fill(&mut self, range: Range<usize>) -> Result<(), BackupError> {
        let error = |error| BackupError::source(self.name, error);
        let at = |offset: usize| self.start + offset as u64;
        let whole = Extent::between(at(range.start), at(range.end));
        let data = match range.len() < HOLES_WORTH_BYTES {
            true => vec![whole],
            false => self.source.data_extents(whole).map_err(error)?,
        };
        if data != [whole] {
            self.buffer[range].fill(0);
        }
        for extent in data {
            let from = (extent.start() - self.start) as usize;
            let piece = &mut self.buffer[from..from + extent.len() as usize];
            self.source.read_exact_at(piece, extent.start()).map_err(error)?;
            self.progress.add_read(extent.len());
        }
        Ok(())
    }
}

impl RegionContent for Touched<'_> {
    type Error = BackupError;

    fn bytes(&mut self, range: Range<usize>) -> Result<&[u8], BackupError> {
        for gap in gaps(&self.read, &range) {
            self.fill(gap)?;
        }
        add(&mut self.read, range.clone());
        Ok(&self.buffer[range])
    }
}

/// What of `range` is in none of `have`.
fn gaps(have: &[Range<usize>], range: &Range<usize>) -> Vec<Range<usize>> {
    let mut gaps = Vec::new();
    let mut at = range.start;
    let first = have.partition_point(|it| it.end <= range.start);
    for known in have[first..].iter().take_while(|it| it.start < range.end) {
        if known.start > at {
            gaps.push(at..known.start);
        }
        at = at.max(known.end);
    }
    if at < range.end {
        gaps.push(at..range.end);
    }
    gaps
}

fn add(have: &mut Vec<Range<usize>>, range: Range<usize>) {
    let first = have.partition_point(|it| it.end < range.start);
    let after = have.partition_point(|it| it.start <= range.end);
    let joined = match have.get(first..after) {
        Some([known, ..]) => {
            let end = have[after - 1].end.max(range.end);
            known.start.min(range.start)..end
        }
        _ => range,
    };
    have.splice(first..after, [joined]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_byte_is_read_once(asked in prop::collection::vec((0..60_usize, 1..20_usize), 1..30)) {
            let mut have = Vec::new();
            let mut times = [0; 80];
            for (start, len) in asked {
                let range = start..start + len;
                for gap in gaps(&have, &range) {
                    prop_assert!(!gap.is_empty() && gap.start >= range.start && gap.end <= range.end);
                    times[gap].iter_mut().for_each(|count| *count += 1);
                }
                add(&mut have, range.clone());
                prop_assert!(times[range].iter().all(|count| *count == 1));
                prop_assert!(have.windows(2).all(|pair| pair[0].end < pair[1].start));
                let covered: usize = have.iter().map(Range::len).sum();
                prop_assert_eq!(covered, times.iter().sum::<usize>());
            }
        }
    }
}

//! The content of a region that is read as a whole, a piece at a time: what is cut and named is in
//! the processor's cache still.

use super::BackupError;
use crate::chunk::RegionContent;
use crate::extent::Extent;
use crate::progress::Progress;
use crate::source::Source;
use crate::units::{MIB, Name};
use std::ops::Range;

/// How much is read at once: what a processor's cache holds, and enough for a device.
const PIECE_BYTES: usize = MIB as usize;

/// A region's content, read from its start to its end.
pub(super) struct Streamed<'a> {
    pub name: &'a Name,
    pub source: &'a dyn Source,
    pub progress: &'a Progress,
    /// Where the region lies in its disk.
    pub range: Extent,
    /// What of it may hold data, in bytes of the disk: sorted, disjoint.
    pub data: Vec<Extent>,
    /// As long as the region.
    pub buffer: &'a mut [u8],
    /// The buffer holds the content up to here.
    pub read_to: usize,
}

impl Streamed<'_> {
    fn read_piece(&mut self) -> Result<(), BackupError> {
        let start = self.range.start();
        let to = self.buffer.len().min(self.read_to + PIECE_BYTES);
        let piece = Extent::between(start + self.read_to as u64, start + to as u64);
        let first = self.data.partition_point(|extent| extent.end() <= piece.start());
        let mut zeros_from = self.read_to;
        for extent in self.data[first..].iter().take_while(|it| it.start() < piece.end()) {
            let extent = extent.intersection(piece);
            let from = (extent.start() - start) as usize;
            let end = from + extent.len() as usize;
            self.buffer[zeros_from..from].fill(0);
            self.source
                .read_exact_at(&mut self.buffer[from..end], extent.start())
                .map_err(|error| BackupError::source(self.name, error))?;
            self.progress.add_read(extent.len());
            zeros_from = end;
        }
        self.buffer[zeros_from..to].fill(0);
        self.read_to = to;
        Ok(())
    }
}

impl RegionContent for Streamed<'_> {
    type Error = BackupError;

    fn bytes(&mut self, range: Range<usize>) -> Result<&[u8], BackupError> {
        while self.read_to < range.end {
            self.read_piece()?;
        }
        Ok(&self.buffer[range])
    }
}

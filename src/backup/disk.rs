//! Backing one disk up: its regions are read as far as they may hold data, and become a tree.

use super::{BackupError, Context};
use crate::chunk::CutParameters;
use crate::extent::Extent;
use crate::point::{RegionStore, TreeSource, grow_tree};
use crate::source::Source;
use crate::units::{Name, RegionIndex, TreeName};
use std::sync::{Mutex, PoisonError};

/// Backs a disk up and returns the root of its tree; `None` when it holds only zeros.
pub(super) fn back_up(
    context: &Context<'_>,
    name: &Name,
    source: &dyn Source,
) -> Result<Option<TreeName>, BackupError> {
    let cut = context.regions.repository.header().cut;
    let disk = Disk { context, name, source, cut, cursor: Mutex::new(0) };
    grow_tree(context.regions, &disk, context.workers)
}

/// One disk, as its workers share it.
struct Disk<'a> {
    context: &'a Context<'a>,
    name: &'a Name,
    source: &'a dyn Source,
    cut: CutParameters,
    /// Where the search for the next region with data goes on, in bytes.
    cursor: Mutex<u64>,
}

impl TreeSource for Disk<'_> {
    type Item = ();
    /// The region's content.
    type Worker<'w>
        = Vec<u8>
    where
        Self: 'w;
    type Error = BackupError;

    fn regions(&self) -> u64 {
        self.cut.region_count(self.source.size_bytes())
    }

    /// Regions without data are never visited: they hold zeros.
    fn next(&self) -> Result<Option<(RegionIndex, ())>, BackupError> {
        let size = self.source.size_bytes();
        let mut cursor = self.cursor.lock().unwrap_or_else(PoisonError::into_inner);
        if *cursor >= size {
            return Ok(None);
        }
        let found = self
            .source
            .next_data(*cursor)
            .map_err(|error| BackupError::source(self.name, error))?;
        let region = found.map(|offset| RegionIndex(offset / u64::from(self.cut.region_bytes)));
        let start = region.map_or(size, |region| self.cut.region_start(region));
        self.context.regions.progress.add_done(start - (*cursor).min(start));
        *cursor = match region {
            None => size,
            Some(region) => start + u64::from(self.cut.region_len(region, size)),
        };
        Ok(region.map(|region| (region, ())))
    }

    fn worker(&self) -> Result<Vec<u8>, BackupError> {
        Ok(Vec::new())
    }

    fn leaf(
        &self,
        buffer: &mut Vec<u8>,
        store: &mut RegionStore<'_>,
        region: RegionIndex,
        (): (),
    ) -> Result<Option<TreeName>, BackupError> {
        let len = self.read(buffer, region)?;
        let leaf = store.put_region(buffer)?;
        self.context.regions.progress.add_done(u64::from(len));
        Ok(leaf)
    }
}

impl Disk<'_> {
    /// Fills the buffer with the region's content, reading only what may hold data.
    fn read(&self, buffer: &mut Vec<u8>, region: RegionIndex) -> Result<u32, BackupError> {
        let start = self.cut.region_start(region);
        let len = self.cut.region_len(region, self.source.size_bytes());
        let range = Extent::between(start, start + u64::from(len));
        let error = |error| BackupError::source(self.name, error);
        let data = self.source.data_extents(range).map_err(error)?;
        if data != [range] {
            buffer.clear();
        }
        buffer.resize(len as usize, 0);
        for extent in data {
            let from = (extent.start() - start) as usize;
            let piece = &mut buffer[from..from + extent.len() as usize];
            self.source.read_exact_at(piece, extent.start()).map_err(error)?;
            self.context.regions.progress.add_read(extent.len());
        }
        Ok(len)
    }
}

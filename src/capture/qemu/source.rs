//! A disk of a running machine as it was at the instant of the capture.

use super::watch::Keeper;
use crate::extent::{Extent, joined};
use crate::fsio::FileStat;
use crate::source::{NbdSource, Source, SourceError};
use std::sync::Arc;

/// The export of a scratch image.
#[derive(Debug)]
pub(in crate::capture) struct ScratchSource {
    export: NbdSource,
    keeper: Arc<dyn Keeper>,
    description: &'static str,
}

impl ScratchSource {
    pub fn new(export: NbdSource, keeper: Arc<dyn Keeper>, description: &'static str) -> Self {
        Self { export, keeper, description }
    }

    pub fn export(&self) -> &NbdSource {
        &self.export
    }
}

impl Source for ScratchSource {
    fn size_bytes(&self) -> u64 {
        self.export.size_bytes()
    }

    // Asked twice: while QEMU looks at the scratch image, then at the disk below it, the guest may
    // discard blocks, whose content goes to the scratch image and whose place on the disk reads as
    // zeros from then on. A block goes there once, so the second answer is right where the first
    // was not.
    fn next_data(&self, offset: u64) -> Result<Option<u64>, SourceError> {
        let first = self.export.next_data(offset)?;
        let second = self.export.next_data(offset)?;
        Ok(match (first, second) {
            (Some(first), Some(second)) => Some(first.min(second)),
            (found, None) | (None, found) => found,
        })
    }

    fn data_extents(&self, range: Extent) -> Result<Vec<Extent>, SourceError> {
        let mut extents = self.export.data_extents(range)?;
        extents.extend(self.export.data_extents(range)?);
        Ok(joined(extents))
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), SourceError> {
        self.export.read_exact_at(buffer, offset)
    }

    /// Looks whether QEMU still keeps what the guest overwrites.
    fn check_unchanged(&self) -> Result<(), SourceError> {
        self.keeper.check()
    }

    fn description(&self) -> &'static str {
        self.description
    }

    fn files(&self) -> Vec<FileStat> {
        Vec::new()
    }
}

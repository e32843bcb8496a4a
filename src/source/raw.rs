//! Raw images and block devices: the bytes of the file are the bytes of the disk.

use super::changes::are_unmodified;
use super::error::SourceError;
use super::file::SourceFile;
use super::{ChangedExtents, Evidence, FileIdentity, Source, require_within};
use crate::extent::Extent;
use crate::fsio::FileStat;

/// A raw image or a block device.
#[derive(Debug)]
pub(super) struct RawSource {
    file: SourceFile,
}

impl RawSource {
    pub(super) fn new(file: SourceFile) -> Self {
        Self { file }
    }
}

impl Source for RawSource {
    fn size_bytes(&self) -> u64 {
        self.file.size_bytes()
    }

    fn next_data(&self, offset: u64) -> Result<Option<u64>, SourceError> {
        match self.size_bytes() {
            size_bytes if offset < size_bytes => {
                self.file.next_data(Extent::between(offset, size_bytes))
            }
            _ => Ok(None),
        }
    }

    fn data_extents(&self, range: Extent) -> Result<Vec<Extent>, SourceError> {
        require_within(range, self.size_bytes(), self.file.path())?;
        self.file.data_extents(range)
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), SourceError> {
        let end = offset.saturating_add(buffer.len() as u64);
        require_within(Extent::between(offset, end), self.size_bytes(), self.file.path())?;
        self.file.read_exact_at(buffer, offset)
    }

    fn check_unchanged(&self) -> Result<(), SourceError> {
        self.file.check_unchanged()
    }

    fn description(&self) -> &'static str {
        if self.file.is_device() { "block device" } else { "raw image" }
    }

    fn files(&self) -> Vec<FileStat> {
        vec![*self.file.stat()]
    }

    fn identities(&self, opened: jiff::Timestamp) -> Option<Vec<FileIdentity>> {
        Some(vec![self.file.identity(opened)?])
    }

    /// Knows only whether anything was written at all.
    fn changed_since(
        &self,
        before: &[FileIdentity],
    ) -> Result<Option<ChangedExtents>, SourceError> {
        let unmodified = are_unmodified(before, &self.files());
        let changed = ChangedExtents { extents: Vec::new(), evidence: Evidence::Unmodified };
        Ok(unmodified.then_some(changed))
    }
}

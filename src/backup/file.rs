//! A small file of a machine's definition, held in memory while it is backed up.

use super::BackupError;
use crate::extent::Extent;
use crate::fsio::{FileStat, RealFileSystem, read_whole};
use crate::source::{Source, SourceError};
use crate::units::MIB;
use std::path::Path;

/// Firmware variables of 64 MiB are the largest in use (AArch64's flash).
const DEFINITION_BYTES_MAX: u64 = 64 * MIB;

/// A file's content at one moment.
#[derive(Debug)]
pub(super) struct MemorySource {
    content: Vec<u8>,
}

impl MemorySource {
    pub fn new(content: &[u8]) -> Self {
        Self { content: content.to_owned() }
    }

    pub fn read(path: &Path) -> Result<Self, BackupError> {
        let content = read_whole(&RealFileSystem, path, DEFINITION_BYTES_MAX)
            .map_err(BackupError::Definition)?;
        Ok(Self { content })
    }
}

impl Source for MemorySource {
    fn size_bytes(&self) -> u64 {
        self.content.len() as u64
    }

    fn next_data(&self, offset: u64) -> Result<Option<u64>, SourceError> {
        Ok((offset < self.size_bytes()).then_some(offset))
    }

    fn data_extents(&self, range: Extent) -> Result<Vec<Extent>, SourceError> {
        let inside = range.intersection(Extent::between(0, self.size_bytes()));
        Ok(if inside.is_empty() { Vec::new() } else { vec![inside] })
    }

    /// `buffer` lies within what [`Source::data_extents`] gave.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), SourceError> {
        let start = offset as usize;
        buffer.copy_from_slice(&self.content[start..start + buffer.len()]);
        Ok(())
    }

    fn check_unchanged(&self) -> Result<(), SourceError> {
        Ok(())
    }

    fn description(&self) -> &'static str {
        "file"
    }

    fn files(&self) -> Vec<FileStat> {
        Vec::new()
    }
}

//! Disks in files and devices to which nobody writes: holding them keeps writers out.

use super::disks::{CapturedDisk, DiskCapturer};
use crate::point::Consistency;
use crate::source::{self, Changed, DiskBase, Source, SourceError, SourceSpec};
use crate::units::Name;

impl DiskCapturer for SourceSpec {
    fn capture(
        &self,
        _: &Name,
        _: Option<&DiskBase>,
    ) -> Result<Box<dyn CapturedDisk>, SourceError> {
        Ok(Box::new(CapturedFile::new(source::open(self)?, self.quiesced)))
    }
}

/// An open disk of which nothing is known but what its files show.
#[derive(Debug)]
pub struct CapturedFile {
    source: Box<dyn Source>,
    quiesced: bool,
}

impl CapturedFile {
    /// A disk that nobody writes to. `quiesced`: only the user vouches for that.
    pub fn new(source: Box<dyn Source>, quiesced: bool) -> Self {
        Self { source, quiesced }
    }
}

impl CapturedDisk for CapturedFile {
    fn source(&self) -> &dyn Source {
        self.source.as_ref()
    }

    /// An image that nobody writes to is whole. What the user vouches for may be a snapshot of a
    /// running machine: it is like a disk after a power cut.
    fn consistency(&self) -> Consistency {
        if self.quiesced { Consistency::CrashConsistent } else { Consistency::Offline }
    }

    fn changed_since(&self, base: &DiskBase) -> Result<Changed, SourceError> {
        let DiskBase::Files { files } = base else { return Ok(Changed::Unknown(None)) };
        let changed = self.source.changed_since(files)?;
        Ok(changed.map_or(Changed::Unknown(None), Changed::Known))
    }

    fn base(&self, opened: jiff::Timestamp) -> Option<DiskBase> {
        Some(DiskBase::Files { files: self.source.identities(opened)? })
    }
}

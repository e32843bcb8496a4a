//! Disks that an NBD server exports: nobody writes to them, or they are snapshots, by what the user
//! says. Nothing here can keep other clients of the server from writing.

use super::disks::{CapturedDisk, DiskCapturer};
use super::files::CapturedFile;
use crate::nbd::{Address, Options};
use crate::source::{DiskBase, SourceError, open_nbd};
use crate::units::Name;

/// Captures an export by reading it.
#[derive(Debug, Clone)]
pub struct ExportCapturer {
    /// The export.
    pub address: Address,
    /// How to connect.
    pub options: Options,
}

impl DiskCapturer for ExportCapturer {
    fn capture(
        &self,
        _: &Name,
        _: Option<&DiskBase>,
    ) -> Result<Box<dyn CapturedDisk>, SourceError> {
        let source = open_nbd(&self.address, &self.options)?;
        // That nobody writes to it is only the user's word.
        Ok(Box::new(CapturedFile::new(Box::new(source), true)))
    }
}

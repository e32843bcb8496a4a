//! Disks that NBD servers export. Nothing keeps their other clients from writing: the user
//! vouches that nobody does, as for a snapshot.

use super::disks::{CapturedDisk, DiskCapturer};
use super::files::CapturedFile;
use crate::nbd::{Address, Options};
use crate::source::{DiskBase, SourceError, open_nbd};
use crate::units::Name;

/// Which export to read, and how to connect to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NbdSpec {
    /// The export.
    pub address: Address,
    /// How to connect.
    pub options: Options,
}

impl DiskCapturer for NbdSpec {
    fn capture(
        &self,
        _: &Name,
        _: Option<&DiskBase>,
    ) -> Result<Box<dyn CapturedDisk>, SourceError> {
        let source = open_nbd(&self.address, &self.options)?;
        Ok(Box::new(CapturedFile::new(Box::new(source), true)))
    }
}

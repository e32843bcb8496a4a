//! Captures of a disk by way of snapshots that commands make.

use super::{Snapshot, SnapshotCommands, SnapshotError, SnapshotRequest};
use crate::capture::{CaptureUser, CapturedDisk, DiskCapturer, Mark, OwnerId};
use crate::point::Consistency;
use crate::source::{
    Changed, ChangedExtents, DiskBase, Evidence, ImageFormat, Source, SourceError,
};
use crate::units::{Name, RunId};
use std::path::PathBuf;

/// Captures a disk by the user's commands.
#[derive(Debug)]
pub struct SnapshotCapturer {
    /// The commands.
    pub commands: SnapshotCommands,
    /// What a snapshot holds; `None`: find out.
    pub format: Option<ImageFormat>,
    /// The machine.
    pub machine: Name,
    /// The replica that the captures are for; `None`: they are for the machine's backups.
    pub replica: Option<Name>,
    /// This installation.
    pub owner: OwnerId,
    /// The run.
    pub run: RunId,
    /// The folder of the records.
    pub records: PathBuf,
}

impl DiskCapturer for SnapshotCapturer {
    fn capture(
        &self,
        disk: &Name,
        noted: Option<&DiskBase>,
    ) -> Result<Box<dyn CapturedDisk>, SourceError> {
        let user = match &self.replica {
            Some(replica) => CaptureUser::Replica(replica),
            None => CaptureUser::Machine(&self.machine),
        };
        let kept = match noted {
            Some(DiskBase::Snapshot { token }) => Some(token.as_str()),
            _ => None,
        };
        let snapshot = Snapshot::take(&SnapshotRequest {
            commands: &self.commands,
            format: self.format,
            machine: &self.machine,
            disk,
            mark: Mark::new(self.owner, user, disk),
            run: self.run,
            records: &self.records,
            kept,
        })?;
        Ok(Box::new(snapshot))
    }
}

impl From<SnapshotError> for SourceError {
    fn from(error: SnapshotError) -> Self {
        let is_permanent = error.is_permanent();
        Self::NotHeld { error: Box::new(error), is_permanent }
    }
}

impl CapturedDisk for Snapshot {
    fn source(&self) -> &dyn Source {
        self.source()
    }

    /// A snapshot of what may run is like a disk after a power cut.
    fn consistency(&self) -> Consistency {
        Consistency::CrashConsistent
    }

    fn changed_since(&self, base: &DiskBase) -> Result<Changed, SourceError> {
        let DiskBase::Snapshot { token } = base else { return Ok(Changed::Unknown(None)) };
        if self.as_base().is_none() {
            // Nobody expects it to be known.
            return Ok(Changed::Unknown(None));
        }
        let known = |extents| ChangedExtents { extents, evidence: Evidence::Snapshot };
        Ok(match self.changed_since(token) {
            Ok(extents) => Changed::Known(known(extents)),
            Err(reason) => Changed::Unknown(Some(reason)),
        })
    }

    fn base(&self, _: jiff::Timestamp) -> Option<DiskBase> {
        Some(DiskBase::Snapshot { token: self.as_base()?.to_owned() })
    }

    fn notes(&self) -> Vec<String> {
        self.notes().to_vec()
    }

    fn point_is_durable(&mut self) -> Vec<String> {
        self.keep()
    }
}

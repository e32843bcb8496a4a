//! Captures of a disk by way of a clone of its image.

use super::{CloneError, CloneRequest, CloneState, ImageClone, KeptClone};
use crate::capture::{CaptureUser, CapturedDisk, DiskCapturer, Mark, OwnerId};
use crate::point::Consistency;
use crate::source::{
    Changed, ChangedExtents, DiskBase, Evidence, ImageFormat, Source, SourceError, open_clone,
};
use crate::units::{Name, RunId};
use std::path::PathBuf;

/// Captures a disk by cloning its image.
#[derive(Debug)]
pub struct CloneCapturer {
    /// The image.
    pub image: PathBuf,
    /// What it holds; `None`: find out.
    pub format: Option<ImageFormat>,
    /// The machine.
    pub machine: Name,
    /// The replica that the captures are for; `None`: they are for the machine's backups.
    pub replica: Option<Name>,
    /// This installation.
    pub owner: OwnerId,
    /// The run.
    pub run: RunId,
}

impl DiskCapturer for CloneCapturer {
    fn capture(
        &self,
        disk: &Name,
        noted: Option<&DiskBase>,
    ) -> Result<Box<dyn CapturedDisk>, SourceError> {
        let kept = noted.and_then(KeptClone::noted);
        let user = match &self.replica {
            Some(replica) => CaptureUser::Replica(replica),
            None => CaptureUser::Machine(&self.machine),
        };
        let clone = ImageClone::take(&CloneRequest {
            image: &self.image,
            format: self.format,
            machine: &self.machine,
            disk,
            mark: Mark::new(self.owner, user, disk),
            run: self.run,
            kept: kept.as_ref(),
        })?;
        let source = open_clone(&clone.spec())?;
        Ok(Box::new(ClonedDisk { source, clone, kept }))
    }
}

impl From<CloneError> for SourceError {
    fn from(error: CloneError) -> Self {
        match error {
            CloneError::Image(error) => error,
            other => {
                let is_permanent = other.is_permanent();
                Self::NotHeld { error: Box::new(other), is_permanent }
            }
        }
    }
}

/// A disk in a clone of its image.
#[derive(Debug)]
struct ClonedDisk {
    source: Box<dyn Source>,
    clone: ImageClone,
    /// The clone of the point before.
    kept: Option<KeptClone>,
}

impl CapturedDisk for ClonedDisk {
    fn source(&self) -> &dyn Source {
        self.source.as_ref()
    }

    fn consistency(&self) -> Consistency {
        match self.clone.state() {
            CloneState::Quiet => Consistency::Offline,
            CloneState::InUse => Consistency::CrashConsistent,
        }
    }

    fn is_in_use(&self) -> bool {
        self.clone.state() == CloneState::InUse
    }

    fn changed_since(&self, base: &DiskBase) -> Result<Changed, SourceError> {
        let Some(base) = KeptClone::noted(base) else { return Ok(Changed::Unknown(None)) };
        let known = |extents| ChangedExtents { extents, evidence: Evidence::Reflink };
        Ok(match self.clone.changed_since(&base) {
            Ok(extents) => Changed::Known(known(extents)),
            Err(reason) => Changed::Unknown(Some(reason)),
        })
    }

    fn base(&self, _: jiff::Timestamp) -> Option<DiskBase> {
        let KeptClone { path, identity } = self.clone.as_base();
        Some(DiskBase::Clone { path, identity })
    }

    fn point_is_durable(&mut self) -> Vec<String> {
        self.clone.keep(self.kept.as_ref())
    }
}

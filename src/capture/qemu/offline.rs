//! A machine that is off: its disks are read from their images.
//!
//! The bitmap of the point before, as QEMU stored it in a qcow2 image, tells what changed. It stays
//! the base of what comes, and begins no anew: nothing is written to an image here. When the machine
//! runs again it goes on recording, so that later changes are told together with those before: too
//! many, never too few.

use super::bitmap::GRANULARITY_BYTES;
use super::names::Mark;
use super::{QemuDisk, QemuError, QemuMachine};
use crate::capture::{Bases, CapturedDisk, Held};
use crate::point::Consistency;
use crate::source::{self, Changed, ChangedExtents, DiskBase, Evidence, Source, SourceError};

/// Opens the images of a machine that is off; this keeps it from being started meanwhile.
pub(super) fn hold(machine: &QemuMachine, noted: &Bases) -> Result<Held, QemuError> {
    let held = machine.disks.iter().map(|QemuDisk { name, image, .. }| {
        let spec = image.as_ref().ok_or_else(|| QemuError::Off { path: machine.qmp.clone() })?;
        let opened = source::open(spec);
        let source = opened.map_err(|error| QemuError::Export { error: Box::new(error) })?;
        let disk = OfflineDisk::new(source, noted.get(name), &machine.mark);
        Ok((name.clone(), Box::new(disk) as Box<dyn CapturedDisk>))
    });
    Ok(Held::new(held.collect::<Result<_, QemuError>>()?))
}

#[derive(Debug)]
struct OfflineDisk {
    source: Box<dyn Source>,
    /// The bitmap of the point before, or why there is none; `None`: none was noted.
    known: Option<(DiskBase, Result<ChangedExtents, String>)>,
}

impl OfflineDisk {
    fn new(source: Box<dyn Source>, noted: Option<&DiskBase>, mark: &Mark) -> Self {
        let bitmap = noted.filter(|noted| matches!(noted, DiskBase::Bitmap { .. }));
        let known = bitmap.map(|bitmap| (bitmap.clone(), stored(source.as_ref(), bitmap, mark)));
        Self { source, known }
    }
}

/// What the bitmap of the point before tells.
fn stored(source: &dyn Source, noted: &DiskBase, mark: &Mark) -> Result<ChangedExtents, String> {
    let DiskBase::Bitmap { name, granularity_bytes, size_bytes, .. } = noted else {
        return Err("no bitmap was noted".to_owned());
    };
    if !name.starts_with(&mark.prefix()) {
        return Err(format!("the bitmap {name} was not made for this machine"));
    }
    let is = source.size_bytes();
    if is != *size_bytes {
        return Err(format!("its size changed from {size_bytes} to {is} bytes"));
    }
    let stored = source.stored_bitmap(name)?;
    if stored.granularity_bytes != *granularity_bytes
        || stored.granularity_bytes != GRANULARITY_BYTES
    {
        return Err(format!("its bitmap {name} was replaced by somebody else"));
    }
    Ok(ChangedExtents { extents: stored.extents, evidence: Evidence::Bitmap })
}

impl CapturedDisk for OfflineDisk {
    fn source(&self) -> &dyn Source {
        self.source.as_ref()
    }

    fn consistency(&self) -> Consistency {
        Consistency::Offline
    }

    fn changed_since(&self, base: &DiskBase) -> Result<Changed, SourceError> {
        if let DiskBase::Files { files } = base {
            let changed = self.source.changed_since(files)?;
            return Ok(changed.map_or(Changed::Unknown(None), Changed::Known));
        }
        Ok(match &self.known {
            Some((noted, Ok(extents))) if noted == base => Changed::Known(extents.clone()),
            Some((noted, Err(reason))) if noted == base => Changed::Unknown(Some(reason.clone())),
            _ => Changed::Unknown(None),
        })
    }

    fn base(&self, opened: jiff::Timestamp) -> Option<DiskBase> {
        match &self.known {
            Some((noted, Ok(_))) => Some(noted.clone()),
            _ => Some(DiskBase::Files { files: self.source.identities(opened)? }),
        }
    }
}

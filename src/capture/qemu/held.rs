//! A running QEMU, held at one instant.

use super::Disk;
use super::bitmap::GRANULARITY_BYTES;
use super::export::CHANGES;
use super::names::Capture;
use super::source::ScratchSource;
use super::watch::{Shared, Watch};
use crate::capture::{Bases, Captured};
use crate::point::Consistency;
use crate::source::{Changed, ChangedExtents, DiskBase, Evidence, NbdSource, Source, SourceError};
use crate::units::Name;
use std::sync::Arc;

const DESCRIPTION: &str = "disk of a running QEMU";

/// The disks, until this is dropped. The order of the fields is that in which they go.
#[derive(Debug)]
pub(super) struct HeldQemu {
    disks: Vec<HeldDisk>,
    /// Why the disks are not application-consistent, if so.
    not_frozen: Option<String>,
    /// What an earlier run left, and could not be removed.
    left: Vec<String>,
    _watch: Watch,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct HeldDisk {
    name: Name,
    source: ScratchSource,
    /// The bitmap whose copy tells what changed, or why there is none.
    base: Result<String, Option<String>>,
    /// What is noted with the new point.
    new: DiskBase,
    new_bitmap: String,
}

impl HeldQemu {
    pub fn new(
        capture: &Capture,
        disks: Vec<Disk>,
        exports: Vec<NbdSource>,
        (not_frozen, left): (Option<String>, Vec<String>),
        (shared, watch): (Arc<Shared>, Watch),
    ) -> Self {
        let held = |(disk, export): (Disk, NbdSource)| {
            let new_bitmap = capture.bitmap(&disk.name);
            let new = DiskBase::Bitmap {
                name: new_bitmap.clone(),
                node: disk.node.node_name,
                granularity_bytes: GRANULARITY_BYTES,
                size_bytes: export.size_bytes(),
            };
            let source = ScratchSource::new(export, Arc::<Shared>::clone(&shared), DESCRIPTION);
            HeldDisk { name: disk.name, source, base: disk.base, new, new_bitmap }
        };
        let disks = disks.into_iter().zip(exports).map(held).collect();
        Self { disks, not_frozen, left, _watch: watch, shared }
    }
}

impl Captured for HeldQemu {
    fn disks(&self) -> Vec<(&Name, &dyn Source)> {
        self.disks.iter().map(|disk| (&disk.name, &disk.source as &dyn Source)).collect()
    }

    fn consistency(&self) -> Consistency {
        match self.not_frozen {
            None => Consistency::ApplicationConsistent,
            Some(_) => Consistency::CrashConsistent,
        }
    }

    fn changed_since(&self, disk: &Name, base: &DiskBase) -> Result<Changed, SourceError> {
        let Some(disk) = self.disks.iter().find(|held| held.name == *disk) else {
            return Ok(Changed::Unknown(None));
        };
        let copied = match &disk.base {
            Ok(copied) => copied,
            Err(reason) => return Ok(Changed::Unknown(reason.clone())),
        };
        match base {
            DiskBase::Bitmap { name, .. } if name == copied => {
                let extents = disk.source.export().changed_extents(CHANGES)?;
                let evidence = Evidence::Bitmap;
                Ok(Changed::Known(ChangedExtents { extents, evidence }))
            }
            _ => Ok(Changed::Unknown(None)),
        }
    }

    fn bases(&self, _: jiff::Timestamp) -> Bases {
        self.disks.iter().map(|disk| (disk.name.clone(), disk.new.clone())).collect()
    }

    fn notes(&self) -> Vec<String> {
        let left = self.left.iter().map(|what| format!("left by an earlier run: {what}"));
        left.chain(self.not_frozen.clone()).collect()
    }

    fn point_is_durable(&mut self) -> Vec<String> {
        self.shared.keep_only(self.disks.iter().map(|disk| disk.new_bitmap.clone()).collect())
    }
}

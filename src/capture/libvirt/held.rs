//! A running domain, held at one instant.

use super::Disk;
use super::request::CHANGES;
use super::shared::Shared;
use crate::capture::qemu::{ScratchSource, Watch};
use crate::capture::{Bases, Captured};
use crate::point::Consistency;
use crate::source::{Changed, ChangedExtents, DiskBase, Evidence, NbdSource, Source, SourceError};
use crate::units::Name;
use std::collections::BTreeSet;
use std::sync::Arc;

const DESCRIPTION: &str = "disk of a running domain";

/// The disks, until this is dropped. The order of the fields is that in which they go.
#[derive(Debug)]
pub(super) struct HeldDomain {
    disks: Vec<HeldDisk>,
    about: About,
    _watch: Watch,
    shared: Arc<Shared>,
}

/// What belongs to a capture besides the disks.
#[derive(Debug)]
pub(super) struct About {
    /// UUID of the domain.
    pub domain: String,
    /// The new checkpoint.
    pub checkpoint: String,
    /// Why the disks are not application-consistent, if so.
    pub not_frozen: Option<String>,
    pub definition: Vec<(Name, Vec<u8>)>,
    pub notes: Vec<String>,
}

#[derive(Debug)]
struct HeldDisk {
    name: Name,
    source: ScratchSource,
    /// The checkpoint since which the export tells what changed, or why there is none.
    base: Result<String, Option<String>>,
    /// What is noted with the new point.
    new: Option<DiskBase>,
}

impl HeldDomain {
    pub fn new(
        disks: Vec<(Disk, NbdSource)>,
        about: About,
        watch: Watch,
        shared: Arc<Shared>,
    ) -> Self {
        let held = |(disk, export): (Disk, NbdSource)| {
            let new = disk.of_domain.keeps_checkpoints().then(|| DiskBase::Checkpoint {
                name: about.checkpoint.clone(),
                domain: about.domain.clone(),
                target: disk.of_domain.name.to_string(),
                size_bytes: export.size_bytes(),
            });
            let source = ScratchSource::new(export, Arc::<Shared>::clone(&shared), DESCRIPTION);
            HeldDisk { name: disk.of_domain.name, source, base: disk.base, new }
        };
        let disks = disks.into_iter().map(held).collect();
        Self { disks, about, _watch: watch, shared }
    }
}

impl Captured for HeldDomain {
    fn disks(&self) -> Vec<(&Name, &dyn Source)> {
        self.disks.iter().map(|disk| (&disk.name, &disk.source as &dyn Source)).collect()
    }

    fn consistency(&self) -> Consistency {
        match self.about.not_frozen {
            None => Consistency::ApplicationConsistent,
            Some(_) => Consistency::CrashConsistent,
        }
    }

    fn definition(&self) -> &[(Name, Vec<u8>)] {
        &self.about.definition
    }

    fn changed_since(&self, disk: &Name, base: &DiskBase) -> Result<Changed, SourceError> {
        let Some(disk) = self.disks.iter().find(|held| held.name == *disk) else {
            return Ok(Changed::Unknown(None));
        };
        let told = match &disk.base {
            Ok(told) => told,
            Err(reason) => return Ok(Changed::Unknown(reason.clone())),
        };
        match base {
            DiskBase::Checkpoint { name, size_bytes, .. } if name == told => {
                let is = disk.source.size_bytes();
                if *size_bytes != is {
                    let reason = format!("its size changed from {size_bytes} to {is} bytes");
                    return Ok(Changed::Unknown(Some(reason)));
                }
                let extents = disk.source.export().changed_extents(CHANGES)?;
                let evidence = Evidence::Bitmap;
                Ok(Changed::Known(ChangedExtents { extents, evidence }))
            }
            _ => Ok(Changed::Unknown(None)),
        }
    }

    fn bases(&self, _: jiff::Timestamp) -> Bases {
        let base = |disk: &HeldDisk| Some((disk.name.clone(), disk.new.clone()?));
        self.disks.iter().filter_map(base).collect()
    }

    fn notes(&self) -> Vec<String> {
        self.about.notes.iter().chain(&self.about.not_frozen).cloned().collect()
    }

    fn point_is_durable(&mut self) -> Vec<String> {
        self.shared.keep_only(BTreeSet::from([self.about.checkpoint.clone()]))
    }
}

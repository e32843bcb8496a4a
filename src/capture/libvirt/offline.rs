//! A domain that is shut off: its images are read as files, which keeps it from being started.

use super::domain::DomainDisk;
use super::error::LibvirtError;
use crate::capture::disks::CapturedDisk;
use crate::capture::{Bases, CaptureError, Captured, CapturedFile, Held};
use crate::point::Consistency;
use crate::source::{self, Changed, DiskBase, ImageFormat, Source, SourceError, SourceSpec};
use crate::units::Name;

/// The disks of a domain that is shut off.
#[derive(Debug)]
pub(super) struct OfflineDomain {
    held: Held,
    /// How it was shut off, where its guest did not do that itself.
    was_cut_off: Option<String>,
    definition: Vec<(Name, Vec<u8>)>,
    notes: Vec<String>,
}

impl OfflineDomain {
    /// `state`: what libvirt says of it, such as `shut off (shutdown)`.
    pub fn open(
        disks: &[DomainDisk],
        state: &str,
        definition: Vec<(Name, Vec<u8>)>,
        notes: Vec<String>,
    ) -> Result<Self, CaptureError> {
        let held = disks.iter().map(|disk| {
            let source = source::open(&spec(disk)?);
            let source = source.map_err(|error| CaptureError::disk(&disk.name, error))?;
            let file: Box<dyn CapturedDisk> = Box::new(CapturedFile::new(source, false));
            Ok((disk.name.clone(), file))
        });
        let held = Held::new(held.collect::<Result<_, CaptureError>>()?);
        Ok(Self { held, was_cut_off: cut_off(state), definition, notes })
    }
}

fn spec(disk: &DomainDisk) -> Result<SourceSpec, LibvirtError> {
    let format = match disk.format.as_str() {
        "raw" => ImageFormat::Raw,
        "qcow2" => ImageFormat::Qcow2,
        other => {
            let (disk, format) = (disk.name.to_string(), other.to_owned());
            return Err(LibvirtError::Format { disk, format });
        }
    };
    Ok(SourceSpec {
        path: disk.path.clone(),
        format: Some(format),
        must_be_device: disk.is_device,
        quiesced: false,
    })
}

/// Why the disks of a domain that is shut off may be like those of one that lost its power. Words
/// of `virsh domstate --reason`.
fn cut_off(state: &str) -> Option<String> {
    let reason = state.split_once('(')?.1.split(')').next()?.trim();
    let why = match reason {
        "saved" => "its memory is saved: its disks alone are like those of a machine without power",
        "crashed" | "destroyed" | "failed" | "daemon" => "its guest was not shut down properly",
        _ => return None,
    };
    Some(format!("{why} (libvirt says: {reason})"))
}

impl Captured for OfflineDomain {
    fn disks(&self) -> Vec<(&Name, &dyn Source)> {
        self.held.disks()
    }

    fn consistency(&self) -> Consistency {
        match self.was_cut_off {
            Some(_) => Consistency::CrashConsistent,
            None => self.held.consistency(),
        }
    }

    fn definition(&self) -> &[(Name, Vec<u8>)] {
        &self.definition
    }

    fn changed_since(&self, disk: &Name, base: &DiskBase) -> Result<Changed, SourceError> {
        self.held.changed_since(disk, base)
    }

    fn bases(&self, opened: jiff::Timestamp) -> Bases {
        self.held.bases(opened)
    }

    fn notes(&self) -> Vec<String> {
        self.notes.iter().chain(&self.was_cut_off).cloned().chain(self.held.notes()).collect()
    }

    fn point_is_durable(&mut self) -> Vec<String> {
        self.held.point_is_durable()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_that_was_cut_off_is_told() {
        for (state, is_cut_off) in [
            ("shut off (shutdown)\n", false),
            ("shut off (unknown)", false),
            ("shut off (saved)", true),
            ("shut off (destroyed)\n\n", true),
            ("", false),
        ] {
            assert_eq!(cut_off(state).is_some(), is_cut_off, "{state}");
        }
    }
}

//! How the machines of the settings are captured.

use super::OperationError;
use super::error::known;
use crate::capture::{Capturer, DiskCapturer, Disks, QemuMachine, QemuMark};
use crate::settings::{
    DiskSettings, FileSettings, MachineSettings, PlaceKind, QemuSettings, Settings, SourceSettings,
};
use crate::source::{ImageFormat, SourceSpec};
use crate::units::{Name, RepositoryId};

/// How a machine is captured to be backed up to a repository.
pub(super) fn capturer(
    machine: &MachineSettings,
    repository: RepositoryId,
) -> Result<Box<dyn Capturer>, OperationError> {
    if let Some(qemu) = qemu(machine, QemuMark::of_backups(repository, &machine.name)) {
        return Ok(Box::new(qemu));
    }
    if machine.libvirt.is_some() {
        return Err(not_yet(machine, "libvirt"));
    }
    let disks = machine.disks.iter().map(|disk| {
        let capturer: Box<dyn DiskCapturer> = match &disk.source {
            SourceSettings::File(file) if !file.cloned => Box::new(file_spec(file)),
            SourceSettings::File(_) => return Err(not_yet(machine, "reflink")),
            SourceSettings::Nbd(_) => return Err(not_yet(machine, "nbd")),
            // A machine that has one such disk has no others.
            SourceSettings::Qemu(_) => return Err(not_yet(machine, "qemu")),
            SourceSettings::Snapshot(_) => return Err(not_yet(machine, "snapshot")),
        };
        Ok((disk.name.clone(), capturer))
    });
    Ok(Box::new(Disks::new(disks.collect::<Result<_, _>>()?)))
}

/// A machine whose disks are those of a running QEMU: then all of them are of the same one.
fn qemu(machine: &MachineSettings, mark: QemuMark) -> Option<QemuMachine> {
    let disks = machine.disks.iter().filter_map(|disk| match &disk.source {
        SourceSettings::Qemu(qemu) => Some((&disk.name, qemu)),
        _ => None,
    });
    let disks: Vec<(&Name, &QemuSettings)> = disks.collect();
    let (_, first) = disks.first()?;
    let limit = disks.iter().map(|(_, qemu)| qemu.freeze_timeout).min();
    Some(QemuMachine {
        qmp: first.qmp.clone(),
        agent: first.agent.clone(),
        disks: disks.iter().map(|(name, qemu)| ((*name).clone(), qemu.device.clone())).collect(),
        scratch: first.scratch.clone(),
        freeze_limit: limit.unwrap_or(first.freeze_timeout),
        mark,
    })
}

/// The settings refuse these kinds until they can be captured.
fn not_yet(machine: &MachineSettings, kind: &'static str) -> OperationError {
    OperationError::CannotCapture { machine: machine.name.clone(), kind }
}

/// The disks of a machine that lie in files and devices, as the sources that they are read from.
pub(super) fn source_specs(
    settings: &Settings,
    machine: &Name,
) -> Result<Vec<(Name, SourceSpec)>, OperationError> {
    let (_, machine) = known(settings, "machine", &settings.machines, machine.as_str())?;
    let disks = machine.disks.iter();
    let spec = |disk: &DiskSettings| Some((disk.name.clone(), file_spec(disk.source.file()?)));
    Ok(disks.filter_map(spec).collect())
}

fn file_spec(file: &FileSettings) -> SourceSpec {
    let is_device = file.kind == PlaceKind::Device;
    SourceSpec {
        path: file.path.clone(),
        // A device is read as it is, whatever its guest made its content look like.
        format: if is_device { Some(ImageFormat::Raw) } else { file.format },
        must_be_device: is_device,
        quiesced: file.quiesced,
    }
}

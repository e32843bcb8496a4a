//! How the machines of the settings are captured.

use super::OperationError;
use super::error::known;
use crate::capture::clone::CloneCapturer;
use crate::capture::snapshot::{SnapshotCapturer, SnapshotCommands};
use crate::capture::{
    CaptureUser, Capturer, DiskCapturer, Disks, ExportCapturer, Hooked, Hooks, LibvirtMachine,
    OwnerId, QemuDisk, QemuMachine, QemuMark,
};
use crate::nbd::{Identity, Options, TlsOptions};
use crate::settings::{
    DiskSettings, FileSettings, HookSettings, MachineSettings, NbdSettings, PlaceKind,
    QemuSettings, Settings, SnapshotSettings, SourceSettings,
};
use crate::source::{ImageFormat, SourceSpec};
use crate::units::{Name, RunId};
use std::path::PathBuf;

/// The folder, within that of the local state, that tells which snapshots exist.
const SNAPSHOT_RECORDS: &str = "snapshots";

/// How a machine is captured by a run, for its backups or for a replica that is fed straight from it.
pub(super) fn capturer(
    settings: &Settings,
    machine: &MachineSettings,
    replica: Option<&Name>,
    run: RunId,
) -> Result<Box<dyn Capturer>, OperationError> {
    let user = replica.map_or(CaptureUser::Machine(&machine.name), CaptureUser::Replica);
    let capturer: Box<dyn Capturer> = if let Some(libvirt) = &machine.libvirt {
        Box::new(LibvirtMachine {
            uri: libvirt.uri.clone(),
            domain: libvirt.domain.clone(),
            scratch: libvirt.scratch.clone(),
            freeze_limit: libvirt.freeze_timeout,
            mark: QemuMark::new(OwnerId::of(&settings.state_dir)?, user),
        })
    } else if let Some(qemu) = qemu(settings, machine, replica)? {
        Box::new(qemu)
    } else {
        let disks = disks(settings, machine, replica, run)?;
        let is_hooked = machine.hooks.is_some();
        Box::new(if is_hooked { disks.held_still() } else { disks })
    };
    Ok(match &machine.hooks {
        Some(hooks) => Box::new(Hooked::new(capturer, self::hooks(machine, hooks))),
        None => capturer,
    })
}

/// The disks of a machine, each captured by itself.
fn disks(
    settings: &Settings,
    machine: &MachineSettings,
    replica: Option<&Name>,
    run: RunId,
) -> Result<Disks, OperationError> {
    let disks = machine.disks.iter().map(|disk| {
        let capturer: Box<dyn DiskCapturer> = match &disk.source {
            SourceSettings::File(file) if !file.cloned => Box::new(file_spec(file)),
            SourceSettings::File(file) => Box::new(CloneCapturer {
                image: file.path.clone(),
                format: file.format,
                machine: machine.name.clone(),
                replica: replica.cloned(),
                owner: OwnerId::of(&settings.state_dir)?,
                run,
            }),
            SourceSettings::Nbd(nbd) => Box::new(export(nbd)),
            // A machine that has one such disk has no others.
            SourceSettings::Qemu(_) => return Err(mixed(machine, "qemu")),
            SourceSettings::Snapshot(snapshot) => Box::new(SnapshotCapturer {
                commands: snapshot_commands(snapshot),
                format: snapshot.format,
                machine: machine.name.clone(),
                replica: replica.cloned(),
                owner: OwnerId::of(&settings.state_dir)?,
                run,
                records: settings.state_dir.join(SNAPSHOT_RECORDS),
            }),
        };
        Ok((disk.name.clone(), capturer))
    });
    Ok(Disks::new(disks.collect::<Result<_, _>>()?))
}

/// A machine whose disks are those of a running QEMU: if one is, the settings make sure that all
/// are, and of the same one.
fn qemu(
    settings: &Settings,
    machine: &MachineSettings,
    replica: Option<&Name>,
) -> Result<Option<QemuMachine>, OperationError> {
    let disks = machine.disks.iter().filter_map(|disk| match &disk.source {
        SourceSettings::Qemu(qemu) => Some((&disk.name, qemu)),
        _ => None,
    });
    let disks: Vec<(&Name, &QemuSettings)> = disks.collect();
    let Some((_, first)) = disks.first() else { return Ok(None) };
    let user = replica.map_or(CaptureUser::Machine(&machine.name), CaptureUser::Replica);
    let limits = disks.iter().map(|(_, qemu)| qemu.freeze_timeout);
    Ok(Some(QemuMachine {
        qmp: first.qmp.clone(),
        agent: first.agent.clone(),
        disks: disks.iter().map(|(name, qemu)| qemu_disk(name, qemu)).collect(),
        scratch: first.scratch.clone(),
        freeze_limit: limits.min().unwrap_or(first.freeze_timeout),
        mark: QemuMark::new(OwnerId::of(&settings.state_dir)?, user),
    }))
}

fn hooks(machine: &MachineSettings, hooks: &HookSettings) -> Hooks {
    // Of anything else, the capture is what is read, and the machine goes on meanwhile.
    let is_read_itself = |disk: &DiskSettings| match &disk.source {
        SourceSettings::File(file) => !file.cloned,
        SourceSettings::Nbd(_) => true,
        SourceSettings::Qemu(_) | SourceSettings::Snapshot(_) => false,
    };
    Hooks {
        machine: machine.name.clone(),
        before: hooks.before.clone(),
        after: hooks.after.clone(),
        time_limit: hooks.timeout,
        makes_consistent: hooks.consistent,
        until_read: machine.disks.iter().any(is_read_itself),
    }
}

fn export(nbd: &NbdSettings) -> ExportCapturer {
    let tls = nbd.tls.as_ref().map(|tls| TlsOptions {
        authority: tls.authority.clone(),
        identity: tls.identity.as_ref().map(|(certificates, key)| Identity {
            certificates: certificates.clone(),
            key: key.clone(),
        }),
        server_name: tls.server_name.clone(),
    });
    ExportCapturer { address: nbd.address.clone(), options: Options { tls, ..Options::default() } }
}

fn snapshot_commands(snapshot: &SnapshotSettings) -> SnapshotCommands {
    SnapshotCommands {
        create: snapshot.create.clone(),
        path: snapshot.path.clone(),
        remove: snapshot.remove.clone(),
        changed: snapshot.changed.clone(),
        time_limit: snapshot.timeout,
    }
}

fn qemu_disk(name: &Name, qemu: &QemuSettings) -> QemuDisk {
    let image = |path: &PathBuf| SourceSpec {
        path: path.clone(),
        format: qemu.format,
        must_be_device: false,
        quiesced: false,
    };
    let (name, device) = (name.clone(), qemu.device.clone());
    QemuDisk { name, device, image: qemu.image.as_ref().map(image) }
}

/// The settings refuse such a machine.
fn mixed(machine: &MachineSettings, kind: &'static str) -> OperationError {
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

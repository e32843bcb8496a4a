//! How the machines of the settings are captured.

use super::OperationError;
use super::error::known;
use crate::capture::clone::CloneCapturer;
use crate::capture::snapshot::{SnapshotCapturer, SnapshotCommands};
use crate::capture::{Capturer, DiskCapturer, Disks, ExportCapturer, Hooked, Hooks, OwnerId};
use crate::nbd::{Identity, Options, TlsOptions};
use crate::settings::{
    DiskSettings, FileSettings, HookSettings, MachineSettings, NbdSettings, PlaceKind, Settings,
    SnapshotSettings, SourceSettings,
};
use crate::source::{ImageFormat, SourceSpec};
use crate::units::{Name, RunId};

/// The folder, within that of the local state, that tells which snapshots exist.
const SNAPSHOT_RECORDS: &str = "snapshots";

/// How a machine is captured by a run, for its backups or for a replica that is fed straight from it.
pub(super) fn capturer(
    settings: &Settings,
    machine: &MachineSettings,
    replica: Option<&Name>,
    run: RunId,
) -> Result<Box<dyn Capturer>, OperationError> {
    if machine.libvirt.is_some() {
        return Err(not_yet(machine, "libvirt"));
    }
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
            SourceSettings::Qemu(_) => return Err(not_yet(machine, "qemu")),
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
    let disks = Disks::new(disks.collect::<Result<_, _>>()?);
    Ok(match &machine.hooks {
        Some(hooks) => {
            Box::new(Hooked::new(Box::new(disks.held_still()), self::hooks(machine, hooks)))
        }
        None => Box::new(disks),
    })
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

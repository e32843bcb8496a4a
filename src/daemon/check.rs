//! What a task must fulfil before it is taken on, and what it uses of this host.

use super::DaemonError;
use crate::operations::{OperationError, Task, VerifyScope, known};
use crate::settings::{PlaceKind, Settings};
use crate::units::Name;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

impl From<OperationError> for DaemonError {
    fn from(error: OperationError) -> Self {
        match error {
            OperationError::UnknownName { .. } => Self::NotFound(error.to_string()),
            other => Self::Operation(other),
        }
    }
}

/// Whether the settings know what a task names, and what it says makes sense.
pub(super) fn check(settings: &Settings, task: &Task) -> Result<(), DaemonError> {
    let machine = |name: &Name| known(settings, "machine", &settings.machines, name.as_str());
    let replica = |name: &Name| known(settings, "replica", &settings.replicas, name.as_str());
    let repository = |name: &str| known(settings, "repository", &settings.repositories, name);
    match task {
        Task::Backup { machine: name, .. } | Task::Prune { machine: name, .. } => {
            machine(name)?;
        }
        Task::Replicate { replica: name, .. } | Task::VerifyReplica { replica: name } => {
            replica(name)?;
        }
        Task::VerifyRepository { repository: name, scope } => {
            repository(name.as_str())?;
            if let VerifyScope::Sample(percent) = scope
                && !(1..=100).contains(percent)
            {
                let message = format!("a sample of {percent} % is none; say 1 to 100");
                return Err(DaemonError::Invalid(message));
            }
        }
        Task::Gc { repository: name } => {
            repository(name.as_str())?;
        }
        Task::Repair { repository: name, from, .. } => {
            repository(name.as_str())?;
            let is_place = |it: &&String| !Path::new(it).is_absolute();
            if let Some(name) = from.iter().find(is_place) {
                repository(name)?;
            }
        }
        Task::Copy { from, to, zone, .. } => {
            repository(from.as_str())?;
            repository(to.as_str())?;
            check_zone(zone.as_deref())?;
        }
        Task::Restore(task) => {
            if let Some(name) = &task.repository {
                repository(name)?;
            }
            check_zone(task.zone.as_deref())?;
            if !task.to.is_absolute() {
                let message = format!("{} is no absolute path; name one", task.to.display());
                return Err(DaemonError::Invalid(message));
            }
        }
        Task::VerifyPoint { .. } => {}
    }
    Ok(())
}

fn check_zone(zone: Option<&str>) -> Result<(), DaemonError> {
    let Some(zone) = zone else { return Ok(()) };
    match jiff::tz::TimeZone::get(zone) {
        Ok(_) => Ok(()),
        Err(_) => {
            let zone = zone.chars().take(80).collect();
            Err(DaemonError::Invalid(OperationError::UnknownZone { zone }.to_string()))
        }
    }
}

/// What a schedule knows a task by, whatever else is asked for; `None`: nothing schedules such.
pub(super) fn key(task: &Task) -> Option<String> {
    Some(match task {
        Task::Backup { machine, .. } => format!("backup {machine}"),
        Task::Replicate { replica, .. } => format!("replicate {replica}"),
        Task::VerifyReplica { replica } => format!("verify replica {replica}"),
        Task::VerifyRepository { repository, .. } => format!("verify repository {repository}"),
        Task::Prune { machine, .. } => format!("prune {machine}"),
        Task::Gc { repository } => format!("gc {repository}"),
        Task::VerifyPoint { .. } | Task::Restore(_) | Task::Copy { .. } | Task::Repair { .. } => {
            return None;
        }
    })
}

/// The disks of this host that sources and targets of a task are on; none twice. What cannot be
/// looked at is on none.
pub(super) fn disks(settings: &Settings, task: &Task) -> Vec<u64> {
    let mut disks = Vec::new();
    let mut add = |path: &Path| {
        let found = path.ancestors().find_map(|path| std::fs::metadata(path).ok());
        let number = found.map(|it| match it.file_type().is_block_device() {
            true => it.rdev(),
            false => it.dev(),
        });
        disks.extend(number);
    };
    let sources = |machine: &Name, add: &mut dyn FnMut(&Path)| {
        let machine = settings.machines.get(machine);
        let sources = machine.into_iter().flat_map(|machine| &machine.disks);
        sources.filter_map(|disk| disk.source.file()).for_each(|file| add(&file.path));
    };
    match task {
        Task::Backup { machine, .. } => sources(machine, &mut add),
        Task::Replicate { replica, .. } | Task::VerifyReplica { replica } => {
            if let Some(replica) = settings.replicas.get(replica) {
                let in_files =
                    replica.disks.iter().filter(|it| it.target_kind != PlaceKind::Export);
                in_files.for_each(|disk| add(&disk.target));
                if replica.mode == crate::settings::ReplicaMode::Direct {
                    sources(&replica.machine, &mut add);
                }
            }
        }
        Task::Restore(task) => add(&task.to),
        _ => {}
    }
    disks.sort_unstable();
    disks.dedup();
    disks
}

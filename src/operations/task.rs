//! What can be asked for, as plain data: the one way for a command line, a schedule and the API.

use super::copy::{CopyOrder, copy_machine};
use super::repair::{RepairOptions, repair_repository};
use super::restore::{RestoreRequest, prepare_restore};
use super::run::{About, execute};
use super::verify_repository::{VerifyScope, verify_point, verify_whole};
use super::{
    OperationError, Reading, RunResult, backup_machine, gc, plan_prune, prune, replicate,
    trust_changes, verify_replica,
};
use crate::catalog::RunKind;
use crate::progress::Progress;
use crate::report::Message;
use crate::settings::{ReplicaMode, Settings};
use crate::units::Name;
use jiff::tz::TimeZone;
use std::path::PathBuf;

/// A run that is asked for.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(tag = "task", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Task {
    /// Back a machine up.
    Backup {
        /// The machine.
        #[schema(value_type = String)]
        machine: Name,
        /// Read everything, whatever is known of what changed.
        #[serde(default)]
        full_read: bool,
        /// Believe again what is told of changes.
        #[serde(default)]
        trust_changes: bool,
    },
    /// Bring a replica to the newest point of its machine.
    Replicate {
        /// The replica.
        #[schema(value_type = String)]
        replica: Name,
        /// Compare and overwrite targets that hold something else.
        #[serde(default)]
        adopt: bool,
    },
    /// Compare a replica with the point that it is at.
    VerifyReplica {
        /// The replica.
        #[schema(value_type = String)]
        replica: Name,
    },
    /// Read a repository.
    VerifyRepository {
        /// The repository.
        #[schema(value_type = String)]
        repository: Name,
        /// How much of it.
        scope: VerifyScope,
    },
    /// Read what one point needs.
    VerifyPoint {
        /// The machine; it need not be in the settings any more.
        machine: String,
        /// `latest`, digits of its id, `#12` or a time.
        point: String,
    },
    /// Remove the points of a machine that need not be kept.
    Prune {
        /// The machine.
        #[schema(value_type = String)]
        machine: Name,
        /// More may go than `prune_max_percent`.
        #[serde(default)]
        yes: bool,
    },
    /// Give back the space that no point needs.
    Gc {
        /// The repository.
        #[schema(value_type = String)]
        repository: Name,
    },
    /// Write a point out.
    Restore(RestoreTask),
    /// Copy the points of a machine to another repository.
    Copy {
        /// The repository that has them.
        #[schema(value_type = String)]
        from: Name,
        /// The repository that gets them.
        #[schema(value_type = String)]
        to: Name,
        /// The machine; it need not be in the settings any more.
        #[schema(value_type = String)]
        machine: Name,
        /// Only this one: `latest`, digits of its id, `#12` or a time.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        point: Option<String>,
        /// IANA name of the zone of a time that names none; the daemon's own, if it is not given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        zone: Option<String>,
    },
    /// Mend what is damaged, and set the rest apart.
    Repair {
        /// The repository.
        #[schema(value_type = String)]
        repository: Name,
        /// Folders with copies of its files, or other repositories, that are looked into first.
        #[serde(default)]
        from: Vec<String>,
        /// Change nothing.
        #[serde(default)]
        dry_run: bool,
    },
}

/// A restore that is asked for.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RestoreTask {
    /// The machine; it need not be in the settings any more.
    pub machine: String,
    /// The repository, if not the machine's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// Only this disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub disk: Option<Name>,
    /// `latest`, digits of its id, `#12` or a time.
    pub point: String,
    /// IANA name of the zone of a time that names none; the daemon's own, if it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// An absolute path: a folder, or with one disk a file or device.
    #[schema(value_type = String)]
    pub to: PathBuf,
    /// Replace what is there.
    #[serde(default)]
    pub force: bool,
    /// Restore what can be read of a damaged point.
    #[serde(default)]
    pub skip_damaged: bool,
}

/// What a run uses, so that it is known what may run beside it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    /// What no other run may use meanwhile: `machine web01`, `repository main`, …
    pub alone: Vec<String>,
    /// What others may use too, but not alone.
    pub shared: Vec<String>,
    /// The repositories that it reads or adds to.
    pub repositories: Vec<Name>,
}

impl Task {
    /// The kind of its runs.
    pub fn kind(&self) -> RunKind {
        match self {
            Self::Backup { .. } => RunKind::Backup,
            Self::Replicate { .. } => RunKind::Replicate,
            Self::VerifyReplica { .. }
            | Self::VerifyRepository { .. }
            | Self::VerifyPoint { .. } => RunKind::Verify,
            Self::Prune { .. } => RunKind::Prune,
            Self::Gc { .. } => RunKind::Gc,
            Self::Restore(_) => RunKind::Restore,
            Self::Copy { .. } => RunKind::Copy,
            Self::Repair { .. } => RunKind::Repair,
        }
    }

    /// What is done, for people: `backup of web01`.
    pub fn describe(&self) -> String {
        match self {
            Self::Backup { machine, .. } => format!("backup of {machine}"),
            Self::Replicate { replica, .. } => format!("replication to {replica}"),
            Self::VerifyReplica { replica } => format!("verification of {replica}"),
            Self::VerifyRepository { repository, .. } => format!("verification of {repository}"),
            Self::VerifyPoint { machine, .. } => format!("verification of a point of {machine}"),
            Self::Prune { machine, .. } => format!("prune of {machine}"),
            Self::Gc { repository } => format!("collection in {repository}"),
            Self::Restore(task) => format!("restore of {}", task.machine),
            Self::Copy { machine, .. } => format!("copy of {machine}"),
            Self::Repair { repository, .. } => format!("repair of {repository}"),
        }
    }

    /// What it is about: the name of a machine, a replica or a repository.
    pub fn subject(&self) -> &str {
        match self {
            Self::Backup { machine, .. }
            | Self::Prune { machine, .. }
            | Self::Copy { machine, .. } => machine.as_str(),
            Self::VerifyPoint { machine, .. } => machine,
            Self::Restore(task) => &task.machine,
            Self::Replicate { replica, .. } | Self::VerifyReplica { replica } => replica.as_str(),
            Self::VerifyRepository { repository, .. }
            | Self::Gc { repository }
            | Self::Repair { repository, .. } => repository.as_str(),
        }
    }

    /// The machine that it concerns, as far as the settings tell.
    pub fn machine<'t>(&'t self, settings: &'t Settings) -> Option<&'t str> {
        match self {
            Self::Replicate { replica, .. } | Self::VerifyReplica { replica } => {
                settings.replicas.get(replica).map(|replica| replica.machine.as_str())
            }
            Self::VerifyRepository { .. } | Self::Gc { .. } | Self::Repair { .. } => None,
            _ => Some(self.subject()),
        }
    }

    /// What it uses.
    pub fn needs(&self, settings: &Settings) -> Needs {
        let repository_of = |machine: &str| {
            let machine = machine.parse::<Name>().ok();
            machine.and_then(|name| Some(settings.machines.get(&name)?.repository.clone()))
        };
        let (alone, repositories): (Vec<String>, Vec<Name>) = match self {
            Self::Backup { machine, .. } => (
                vec![format!("machine {machine}")],
                repository_of(machine.as_str()).into_iter().collect(),
            ),
            Self::Replicate { replica, .. } => {
                let place = settings.replicas.get(replica);
                let fed = place.filter(|place| place.mode == ReplicaMode::Backup);
                let repository = fed.and_then(|place| repository_of(place.machine.as_str()));
                (vec![format!("replica {replica}")], repository.into_iter().collect())
            }
            Self::VerifyReplica { replica } => {
                let place = settings.replicas.get(replica);
                let repository = place.and_then(|place| repository_of(place.machine.as_str()));
                (vec![format!("replica {replica}")], repository.into_iter().collect())
            }
            Self::VerifyRepository { repository, .. } => (Vec::new(), vec![repository.clone()]),
            Self::VerifyPoint { machine, .. } => {
                (Vec::new(), repository_of(machine).into_iter().collect())
            }
            Self::Prune { machine, .. } => {
                let repository = repository_of(machine.as_str());
                let alone = repository.iter().map(|name| format!("prune {name}")).collect();
                (alone, repository.into_iter().collect())
            }
            Self::Gc { repository } => (vec![format!("gc {repository}")], vec![repository.clone()]),
            Self::Restore(task) => {
                let repository = task.repository.as_deref().and_then(|name| name.parse().ok());
                let repository = repository.or_else(|| repository_of(&task.machine));
                (Vec::new(), repository.into_iter().collect())
            }
            Self::Copy { from, to, machine, .. } => {
                (vec![format!("copy of {machine} to {to}")], vec![from.clone(), to.clone()])
            }
            Self::Repair { repository, .. } => {
                return Needs {
                    alone: vec![format!("repository {repository}")],
                    shared: Vec::new(),
                    repositories: vec![repository.clone()],
                };
            }
        };
        let shared = repositories.iter().map(|name| format!("repository {name}")).collect();
        Needs { alone, shared, repositories }
    }
}

/// Does what is asked for. `tell` hears what is found meanwhile, such as damage; the summary is
/// the result.
///
/// # Errors
/// As the operation that it is.
pub fn perform(
    settings: &Settings,
    task: &Task,
    progress: &Progress,
    tell: &(dyn Fn(Message) + Sync),
) -> RunResult {
    let hear = &mut |message| tell(message);
    match task {
        Task::Backup { machine, full_read, trust_changes: trust } => {
            let reading = if *full_read { Reading::Full } else { Reading::Changes };
            if *trust && let Err(error) = trust_changes(settings, machine) {
                return refused(
                    settings,
                    About::machine(RunKind::Backup, machine),
                    progress,
                    error,
                );
            }
            backup_machine(settings, machine, reading, progress)
        }
        Task::Replicate { replica, adopt } => replicate(settings, replica, *adopt, progress),
        Task::VerifyReplica { replica } => verify_replica(settings, replica, progress),
        Task::VerifyRepository { repository, scope } => {
            verify_whole(settings, repository, *scope, progress, hear)
        }
        Task::VerifyPoint { machine, point } => {
            verify_point(settings, machine, point, progress, hear)
        }
        Task::Prune { machine, yes } => {
            let planned = plan_prune(settings, machine);
            prune(settings, machine, planned, *yes, progress)
        }
        Task::Gc { repository } => gc(settings, repository, progress),
        Task::Restore(task) => restore(settings, task, progress),
        Task::Copy { from, to, machine, point, zone } => {
            let about = About::machine(RunKind::Copy, machine);
            let order = zone_of(zone.as_deref()).and_then(|zone| {
                CopyOrder::new(settings, from.as_str(), to.as_str(), point.clone(), zone)
            });
            match order {
                Ok(order) => copy_machine(settings, &order, machine, progress),
                Err(error) => refused(settings, about, progress, error),
            }
        }
        Task::Repair { repository, from, dry_run } => {
            let options = RepairOptions { from: from.clone(), dry_run: *dry_run };
            repair_repository(settings, repository, &options, progress, hear, &mut || true)
        }
    }
}

fn restore(settings: &Settings, task: &RestoreTask, progress: &Progress) -> RunResult {
    let prepared = zone_of(task.zone.as_deref()).and_then(|zone| {
        let request = RestoreRequest {
            machine: task.machine.clone(),
            repository: task.repository.clone(),
            disk: task.disk.clone(),
            point: task.point.clone(),
            zone,
            to: task.to.clone(),
            force: task.force,
            skip_damaged: task.skip_damaged,
        };
        prepare_restore(settings, &request)
    });
    match prepared {
        Ok(prepared) => prepared.run(progress),
        Err(error) => refused(settings, About::anything(RunKind::Restore), progress, error),
    }
}

/// A run that could not begin.
fn refused(
    settings: &Settings,
    about: About,
    progress: &Progress,
    error: OperationError,
) -> RunResult {
    execute(settings, about, progress, |_| Err(error))
}

fn zone_of(name: Option<&str>) -> Result<TimeZone, OperationError> {
    match name {
        None => Ok(TimeZone::system()),
        Some(name) => {
            TimeZone::get(name).map_err(|_| OperationError::UnknownZone { zone: name.to_owned() })
        }
    }
}

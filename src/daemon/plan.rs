//! What the settings say is to run by itself.

use super::check::key;
use crate::catalog::RunKind;
use crate::operations::{Task, VerifyScope};
use crate::report::DueLine;
use crate::schedule::{DueTimes, ScheduleError, ScheduledTask, When};
use crate::settings::{
    MachineSettings, ReplicaMode, ReplicaSettings, RepositorySettings, Schedule, Settings,
    TimingSettings, Trigger,
};
use crate::units::Name;
use std::collections::HashMap;

/// What a scheduled task does.
#[derive(Debug, Clone)]
pub(super) struct Work {
    pub task: Task,
    /// How often it is tried again.
    pub retries: u32,
    /// The expression; `None`: it follows the backups of its machine.
    expression: Option<String>,
    machine: Option<Name>,
    replica: Option<Name>,
    repository: Option<Name>,
}

impl Work {
    /// What is told of it, without a time.
    pub fn due_line(&self) -> DueLine {
        DueLine {
            work: self.task.describe(),
            kind: self.task.kind(),
            machine: self.machine.clone(),
            replica: self.replica.clone(),
            repository: self.repository.clone(),
            schedule: self.expression.clone(),
            next: None,
            held: None,
        }
    }

    /// The machine and replica that a replica's run is about.
    pub fn follows(&self) -> Option<(&Name, &Name)> {
        let is_follower = self.expression.is_none() && self.task.kind() == RunKind::Replicate;
        self.machine.as_ref().zip(self.replica.as_ref()).filter(|_| is_follower)
    }
}

/// All that runs by itself.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub tasks: Vec<ScheduledTask>,
    pub works: HashMap<String, Work>,
}

/// The plan of the settings.
///
/// # Errors
/// When a schedule or a zone cannot be used, which the settings should have found.
pub(super) fn plan(settings: &Settings) -> Result<Plan, ScheduleError> {
    let mut plan = Plan::default();
    for machine in settings.machines.values() {
        plan.add_machine(machine)?;
    }
    for replica in settings.replicas.values() {
        plan.add_replica(settings, replica)?;
    }
    for repository in settings.repositories.values() {
        plan.add_upkeep(settings, repository)?;
    }
    Ok(plan)
}

/// What else than its task a scheduled task is known by.
struct About<'a> {
    machine: Option<&'a Name>,
    replica: Option<&'a Name>,
    repository: Option<&'a Name>,
}

impl Plan {
    fn add_machine(&mut self, machine: &MachineSettings) -> Result<(), ScheduleError> {
        let Some(schedule) = &machine.schedule else { return Ok(()) };
        let about = About {
            machine: Some(&machine.name),
            replica: None,
            repository: Some(&machine.repository),
        };
        self.add(backup(&machine.name), Some(schedule), &machine.timing, &about)
    }

    fn add_replica(
        &mut self,
        settings: &Settings,
        replica: &ReplicaSettings,
    ) -> Result<(), ScheduleError> {
        let machine = settings.machines.get(&replica.machine);
        let repository = machine.map(|machine| &machine.repository);
        let fed = replica.mode == ReplicaMode::Backup;
        let about = About {
            machine: Some(&replica.machine),
            replica: Some(&replica.name),
            repository: repository.filter(|_| fed),
        };
        let task = Task::Replicate { replica: replica.name.clone(), adopt: false };
        match &replica.trigger {
            Trigger::AfterBackup => self.add(task, None, &replica.timing, &about)?,
            Trigger::Schedule(schedule) => {
                self.add(task, Some(schedule), &replica.timing, &about)?;
            }
            Trigger::Manual => {}
        }
        let Some(schedule) = &replica.verify else { return Ok(()) };
        let task = Task::VerifyReplica { replica: replica.name.clone() };
        self.add(task, Some(schedule), &replica.timing, &About { repository, ..about })
    }

    fn add_upkeep(
        &mut self,
        settings: &Settings,
        repository: &RepositorySettings,
    ) -> Result<(), ScheduleError> {
        let (name, upkeep) = (&repository.name, &repository.upkeep);
        let about = About { machine: None, replica: None, repository: Some(name) };
        if let Some(schedule) = &upkeep.gc {
            let task = Task::Gc { repository: name.clone() };
            self.add(task, Some(schedule), &upkeep.timing, &about)?;
        }
        if let Some(schedule) = &upkeep.verify {
            let scope = match upkeep.verify_percent {
                100.. => VerifyScope::All,
                percent => VerifyScope::Sample(percent),
            };
            let task = Task::VerifyRepository { repository: name.clone(), scope };
            self.add(task, Some(schedule), &upkeep.timing, &about)?;
        }
        let Some(schedule) = &upkeep.prune else { return Ok(()) };
        let machines = settings.machines.values();
        for machine in machines.filter(|it| it.repository == *name && it.keep.is_some()) {
            let task = Task::Prune { machine: machine.name.clone(), yes: false };
            let about = About { machine: Some(&machine.name), ..about };
            self.add(task, Some(schedule), &upkeep.timing, &about)?;
        }
        Ok(())
    }

    /// `schedule` is `None` for what follows the backups of its machine.
    fn add(
        &mut self,
        task: Task,
        schedule: Option<&Schedule>,
        timing: &TimingSettings,
        about: &About<'_>,
    ) -> Result<(), ScheduleError> {
        let Some(key) = key(&task) else { return Ok(()) };
        let when = match (schedule, about.machine) {
            (Some(schedule), _) => When::Schedule(DueTimes::new(schedule)?),
            (None, Some(machine)) => When::After(backup_key(machine)),
            (None, None) => return Ok(()),
        };
        let mut scheduled = ScheduledTask::new(key.clone(), when, timing)?;
        let subjects = [
            ("machine", about.machine),
            ("replica", about.replica),
            ("repository", about.repository),
        ];
        let subjects = subjects.into_iter().filter_map(|(kind, name)| Some((kind, name?)));
        scheduled.subjects = subjects.map(|(kind, name)| format!("{kind} {name}")).collect();
        scheduled.prunes = task.kind() == RunKind::Prune;
        self.tasks.push(scheduled);
        // As the records of its runs: a machine's or replica's repository goes without saying.
        let is_whole = about.machine.is_none() && about.replica.is_none();
        let work = Work {
            task,
            retries: timing.retry.times,
            expression: schedule.map(|schedule| schedule.expression.clone()),
            machine: about.machine.cloned(),
            replica: about.replica.cloned(),
            repository: about.repository.filter(|_| is_whole).cloned(),
        };
        self.works.insert(key, work);
        Ok(())
    }
}

fn backup(machine: &Name) -> Task {
    Task::Backup { machine: machine.clone(), full_read: false, trust_changes: false }
}

/// The key of a machine's backups.
pub(super) fn backup_key(machine: &Name) -> String {
    // There is one: backups can be scheduled.
    key(&backup(machine)).unwrap_or_default()
}

//! The state of machines and replicas, many at a time.

use super::status::record;
use crate::catalog::{Catalog, History, NewestPoint, RunFacts, RunKind, RunStatus, is_running};
use crate::destination::{ReplicaRecord, State};
use crate::report::{LastRun, MachineStatus, PointAt, ReplicaStatus};
use crate::settings::{MachineSettings, ReplicaSettings, Settings};
use crate::units::Name;
use jiff::Timestamp;
use std::collections::BTreeMap;

/// What a repository tells of the points of its machines.
pub(super) struct Points<'r> {
    pub catalog: &'r Catalog,
    pub newest: BTreeMap<Name, NewestPoint>,
}

/// What is known of all of them.
pub(super) struct Known<'k> {
    settings: &'k Settings,
    points: BTreeMap<&'k Name, Points<'k>>,
    history: Option<&'k History>,
    runs: BTreeMap<(RunKind, Option<&'k Name>, Option<&'k Name>), &'k RunFacts>,
    now: Timestamp,
}

impl<'k> Known<'k> {
    pub fn new(
        settings: &'k Settings,
        points: BTreeMap<&'k Name, Points<'k>>,
        history: Option<&'k History>,
        runs: &'k [RunFacts],
        now: Timestamp,
    ) -> Self {
        let wanted =
            runs.iter().filter(|it| matches!(it.kind, RunKind::Backup | RunKind::Replicate));
        let runs = wanted.map(|it| ((it.kind, it.machine.as_ref(), it.replica.as_ref()), it));
        Self { settings, points, history, runs: runs.collect(), now }
    }

    pub fn machine(&self, machine: &MachineSettings) -> MachineStatus {
        let (name, repository) = (&machine.name, &machine.repository);
        let points = self.points.get(repository);
        let found = points.and_then(|points| points.newest.get(name));
        let newest = found.map(point_at);
        MachineStatus {
            machine: name.clone(),
            repository: repository.clone(),
            points: points.map(|_| found.map_or(0, |found| found.count)),
            age_s: newest.map(|newest| seconds_between(newest.time, self.now)),
            newest,
            last_run: self.last(RunKind::Backup, name, None),
            objective: None,
        }
    }

    pub fn replica(&self, replica: &ReplicaSettings) -> ReplicaStatus {
        let mut status = ReplicaStatus {
            replica: replica.name.clone(),
            machine: replica.machine.clone(),
            state: "unknown".to_owned(),
            at: None,
            lag_points: None,
            lag_s: None,
            lag_bytes: None,
            direct: false,
            last_run: self.last(RunKind::Replicate, &replica.machine, Some(&replica.name)),
            problem: None,
            objective: None,
        };
        match record(self.settings, replica) {
            Ok(None) => status.state = "never seeded".to_owned(),
            Ok(Some(record)) => self.describe(&record, &mut status),
            Err(error) => status.problem = Some(error.to_string()),
        }
        status
    }

    fn last(&self, kind: RunKind, machine: &Name, replica: Option<&Name>) -> Option<LastRun> {
        let facts = self.runs.get(&(kind, Some(machine), replica))?;
        let is_open = facts.status == RunStatus::Running;
        Some(LastRun {
            run: facts.run,
            status: facts.status,
            started: facts.started,
            reason: facts.reason.clone(),
            cut_off: is_open && !is_running(&self.settings.state_dir, facts.run),
        })
    }

    fn describe(&self, record: &ReplicaRecord, status: &mut ReplicaStatus) {
        let (state, at) = (&record.state, record.state.point());
        status.state = state.word().to_owned();
        status.at = Some(at.into());
        status.direct = record.direct.is_some();
        // While it is seeded it holds no point that anything could be behind.
        if matches!(state, State::Seeding { .. }) {
            return;
        }
        let machine = self.settings.machines.get(&status.machine);
        let Some(points) = machine.and_then(|machine| self.points.get(&machine.repository)) else {
            return;
        };
        let Some(newest) = points.newest.get(&status.machine) else {
            status.lag_points = Some(0);
            return;
        };
        status.lag_s = Some(seconds_between(at.time, newest.time));
        // A capture has no number among the points, and may be newer than all of them.
        let newer = match status.direct {
            false if newest.sequence <= at.sequence => Ok(0),
            false => points.catalog.points_after(&status.machine, at.sequence),
            true if newest.time <= at.time => Ok(0),
            true => points
                .catalog
                .points(Some(&status.machine))
                .map(|all| all.iter().filter(|point| point.manifest.time > at.time).count()),
        };
        match newer {
            Ok(newer) => status.lag_points = Some(newer),
            Err(error) => status.problem = Some(error.to_string()),
        }
        status.lag_bytes = match status.lag_points {
            Some(0) => Some(0),
            // Without the history it is not known; that is a warning of its own.
            _ => self.history.and_then(|it| it.bytes_changed(&status.machine, at.time, at.id).ok()),
        };
    }
}

fn point_at(newest: &NewestPoint) -> PointAt {
    PointAt { point: newest.id, sequence: newest.sequence, time: newest.time }
}

fn seconds_between(earlier: Timestamp, later: Timestamp) -> u64 {
    // A clock that was set back makes nothing older than new.
    u64::try_from(later.as_second() - earlier.as_second()).unwrap_or(0)
}

//! What there is: points, and the state of everything.

use super::error::known;
use super::find::point_lines;
use super::open::open_repository;
use super::{OpenRepository, OperationError, damage, points, replicate};
use crate::catalog::{History, RunKind, RunRecord};
use crate::destination::{ReplicaRecord, State, Superblock};
use crate::fsio::{FileSystem, RealFileSystem};
use crate::point::Point;
use crate::report::{LastRun, MachineStatus, PointAt, PointLine, ReplicaStatus, RepositoryStatus};
use crate::settings::{ReplicaSettings, RepositorySettings, Settings};
use crate::units::{Name, RepositoryId};
use jiff::Timestamp;
use std::collections::BTreeMap;

/// The points of a repository.
#[derive(Debug, Clone, PartialEq)]
pub struct PointsReport {
    /// The points, by machine, the oldest first.
    pub points: Vec<PointLine>,
    /// What is damaged.
    pub warnings: Vec<String>,
}

/// The state of everything that the settings name.
#[derive(Debug, Clone, PartialEq)]
pub struct StatusReport {
    /// Repositories.
    pub repositories: Vec<RepositoryStatus>,
    /// Machines.
    pub machines: Vec<MachineStatus>,
    /// Replicas.
    pub replicas: Vec<ReplicaStatus>,
    /// What could not be found out.
    pub warnings: Vec<String>,
}

impl StatusReport {
    /// Whether all that was asked for could be found out, and nothing is damaged.
    pub fn is_complete(&self) -> bool {
        self.warnings.is_empty()
            && self.repositories.iter().all(|r| r.reachable && r.damages.is_empty())
            && self.replicas.iter().all(|replica| replica.problem.is_none())
    }

    /// Everything that is not as it should be, in words.
    pub fn all_warnings(&self) -> Vec<String> {
        let mut all = self.warnings.clone();
        for status in &self.repositories {
            let name = &status.repository;
            let of = |what: &String| format!("repository {name}: {what}");
            all.extend(status.damages.iter().chain(&status.problem).map(of));
        }
        for status in &self.replicas {
            let name = &status.replica;
            all.extend(status.problem.iter().map(|what| format!("replica {name}: {what}")));
        }
        all
    }
}

/// The points of all machines in a repository of the settings.
///
/// # Errors
/// When the repository cannot be opened or listed. Damaged points are no error, but warnings.
pub fn repository_points(
    settings: &Settings,
    repository: &Name,
) -> Result<PointsReport, OperationError> {
    let (name, _) = known(settings, "repository", &settings.repositories, repository.as_str())?;
    let open = open_repository(settings, name)?;
    let report = open.catalog.sync(&open.repository)?;
    let all = open.catalog.points(None)?;
    let lines = point_lines(settings, name, &open, &all);
    let warnings = report.damages.iter().map(|found| damage::describe(&open, found));
    let mut report = PointsReport { points: lines, warnings: warnings.collect() };
    points::add_holds(settings, &open, &mut report.points, &mut report.warnings);
    Ok(report)
}

/// The state of everything. What cannot be reached is told as that; nothing is waited for or
/// locked.
pub fn status(settings: &Settings, now: Timestamp) -> StatusReport {
    let mut warnings = Vec::new();
    let history = match History::open(&settings.state_dir) {
        Ok(history) => Some(history),
        Err(error) => {
            warnings.push(format!("the last runs are not known: {error}"));
            None
        }
    };
    let last = |kind, machine: &Name, replica: Option<&Name>| {
        let found = history.as_ref()?.last(kind, machine, replica).ok().flatten();
        found.map(last_run)
    };
    let distrust = settings.machines.keys().filter_map(|machine| {
        let tracking = history.as_ref()?.tracking(machine).ok()?;
        let disks = tracking.into_iter().filter_map(|(disk, tracking)| {
            let since = tracking.distrust?.since;
            Some(format!(
                "machine {machine}, disk {disk}: what is told of its changes is not believed since \
                 {since}, when it told of too few; every backup reads all of it, until `afterimage \
                 backup now {machine} --trust-changes`"
            ))
        });
        Some(disks.collect::<Vec<_>>())
    });
    let distrust: Vec<String> = distrust.flatten().collect();
    let mut points: BTreeMap<&Name, Vec<Point>> = BTreeMap::new();
    let mut repositories = Vec::new();
    for (name, place) in &settings.repositories {
        let (status, found) = repository_status(settings, place);
        repositories.push(status);
        points.extend(found.map(|found| (name, found)));
    }
    let machines = settings.machines.values().map(|machine| {
        let own = points.get(&machine.repository).map(|all| of_machine(all, &machine.name));
        let newest = own.as_ref().and_then(|own| own.last()).map(|point| PointAt::from(*point));
        MachineStatus {
            machine: machine.name.clone(),
            repository: machine.repository.clone(),
            points: own.map(|own| own.len()),
            age_s: newest.map(|newest| seconds_between(newest.time, now)),
            newest,
            last_run: last(RunKind::Backup, &machine.name, None),
        }
    });
    let machines = machines.collect();
    let replicas = settings.replicas.values().map(|replica| {
        let repository = settings.machines.get(&replica.machine).map(|m| &m.repository);
        let own = repository.and_then(|name| points.get(name));
        let own = own.map(|all| of_machine(all, &replica.machine));
        let mut status = replica_status(settings, replica, own.as_deref());
        status.last_run = last(RunKind::Replicate, &replica.machine, Some(&replica.name));
        status
    });
    let replicas = replicas.collect();
    warnings.extend(distrust);
    StatusReport { repositories, machines, replicas, warnings }
}

/// The points of a machine, the oldest first.
fn of_machine<'p>(points: &'p [Point], machine: &Name) -> Vec<&'p Point> {
    points.iter().filter(|point| &point.manifest.machine == machine).collect()
}

fn last_run(record: RunRecord) -> LastRun {
    let RunRecord { id, started, outcome, .. } = record;
    LastRun { run: id, status: outcome.status, started, reason: outcome.reason }
}

fn seconds_between(earlier: Timestamp, later: Timestamp) -> u64 {
    // A clock that was set back makes nothing older than new.
    u64::try_from(later.as_second() - earlier.as_second()).unwrap_or(0)
}

fn repository_status(
    settings: &Settings,
    place: &RepositorySettings,
) -> (RepositoryStatus, Option<Vec<Point>>) {
    let mut status = RepositoryStatus {
        repository: place.name.clone(),
        path: place.path.display().to_string(),
        reachable: false,
        id: None,
        points: None,
        packs: None,
        packs_bytes: None,
        free_bytes: RealFileSystem.free_bytes(&place.path).ok(),
        damages: Vec::new(),
        problem: None,
    };
    match look_into(settings, &place.name, &mut status) {
        Ok(points) => (status, Some(points)),
        Err(error) => {
            status.problem = Some(error.to_string());
            (status, None)
        }
    }
}

fn look_into(
    settings: &Settings,
    name: &Name,
    status: &mut RepositoryStatus,
) -> Result<Vec<Point>, OperationError> {
    let open: OpenRepository = open_repository(settings, name)?;
    let report = open.catalog.sync(&open.repository)?;
    let packs = open.repository.list_packs()?;
    let points = open.catalog.points(None)?;
    status.reachable = true;
    status.id = Some(open.repository.header().id);
    status.points = Some(points.len());
    status.packs = Some(packs.len());
    status.packs_bytes = Some(packs.iter().map(|(_, bytes)| bytes).sum());
    status.damages = report.damages.iter().map(ToString::to_string).collect();
    status.damages.extend(damaged_points(settings, name, open.repository.header().id, &points));
    Ok(points)
}

/// Points of which a verification found damage, in words.
fn damaged_points(
    settings: &Settings,
    name: &Name,
    id: RepositoryId,
    points: &[Point],
) -> Vec<String> {
    // A history that cannot be read is a warning of its own.
    let verified = History::open(&settings.state_dir)
        .and_then(|history| history.verified_points(id))
        .unwrap_or_default();
    let damaged = points.iter().filter_map(|point| {
        let found = verified.get(&point.id).filter(|found| !found.is_good)?;
        let manifest = &point.manifest;
        Some(format!(
            "point {} #{} ({}) cannot be restored in full, by the verification of {}; run \
             `afterimage repair {name}`",
            manifest.machine,
            manifest.sequence.0,
            point.id.short(),
            found.time
        ))
    });
    damaged.collect()
}

fn replica_status(
    settings: &Settings,
    replica: &ReplicaSettings,
    points: Option<&[&Point]>,
) -> ReplicaStatus {
    let mut status = ReplicaStatus {
        replica: replica.name.clone(),
        machine: replica.machine.clone(),
        state: "unknown".to_owned(),
        at: None,
        lag_points: None,
        lag_s: None,
        direct: false,
        last_run: None,
        problem: None,
    };
    match record(settings, replica) {
        Ok(None) => status.state = "never seeded".to_owned(),
        Ok(Some(record)) => describe_state(&record, points, &mut status),
        Err(error) => status.problem = Some(error.to_string()),
    }
    status
}

pub(super) fn record(
    settings: &Settings,
    replica: &ReplicaSettings,
) -> Result<Option<ReplicaRecord>, OperationError> {
    let path = replicate::home(settings, replica).superblock();
    if RealFileSystem.stat(&path)?.is_none() {
        return Ok(None);
    }
    let record = Superblock::read_only(&RealFileSystem, &path, &replica.name);
    Ok(Some(record.map_err(crate::replay::ReplayError::from)?))
}

fn describe_state(record: &ReplicaRecord, points: Option<&[&Point]>, status: &mut ReplicaStatus) {
    let (state, at) = (&record.state, record.state.point());
    status.state = state.word().to_owned();
    status.at = Some(at.into());
    status.direct = record.direct.is_some();
    // While it is seeded it holds no point that anything could be behind.
    if matches!(state, State::Seeding { .. }) {
        return;
    }
    let Some(points) = points else { return };
    // A capture has no number among the points, and may be newer than all of them.
    let is_newer = |point: &&&Point| match status.direct {
        true => point.manifest.time > at.time,
        false => point.manifest.sequence > at.sequence,
    };
    let newer = points.iter().filter(is_newer);
    status.lag_points = Some(newer.count());
    let newest = points.last().map(|point| point.manifest.time);
    status.lag_s = newest.map(|newest| seconds_between(at.time, newest));
}

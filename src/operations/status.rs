//! What there is: points, and the state of everything.

use super::error::known;
use super::find::point_lines;
use super::followed::{Known, Points};
use super::objectives::{LiveFacts, Noted, objective_lines};
use super::open::{OpenCatalog, open_catalog_alone, open_repository};
use super::{OpenRepository, OperationError, damage, points, replicate};
use crate::catalog::{Catalog, Distrust, History, NewestPoint, RunFacts};
use crate::destination::{ReplicaRecord, Superblock, SuperblockError};
use crate::fsio::{FileSystem, RealFileSystem};
use crate::report::{
    MachineStatus, ObjectiveLine, ObjectiveState, PointLine, ReplicaStatus, RepositoryStatus,
};
use crate::settings::{ReplicaSettings, RepositorySettings, Settings};
use crate::store::Layout;
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
    /// What is known of the runs of everything.
    pub runs: Vec<RunFacts>,
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

    /// What is late, or will be: why, and what to do.
    pub fn late(&self) -> Vec<String> {
        let machines = self.machines.iter().map(|it| ("machine", &it.machine, &it.objective));
        let replicas = self.replicas.iter().map(|it| ("replica", &it.replica, &it.objective));
        let late = machines.chain(replicas).filter_map(|(what, name, objective)| {
            let line = objective.as_ref()?;
            let word = match line.state {
                ObjectiveState::Missed => "late",
                ObjectiveState::AtRisk => "at risk of being late",
                ObjectiveState::Met | ObjectiveState::Unknown => return None,
            };
            Some(format!("{what} {name} is {word}: {}", line.reason.as_deref().unwrap_or_default()))
        });
        late.collect()
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
    status_live(settings, now, &LiveFacts::default())
}

/// As [`status`], with what a daemon knows besides.
pub fn status_live(settings: &Settings, now: Timestamp, live: &LiveFacts) -> StatusReport {
    let mut warnings = Vec::new();
    let history = History::open(&settings.state_dir);
    let runs = history
        .as_ref()
        .map_err(ToString::to_string)
        .and_then(|history| history.run_facts().map_err(|error| error.to_string()));
    let runs = runs.unwrap_or_else(|error| {
        warnings.push(format!("the last runs are not known: {error}"));
        Vec::new()
    });
    let history = history.ok();
    let mut repositories = Vec::new();
    let mut opened = BTreeMap::new();
    for (name, place) in &settings.repositories {
        let seen = live.repositories.iter().find(|seen| seen.repository == *name);
        let (status, found) = repository_status(settings, place, history.as_ref(), seen);
        repositories.push(status);
        opened.extend(found.map(|found| (name, found)));
    }
    let points = opened.iter_mut().map(|(name, (looked, newest))| {
        let newest = std::mem::take(newest);
        (*name, Points { catalog: looked.catalog(), newest })
    });
    let known = Known::new(settings, points.collect(), history.as_ref(), &runs, now);
    let machines = settings.machines.values().map(|machine| known.machine(machine)).collect();
    let replicas = settings.replicas.values().map(|replica| known.replica(replica)).collect();
    warnings.extend(distrusted(settings, history.as_ref()));
    let mut report = StatusReport { repositories, machines, replicas, runs, warnings };
    add_objectives(settings, &mut report, live, history.as_ref(), now);
    report
}

/// Tells of each machine and replica that has an objective how well it is met.
fn add_objectives(
    settings: &Settings,
    report: &mut StatusReport,
    live: &LiveFacts,
    history: Option<&History>,
    now: Timestamp,
) {
    // A history that cannot be read is a warning of its own.
    let open = history.and_then(|it| it.open_objectives().ok()).unwrap_or_default();
    let noted = Noted { open: &open, compliance: &BTreeMap::new(), first_seen: None };
    let lines = objective_lines(settings, report, live, &noted, now);
    let mut lines: BTreeMap<(Name, Option<Name>), ObjectiveLine> = lines
        .into_iter()
        .map(|line| ((line.machine.clone(), line.replica.clone()), line))
        .collect();
    for status in &mut report.machines {
        status.objective = lines.remove(&(status.machine.clone(), None));
    }
    for status in &mut report.replicas {
        let key = (status.machine.clone(), Some(status.replica.clone()));
        status.objective = lines.remove(&key);
    }
}

/// What is to be said of disks whose source is not believed.
fn distrusted(settings: &Settings, history: Option<&History>) -> Vec<String> {
    let found = history.and_then(|history| history.distrusted().ok()).unwrap_or_default();
    let known = found.into_iter().filter(|(machine, ..)| settings.machines.contains_key(machine));
    let text = known.map(|(machine, disk, Distrust { since, .. })| {
        format!(
            "machine {machine}, disk {disk}: what is told of its changes is not believed since \
             {since}, when it told of too few; every backup reads all of it, until `afterimage \
             backup now {machine} --trust-changes`"
        )
    });
    text.collect()
}

/// What was opened to look into a repository.
enum Looked {
    Repository(Box<OpenRepository>),
    /// What a daemon saw of the repository lately will do: it is not listed, and takes no key.
    Catalog(Box<OpenCatalog>),
}

impl Looked {
    fn catalog(&self) -> &Catalog {
        match self {
            Self::Repository(open) => &open.catalog,
            Self::Catalog(open) => &open.catalog,
        }
    }
}

type LookedWithNewest = (Looked, BTreeMap<Name, NewestPoint>);

fn repository_status(
    settings: &Settings,
    place: &RepositorySettings,
    history: Option<&History>,
    seen: Option<&RepositoryStatus>,
) -> (RepositoryStatus, Option<LookedWithNewest>) {
    let mut status = RepositoryStatus {
        repository: place.name.clone(),
        path: place.path.display().to_string(),
        reachable: false,
        id: None,
        points: None,
        packs: None,
        packs_bytes: None,
        free_bytes: RealFileSystem.free_bytes(&place.path).ok(),
        damaged_points: 0,
        damages: Vec::new(),
        problem: None,
    };
    match look_into(settings, place, history, seen, &mut status) {
        Ok(found) => (status, Some(found)),
        Err(error) => {
            status.problem = Some(error.to_string());
            (status, None)
        }
    }
}

fn look_into(
    settings: &Settings,
    place: &RepositorySettings,
    history: Option<&History>,
    seen: Option<&RepositoryStatus>,
    status: &mut RepositoryStatus,
) -> Result<LookedWithNewest, OperationError> {
    let name = &place.name;
    let is_there = || {
        let header = Layout::new(place.path.clone()).header();
        RealFileSystem.stat(&header).is_ok_and(|found| found.is_some())
    };
    // Where something was wrong, it may not be any more; and the daemon may have other settings.
    let fine =
        seen.filter(|seen| seen.path == status.path && seen.damages.is_empty() && is_there());
    let (looked, id) = match fine.and_then(|seen| Some((seen, seen.id?))) {
        Some((seen, id)) => {
            (status.packs, status.packs_bytes) = (seen.packs, seen.packs_bytes);
            let open = open_catalog_alone(settings, name, id, || Ok(seen.packs != Some(0)))?;
            (Looked::Catalog(Box::new(open)), id)
        }
        None => {
            let open = open_repository(settings, name)?;
            let report = open.catalog.sync(&open.repository)?;
            status.packs = Some(report.packs);
            status.packs_bytes = Some(report.packs_bytes);
            status.damages = report.damages.iter().map(ToString::to_string).collect();
            let id = open.repository.header().id;
            (Looked::Repository(Box::new(open)), id)
        }
    };
    let newest = looked.catalog().newest_points()?;
    status.reachable = true;
    status.id = Some(id);
    status.points = Some(newest.values().map(|newest| newest.count).sum());
    let damaged = damaged_points(looked.catalog(), name, id, history)?;
    status.damaged_points = damaged.len();
    status.damages.extend(damaged);
    Ok((looked, newest))
}

/// Points of which a verification found damage, in words.
fn damaged_points(
    catalog: &Catalog,
    name: &Name,
    id: RepositoryId,
    history: Option<&History>,
) -> Result<Vec<String>, OperationError> {
    // A history that cannot be read is a warning of its own.
    let found = history.and_then(|history| history.damaged_points(id).ok()).unwrap_or_default();
    let points = catalog.points_named(found.keys().copied())?;
    let damaged = points.iter().filter_map(|point| {
        let manifest = &point.manifest;
        Some(format!(
            "point {} #{} ({}) cannot be restored in full, by the verification of {}; run \
             `afterimage repair {name}`",
            manifest.machine,
            manifest.sequence.0,
            point.id.short(),
            found.get(&point.id)?.time
        ))
    });
    Ok(damaged.collect())
}

pub(super) fn record(
    settings: &Settings,
    replica: &ReplicaSettings,
) -> Result<Option<ReplicaRecord>, OperationError> {
    let path = replicate::home(settings, replica).superblock();
    match Superblock::read_only(&RealFileSystem, &path, &replica.name) {
        Ok(record) => Ok(Some(record)),
        Err(SuperblockError::File(error)) if error.not_found() => Ok(None),
        Err(error) => Err(crate::replay::ReplayError::from(error).into()),
    }
}

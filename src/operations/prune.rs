//! Removing points that need not be kept: what would go is decided first, shown, and decided anew
//! under locks when it is done. Nothing goes that was not shown.

use super::error::known;
use super::open::open_repository;
use super::run::{About, Done, RunResult, execute, now};
use super::{OpenRepository, OperationError, damage, replicate};
use crate::catalog::{History, RunKind};
use crate::destination::{ReplicaHome, State, Superblock};
use crate::fsio::{FileLock, FileSystem, LockError, LockHolder, LockMode, RealFileSystem};
use crate::progress::Progress;
use crate::report::PruneDecision;
use crate::retain::{
    Decision, PruneRequest, RemoveRequest, ReplicaNeeds, RetainError, Snapshot, remove_points,
    sweep_holds,
};
use crate::settings::{MachineSettings, ReplicaSettings, Settings, TIMEZONE_LOCAL};
use crate::units::{Keep, Name, PointId, RunId, Sequence};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::collections::BTreeSet;

/// What becomes of each point of a machine.
#[derive(Debug)]
pub struct PrunePlan {
    machine: Name,
    zone: TimeZone,
    decisions: Vec<Decision>,
    max_percent: u8,
}

impl PrunePlan {
    /// What becomes of each point, and why; the oldest first.
    pub fn decisions(&self) -> Vec<PruneDecision> {
        let lines = self.decisions.iter().map(|decision| PruneDecision {
            machine: self.machine.clone(),
            point: decision.point.id,
            sequence: decision.point.sequence,
            time: decision.point.time,
            keep: decision.is_kept(),
            reasons: decision.reasons.iter().map(|why| why.describe(&self.zone)).collect(),
        });
        lines.collect()
    }

    /// The zone that days and weeks are counted in.
    pub fn zone(&self) -> String {
        self.zone.iana_name().unwrap_or("this host").to_owned()
    }

    /// How many points there are.
    pub fn points(&self) -> usize {
        self.decisions.len()
    }

    /// How many would go.
    pub fn removed(&self) -> usize {
        self.going().count()
    }

    /// Whether so many would go that it must be confirmed.
    pub fn must_be_confirmed(&self) -> bool {
        self.removed() * 100 > self.points() * usize::from(self.max_percent)
    }

    fn going(&self) -> impl Iterator<Item = PointId> + '_ {
        self.decisions.iter().filter(|decision| !decision.is_kept()).map(|it| it.point.id)
    }
}

/// Decides what becomes of each point of a machine; `None` when the settings have no `keep` for
/// it. Nothing is changed or locked.
///
/// # Errors
/// When a doubt forbids to remove anything.
pub fn plan_prune(
    settings: &Settings,
    machine: &Name,
) -> Result<Option<PrunePlan>, OperationError> {
    let (_, place) = known(settings, "machine", &settings.machines, machine.as_str())?;
    let Some(keep) = &place.keep else { return Ok(None) };
    let open = open_repository(settings, &place.repository)?;
    let snapshot = Snapshot::take(&open.repository, &open.catalog)?;
    let (needs, _) = replicas_needs(settings, machine, Locking::None)?;
    decide(settings, place, keep, &snapshot, &needs).map(Some)
}

/// Prunes a machine as it was planned. A plan that could not be made is the run's failure.
///
/// # Errors
/// Without `confirmed`, [`RetainError::TooMany`] when more would go than may go without a word.
pub fn prune(
    settings: &Settings,
    machine: &Name,
    planned: Result<Option<PrunePlan>, OperationError>,
    confirmed: bool,
    progress: &Progress,
) -> RunResult {
    let about = About::machine(RunKind::Prune, machine);
    execute(settings, about, progress, |run| match planned? {
        None => Ok(Done::skipped("the settings have no `keep` for it, so all its points are kept")),
        Some(plan) => run_prune(settings, &plan, confirmed, run, progress),
    })
}

fn run_prune(
    settings: &Settings,
    shown: &PrunePlan,
    confirmed: bool,
    run: RunId,
    progress: &Progress,
) -> Result<Done, OperationError> {
    let (machine, place) = known(settings, "machine", &settings.machines, shown.machine.as_str())?;
    let Some(keep) = &place.keep else { return Ok(Done::skipped("it has no `keep` any more")) };
    if shown.must_be_confirmed() && !confirmed {
        let (machine, max_percent) = (machine.clone(), shown.max_percent);
        let (removed, points) = (shown.removed(), shown.points());
        return Err(RetainError::TooMany { machine, removed, points, max_percent }.into());
    }
    let open = open_repository(settings, &place.repository)?;
    let _lease = open.repository.lock_shared(&format!("prune of {machine}"))?;
    let _alone = open.repository.lock_prune(LockMode::Exclusive, "a prune")?;
    let snapshot = Snapshot::take(&open.repository, &open.catalog)?;
    let (needs, _replicas) = replicas_needs(settings, machine, Locking::All)?;
    let plan = decide(settings, place, keep, &snapshot, &needs)?;
    let shown: BTreeSet<PointId> = shown.going().collect();
    let points: BTreeSet<PointId> = plan.going().filter(|id| shown.contains(id)).collect();
    let mut done = match points.is_empty() {
        true => Done::skipped(&format!("all its points are kept, {}", plan.points())),
        false => Done::done(),
    };
    done.warnings = warnings(&open, &snapshot);
    if !points.is_empty() {
        let request = RemoveRequest { machine, points: &points, run, now: now() };
        let not_noted = remove_points(&open.repository, &open.catalog, &request, progress)?;
        done.warnings.extend(not_noted.map(|error| error.to_string()));
        done.detail = Some(format!(
            "removed {} of {} points; `afterimage gc` gives their space back",
            points.len(),
            plan.points()
        ));
    }
    sweep_holds(&open.repository, snapshot.holds())?;
    done.points_removed = Some(points.len());
    done.points_kept = Some(plan.points() - points.len());
    Ok(done)
}

fn warnings(open: &OpenRepository, snapshot: &Snapshot) -> Vec<String> {
    snapshot.damages.iter().map(|found| damage::describe(open, found)).collect()
}

fn decide(
    settings: &Settings,
    place: &MachineSettings,
    keep: &Keep,
    snapshot: &Snapshot,
    replicas: &[ReplicaNeeds],
) -> Result<PrunePlan, OperationError> {
    let zone = zone(&place.timezone)?;
    let recorded = History::open(&settings.state_dir)?.latest_instant()?;
    let request = PruneRequest {
        machine: &place.name,
        keep,
        zone: &zone,
        lock_days: place.lock_days,
        replicas,
        recorded,
        now: Timestamp::now(),
    };
    let decisions = snapshot.decide(&request)?;
    let (machine, max_percent) = (place.name.clone(), place.prune_max_percent);
    Ok(PrunePlan { machine, zone, decisions, max_percent })
}

/// The zone that the settings name. They were checked against the same table.
fn zone(name: &str) -> Result<TimeZone, OperationError> {
    match name {
        TIMEZONE_LOCAL => Ok(TimeZone::system()),
        name => TimeZone::get(name).map_err(|error| OperationError::TimeZone {
            name: name.to_owned(),
            reason: error.to_string(),
        }),
    }
}

/// Whether replicas are held still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Locking {
    None,
    All,
}

/// What the replicas of a machine need, and their locks: until these go, no replica moves to
/// another point. One that is locked already may be on its way to any point after its own.
fn replicas_needs(
    settings: &Settings,
    machine: &Name,
    locking: Locking,
) -> Result<(Vec<ReplicaNeeds>, Vec<FileLock>), OperationError> {
    let (mut needs, mut locks) = (Vec::new(), Vec::new());
    for replica in settings.replicas.values().filter(|replica| &replica.machine == machine) {
        let unknown = |reason: String| RetainError::Replica {
            machine: machine.clone(),
            replica: replica.name.clone(),
            reason,
        };
        let home = replicate::home(settings, replica);
        let busy = match locking {
            Locking::None => false,
            Locking::All => !hold_still(&home, &mut locks).map_err(|e| unknown(e.to_string()))?,
        };
        needs.push(one_needs(settings, replica, &home, busy, unknown)?);
    }
    Ok((needs, locks))
}

/// Takes the lock of a replica that is there; `false` when another one has it.
fn hold_still(home: &ReplicaHome, locks: &mut Vec<FileLock>) -> Result<bool, LockError> {
    if RealFileSystem.stat(home.folder())?.is_none() {
        return Ok(true);
    }
    let holder = LockHolder::this_process("prune");
    match FileLock::try_take(&RealFileSystem, &home.lock(), LockMode::Exclusive, &holder) {
        Ok(lock) => {
            locks.push(lock);
            Ok(true)
        }
        Err(LockError::Busy { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

fn one_needs(
    settings: &Settings,
    replica: &ReplicaSettings,
    home: &ReplicaHome,
    busy: bool,
    unknown: impl Fn(String) -> RetainError,
) -> Result<ReplicaNeeds, OperationError> {
    let path = home.superblock();
    let there = RealFileSystem.stat(&path).map_err(|e| unknown(e.to_string()))?.is_some();
    if !there {
        let history = History::open(&settings.state_dir)?;
        let kind = RunKind::Replicate;
        if history.has_completed(kind, &replica.machine, Some(&replica.name))? {
            let reason = format!("its superblock {} is not there any more", path.display());
            return Err(unknown(reason).into());
        }
        let in_use_from = busy.then_some(Sequence(0));
        return Ok(ReplicaNeeds { replica: replica.name.clone(), points: Vec::new(), in_use_from });
    }
    let record = Superblock::read_only(&RealFileSystem, &path, &replica.name)
        .map_err(|error| unknown(error.to_string()))?;
    let points = match record.state {
        State::Seeding { to: at } | State::Clean { point: at } | State::Promoted { point: at } => {
            vec![at]
        }
        State::Applying { from, to, .. } => vec![from, to],
    };
    let from = points.iter().map(|point| point.sequence).min();
    Ok(ReplicaNeeds {
        replica: replica.name.clone(),
        points: points.iter().map(|point| point.id).collect(),
        in_use_from: from.filter(|_| busy),
    })
}

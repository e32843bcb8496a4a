//! Removing points that need not be kept: what would go is decided first, shown, and decided anew
//! under locks when it is done. Nothing goes that was not shown.

use super::error::known;
use super::open::open_repository;
use super::run::{About, Done, RunResult, execute};
use super::{OperationError, damage, replicate};
use crate::catalog::{History, RunKind, RunStatus};
use crate::fsio::RealFileSystem;
use crate::progress::Progress;
use crate::report::PruneDecision;
use crate::retain::{self, Plan, PruneRequest, ReplicaPlace, RetainError};
use crate::settings::{MachineSettings, Settings, TIMEZONE_LOCAL};
use crate::units::{Keep, Name, RunId};
use crate::usage::freed_by;
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// What would become of each point of a machine.
#[derive(Debug)]
pub struct PrunePlan {
    machine: Name,
    zone: TimeZone,
    plan: Plan,
    max_percent: u8,
}

impl PrunePlan {
    /// What becomes of each point, and why; the oldest first.
    pub fn decisions(&self) -> Vec<PruneDecision> {
        let lines = self.plan.decisions.iter().map(|decision| PruneDecision {
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
        self.plan.decisions.len()
    }

    /// How many would go.
    pub fn removed(&self) -> usize {
        self.plan.going().len()
    }

    /// Whether so many would go that it must be confirmed.
    pub fn must_be_confirmed(&self) -> bool {
        self.removed() * 100 > self.points() * usize::from(self.max_percent)
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
    let facts = Facts::gather(settings, place)?;
    let open = open_repository(settings, &place.repository)?;
    let request = facts.request(place, keep);
    let plan = retain::plan_prune(&RealFileSystem, &open.repository, &open.catalog, &request)?;
    let (machine, max_percent) = (machine.clone(), place.prune_max_percent);
    Ok(Some(PrunePlan { machine, zone: facts.zone, plan, max_percent }))
}

/// Bytes that would come back if all went that is planned to go, once they are collected; `None`
/// where that cannot be told, which stops nothing.
pub fn prune_frees(settings: &Settings, planned: &PrunePlan) -> Option<u64> {
    let place = settings.machines.get(&planned.machine)?;
    let open = open_repository(settings, &place.repository).ok()?;
    let _lease = open.repository.lock_for_reading("a dry run of prune").ok()?;
    freed_by(&open.repository, &open.catalog, &planned.plan.going()).ok()
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
        None => Ok(Done::skipped("the settings have no `keep` for it, so all its points stay")),
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
    let Some(keep) = &place.keep else { return Ok(Done::skipped("it has no `keep`")) };
    if shown.must_be_confirmed() && !confirmed {
        let (machine, max_percent) = (machine.clone(), shown.max_percent);
        let (removed, points) = (shown.removed(), shown.points());
        return Err(RetainError::TooMany { machine, removed, points, max_percent }.into());
    }
    let facts = Facts::gather(settings, place)?;
    let open = open_repository(settings, &place.repository)?;
    let request = facts.request(place, keep);
    let (fs, approved) = (&RealFileSystem, shown.plan.going());
    let done =
        retain::prune(fs, &open.repository, &open.catalog, &request, &approved, run, progress)?;
    let (removed, kept) = (done.removed.len(), done.kept);
    let mut told = match removed {
        0 => Done::skipped(&format!("nothing to remove, {kept} points stay")),
        _ => Done::new(RunStatus::Completed),
    };
    told.detail = (removed > 0).then(|| {
        let all = removed + kept;
        format!("removed {removed} of {all} points (`afterimage gc` gives their space back)")
    });
    (told.points_removed, told.points_kept) = (Some(removed), Some(kept));
    told.warnings = done.damages.iter().map(|found| damage::describe(&open, found)).collect();
    told.warnings.extend(done.not_noted.map(|error| error.to_string()));
    Ok(told)
}

/// What is decided by, besides the repository.
struct Facts {
    zone: TimeZone,
    replicas: Vec<ReplicaPlace>,
    recorded: Option<Timestamp>,
}

impl Facts {
    fn gather(settings: &Settings, place: &MachineSettings) -> Result<Self, OperationError> {
        let history = History::open(&settings.state_dir)?;
        let followers = settings.replicas.values().filter(|it| it.machine == place.name);
        let replicas = followers.map(|replica| {
            Ok(ReplicaPlace {
                replica: replica.name.clone(),
                home: replicate::home(settings, replica),
                was_fed: replicate::was_fed(&history, replica)?,
            })
        });
        Ok(Self {
            zone: zone(&place.timezone)?,
            replicas: replicas.collect::<Result<_, OperationError>>()?,
            recorded: history.latest_instant()?,
        })
    }

    fn request<'a>(&'a self, place: &'a MachineSettings, keep: &'a Keep) -> PruneRequest<'a> {
        PruneRequest {
            machine: &place.name,
            keep,
            zone: &self.zone,
            lock_days: place.lock_days,
            replicas: &self.replicas,
            recorded: self.recorded,
            now: Timestamp::now(),
        }
    }
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

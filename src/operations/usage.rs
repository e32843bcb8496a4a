//! What machines and points cost.

use super::error::known;
use super::open::open_repository;
use super::{OperationError, damage};
use crate::progress::Progress;
use crate::report::{PacksUsage, UsageLine, UsageScope};
use crate::settings::Settings;
use crate::units::Name;
use crate::usage::{Amounts, MachineUsage, PointUsage, Usage, measure};

/// What a repository holds, and what it costs.
#[derive(Debug, Clone, PartialEq)]
pub struct UsageReport {
    /// The whole repository.
    pub repository: UsageLine,
    /// Each machine.
    pub machines: Vec<UsageLine>,
    /// Each point, by machine, the oldest first.
    pub points: Vec<UsageLine>,
    /// What is damaged or missing.
    pub warnings: Vec<String>,
}

/// What the repository `name` of the settings, its machines and its points cost.
///
/// # Errors
/// When it cannot be opened, or a tree cannot be read to its end.
pub fn repository_usage(
    settings: &Settings,
    name: &Name,
    progress: &Progress,
) -> Result<UsageReport, OperationError> {
    let (name, _) = known(settings, "repository", &settings.repositories, name.as_str())?;
    let open = open_repository(settings, name)?;
    let _lease = open.repository.lock_for_reading("stats")?;
    let damages = open.catalog.sync(&open.repository)?.damages;
    let usage = measure(&open.repository, &open.catalog, progress)
        .map_err(|error| damage::with_points(&open, error.into()))?;
    let mut warnings: Vec<String> =
        damages.iter().map(|found| damage::describe(&open, found)).collect();
    if usage.missing > 0 {
        warnings.push(format!(
            "points of repository {name} refer {} times to chunks that are in no pack; run \
             `afterimage verify`",
            usage.missing
        ));
    }
    Ok(UsageReport {
        repository: of_repository(name, &usage),
        machines: usage.machines.iter().map(|machine| of_machine(name, machine)).collect(),
        points: usage.points.iter().map(|point| of_point(name, point)).collect(),
        warnings,
    })
}

fn of_repository(name: &Name, usage: &Usage) -> UsageLine {
    let stored = usage.amounts.stored();
    let amounts = Amounts { unique: stored, ..usage.amounts };
    UsageLine {
        packs: Some(PacksUsage {
            packs_bytes: usage.packs,
            garbage_bytes: usage.garbage,
            overhead_bytes: usage.overhead,
            missing_chunks: usage.missing,
        }),
        ..line(UsageScope::Repository, name, usage.points.len(), &amounts)
    }
}

fn of_machine(name: &Name, usage: &MachineUsage) -> UsageLine {
    UsageLine {
        machine: Some(usage.machine.clone()),
        ..line(UsageScope::Machine, name, usage.points, &usage.amounts)
    }
}

fn of_point(name: &Name, usage: &PointUsage) -> UsageLine {
    UsageLine {
        machine: Some(usage.machine.clone()),
        point: Some(usage.id),
        sequence: Some(usage.sequence),
        time: Some(usage.time),
        ..line(UsageScope::Point, name, 1, &usage.amounts)
    }
}

fn line(scope: UsageScope, repository: &Name, points: usize, amounts: &Amounts) -> UsageLine {
    UsageLine {
        scope,
        repository: repository.clone(),
        machine: None,
        point: None,
        sequence: None,
        time: None,
        points,
        logical_bytes: amounts.logical,
        data_bytes: amounts.data,
        stored_bytes: amounts.stored(),
        unique_bytes: amounts.unique,
        shared_bytes: amounts.shared(),
        tree_bytes: amounts.trees_stored,
        dedup_ratio: amounts.dedup_ratio(),
        compression_ratio: amounts.compression_ratio(),
        packs: None,
    }
}

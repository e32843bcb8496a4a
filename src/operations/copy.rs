//! Copying points to another repository.

use super::error::known;
use super::open::{OpenRepository, open_repository, workers};
use super::run::{About, Done, RunResult, execute};
use super::{OperationError, damage};
use crate::catalog::{RunKind, RunStatus};
use crate::point::Point;
use crate::progress::Progress;
use crate::recover::{ChoosePointError, PointChoice, RestoreError, choose_point};
use crate::report::PointAt;
use crate::settings::Settings;
use crate::store::StoreError;
use crate::transfer::{self, CopyRequest, CopyResult, Side, TransferError};
use crate::units::{Name, PointId, RunId, format_bytes};
use jiff::tz::TimeZone;
use std::collections::BTreeSet;

/// What to copy, and where to.
#[derive(Debug, Clone)]
pub struct CopyOrder {
    from: Name,
    to: Name,
    choice: Option<PointChoice>,
}

impl CopyOrder {
    /// From the repository `from` of the settings to `to`; of each machine all points, or the one
    /// that `point` says (`latest`, digits of its id, `#12` or a time, in `zone`).
    ///
    /// # Errors
    /// When a name is not in the settings, or `point` says no point.
    pub fn new(
        settings: &Settings,
        from: &str,
        to: &str,
        point: Option<String>,
        zone: TimeZone,
    ) -> Result<Self, OperationError> {
        let repository = |name: &str| {
            known(settings, "repository", &settings.repositories, name)
                .map(|(name, _)| name.clone())
        };
        let choice = point.map(|text| PointChoice::parse(&text, &zone)).transpose();
        Ok(Self {
            from: repository(from)?,
            to: repository(to)?,
            choice: choice.map_err(RestoreError::from)?,
        })
    }
}

impl CopyOrder {
    /// The repository that has the points.
    pub fn from(&self) -> &Name {
        &self.from
    }

    /// The repository that gets them.
    pub fn to(&self) -> &Name {
        &self.to
    }
}

/// All machines that have points in the repository to copy from.
///
/// # Errors
/// When it cannot be opened or listed.
pub fn machines_to_copy(
    settings: &Settings,
    order: &CopyOrder,
) -> Result<Vec<Name>, OperationError> {
    let open = open_repository(settings, &order.from)?;
    open.catalog.sync(&open.repository)?;
    let points = open.catalog.points(None)?;
    let machines: BTreeSet<Name> = points.into_iter().map(|point| point.manifest.machine).collect();
    Ok(machines.into_iter().collect())
}

/// Copies the points of a machine that are missing. When this returns a summary, they are durable.
///
/// # Errors
/// Points that were complete before stay.
pub fn copy_machine(
    settings: &Settings,
    order: &CopyOrder,
    machine: &Name,
    progress: &Progress,
) -> RunResult {
    let repository = Some(order.to.clone());
    let about = About { repository, ..About::machine(RunKind::Copy, machine) };
    execute(settings, about, progress, |run| run_copy(settings, order, machine, run, progress))
}

fn run_copy(
    settings: &Settings,
    order: &CopyOrder,
    machine: &Name,
    run: RunId,
    progress: &Progress,
) -> Result<Done, OperationError> {
    let from = open_repository(settings, &order.from)?;
    let to = open_repository(settings, &order.to)?;
    let only = chosen(&from, order, machine)?;
    let request = CopyRequest { machine, only, run, workers: workers(settings) };
    let result = transfer::copy_points(side(&from), side(&to), &request, progress);
    let result = result.map_err(|error| {
        let failed = match error {
            TransferError::Source(_) | TransferError::SourceCatalog(_) => &from,
            _ => &to,
        };
        damage::with_points(failed, error.into())
    })?;
    conclude(&from, &to, order, result, progress)
}

fn side(open: &OpenRepository) -> Side<'_> {
    Side { repository: &open.repository, catalog: &open.catalog }
}

/// The point that is asked for, where not all are. That the machine has any is checked too.
fn chosen(
    from: &OpenRepository,
    order: &CopyOrder,
    machine: &Name,
) -> Result<Option<PointId>, OperationError> {
    let damages = from.catalog.sync(&from.repository)?.damages;
    let points = from.catalog.points(Some(machine))?;
    if points.is_empty() {
        // A machine whose only manifests are damaged must not be told that it was never backed up.
        return Err(match damages.into_iter().next() {
            Some(damage) => StoreError::from(damage).into(),
            None => {
                let machine = machine.clone();
                RestoreError::from(ChoosePointError::NoPoints { machine }).into()
            }
        });
    }
    let Some(choice) = &order.choice else { return Ok(None) };
    Ok(Some(choose_point(&points, machine, choice).map_err(RestoreError::from)?.id))
}

fn conclude(
    from: &OpenRepository,
    to: &OpenRepository,
    order: &CopyOrder,
    result: CopyResult,
    progress: &Progress,
) -> Result<Done, OperationError> {
    let CopyResult { copied, already, mut unreadable, from_damages, to_damages, not_noted } =
        result;
    if copied.is_empty() && already == 0 && !unreadable.is_empty() {
        let (_, error) = unreadable.swap_remove(0);
        return Err(damage::with_points(from, TransferError::Source(error).into()));
    }
    let mut warnings: Vec<String> = Vec::new();
    for (side, name, damages) in [(from, &order.from, from_damages), (to, &order.to, to_damages)] {
        let tell = |found| format!("repository {name}: {}", damage::describe(side, found));
        warnings.extend(damages.iter().map(tell));
    }
    warnings.extend(unreadable.iter().map(|(point, error)| not_copied(point, error)));
    warnings.extend(not_noted.map(|error| {
        format!(
            "a new point is durable, but not in the catalog yet: {error}; the next command \
                 finds it"
        )
    }));
    let counts = progress.counts();
    let mut done = Done::new(RunStatus::Completed);
    done.point = copied.last().map(PointAt::from);
    done.detail = Some(format!(
        "points copied to {}: {}, there before: {already}, read {}, new {}, stored {}",
        order.to,
        copied.len(),
        format_bytes(counts.read),
        format_bytes(counts.new),
        format_bytes(counts.stored)
    ));
    done.warnings = warnings;
    if !unreadable.is_empty() {
        done.status = RunStatus::Incomplete;
        done.reason = Some(format!("points that cannot be read: {}", unreadable.len()));
    } else if copied.is_empty() {
        done.status = RunStatus::Skipped;
        done.reason = Some(format!("{} has them all already", order.to));
    }
    Ok(done)
}

fn not_copied(point: &Point, error: &StoreError) -> String {
    let manifest = &point.manifest;
    format!(
        "{} #{} ({}) was not copied: {error}",
        manifest.machine,
        manifest.sequence.0,
        point.id.short()
    )
}

//! What keeps single points: pins, which users set and take away, and locks.

use super::find::{Found, find};
use super::run::now;
use super::{OpenRepository, OperationError};
use crate::catalog::RunStatus;
use crate::fsio::{LockHolder, LockMode};
use crate::point::{Hold, HoldKind, Holds, Point, check_note, commit_hold, list_holds, load_point};
use crate::recover::{PointChoice, RestoreError, choose_point};
use crate::report::{Action, PinLine, PointLine, Summary};
use crate::retain::lock_until;
use crate::settings::Settings;
use crate::store::StoreError;
use crate::units::{Name, RunId};
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Adds to the lines of points what keeps them. What cannot be read becomes a warning.
pub(super) fn add_holds(
    settings: &Settings,
    open: &OpenRepository,
    lines: &mut [PointLine],
    warnings: &mut Vec<String>,
) {
    let holds = list_holds(&open.repository).unwrap_or_else(|error| {
        warnings.push(format!("what keeps points is not known: {error}"));
        Holds::default()
    });
    let now = now();
    for line in lines {
        let pins = holds.pins(line.point);
        line.pins = pins
            .map(|(_, hold, note)| PinLine {
                note: note.map(ToOwned::to_owned),
                created: hold.created,
                host: hold.host.clone(),
            })
            .collect();
        let days = settings.machines.get(&line.machine).map_or(0, |machine| machine.lock_days);
        let until = holds.locked_until(line.point).max(lock_until(line.time, days));
        line.locked_until = until.filter(|until| now < *until);
    }
}

/// Pins a point: it is not removed until it is unpinned.
///
/// # Errors
/// When no point is meant, or the repository cannot be written to; busy while points are removed.
pub fn pin_point(
    settings: &Settings,
    machine: &str,
    point: &str,
    note: Option<String>,
    zone: &TimeZone,
) -> Result<Summary, OperationError> {
    let started = Timestamp::now();
    note.as_deref().map_or(Ok(()), check_note).map_err(|reason| OperationError::Note { reason })?;
    let (machine, open, point) = chosen(settings, machine, point, zone)?;
    let _lease = open.repository.lock_shared(&format!("pin of a point of {machine}"))?;
    let _beside = open.repository.lock_prune(LockMode::Shared, "a pin")?;
    // It may have been removed between the choice and the lock.
    load_point(&open.repository, point.id)?;
    let holds = list_holds(&open.repository)?;
    let mut summary = about(&machine, &point, started);
    if holds.pins(point.id).any(|(_, _, known)| known == note.as_deref()) {
        summary.status = RunStatus::Skipped;
        summary.reason = Some(format!("{} is pinned already", label(&point)));
        return Ok(summary);
    }
    let run = RunId::random().map_err(StoreError::Random)?;
    let hold = Hold {
        point: point.id,
        kind: HoldKind::Pin { note },
        created: now(),
        run,
        host: LockHolder::this_process("").host,
    };
    commit_hold(&open.repository, &open.repository.begin_writing(run)?, &hold)?;
    summary.detail = Some(format!("{} is pinned", label(&point)));
    Ok(summary)
}

/// Takes all pins of a point away. Its locks stay.
///
/// # Errors
/// When no point is meant, or the repository cannot be written to; busy while points are removed.
pub fn unpin_point(
    settings: &Settings,
    machine: &str,
    point: &str,
    zone: &TimeZone,
) -> Result<Summary, OperationError> {
    let started = Timestamp::now();
    let (machine, open, point) = chosen(settings, machine, point, zone)?;
    let _lease = open.repository.lock_shared(&format!("unpin of a point of {machine}"))?;
    let _beside = open.repository.lock_prune(LockMode::Shared, "an unpin")?;
    let holds = list_holds(&open.repository)?;
    let mut summary = about(&machine, &point, started);
    let mut count = 0;
    for (id, _, _) in holds.pins(point.id) {
        open.catalog.remove_hold(&open.repository, id)?;
        count += 1;
    }
    if count == 0 {
        summary.status = RunStatus::Skipped;
        summary.reason = Some(format!("{} is not pinned", label(&point)));
        return Ok(summary);
    }
    let locked = holds.locked_until(point.id).filter(|until| started < *until);
    let locked = locked.map_or(String::new(), |until| format!(", but still locked until {until}"));
    summary.detail = Some(format!("{} is no longer pinned{locked}", label(&point)));
    Ok(summary)
}

fn chosen(
    settings: &Settings,
    machine: &str,
    point: &str,
    zone: &TimeZone,
) -> Result<(Name, OpenRepository, Point), OperationError> {
    let choice = PointChoice::parse(point, zone).map_err(RestoreError::from)?;
    let Found { open, machine, points, .. } = find(settings, machine)?;
    let point = choose_point(&points, &machine, &choice).map_err(RestoreError::from)?.clone();
    Ok((machine, open, point))
}

fn about(machine: &Name, point: &Point, started: Timestamp) -> Summary {
    let mut summary = Summary::new(Action::Pin, RunStatus::Completed, started);
    summary.machine = Some(machine.clone());
    (summary.point, summary.sequence) = (Some(point.id), Some(point.manifest.sequence));
    summary
}

fn label(point: &Point) -> String {
    format!("point #{} {}", point.manifest.sequence.0, point.id.short())
}

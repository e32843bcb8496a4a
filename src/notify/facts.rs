//! What runs, objectives, the clock and file systems say of conditions.

use super::condition::{ConditionKey, Observation, Severity, Wrong};
use crate::catalog::{RunStatus, RunTrigger};
use crate::operations::{FailedRun, OperationError, RunResult, Task, VerifyScope};
use crate::report::{ExitCode, ObjectiveLine, ObjectiveState};
use crate::units::{Name, RunId, format_bytes};
use std::path::Path;

fn well(key: ConditionKey) -> Observation {
    Observation { key, wrong: None }
}

fn wrong(
    key: ConditionKey,
    severity: Severity,
    text: impl Into<String>,
    next: Option<String>,
) -> Observation {
    Observation { key, wrong: Some(Wrong { severity, text: text.into(), next }) }
}

fn show(run: Option<RunId>) -> Option<String> {
    run.map(|run| format!("afterimage run show {}", run.short()))
}

/// What a run that ended says. `is_retried` says that it is tried again by itself, and so no failure
/// yet. Who asked for a run sees how it ends: only one that began by itself is told of as a failure.
/// One that was stopped on request says nothing.
pub fn of_run(
    task: &Task,
    trigger: RunTrigger,
    result: &RunResult,
    is_retried: bool,
) -> Vec<Observation> {
    let key = ConditionKey::RunFailed { task: task.describe() };
    let is_told = trigger != RunTrigger::Manual && !is_retried;
    match result {
        Err(failed) => match found_wrong(failed) {
            // It did what it had to do: it found that.
            Some(found) => vec![well(key), found],
            None if failed.exit_code() == ExitCode::Interrupted || !is_told => Vec::new(),
            None => {
                let text = failed.error.to_string();
                vec![wrong(key, Severity::Error, text, show(failed.summary.run))]
            }
        },
        Ok(summary) => match summary.status {
            RunStatus::Completed | RunStatus::Skipped => {
                [well(key)].into_iter().chain(proved_well(task)).collect()
            }
            _ if !is_told => Vec::new(),
            _ => {
                let text = summary.reason.clone().unwrap_or_else(|| "only a part was done".into());
                vec![wrong(key, Severity::Error, text, show(summary.run))]
            }
        },
    }
}

/// What is said of a run that ended without its own word: by a defect, or with its process.
pub fn of_broken_run(task: &Task, run: Option<RunId>, text: &str) -> Observation {
    wrong(ConditionKey::RunFailed { task: task.describe() }, Severity::Error, text, show(run))
}

/// Damage and differences that a run found.
fn found_wrong(failed: &FailedRun) -> Option<Observation> {
    let key = match &failed.error {
        OperationError::DamageFound { repository, .. } => {
            ConditionKey::Damage { repository: repository.clone() }
        }
        OperationError::Differs { replica, .. } => {
            ConditionKey::Differs { replica: replica.clone() }
        }
        _ => return None,
    };
    let text = failed.error.to_string();
    Some(wrong(key, Severity::Error, text, show(failed.summary.run)))
}

/// What is well when a task was done. A sample that finds no damage does not prove that there is
/// none.
fn proved_well(task: &Task) -> Option<Observation> {
    let key = match task {
        Task::VerifyRepository { repository, scope: VerifyScope::All }
        | Task::Repair { repository, dry_run: false, .. } => {
            ConditionKey::Damage { repository: repository.clone() }
        }
        Task::VerifyReplica { replica } | Task::Replicate { replica, adopt: true } => {
            ConditionKey::Differs { replica: replica.clone() }
        }
        _ => return None,
    };
    Some(well(key))
}

/// What an objective says; `None`: it cannot be told.
pub fn of_objective(line: &ObjectiveLine) -> Option<Observation> {
    let subject = |kind: &str, name: &Name| format!("{kind} {name}");
    let subject = match &line.replica {
        Some(replica) => subject("replica", replica),
        None => subject("machine", &line.machine),
    };
    let severity = match line.state {
        ObjectiveState::Met => return Some(well(ConditionKey::Late { subject })),
        ObjectiveState::Unknown => return None,
        ObjectiveState::AtRisk => Severity::Warning,
        ObjectiveState::Missed => Severity::Error,
    };
    let text = line.reason.clone().unwrap_or_else(|| {
        let lag = line.lag_s.map_or("unknown".to_owned(), |lag| format!("{lag} s"));
        format!("What could be brought back is {lag} old; at most {} s are allowed.", line.rpo_s)
    });
    let next = Some("afterimage status".to_owned());
    Some(wrong(ConditionKey::Late { subject }, severity, text, next))
}

/// What is said of the clock: why it is not believed.
pub fn of_clock(doubt: Option<&str>) -> Observation {
    match doubt {
        None => well(ConditionKey::Clock),
        Some(doubt) => {
            let next = Some("afterimage daemon trust-clock".to_owned());
            wrong(ConditionKey::Clock, Severity::Error, doubt, next)
        }
    }
}

/// Less room than this share of a file system is little, in percent.
const ROOM_WARNING_PERCENT: u64 = 10;
/// Less room than this is nearly none.
const ROOM_ERROR_PERCENT: u64 = 3;
/// From this on there is room again. What lies between says nothing.
const ROOM_WELL_PERCENT: u64 = 12;

/// What the room on the file system of `path` says; `None`: nothing, or it cannot be told.
pub fn of_space(path: &Path) -> Option<Observation> {
    let stat = rustix::fs::statvfs(path).ok()?;
    let all = stat.f_blocks.saturating_mul(stat.f_frsize);
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    of_room(path, free, all)
}

fn of_room(path: &Path, free: u64, all: u64) -> Option<Observation> {
    let key = ConditionKey::Space { path: path.display().to_string() };
    let share = |percent: u64| u128::from(all) * u128::from(percent) / 100;
    let free_bytes = u128::from(free);
    let severity = if free_bytes < share(ROOM_ERROR_PERCENT) {
        Severity::Error
    } else if free_bytes < share(ROOM_WARNING_PERCENT) {
        Severity::Warning
    } else if free_bytes >= share(ROOM_WELL_PERCENT) {
        return Some(well(key));
    } else {
        return None;
    };
    let text = format!("{} of {} are free.", format_bytes(free), format_bytes(all));
    Some(wrong(key, severity, text, None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_room_is_wrong_and_a_bit_more_says_nothing() {
        let severity =
            |free| of_room(Path::new("/b"), free, 100).map(|it| it.wrong.map(|w| w.severity));
        assert_eq!(severity(2), Some(Some(Severity::Error)));
        assert_eq!(severity(9), Some(Some(Severity::Warning)));
        assert_eq!(severity(11), None);
        assert_eq!(severity(12), Some(None));
        assert!(of_room(Path::new("/b"), u64::MAX, u64::MAX).unwrap().wrong.is_none());
        assert!(of_space(Path::new("/no/such/folder")).is_none());
    }
}

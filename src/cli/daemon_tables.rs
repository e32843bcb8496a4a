//! Tables of runs, due times and objectives.

use super::tables::{or_none, render};
use super::text;
use crate::catalog::{RunStatus, RunTrigger};
use crate::report::{DueLine, ObjectiveLine, ObjectiveState, RunLine};
use crate::units::format_bytes;

/// What a run is about.
pub(super) fn subject(line: &RunLine) -> String {
    let names = [&line.replica, &line.machine, &line.repository];
    or_none(names.into_iter().flatten().next().map(ToString::to_string))
}

/// How a run ended, in words.
pub(super) fn status(line: &RunLine) -> &'static str {
    match line.status {
        RunStatus::Running if line.cut_off => "cut off",
        status => status.word(),
    }
}

/// What made a run begin, in words.
pub(super) fn trigger(trigger: RunTrigger) -> &'static str {
    match trigger {
        RunTrigger::Manual => "by hand",
        RunTrigger::Schedule => "schedule",
        RunTrigger::CatchUp => "catch-up",
        RunTrigger::AfterBackup => "after a backup",
        RunTrigger::Retry => "retry",
    }
}

/// Runs, the newest first.
pub(super) fn runs(lines: &[RunLine]) -> String {
    let rows = lines.iter().map(|line| {
        let moved = line.counts.read.max(line.counts.written);
        vec![
            line.run.short(),
            line.kind.word(),
            subject(line),
            status(line).to_owned(),
            trigger(line.trigger).to_owned(),
            text::time(line.started),
            or_none(line.duration_s.map(text::seconds)),
            or_none((moved > 0).then(|| format_bytes(moved))),
            // Of more there is `run show`.
            or_none(line.reason.as_deref().and_then(|it| it.lines().next()).map(str::to_owned)),
        ]
    });
    let header = ["RUN", "KIND", "OF", "STATUS", "BEGUN BY", "BEGAN", "TOOK", "MOVED", "REASON"];
    render(&header, &[6, 7], rows.collect())
}

/// What runs next by itself.
pub(super) fn due(lines: &[DueLine]) -> String {
    let rows = lines.iter().map(|line| {
        let schedule = line.schedule.clone().unwrap_or_else(|| "after each backup".to_owned());
        vec![
            line.work.clone(),
            schedule,
            or_none(line.next.map(text::time)),
            or_none(line.held.clone()),
        ]
    });
    render(&["NEXT", "SCHEDULE", "TIME", "HELD BY"], &[], rows.collect())
}

/// How well an objective is met, in words.
pub(super) fn state(state: ObjectiveState) -> &'static str {
    match state {
        ObjectiveState::Met => "met",
        ObjectiveState::AtRisk => "at risk",
        ObjectiveState::Missed => "missed",
        ObjectiveState::Unknown => "unknown",
    }
}

/// How well the objectives are met.
pub(super) fn objectives(lines: &[ObjectiveLine]) -> String {
    let rows = lines.iter().map(|line| {
        let (machine, replica) = (&line.machine, &line.replica);
        vec![
            replica.as_ref().map_or_else(|| machine.to_string(), ToString::to_string),
            text::age(line.rpo_s),
            state(line.state).to_owned(),
            text::time(line.since),
            or_none(line.lag_s.map(text::age)),
            or_none(line.lag_bytes.map(format_bytes)),
            or_none(line.compliance_percent.map(|percent| format!("{percent:.1} %"))),
            or_none(line.reason.clone()),
        ]
    });
    let header =
        ["OBJECTIVE OF", "RPO", "STATE", "SINCE", "LAG", "BYTES BEHIND", "30 DAYS", "REASON"];
    render(&header, &[1, 4, 5, 6], rows.collect())
}

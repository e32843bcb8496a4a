//! Commands that show what there is.

use super::App;
use super::failure::Failure;
use super::site::State;
use super::tables;
use crate::catalog::RunStatus;
use crate::operations::{self, LiveFacts, PointsReport};
use crate::report::{Action, ExitCode, Message, Summary, Tally};
use jiff::Timestamp;
use std::panic::resume_unwind;

/// More than so many that are late are only counted.
const LATE_TOLD_MAX: usize = 20;

pub(super) fn points(app: &App, machine: Option<&str>) -> Result<ExitCode, Failure> {
    let started = Timestamp::now();
    let mut report = PointsReport { points: Vec::new(), warnings: Vec::new() };
    let mut tally = Tally::default();
    match machine {
        Some(machine) => {
            report = operations::machine_points(&app.settings, machine)?;
            tally.count(RunStatus::Completed);
        }
        None => {
            for repository in app.settings.repositories.keys() {
                match operations::repository_points(&app.settings, repository) {
                    Ok(more) => {
                        report.points.extend(more.points);
                        report.warnings.extend(more.warnings);
                        tally.count(RunStatus::Completed);
                    }
                    // With only one, its error is that of the command.
                    Err(error) if app.settings.repositories.len() == 1 => return Err(error.into()),
                    Err(error) => {
                        let mut failure = Failure::from(error);
                        failure.message = format!("{repository}: {}", failure.message);
                        app.output.error(&failure);
                        tally.count(RunStatus::Failed);
                    }
                }
            }
        }
    }
    Ok(tell_points(app, report, tally, started))
}

fn tell_points(app: &App, report: PointsReport, tally: Tally, started: Timestamp) -> ExitCode {
    match report.points.is_empty() {
        true if tally.failed > 0 => {}
        true => app.output.sentence("there are no points yet"),
        false => app.output.result(&tables::points(&report.points)),
    }
    for warning in &report.warnings {
        app.output.warning(warning);
    }
    let (status, code) = match (tally.status(), report.warnings.is_empty()) {
        (RunStatus::Failed, _) => (RunStatus::Failed, ExitCode::Failed),
        (RunStatus::Completed, true) => (RunStatus::Completed, ExitCode::Done),
        _ => (RunStatus::Incomplete, ExitCode::Incomplete),
    };
    let mut summary = Summary::new(Action::Points, status, started);
    summary.warnings = report.warnings;
    for point in report.points {
        app.output.message(&Message::Point(point));
    }
    app.output.message(&Message::Summary(summary));
    code
}

pub(super) fn status(app: &App) -> ExitCode {
    let started = Timestamp::now();
    let repositories = State::repositories(&app.settings, app.no_daemon);
    let known = LiveFacts { repositories, ..LiveFacts::default() };
    // The daemon answers meanwhile.
    let (report, daemon) = std::thread::scope(|scope| {
        let asked = scope.spawn(|| State::of(&app.settings, app.no_daemon));
        let report = operations::status_live(&app.settings, started, &known);
        (report, asked.join().unwrap_or_else(|panic| resume_unwind(panic)))
    });
    let mut tables = vec![tables::repositories(&report.repositories)];
    if !report.machines.is_empty() {
        tables.push(tables::machines(&report.machines));
    }
    if !report.replicas.is_empty() {
        tables.push(tables::replicas(&report.replicas));
    }
    let mut warnings = report.all_warnings();
    if let Ok(Some(state)) = &daemon {
        tables.insert(0, state.describe());
        warnings.extend(state.warnings());
    }
    app.output.result(&tables.join("\n\n"));
    tell_late(app, &report.late());
    let complete = report.is_complete();
    warnings.extend(daemon.as_ref().err().cloned());
    for warning in &warnings {
        app.output.warning(warning);
    }
    let repositories = report.repositories.into_iter().map(Message::Repository);
    let machines = report.machines.into_iter().map(Message::Machine);
    let replicas = report.replicas.into_iter().map(Message::Replica);
    for message in repositories.chain(machines).chain(replicas) {
        app.output.message(&message);
    }
    if let Ok(Some(state)) = daemon {
        state.tell(app);
    }
    let status = if complete { RunStatus::Completed } else { RunStatus::Incomplete };
    let mut summary = Summary::new(Action::Status, status, started);
    summary.warnings = warnings;
    app.output.message(&Message::Summary(summary));
    if complete { ExitCode::Done } else { ExitCode::Incomplete }
}

fn tell_late(app: &App, late: &[String]) {
    for line in late.iter().take(LATE_TOLD_MAX) {
        app.output.warning(line);
    }
    if let more @ 1.. = late.len().saturating_sub(LATE_TOLD_MAX) {
        app.output.warning(&format!("and {more} more; see `afterimage status --json`"));
    }
}

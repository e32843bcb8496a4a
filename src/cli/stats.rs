//! What machines and points cost.

use super::App;
use super::args::StatsArgs;
use super::failure::Failure;
use super::watch::Watch;
use super::{select, tables};
use crate::catalog::RunStatus;
use crate::operations::{self, UsageReport};
use crate::report::{Action, ExitCode, Message, Summary, Tally, UsageLine};
use crate::units::Name;
use jiff::Timestamp;

pub(super) fn stats(app: &App, args: &StatsArgs) -> Result<ExitCode, Failure> {
    let started = Timestamp::now();
    let typed: Vec<String> = args.repository.iter().cloned().collect();
    let names = select::names(&app.settings, "repository", &app.settings.repositories, &typed)?;
    let mut reports = Vec::new();
    let mut tally = Tally::default();
    for name in &names {
        match measure(app, name) {
            Ok(report) => {
                tally.count(RunStatus::Completed);
                reports.push(report);
            }
            // With only one, its error is that of the command.
            Err(failure) if names.len() == 1 => return Err(failure),
            Err(failure) if failure.code == ExitCode::Interrupted => return Err(failure),
            Err(mut failure) => {
                failure.message = format!("{name}: {}", failure.message);
                app.output.error(&failure);
                tally.count(RunStatus::Failed);
            }
        }
    }
    if let Some(machine) = &args.machine {
        keep_only(&mut reports, machine, tally)?;
    }
    Ok(tell(app, args, reports, tally, started))
}

fn measure(app: &App, name: &Name) -> Result<UsageReport, Failure> {
    let report = app.interrupt.work(|progress| {
        let _watch = Watch::of(&app.output, format!("stats of {name}"), progress);
        operations::repository_usage(&app.settings, name, progress)
    });
    Ok(report?)
}

/// Leaves what is about one machine, and the repositories that have points of it.
fn keep_only(reports: &mut Vec<UsageReport>, machine: &Name, tally: Tally) -> Result<(), Failure> {
    let is_its = |line: &UsageLine| line.machine.as_ref() == Some(machine);
    for report in reports.iter_mut() {
        report.machines.retain(is_its);
        report.points.retain(is_its);
    }
    reports.retain(|report| !report.machines.is_empty());
    if reports.is_empty() && tally.failed == 0 {
        let message = format!(
            "{machine} has no recovery point in any repository looked at; `afterimage points` \
             lists what there is"
        );
        return Err(Failure::usage(message));
    }
    Ok(())
}

fn tell(
    app: &App,
    args: &StatsArgs,
    reports: Vec<UsageReport>,
    tally: Tally,
    started: Timestamp,
) -> ExitCode {
    let with_points = args.points || args.machine.is_some();
    let (mut repositories, mut machines, mut points) = (Vec::new(), Vec::new(), Vec::new());
    let mut warnings = Vec::new();
    for report in reports {
        repositories.push(report.repository);
        machines.extend(report.machines);
        points.extend(report.points.into_iter().filter(|_| with_points));
        warnings.extend(report.warnings);
    }
    let mut parts = vec![tables::usage_of_repositories(&repositories)];
    if !machines.is_empty() {
        parts.push(tables::usage_of_machines(&machines));
    }
    if !points.is_empty() {
        parts.push(tables::usage_of_points(&points));
    }
    app.output.result(&parts.join("\n\n"));
    for warning in &warnings {
        app.output.warning(warning);
    }
    for line in repositories.into_iter().chain(machines).chain(points) {
        app.output.message(&Message::Usage(line));
    }
    let (status, code) = match (tally.status(), warnings.is_empty()) {
        (RunStatus::Failed, _) => (RunStatus::Failed, ExitCode::Failed),
        (RunStatus::Completed, true) => (RunStatus::Completed, ExitCode::Done),
        _ => (RunStatus::Incomplete, ExitCode::Incomplete),
    };
    let mut summary = Summary::new(Action::Stats, status, started);
    summary.warnings = warnings;
    app.output.message(&Message::Summary(summary));
    code
}

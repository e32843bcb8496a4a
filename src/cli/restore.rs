//! Bringing a point back. What would be lost by it is shown and asked for first.

use super::App;
use super::args::RestoreArgs;
use super::ask;
use super::batch::Batch;
use super::executor::Executor;
use super::failure::Failure;
use super::text;
use crate::catalog::RunStatus;
use crate::operations::{PreparedRestore, RestoreRequest, RestoreTask, Task, prepare_restore};
use crate::report::{Action, ExitCode, Message, PlanLine, Summary};
use crate::units::{format_bytes, format_count};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::path::PathBuf;

pub(super) fn restore(app: &App, args: RestoreArgs) -> Result<ExitCode, Failure> {
    let started = Timestamp::now();
    let executor = if args.dry_run { &Executor::Here } else { app.executor()? };
    let request = RestoreRequest {
        machine: args.machine,
        repository: args.repository,
        disk: args.disk,
        point: args.point,
        zone: TimeZone::system(),
        // The daemon works elsewhere, and what is told must not differ by that.
        to: absolute(args.to)?,
        force: args.force,
        skip_damaged: args.skip_damaged,
    };
    let prepared = prepare_restore(&app.settings, &request)?;
    let plan = prepared.plan();
    app.output.message(&Message::Point(prepared.point()));
    for line in &plan {
        app.output.message(&Message::Plan(line.clone()));
    }
    let overwrites = plan.iter().any(|line| line.overwrites);
    if args.dry_run {
        app.output.result(&describe(&prepared, &plan, started));
        let mut summary = Summary::new(Action::Restore, RunStatus::Skipped, started);
        let point = prepared.point();
        summary.machine = Some(point.machine);
        (summary.point, summary.sequence) = (Some(point.point), Some(point.sequence));
        summary.reason = Some("dry run: nothing was written".to_owned());
        app.output.sentence(&text::summary(&summary));
        app.output.message(&Message::Summary(summary));
        return Ok(ExitCode::Done);
    }
    if overwrites && !args.yes {
        confirm(app, &describe(&prepared, &plan, started))?;
    }
    let point = prepared.point();
    let task = Task::Restore(RestoreTask {
        machine: point.machine.to_string(),
        repository: Some(point.repository.to_string()),
        disk: request.disk,
        // The one that was shown.
        point: point.point.to_string(),
        zone: None,
        to: request.to,
        force: request.force,
        skip_damaged: request.skip_damaged,
    });
    let mut batch = Batch::with(app, executor, Action::Restore, 1);
    match executor {
        Executor::Here => batch.run_here(&task, |progress| prepared.run(progress)),
        Executor::Daemon(_) => batch.run(&task),
    }
    Ok(batch.end())
}

/// A path that means the same wherever a process works.
pub(super) fn absolute(path: PathBuf) -> Result<PathBuf, Failure> {
    std::path::absolute(&path).map_err(|error| {
        Failure::usage(format!("{} is no path: {error}; name one", path.display()))
    })
}

/// What would be done, and what is known of the point.
fn describe(prepared: &PreparedRestore<'_>, plan: &[PlanLine], now: Timestamp) -> String {
    let point = prepared.point();
    let age = u64::try_from(now.as_second() - point.time.as_second()).unwrap_or(0);
    let mut lines = vec![format!(
        "restore {} from point {} of {} ({} ago), {} in {}, made on {}",
        point.machine,
        text::point(point.sequence, point.point),
        text::time(point.time),
        text::age(age),
        format_bytes(point.size_bytes()),
        format_count(point.disks.len() as u64, "disk"),
        point.host,
    )];
    for line in plan {
        let lost = if line.overwrites { "  (what is there will be lost)" } else { "" };
        let size = format_bytes(line.size_bytes);
        lines.push(format!("  {} ({size}) to {}{lost}", line.name, line.path));
    }
    lines.join("\n")
}

/// Asks on a terminal; anywhere else, `--yes` must have been given.
pub(super) fn confirm(app: &App, plan: &str) -> Result<(), Failure> {
    if !ask::can_ask(app) {
        let message = format!(
            "{plan}\nnothing was written, as there is no terminal to ask on; add `--yes` if that \
             is what you want, or `--dry-run` to see the plan"
        );
        return Err(Failure::usage(message));
    }
    match ask::says_yes(plan) {
        true => Ok(()),
        false => Err(Failure::new(ExitCode::Failed, "not confirmed; nothing was written")),
    }
}

//! Removing points. What becomes of each is shown first, and more than a share is asked for.

use super::App;
use super::args::PruneArgs;
use super::ask;
use super::batch::Batch;
use super::executor::Executor;
use super::failure::Failure;
use super::{select, tables};
use crate::catalog::RunStatus;
use crate::operations::{self, OperationError, PrunePlan, Task};
use crate::report::{Action, ExitCode, Message, Summary};
use crate::units::{Name, format_bytes};
use jiff::Timestamp;

pub(super) fn prune(app: &App, args: &PruneArgs) -> Result<ExitCode, Failure> {
    let machines = select::names(&app.settings, "machine", &app.settings.machines, &args.machines)?;
    let executor = if args.dry_run { &Executor::Here } else { app.executor()? };
    let mut batch = Batch::with(app, executor, Action::Prune, machines.len());
    for machine in &machines {
        let started = Timestamp::now();
        let planned = operations::plan_prune(&app.settings, machine);
        if let Ok(Some(plan)) = &planned {
            show(app, plan);
        }
        if args.dry_run {
            end_dry_run(app, &mut batch, machine, planned, started);
            continue;
        }
        let confirmed = args.yes || is_confirmed(app, &planned);
        let task = Task::Prune { machine: machine.clone(), yes: confirmed };
        match executor {
            // Exactly what was shown goes, or less.
            Executor::Here => batch.run_here(&task, |progress| {
                operations::prune(&app.settings, machine, planned, confirmed, progress)
            }),
            Executor::Daemon(_) => batch.run(&task),
        }
    }
    Ok(batch.end())
}

fn show(app: &App, plan: &PrunePlan) {
    let decisions = plan.decisions();
    if !decisions.is_empty() {
        app.output.result(&tables::prune(&decisions));
        app.output.sentence(&format!("(days and weeks are those of {})", plan.zone()));
    }
    for decision in decisions {
        app.output.message(&Message::PruneDecision(decision));
    }
}

/// Asks on a terminal when more would go than may go without a word.
fn is_confirmed(app: &App, planned: &Result<Option<PrunePlan>, OperationError>) -> bool {
    let Ok(Some(plan)) = planned else { return false };
    if !plan.must_be_confirmed() || !ask::can_ask(app) {
        return false;
    }
    let (removed, points) = (plan.removed(), plan.points());
    ask::says_yes(&format!("{removed} of {points} points will be removed for good"))
}

fn end_dry_run(
    app: &App,
    batch: &mut Batch<'_>,
    machine: &Name,
    planned: Result<Option<PrunePlan>, OperationError>,
    started: Timestamp,
) {
    let of = |status| Summary {
        machine: Some(machine.clone()),
        ..Summary::new(Action::Prune, status, started)
    };
    let mut summary = of(RunStatus::Skipped);
    match planned {
        Ok(Some(plan)) => {
            let (removed, points) = (plan.removed(), plan.points());
            let yes = if plan.must_be_confirmed() { ", which needs `--yes`" } else { "" };
            let frees = match operations::prune_frees(&app.settings, &plan) {
                Some(bytes) if removed > 0 => {
                    format!("; `afterimage gc` would give {} back then", format_bytes(bytes))
                }
                _ => String::new(),
            };
            summary.reason = Some(format!(
                "dry run: {removed} of {points} points would go{yes}; nothing was removed{frees}"
            ));
            batch.add(&summary);
        }
        Ok(None) => {
            summary.reason = Some("the settings have no `keep` for it".to_owned());
            batch.add(&summary);
        }
        Err(error) => batch.add_failed(machine.as_str(), error.into(), of(RunStatus::Failed)),
    }
}

//! Runs as the history has them, and those that are under way.

use super::App;
use super::daemon_args::{RunCommand, RunsArgs};
use super::failure::Failure;
use super::times::{Side, instant};
use super::watcher::RunWatcher;
use super::{daemon_tables, daemon_text};
use crate::catalog::{History, RunFilter, RunRecord, RunStatus, is_running};
use crate::client::{Client, ClientError, Followed};
use crate::operations::{OperationError, Task};
use crate::progress::Progress;
use crate::report::{Action, ExitCode, Message, RunDetail, RunEnd, RunLine, Summary};
use crate::units::RunId;
use jiff::Timestamp;
use std::time::Duration;

/// Fewer digits name no run.
const DIGITS_MIN: usize = 4;
/// How often the record of a run of another process is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Lists runs, the newest first.
pub(super) fn runs(app: &App, args: &RunsArgs) -> Result<ExitCode, Failure> {
    let started = Timestamp::now();
    let since = args.since.as_deref().map(|typed| instant(typed, Side::Before)).transpose()?;
    let filter = RunFilter {
        kind: args.kind,
        machine: args.machine.clone(),
        replica: args.replica.clone(),
        status: args.status,
        since,
        before: None,
    };
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let records = history(app)?.runs(&filter, limit).map_err(OperationError::from)?;
    let folder = &app.settings.state_dir;
    let lines: Vec<RunLine> =
        records.iter().map(|record| RunLine::new(record, |run| is_running(folder, run))).collect();
    match lines.is_empty() {
        true => app.output.sentence("there are no such runs"),
        false => app.output.result(&daemon_tables::runs(&lines)),
    }
    for line in lines {
        app.output.message(&Message::Run(line));
    }
    let summary = Summary::new(Action::Runs, RunStatus::Completed, started);
    app.output.message(&Message::Summary(summary));
    Ok(ExitCode::Done)
}

/// Does something with one run.
pub(super) fn run(app: &App, command: RunCommand) -> Result<ExitCode, Failure> {
    match command {
        RunCommand::Show { run, follow } => show(app, &run, follow),
        RunCommand::Cancel { run } => cancel(app, &run),
    }
}

fn show(app: &App, typed: &str, follow: bool) -> Result<ExitCode, Failure> {
    let started = Timestamp::now();
    let run = find(app, typed)?;
    let client = client(app);
    let mut detail = detail(app, client.as_ref(), run)?;
    let mut code = ExitCode::Done;
    if follow {
        if detail.line.status.is_open() && !detail.line.cut_off {
            watch(app, client.as_ref(), &detail)?;
            detail = self::detail(app, client.as_ref(), run)?;
        }
        let exit = detail.line.exit.and_then(|exit| ExitCode::try_from(exit).ok());
        code = exit.unwrap_or(match detail.line.status {
            RunStatus::Completed | RunStatus::Skipped => ExitCode::Done,
            _ => ExitCode::Failed,
        });
    }
    app.output.result(&daemon_text::run(&detail));
    app.output.message(&Message::RunDetail(Box::new(detail)));
    let mut summary = Summary::new(Action::Run, RunStatus::Completed, started);
    summary.run = Some(run);
    app.output.message(&Message::Summary(summary));
    Ok(code)
}

fn cancel(app: &App, typed: &str) -> Result<ExitCode, Failure> {
    let started = Timestamp::now();
    let run = find(app, typed)?;
    Client::new(app.settings.daemon.socket.clone()).cancel(run)?;
    app.output.sentence(&format!(
        "the run {} was asked to stop; `afterimage run show {}` tells how it ended",
        run.short(),
        run.short()
    ));
    let mut summary = Summary::new(Action::Run, RunStatus::Completed, started);
    summary.run = Some(run);
    app.output.message(&Message::Summary(summary));
    Ok(ExitCode::Done)
}

/// Watches a run to its end: with the daemon that does it, or by its record.
fn watch(app: &App, client: Option<&Client>, detail: &RunDetail) -> Result<(), Failure> {
    let run = detail.line.run;
    let task = detail.task.clone().and_then(|it| serde_json::from_value::<Task>(it).ok());
    let work = match task {
        Some(task) => task.describe(),
        None => detail.line.kind.word(),
    };
    if let (Some(client), Some(_)) = (client, &detail.live) {
        let progress = Progress::default();
        let mut watcher = RunWatcher::looking(app, work, &progress);
        return match client.follow(run, &mut watcher)? {
            Followed::Ended(RunEnd { .. }) | Followed::Left => Ok(()),
        };
    }
    loop {
        let record = record(app, run)?;
        if !record.outcome.status.is_open() || !is_running(&app.settings.state_dir, run) {
            return Ok(());
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// All that is known of a run: how far it is, too, when it is one of the daemon.
fn detail(app: &App, client: Option<&Client>, run: RunId) -> Result<RunDetail, Failure> {
    if let Some(Ok(Some(detail))) = client.map(|client| client.run(run)) {
        return Ok(detail);
    }
    let record = record(app, run)?;
    Ok(RunDetail::new(&record, |run| is_running(&app.settings.state_dir, run)))
}

/// The daemon, if there is one that serves this user.
fn client(app: &App) -> Option<Client> {
    if app.no_daemon {
        return None;
    }
    let client = Client::new(app.settings.daemon.socket.clone());
    match client.status() {
        Ok(_) => Some(client),
        Err(ClientError::NoDaemon { .. } | ClientError::Forbidden { .. }) => None,
        Err(error) => {
            app.output.warning(&Failure::from(error).message);
            None
        }
    }
}

fn history(app: &App) -> Result<History, Failure> {
    Ok(History::open(&app.settings.state_dir).map_err(OperationError::from)?)
}

fn record(app: &App, run: RunId) -> Result<RunRecord, Failure> {
    let record = history(app)?.run(run).map_err(OperationError::from)?;
    record.ok_or_else(|| unknown(&run.to_string()))
}

fn unknown(typed: &str) -> Failure {
    let typed: String = typed.chars().take(80).collect();
    Failure::usage(format!("there is no run `{typed}`; `afterimage runs` lists them"))
}

/// The run that is meant.
fn find(app: &App, typed: &str) -> Result<RunId, Failure> {
    let history = history(app)?;
    if typed == "latest" {
        let newest = history.runs(&RunFilter::default(), 1).map_err(OperationError::from)?;
        return newest.first().map(|record| record.id).ok_or_else(|| unknown(typed));
    }
    let is_id = typed.len() >= DIGITS_MIN && typed.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_id {
        return Err(unknown(typed));
    }
    let found = history.runs_called(typed, 2).map_err(OperationError::from)?;
    match found.as_slice() {
        [run] => Ok(*run),
        [] => Err(unknown(typed)),
        _ => Err(Failure::usage(format!("several runs begin with `{typed}`; add more digits"))),
    }
}

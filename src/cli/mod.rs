//! The command line.
//!
//! Raw arguments (`args`) become names that exist (`select`), these become runs (`batch`), and
//! what comes of them goes to people or programs (`output`, `text`, `tables`). Exit codes are
//! those of [`ExitCode`].

mod args;
mod ask;
mod batch;
mod config;
mod copy;
mod daemon;
mod daemon_args;
mod daemon_tables;
mod daemon_text;
mod demo;
mod executor;
mod failure;
mod generate;
mod history;
mod interrupt;
mod key_args;
mod keys;
mod lists;
mod log;
mod metrics;
mod notify;
mod output;
mod pins;
mod prompt;
mod prune;
mod repair;
mod restore;
mod runs;
mod select;
mod site;
mod stats;
mod tables;
mod text;
mod times;
mod token_args;
mod token_tables;
mod tokens;
mod verify;
mod watch;
mod watcher;

use crate::catalog::RunStatus;
use crate::operations::InitChoice;
use crate::report::{Action, ExitCode, Message, Summary};
use crate::settings::Settings;
use args::{
    BackupCommand, CatalogCommand, Cli, Command, ConfigCommand, PointsCommand, ReplicateCommand,
};
use clap::Parser;
use executor::Executor;
use failure::Failure;
use interrupt::Interrupt;
use output::Output;
use std::sync::{Arc, OnceLock};

/// What all commands work with.
struct App {
    settings: Settings,
    output: Arc<Output>,
    interrupt: Interrupt,
    no_daemon: bool,
    executor: OnceLock<Executor>,
}

impl App {
    /// Who does runs: chosen when it is first asked for.
    fn executor(&self) -> Result<&Executor, Failure> {
        if let Some(executor) = self.executor.get() {
            return Ok(executor);
        }
        let chosen = Executor::choose(&self.settings, self.no_daemon)?;
        Ok(self.executor.get_or_init(|| chosen))
    }
}

/// Runs the command that the process was started with.
pub fn run() -> std::process::ExitCode {
    #[cfg(feature = "simulation")]
    if let Err(error) = crate::units::break_as_told() {
        output::complain(&error);
        return ExitCode::Usage.into();
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error).into(),
    };
    let output = Arc::new(Output::new(&cli.global));
    log::start(&cli.global);
    let started = jiff::Timestamp::now();
    let action = cli.command.action();
    let code = match dispatch(cli, &output) {
        Ok(code) => code,
        Err(failure) => {
            output.error(&failure);
            let mut summary = Summary::new(action, RunStatus::Failed, started);
            summary.reason = Some(failure.message);
            output.message(&Message::Summary(summary));
            failure.code
        }
    };
    output.end(code).into()
}

fn dispatch(cli: Cli, output: &Arc<Output>) -> Result<ExitCode, Failure> {
    match &cli.command {
        Command::Completions { shell } => return Ok(generate::completions(*shell, output)),
        Command::Man { dir } => return generate::man(dir.as_deref(), output),
        Command::Demo { keep } => return demo::run(*keep, output),
        Command::Config { command: ConfigCommand::Check } => {
            return config::check(&cli.global.config, output);
        }
        Command::Daemon { command: None } => return daemon::run(&cli.global.config, output),
        _ => {}
    }
    let settings = Settings::load(&cli.global.config)?;
    if cli.global.verbose > 0 {
        config::notices(&settings, output);
    }
    let app = App {
        settings,
        output: Arc::clone(output),
        interrupt: Interrupt::install()?,
        no_daemon: cli.global.no_daemon,
        executor: OnceLock::new(),
    };
    match cli.command {
        Command::Init { repositories, no_recovery_key } => {
            runs::init(&app, &repositories, InitChoice { recovery_key: !no_recovery_key })
        }
        Command::Key { command } => keys::run(&app, command),
        Command::Backup { command: BackupCommand::Now { machines, full_read, trust_changes } } => {
            runs::backup(&app, &machines, full_read, trust_changes)
        }
        Command::Replicate { command: ReplicateCommand::Now { replicas, backup_first, adopt } } => {
            runs::replicate(&app, &replicas, backup_first, adopt)
        }
        Command::Points { command: None, machine } => lists::points(&app, machine.as_deref()),
        Command::Points { command: Some(PointsCommand::Pin { machine, point, note }), .. } => {
            pins::pin(&app, &machine, &point, note)
        }
        Command::Points { command: Some(PointsCommand::Unpin { machine, point }), .. } => {
            pins::unpin(&app, &machine, &point)
        }
        Command::Prune(args) => prune::prune(&app, &args),
        Command::Status => Ok(lists::status(&app)),
        Command::Metrics { to } => metrics::metrics(&app, to.as_deref()),
        Command::Token { command } => tokens::run(&app, command),
        Command::Audit(args) => tokens::audit(&app, &args),
        Command::Notify { command } => notify::run(&app, &command),
        Command::Runs(args) => history::runs(&app, &args),
        Command::Run { command } => history::run(&app, command),
        Command::Schedule => site::schedule(&app),
        Command::Pause(args) => site::pause(&app, &args),
        Command::Resume(args) => site::resume(&app, &args),
        Command::Daemon { command: Some(command) } => site::daemon(&app, &command),
        Command::Restore(args) => restore::restore(&app, args),
        Command::Gc { repositories } => runs::gc(&app, &repositories),
        Command::Stats(args) => stats::stats(&app, &args),
        Command::Copy(args) => copy::copy(&app, args),
        Command::Repair(args) => repair::repair(&app, &args),
        Command::Verify(args) => verify::verify(&app, &args),
        Command::Catalog { command: CatalogCommand::Rebuild { repositories } } => {
            runs::catalogs(&app, &repositories, Action::CatalogRebuild)
        }
        Command::Catalog { command: CatalogCommand::Check { repositories } } => {
            runs::catalogs(&app, &repositories, Action::CatalogCheck)
        }
        // Done above, without settings.
        Command::Config { .. }
        | Command::Completions { .. }
        | Command::Man { .. }
        | Command::Daemon { command: None }
        | Command::Demo { .. } => Ok(ExitCode::Done),
    }
}

/// A command line that is not understood, or a request for help.
fn usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        // Help or the version. Nobody who closed the pipe wants to hear of that.
        let _ = error.print();
        return ExitCode::Done;
    }
    if std::env::args_os().any(|argument| argument == "--json") {
        let message = error.to_string();
        let first = message.lines().next().unwrap_or_default();
        let failure = Failure::usage(first.trim_start_matches("error: "));
        Output::error_as_json(&failure);
    } else {
        let _ = error.print();
    }
    ExitCode::Usage
}

impl Command {
    fn action(&self) -> Action {
        match self {
            Self::Init { .. } => Action::Init,
            Self::Key { .. } => Action::Key,
            Self::Config { .. } => Action::ConfigCheck,
            Self::Backup { .. } => Action::Backup,
            Self::Points { command: None, .. } => Action::Points,
            Self::Points { command: Some(_), .. } => Action::Pin,
            Self::Prune(_) => Action::Prune,
            Self::Replicate { .. } => Action::Replicate,
            Self::Status => Action::Status,
            Self::Metrics { .. } => Action::Metrics,
            Self::Token { .. } => Action::Token,
            Self::Audit(_) => Action::Audit,
            Self::Notify { .. } => Action::NotifyTest,
            Self::Runs(_) => Action::Runs,
            Self::Run { .. } => Action::Run,
            Self::Schedule => Action::Schedule,
            Self::Pause(_) => Action::Pause,
            Self::Resume(_) => Action::Resume,
            Self::Daemon { .. } => Action::Daemon,
            Self::Restore(_) => Action::Restore,
            Self::Repair(_) => Action::Repair,
            Self::Verify(_) => Action::Verify,
            Self::Gc { .. } => Action::Gc,
            Self::Stats(_) => Action::Stats,
            Self::Copy(_) => Action::Copy,
            Self::Catalog { command: CatalogCommand::Rebuild { .. } } => Action::CatalogRebuild,
            Self::Catalog { command: CatalogCommand::Check { .. } } => Action::CatalogCheck,
            Self::Demo { .. } => Action::Demo,
            Self::Completions { .. } | Self::Man { .. } => Action::Generate,
        }
    }
}

//! `afterimage key`.

use super::App;
use super::batch::Batch;
use super::failure::Failure;
use super::key_args::{AddArgs, KeyCommand, RotateArgs, Which};
use super::{ask, prompt, select, tables, text};
use crate::catalog::RunStatus;
use crate::fsio::RealFileSystem;
use crate::operations::{self, NewKey, OperationError, RemoveRequest, with_reasons};
use crate::report::{Action, ExitCode, Message, Summary};
use crate::store::{RecoveryKey, StoreError};
use crate::units::Name;
use jiff::Timestamp;
use std::path::{Path, PathBuf};

pub(super) fn run(app: &App, command: KeyCommand) -> Result<ExitCode, Failure> {
    match command {
        KeyCommand::List { which, repair: false } => list(app, &repository(app, &which)?),
        KeyCommand::List { which, repair: true } => {
            let name = repository(app, &which)?;
            tell(app, operations::repair_key_index(&app.settings, &name))
        }
        KeyCommand::Add(args) => add(app, args),
        KeyCommand::Remove { slot, which, own_key, yes } => {
            let request = RemoveRequest { digits: &slot, own_key_too: own_key };
            remove(app, &repository(app, &which)?, request, yes)
        }
        KeyCommand::Rotate { which, to } => {
            let name = repository(app, &which)?;
            tell(app, operations::rotate_key(&app.settings, &name, new_key(to).as_ref()))
        }
        KeyCommand::Export { which, to } => {
            let name = repository(app, &which)?;
            tell(app, operations::export_keys(&app.settings, &name, &to))
        }
        KeyCommand::Recover { which, from, recovery_key_file } => {
            let name = repository(app, &which)?;
            recover(app, &name, from.as_deref(), recovery_key_file.as_deref())
        }
    }
}

/// The one that was typed, or the only one that there is.
fn repository(app: &App, which: &Which) -> Result<Name, Failure> {
    let table = &app.settings.repositories;
    let typed: Vec<String> = which.repository.iter().cloned().collect();
    let mut names = select::names(&app.settings, "repository", table, &typed)?.into_iter();
    match (names.next(), names.next()) {
        (Some(name), None) => Ok(name),
        _ => {
            let names: Vec<&str> = table.keys().map(Name::as_str).collect();
            let names = names.join(", ");
            Err(Failure::usage(format!("name one of the repositories of the settings: {names}")))
        }
    }
}

fn tell(app: &App, done: Result<Summary, OperationError>) -> Result<ExitCode, Failure> {
    let summary = done?;
    let mut batch = Batch::new(app, Action::Key, 1);
    batch.add(&summary);
    Ok(batch.end())
}

fn list(app: &App, name: &Name) -> Result<ExitCode, Failure> {
    let started = Timestamp::now();
    let report = operations::list_keys(&app.settings, name)?;
    app.output.result(&tables::key_slots(&report.slots));
    for warning in &report.warnings {
        app.output.warning(warning);
    }
    for line in report.slots {
        app.output.message(&Message::KeySlot(line));
    }
    let (status, code) = match report.is_complete {
        true => (RunStatus::Completed, ExitCode::Done),
        false => (RunStatus::Incomplete, ExitCode::Incomplete),
    };
    let mut summary = Summary::new(Action::Key, status, started);
    summary.repository = Some(name.clone());
    summary.warnings = report.warnings;
    app.output.message(&Message::Summary(summary));
    Ok(code)
}

fn key_file(path: PathBuf, generate: bool) -> NewKey {
    NewKey::KeyFile { path, generate }
}

fn add(app: &App, args: AddArgs) -> Result<ExitCode, Failure> {
    let name = repository(app, &args.which)?;
    let key = match (args.key.key_file, args.key.passphrase_file) {
        (Some(path), _) => key_file(path, args.generate),
        (None, Some(path)) => NewKey::PassphraseFile(path),
        (None, None) => NewKey::RecoveryKey,
    };
    tell(app, operations::add_key(&app.settings, &name, &key, args.label))
}

fn new_key(args: RotateArgs) -> Option<NewKey> {
    let RotateArgs { key_file: path, generate, passphrase_file } = args;
    path.map(|path| key_file(path, generate)).or(passphrase_file.map(NewKey::PassphraseFile))
}

fn remove(
    app: &App,
    name: &Name,
    request: RemoveRequest<'_>,
    yes: bool,
) -> Result<ExitCode, Failure> {
    if !yes {
        let slot = match operations::key_slot(&app.settings, name, request.digits)? {
            None => format!("the key slot that begins with {}", request.digits),
            Some(line) => {
                let label = line.label.map_or(String::new(), |label| format!(" \"{label}\""));
                let made = text::time(line.created);
                format!("key slot {}{label} ({}, made {made})", line.slot, line.kind.describe())
            }
        };
        let plan = format!("remove {slot} of {name}: what opens it will open nothing any more");
        confirm(app, &plan)?;
    }
    tell(app, operations::remove_key(&app.settings, name, request))
}

/// Asks on a terminal; anywhere else, `--yes` must have been given.
fn confirm(app: &App, plan: &str) -> Result<(), Failure> {
    if !ask::can_ask(app) {
        let message = format!(
            "{plan}\nnothing was changed, as there is no terminal to ask on; add `--yes` if that is \
             what you want"
        );
        return Err(Failure::usage(message));
    }
    match ask::says_yes(plan) {
        true => Ok(()),
        false => Err(Failure::new(ExitCode::Failed, "not confirmed; nothing was changed")),
    }
}

fn recover(
    app: &App,
    name: &Name,
    from: Option<&Path>,
    key_file: Option<&Path>,
) -> Result<ExitCode, Failure> {
    let key = match (from, key_file) {
        (Some(_), None) => None,
        (_, file) => Some(recovery_key(file)?),
    };
    let mut batch =
        Batch::new(app, Action::Key, usize::from(from.is_some()) + usize::from(key.is_some()));
    if let Some(from) = from {
        batch.add(&operations::put_back_keys(&app.settings, name, from, key.as_ref())?);
    }
    if let Some(key) = key {
        batch.add(&operations::recover_key(&app.settings, name, &key)?);
    }
    Ok(batch.end())
}

fn recovery_key(file: Option<&Path>) -> Result<RecoveryKey, Failure> {
    if let Some(path) = file.filter(|path| *path != Path::new("-")) {
        let read = RecoveryKey::read(&RealFileSystem, path).map_err(StoreError::from);
        return Ok(read.map_err(OperationError::from)?);
    }
    let typed = prompt::secret("recovery key (it is not shown)")
        .map_err(|error| Failure::new(ExitCode::Failed, with_reasons(&error)))?;
    let key = RecoveryKey::parse(&typed).map_err(|error| StoreError::Secret(error.into()));
    Ok(key.map_err(OperationError::from)?)
}

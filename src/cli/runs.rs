//! Commands that do something to each of the things named.

use super::App;
use super::batch::Batch;
use super::failure::Failure;
use super::select;
use super::watch::Watch;
use crate::catalog::RunStatus;
use crate::operations::{self, InitChoice, OperationError, Task};
use crate::report::{Action, ExitCode, RecoveryKeyText, Summary};
use crate::store::StoreError;
use crate::units::Name;
use jiff::Timestamp;

pub(super) fn backup(
    app: &App,
    typed: &[String],
    full_read: bool,
    trust_changes: bool,
) -> Result<ExitCode, Failure> {
    let machines = select::names(&app.settings, "machine", &app.settings.machines, typed)?;
    let mut batch = Batch::with(app, app.executor()?, Action::Backup, machines.len());
    for machine in machines {
        batch.run(&Task::Backup { machine, full_read, trust_changes });
    }
    Ok(batch.end())
}

pub(super) fn replicate(
    app: &App,
    typed: &[String],
    backup_first: bool,
    adopt: bool,
) -> Result<ExitCode, Failure> {
    let replicas = select::names(&app.settings, "replica", &app.settings.replicas, typed)?;
    let machines = if backup_first { machines_of(app, &replicas) } else { Vec::new() };
    let planned = machines.len() + replicas.len();
    let mut batch = Batch::with(app, app.executor()?, Action::Replicate, planned);
    for machine in machines {
        // A replica follows the newest point that there is, also when none was added.
        batch.run(&Task::Backup { machine, full_read: false, trust_changes: false });
    }
    for replica in replicas {
        batch.run(&Task::Replicate { replica, adopt });
    }
    Ok(batch.end())
}

/// The machines of replicas, each once.
fn machines_of(app: &App, replicas: &[Name]) -> Vec<Name> {
    let mut machines: Vec<Name> = Vec::new();
    for replica in replicas.iter().filter_map(|name| app.settings.replicas.get(name)) {
        if !machines.contains(&replica.machine) {
            machines.push(replica.machine.clone());
        }
    }
    machines
}

pub(super) fn gc(app: &App, typed: &[String]) -> Result<ExitCode, Failure> {
    let names = select::names(&app.settings, "repository", &app.settings.repositories, typed)?;
    let mut batch = Batch::with(app, app.executor()?, Action::Gc, names.len());
    for repository in names {
        batch.run(&Task::Gc { repository });
    }
    Ok(batch.end())
}

pub(super) fn init(app: &App, typed: &[String], choice: InitChoice) -> Result<ExitCode, Failure> {
    let names = select::names(&app.settings, "repository", &app.settings.repositories, typed)?;
    let mut batch = Batch::new(app, Action::Init, names.len());
    for name in &names {
        let started = Timestamp::now();
        let of = |status| Summary {
            repository: Some(name.clone()),
            ..Summary::new(Action::Init, status, started)
        };
        match operations::init(&app.settings, name, choice) {
            Ok(made) => {
                let mut summary = of(RunStatus::Completed);
                summary.detail = Some(format!("{} in {}", made.id, made.path.display()));
                summary.warnings.extend(made.generated_key_file.map(|path| {
                    format!(
                        "a new key was written to {}; keep a copy of it elsewhere, without {} \
                         nothing in the repository can be read",
                        path.display(),
                        if choice.recovery_key { "it or the recovery key" } else { "it" }
                    )
                }));
                summary.recovery_key = made.recovery_key.map(|key| RecoveryKeyText(key.text()));
                batch.add(&summary);
            }
            // Nobody named it: what is there already need not be made.
            Err(error @ OperationError::Store(StoreError::Exists { .. })) if typed.is_empty() => {
                let mut summary = of(RunStatus::Skipped);
                summary.reason = Some(error.to_string());
                batch.add(&summary);
            }
            Err(error) => batch.add_failed(name.as_str(), error.into(), of(RunStatus::Failed)),
        }
    }
    Ok(batch.end())
}

/// Builds catalogs anew, or checks them.
pub(super) fn catalogs(app: &App, typed: &[String], action: Action) -> Result<ExitCode, Failure> {
    let names = select::names(&app.settings, "repository", &app.settings.repositories, typed)?;
    let mut batch = Batch::new(app, action, names.len());
    for name in &names {
        let started = Timestamp::now();
        let done = app.interrupt.work(|progress| {
            let _watch = Watch::of(&app.output, format!("catalog of {name}"), progress);
            match action {
                Action::CatalogCheck => operations::catalog_check(&app.settings, name, progress),
                _ => operations::catalog_rebuild(&app.settings, name, progress),
            }
        });
        match done {
            Ok(summary) => batch.add(&summary),
            Err(error) => {
                let summary = Summary {
                    repository: Some(name.clone()),
                    ..Summary::new(action, RunStatus::Failed, started)
                };
                batch.add_failed(name.as_str(), error.into(), summary);
            }
        }
    }
    Ok(batch.end())
}

//! Commands that do something to each of the things named.

use super::App;
use super::batch::Batch;
use super::failure::Failure;
use super::select;
use super::watch::Watch;
use crate::catalog::RunStatus;
use crate::operations::{self, InitChoice, OperationError, Reading};
use crate::report::{Action, ExitCode, RecoveryKeyText, Summary};
use crate::store::StoreError;
use crate::units::Name;
use jiff::Timestamp;

pub(super) fn backup(
    app: &App,
    typed: &[String],
    reading: Reading,
    trust_changes: bool,
) -> Result<ExitCode, Failure> {
    let machines = select::names(&app.settings, "machine", &app.settings.machines, typed)?;
    if trust_changes {
        for machine in &machines {
            operations::trust_changes(&app.settings, machine)?;
        }
    }
    let mut batch = Batch::new(app, Action::Backup, machines.len());
    for machine in &machines {
        back_up(app, &mut batch, machine, reading);
    }
    Ok(batch.end())
}

fn back_up(app: &App, batch: &mut Batch<'_>, machine: &Name, reading: Reading) -> bool {
    batch.run(machine.as_str(), format!("backup of {machine}"), |progress| {
        operations::backup_machine(&app.settings, machine, reading, progress)
    })
}

pub(super) fn replicate(
    app: &App,
    typed: &[String],
    backup_first: bool,
    adopt: bool,
) -> Result<ExitCode, Failure> {
    let replicas = select::names(&app.settings, "replica", &app.settings.replicas, typed)?;
    let machines = if backup_first { machines_of(app, &replicas) } else { Vec::new() };
    let mut batch = Batch::new(app, Action::Replicate, machines.len() + replicas.len());
    for machine in &machines {
        // A replica follows the newest point that there is, also when none was added.
        back_up(app, &mut batch, machine, Reading::Changes);
    }
    for replica in &replicas {
        batch.run(replica.as_str(), format!("replication to {replica}"), |progress| {
            operations::replicate(&app.settings, replica, adopt, progress)
        });
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
    let mut batch = Batch::new(app, Action::Gc, names.len());
    for name in &names {
        batch.run(name.as_str(), format!("collection in {name}"), |progress| {
            operations::gc(&app.settings, name, progress)
        });
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
            let _watch = Watch::start(&app.output, format!("catalog of {name}"), progress);
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

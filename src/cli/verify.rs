//! Comparing what is kept with what it must be: replicas, repositories, single points.

use super::App;
use super::args::VerifyArgs;
use super::batch::Batch;
use super::failure::Failure;
use super::{select, text};
use crate::operations::{Task, VerifyScope};
use crate::report::{Action, ExitCode, Message};

pub(super) fn verify(app: &App, args: &VerifyArgs) -> Result<ExitCode, Failure> {
    if !args.replicas.is_empty() {
        return replicas(app, &args.replicas);
    }
    if let Some(machine) = &args.machine {
        return point(app, machine, &args.point);
    }
    let scope = match (args.sample, args.no_key) {
        (Some(percent), _) => VerifyScope::Sample(percent),
        (None, true) => VerifyScope::NoKey,
        (None, false) => VerifyScope::All,
    };
    let typed = &args.repositories;
    let names = select::names(&app.settings, "repository", &app.settings.repositories, typed)?;
    let mut batch = Batch::with(app, app.executor()?, Action::Verify, names.len());
    for repository in names {
        batch.run(&Task::VerifyRepository { repository, scope });
    }
    Ok(batch.end())
}

fn replicas(app: &App, typed: &[String]) -> Result<ExitCode, Failure> {
    let replicas = select::names(&app.settings, "replica", &app.settings.replicas, typed)?;
    let mut batch = Batch::with(app, app.executor()?, Action::Verify, replicas.len());
    for replica in replicas {
        batch.run(&Task::VerifyReplica { replica });
    }
    Ok(batch.end())
}

fn point(app: &App, machine: &str, point: &str) -> Result<ExitCode, Failure> {
    let mut batch = Batch::with(app, app.executor()?, Action::Verify, 1);
    batch.run(&Task::VerifyPoint { machine: machine.to_owned(), point: select::point(point) });
    Ok(batch.end())
}

/// A line about damage, for people and programs.
pub(super) fn tell(app: &App, message: &Message) {
    match message {
        Message::Damage(line) => app.output.result(&text::damage(line)),
        Message::DamagedPoint(line) => app.output.result(&text::damaged_point(line)),
        Message::Warning { message } => app.output.warning(message),
        _ => {}
    }
    app.output.message(message);
}

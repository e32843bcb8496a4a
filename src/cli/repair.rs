//! Repairing repositories. What is damaged is shown, and asked about, first.

use super::App;
use super::args::RepairArgs;
use super::batch::Batch;
use super::executor::Executor;
use super::failure::Failure;
use super::restore::{absolute, confirm};
use super::{select, verify};
use crate::operations::{self, RepairOptions, Task};
use crate::report::{Action, ExitCode};
use std::io::IsTerminal;
use std::path::PathBuf;

const PLAN: &str = "everything above that can be had elsewhere is brought back; what is damaged is \
                    moved to `quarantine/` in the repository, and nothing is deleted";

pub(super) fn repair(app: &App, args: &RepairArgs) -> Result<ExitCode, Failure> {
    let typed = &args.repositories;
    let names = select::names(&app.settings, "repository", &app.settings.repositories, typed)?;
    // Before everything is read for nothing.
    let can_ask = !app.output.json && std::io::stdin().is_terminal();
    if !args.yes && !args.dry_run && !can_ask {
        return Err(Failure::usage(
            "nothing was changed, as there is no terminal to ask on; add `--yes` if damaged files \
             may be set apart, or `--dry-run` to see what is damaged",
        ));
    }
    // What is asked about in the middle of a run is asked by who does it.
    let executor = if args.yes || args.dry_run { app.executor()? } else { &Executor::Here };
    let from = sources(app, &args.from)?;
    let mut batch = Batch::with(app, executor, Action::Repair, names.len());
    for repository in names {
        let (from, dry_run) = (from.clone(), args.dry_run);
        let options = RepairOptions { from: from.clone(), dry_run };
        let task = Task::Repair { repository: repository.clone(), from, dry_run };
        if args.yes || dry_run {
            batch.run(&task);
            continue;
        }
        batch.run_here(&task, |progress| {
            let tell = &mut |message| verify::tell(app, &message);
            let agree = &mut || confirm(app, PLAN).is_ok();
            operations::repair_repository(
                &app.settings,
                &repository,
                &options,
                progress,
                tell,
                agree,
            )
        });
    }
    Ok(batch.end())
}

/// Where else content is looked for: folders become absolute, as the daemon works elsewhere.
fn sources(app: &App, typed: &[String]) -> Result<Vec<String>, Failure> {
    let known = |text: &&String| app.settings.repositories.keys().any(|it| it.as_str() == **text);
    let sources = typed.iter().map(|text| match known(&text) {
        true => Ok(text.clone()),
        false => Ok(absolute(PathBuf::from(text))?.display().to_string()),
    });
    sources.collect()
}

//! Repairing repositories. What is damaged is shown, and asked about, first.

use super::App;
use super::args::RepairArgs;
use super::batch::Batch;
use super::failure::Failure;
use super::restore::confirm;
use super::{select, verify};
use crate::operations::{self, RepairOptions};
use crate::report::{Action, ExitCode};
use std::io::IsTerminal;

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
    let options = RepairOptions { from: args.from.clone(), dry_run: args.dry_run };
    let mut batch = Batch::new(app, Action::Repair, names.len());
    for name in &names {
        batch.run(name.as_str(), format!("repair of {name}"), |progress| {
            let tell = &mut |message| verify::tell(app, &message);
            let agree = &mut || args.yes || confirm(app, PLAN).is_ok();
            operations::repair_repository(&app.settings, name, &options, progress, tell, agree)
        });
    }
    Ok(batch.end())
}

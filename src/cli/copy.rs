//! Copying points to another repository.

use super::App;
use super::args::CopyArgs;
use super::batch::Batch;
use super::failure::Failure;
use crate::operations::{self, CopyOrder};
use crate::report::{Action, ExitCode};
use jiff::tz::TimeZone;

pub(super) fn copy(app: &App, args: CopyArgs) -> Result<ExitCode, Failure> {
    let CopyArgs { from, to, mut machines, point } = args;
    let order = CopyOrder::new(&app.settings, &from, &to, point, TimeZone::system())?;
    if machines.is_empty() {
        machines = operations::machines_to_copy(&app.settings, &order)?;
    }
    machines.sort();
    machines.dedup();
    let mut batch = Batch::new(app, Action::Copy, machines.len());
    for machine in &machines {
        batch.run(machine.as_str(), format!("copy of {machine}"), |progress| {
            operations::copy_machine(&app.settings, &order, machine, progress)
        });
    }
    Ok(batch.end())
}

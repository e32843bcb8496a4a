//! Copying points to another repository.

use super::App;
use super::args::CopyArgs;
use super::batch::Batch;
use super::failure::Failure;
use super::select;
use crate::operations::{self, CopyOrder, Task};
use crate::report::{Action, ExitCode};
use jiff::tz::TimeZone;

pub(super) fn copy(app: &App, args: CopyArgs) -> Result<ExitCode, Failure> {
    let CopyArgs { from, to, mut machines, point } = args;
    let point = point.as_deref().map(select::point);
    let order = CopyOrder::new(&app.settings, &from, &to, point.clone(), TimeZone::system())?;
    if machines.is_empty() {
        machines = operations::machines_to_copy(&app.settings, &order)?;
    }
    machines.sort();
    machines.dedup();
    let mut batch = Batch::with(app, app.executor()?, Action::Copy, machines.len());
    for machine in machines {
        let (from, to) = (order.from().clone(), order.to().clone());
        batch.run(&Task::Copy { from, to, machine, point: point.clone(), zone: None });
    }
    Ok(batch.end())
}

//! `afterimage demo`.

use super::failure::Failure;
use super::interrupt::Interrupt;
use super::output::Output;
use crate::catalog::RunStatus;
use crate::demo;
use crate::operations::with_reasons;
use crate::report::{Action, ExitCode, Message, StepLine, Summary};
use jiff::Timestamp;

/// Runs the demonstration, which needs no settings, and tells each step as it happens.
pub(super) fn run(keep: bool, output: &Output) -> Result<ExitCode, Failure> {
    let started = Timestamp::now();
    let interrupt = Interrupt::install()?;
    let ended =
        interrupt.work(|progress| demo::run(keep, progress, &mut |line| tell(output, line)));
    ended.map_err(|error| Failure::new(error.exit_code(), with_reasons(&error)))?;
    let summary = Summary::new(Action::Demo, RunStatus::Completed, started);
    output.sentence(&format!("\nEverything was proved, in {:.1} s.", summary.duration_s));
    output.message(&Message::Summary(summary));
    Ok(ExitCode::Done)
}

fn tell(output: &Output, line: StepLine) {
    match line.heading {
        true => output.result(&format!("\n{}. {}", line.step, line.text)),
        false => output.result(&format!("   {}", line.text)),
    }
    output.message(&Message::Step(line));
}

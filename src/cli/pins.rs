//! Pinning points, and unpinning them.

use super::App;
use super::failure::Failure;
use super::text;
use crate::operations;
use crate::report::{ExitCode, Message, Summary};
use jiff::tz::TimeZone;

pub(super) fn pin(
    app: &App,
    machine: &str,
    point: &str,
    note: Option<String>,
) -> Result<ExitCode, Failure> {
    let zone = TimeZone::system();
    Ok(tell(app, operations::pin_point(&app.settings, machine, point, note, &zone)?))
}

pub(super) fn unpin(app: &App, machine: &str, point: &str) -> Result<ExitCode, Failure> {
    let zone = TimeZone::system();
    Ok(tell(app, operations::unpin_point(&app.settings, machine, point, &zone)?))
}

fn tell(app: &App, summary: Summary) -> ExitCode {
    app.output.sentence(&text::summary(&summary));
    app.output.message(&Message::Summary(summary));
    ExitCode::Done
}

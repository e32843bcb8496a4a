//! Metrics, without a daemon.

use super::App;
use super::failure::{Failure, with_reasons};
use crate::catalog::RunStatus;
use crate::metrics::{MetricsError, gather, render_file, write_file};
use crate::report::{Action, ExitCode, Message, Summary};
use jiff::Timestamp;
use std::path::Path;

pub(super) fn metrics(app: &App, to: Option<&Path>) -> Result<ExitCode, Failure> {
    let started = Timestamp::now();
    let text = render_file(&gather(&app.settings, started));
    match to {
        Some(path) => write_file(path, &text)?,
        None => app.output.result(text.trim_end()),
    }
    let summary = Summary::new(Action::Metrics, RunStatus::Completed, started);
    app.output.message(&Message::Summary(summary));
    Ok(ExitCode::Done)
}

impl From<MetricsError> for Failure {
    fn from(error: MetricsError) -> Self {
        Self::new(ExitCode::Failed, with_reasons(&error))
    }
}

//! Checking the settings file.

use super::failure::{Failure, settings_line};
use super::output::Output;
use crate::catalog::{RunStatus, check_local_folder};
use crate::operations::{self, with_reasons};
use crate::report::{Action, ExitCode, Message, Summary};
use crate::settings::Settings;
use jiff::Timestamp;
use std::path::Path;

pub(super) fn check(file: &Path, output: &Output) -> Result<ExitCode, Failure> {
    let started = Timestamp::now();
    let settings = Settings::load(file)?;
    let mut problems: Vec<String> =
        operations::check_definitions(&settings).iter().map(|error| with_reasons(error)).collect();
    problems.extend(check_local_folder(&settings.state_dir).err().map(|e| with_reasons(&e)));
    if !problems.is_empty() {
        return Err(Failure::usage(problems.join("\n")));
    }
    let counts = [
        count(settings.repositories.len(), "repository", "repositories"),
        count(settings.machines.len(), "machine", "machines"),
        count(settings.replicas.len(), "replica", "replicas"),
    ];
    let detail = format!("{} is fine: {}", settings.file.display(), counts.join(", "));
    output.sentence(&detail);
    notices(&settings, output);
    let mut summary = Summary::new(Action::ConfigCheck, RunStatus::Completed, started);
    summary.detail = Some(detail);
    output.message(&Message::Summary(summary));
    Ok(ExitCode::Done)
}

/// Tells what is right in the settings, but does less than may be expected.
pub(super) fn notices(settings: &Settings, output: &Output) {
    for notice in &settings.notices {
        output.sentence(&format!("\nnotice: {}", notice.render(&settings.file)));
        output.message(&Message::Notice(settings_line(notice.clone())));
    }
}

fn count(count: usize, one: &str, several: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { several })
}

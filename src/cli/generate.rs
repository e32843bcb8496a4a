//! Completions and manual pages.

use super::args::Cli;
use super::failure::Failure;
use super::output::Output;
use crate::catalog::RunStatus;
use crate::report::{Action, ExitCode, Message, Summary};
use anyhow::Context;
use clap::CommandFactory;
use clap_complete::Shell;
use std::path::Path;

/// Prints the script; it is what it is, with `--json` too.
pub(super) fn completions(shell: Shell, output: &Output) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "afterimage", &mut script);
    output.raw(&String::from_utf8_lossy(&script));
    ExitCode::Done
}

/// Prints the manual page, or writes one for each command to `dir`.
pub(super) fn man(dir: Option<&Path>, output: &Output) -> Result<ExitCode, Failure> {
    let started = jiff::Timestamp::now();
    let Some(dir) = dir else {
        let mut page = Vec::new();
        clap_mangen::Man::new(Cli::command())
            .render(&mut page)
            .context("cannot make the manual page")?;
        output.raw(&String::from_utf8_lossy(&page));
        return Ok(ExitCode::Done);
    };
    let cannot = || format!("cannot write manual pages to {}", dir.display());
    std::fs::create_dir_all(dir).with_context(cannot)?;
    clap_mangen::generate_to(Cli::command(), dir).with_context(cannot)?;
    let mut summary = Summary::new(Action::Generate, RunStatus::Completed, started);
    summary.detail = Some(format!("wrote manual pages to {}", dir.display()));
    output.sentence(summary.detail.as_deref().unwrap_or_default());
    output.message(&Message::Summary(summary));
    Ok(ExitCode::Done)
}

//! Whether messages reach those who are to be told.

use super::App;
use super::failure::{Failure, with_reasons};
use super::token_args::NotifyCommand;
use crate::catalog::RunStatus;
use crate::notify::{self, NotifyError, Sender};
use crate::report::{Action, ExitCode, Message, Summary};
use jiff::Timestamp;

/// Sends a test message over each channel of the settings, or one of them.
pub(super) fn run(app: &App, command: &NotifyCommand) -> Result<ExitCode, Failure> {
    let NotifyCommand::Test { channel } = command;
    let started = Timestamp::now();
    let settings = &app.settings.notify;
    let told = notify::test(settings, &Sender::this_host(), channel.as_deref(), started)?;
    if told.is_empty() {
        return Err(Failure::usage(
            "nobody would be told: the settings have no [notify.webhook.NAME] and no \
             [notify.mail.NAME]",
        ));
    }
    let failed = told.iter().filter(|line| line.problem.is_some()).count();
    let (status, code) = match failed {
        0 => (RunStatus::Completed, ExitCode::Done),
        count if count == told.len() => (RunStatus::Failed, ExitCode::Failed),
        _ => (RunStatus::Incomplete, ExitCode::Incomplete),
    };
    for line in told {
        let word = line.problem.as_deref().unwrap_or("it went");
        app.output.result(&format!("{}: {word}", line.channel));
        app.output.message(&Message::NotifyTest(line));
    }
    app.output.message(&Message::Summary(Summary::new(Action::NotifyTest, status, started)));
    Ok(code)
}

impl From<NotifyError> for Failure {
    fn from(error: NotifyError) -> Self {
        Self::new(ExitCode::Failed, with_reasons(&error))
    }
}

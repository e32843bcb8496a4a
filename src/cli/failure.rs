//! Why a command ends early, in the words of the library.

use crate::operations::OperationError;
use crate::report::{ExitCode, SettingsLine};
use crate::settings::{Problem, SettingsError};
use std::error::Error;

/// An error as it is told.
#[derive(Debug)]
pub(super) struct Failure {
    pub code: ExitCode,
    pub message: String,
    /// All that is wrong in the settings, where that is the reason.
    pub problems: Vec<SettingsLine>,
}

impl Failure {
    pub fn new(code: ExitCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), problems: Vec::new() }
    }

    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(ExitCode::Usage, message)
    }
}

/// A problem of the settings, for programs.
pub(super) fn settings_line(problem: Problem) -> SettingsLine {
    let Problem { line, column, message, hint, .. } = problem;
    SettingsLine { line, column, message, hint }
}

/// The message of an error, and those of its reasons that it does not hold already.
pub(super) fn with_reasons(error: &dyn Error) -> String {
    let mut message = error.to_string();
    let mut next = error.source();
    while let Some(reason) = next {
        let text = reason.to_string();
        if !message.contains(&text) {
            message += &format!(": {text}");
        }
        next = reason.source();
    }
    message
}

impl From<&OperationError> for Failure {
    fn from(error: &OperationError) -> Self {
        Self::new(error.exit_code(), with_reasons(error))
    }
}

impl From<OperationError> for Failure {
    fn from(error: OperationError) -> Self {
        Self::from(&error)
    }
}

impl From<SettingsError> for Failure {
    fn from(error: SettingsError) -> Self {
        let message = with_reasons(&error);
        let problems = match error {
            SettingsError::Invalid(errors) => {
                errors.problems.into_iter().map(settings_line).collect()
            }
            _ => Vec::new(),
        };
        Self { code: ExitCode::Usage, message, problems }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::new(ExitCode::Failed, format!("{error:#}"))
    }
}

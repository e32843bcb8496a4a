//! Why a command ends early, in the words of the library.

use crate::client::ClientError;
use crate::operations::OperationError;
pub(super) use crate::operations::with_reasons;
use crate::report::{ExitCode, SettingsLine};
use crate::settings::{Problem, SettingsError};

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

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Refused(report) | ClientError::NotFound(report) => {
                Self { code: report.code, message: report.message, problems: report.problems }
            }
            other => Self::new(ExitCode::Failed, with_reasons(&other)),
        }
    }
}

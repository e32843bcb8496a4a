//! Errors as `application/problem+json` (RFC 9457).

use crate::audit::AuditError;
use crate::catalog::CatalogError;
use crate::daemon::DaemonError;
use crate::operations::OperationError;
use crate::recover::RestoreError;
use crate::report::{ExitCode, SettingsLine};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

/// What went wrong with a request.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Problem {
    /// Always `about:blank`: the status says what kind of problem it is.
    #[serde(rename = "type")]
    pub kind: String,
    /// The status in words.
    pub title: String,
    /// The status of the answer.
    pub status: u16,
    /// What was refused, why, and what to do next.
    pub detail: String,
    /// What a command that met this problem exits with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<u8>,
    /// All that is wrong in the settings, where that is the problem.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<SettingsLine>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            kind: "about:blank".to_owned(),
            title: status.canonical_reason().unwrap_or("Error").to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
            exit: None,
            problems: Vec::new(),
        }
    }

    pub(super) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    pub(super) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
    }

    pub(super) fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, detail)
    }

    pub(super) fn internal(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, detail)
    }

    pub(super) fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    }

    fn with_exit(mut self, exit: ExitCode) -> Self {
        self.exit = Some(exit.into());
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        // Plain texts and numbers always become JSON.
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response =
            (status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response();
        if status == StatusCode::UNAUTHORIZED {
            let challenge = header::HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

impl From<OperationError> for Problem {
    fn from(error: OperationError) -> Self {
        let exit = error.exit_code();
        let status = match exit {
            _ if is_unknown(&error) => StatusCode::NOT_FOUND,
            ExitCode::Usage => StatusCode::UNPROCESSABLE_ENTITY,
            ExitCode::Busy | ExitCode::NoRepository | ExitCode::WrongKey => StatusCode::CONFLICT,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, error.to_string()).with_exit(exit)
    }
}

/// Whether what was named is not there.
fn is_unknown(error: &OperationError) -> bool {
    match error {
        OperationError::UnknownName { .. } => true,
        OperationError::Restore(RestoreError::Choice(_)) => error.exit_code() == ExitCode::Failed,
        _ => false,
    }
}

impl From<CatalogError> for Problem {
    fn from(error: CatalogError) -> Self {
        let status = if error.is_passing() {
            StatusCode::SERVICE_UNAVAILABLE
        } else {
            StatusCode::INTERNAL_SERVER_ERROR
        };
        Self::new(status, error.to_string())
    }
}

impl From<DaemonError> for Problem {
    fn from(error: DaemonError) -> Self {
        let text = error.to_string();
        match error {
            DaemonError::NotFound(_) => Self::not_found(text).with_exit(ExitCode::Usage),
            DaemonError::Conflict(_) => {
                Self::new(StatusCode::CONFLICT, text).with_exit(ExitCode::Failed)
            }
            DaemonError::Invalid(_) => Self::invalid(text).with_exit(ExitCode::Usage),
            DaemonError::Settings { problems, .. } => {
                let mut problem = Self::invalid(text).with_exit(ExitCode::Usage);
                problem.problems = problems;
                problem
            }
            DaemonError::Unavailable(_) => Self::unavailable(text).with_exit(ExitCode::Busy),
            DaemonError::Operation(error) => error.into(),
            DaemonError::Catalog(error) => error.into(),
        }
    }
}

impl From<AuditError> for Problem {
    fn from(error: AuditError) -> Self {
        Self::unavailable(format!("{error}; without it nothing is changed"))
    }
}

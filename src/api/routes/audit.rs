//! The audit log.

use crate::api::Problem;
use crate::api::extract::Query;
use crate::api::limits::{LINES_DEFAULT, LINES_MAX};
use crate::api::lines::AuditPage;
use crate::api::state::{Api, Shared, Work};
use crate::audit::{self, AuditVerdict};
use axum::extract::State;
use utoipa::IntoParams;

/// Which lines to list.
#[derive(Debug, serde::Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct AuditQuery {
    /// Those with numbers below this one: `next` of the page before.
    before: Option<u64>,
    /// At most so many, up to 1000.
    limit: Option<usize>,
}

/// The newest lines of the audit log, the oldest of them first.
#[utoipa::path(get, path = "/v1/audit", tag = "audit", params(AuditQuery),
    responses((status = 200, description = "Lines.", body = AuditPage)))]
pub(super) async fn list(
    State(api): State<Api>,
    Query(query): Query<AuditQuery>,
) -> Result<axum::Json<AuditPage>, Problem> {
    let limit = query.limit.unwrap_or(LINES_DEFAULT).clamp(1, LINES_MAX);
    let list = move |shared: &Shared| {
        let lines = audit::read_lines(&shared.audit, query.before, limit)?;
        let first = lines.first().map(|line| line.sequence);
        let next = first.filter(|first| lines.len() == limit && *first > 1);
        Ok(AuditPage { lines, next })
    };
    api.work(Work::Light, list).await.map(axum::Json)
}

/// Checks the chain of all lines.
#[utoipa::path(get, path = "/v1/audit/verify", tag = "audit",
    responses((status = 200, description = "What was found.", body = AuditVerdict)))]
pub(super) async fn verify(State(api): State<Api>) -> Result<axum::Json<AuditVerdict>, Problem> {
    let verify = |shared: &Shared| Ok(audit::verify(&shared.audit)?);
    api.work(Work::Heavy, verify).await.map(axum::Json)
}

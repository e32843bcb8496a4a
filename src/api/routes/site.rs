//! The daemon as a whole.

use crate::api::Problem;
use crate::api::access::Rule;
use crate::api::audited::Change;
use crate::api::extract::Json;
use crate::api::lines::{ConfigLine, Health, NotifyOrder};
use crate::api::peer::Caller;
use crate::api::state::{Api, Work};
use crate::metrics::CONTENT_TYPE;
use crate::report::{DaemonStatus, NotifyTestLine, ReloadReport};
use axum::Extension;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

/// Whether the daemon answers.
#[utoipa::path(get, path = "/v1/health", tag = "site",
    responses((status = 200, description = "It does.", body = Health)))]
pub(super) async fn health(State(api): State<Api>) -> axum::Json<Health> {
    let status = if *api.stop.borrow() { "stopping" } else { "ok" };
    axum::Json(Health { status: status.to_owned() })
}

/// This document.
#[utoipa::path(get, path = "/v1/openapi.json", tag = "site",
    responses((status = 200, description = "An OpenAPI 3.1 document.", body = Object)))]
pub(super) async fn openapi() -> Response {
    axum::Json(crate::api::document()).into_response()
}

/// The daemon itself. A token for some machines sees nothing of the others.
#[utoipa::path(get, path = "/v1/status", tag = "site",
    responses((status = 200, description = "Its state.", body = DaemonStatus)))]
pub(super) async fn status(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
) -> Result<axum::Json<DaemonStatus>, Problem> {
    let mut status = api.work(Work::Light, |shared| Ok(shared.daemon.status())).await?;
    if caller.is_restricted() {
        let settings = api.daemon.settings();
        status.pauses.retain(|pause| super::plans::reaches(&caller, &settings, &pause.subject));
        status.problems.clear();
        status.reload_error = None;
    }
    Ok(axum::Json(status))
}

/// What the settings name. Nothing of them that may be secret is told.
#[utoipa::path(get, path = "/v1/config", tag = "site",
    responses((status = 200, description = "Names.", body = ConfigLine)))]
pub(super) async fn config(State(api): State<Api>) -> Result<axum::Json<ConfigLine>, Problem> {
    let status = api.work(Work::Light, |shared| Ok(shared.daemon.status())).await?;
    let settings = api.daemon.settings();
    Ok(axum::Json(ConfigLine {
        file: settings.file.display().to_string(),
        fingerprint: status.settings_fingerprint,
        repositories: settings.repositories.keys().cloned().collect(),
        machines: settings.machines.keys().cloned().collect(),
        replicas: settings.replicas.keys().cloned().collect(),
    }))
}

/// All metrics, for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "site",
    responses((status = 200, description = "Metrics.", body = String,
        content_type = "text/plain")))]
pub(super) async fn metrics(State(api): State<Api>) -> Result<Response, Problem> {
    let text = api.work(Work::Light, |shared| Ok(shared.daemon.metrics()?)).await?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response())
}

/// Reads the settings file again. When it is wrong, the old settings stay, and all that is wrong
/// is told.
#[utoipa::path(post, path = "/v1/reload", tag = "site",
    responses((status = 200, description = "What is different.", body = ReloadReport)))]
pub(super) async fn reload(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Extension(rule): Extension<Rule>,
) -> Result<axum::Json<ReloadReport>, Problem> {
    let change = Change::new(&caller, &rule, "the settings");
    let by = change.by().to_owned();
    let told = |report: &ReloadReport| Some(report.changes.join("; "));
    let reload = move |shared: &crate::api::state::Shared| Ok(shared.daemon.reload(&by)?);
    change.carry_out(&api, Work::Light, reload, told).await.map(axum::Json)
}

/// Believes the clock from now on.
#[utoipa::path(post, path = "/v1/clock/trust", tag = "site",
    responses((status = 204, description = "It is believed.")))]
pub(super) async fn trust_clock(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Extension(rule): Extension<Rule>,
) -> Result<axum::http::StatusCode, Problem> {
    let change = Change::new(&caller, &rule, "the clock");
    let by = change.by().to_owned();
    let trust = move |shared: &crate::api::state::Shared| Ok(shared.daemon.trust_clock(&by)?);
    change.carry_out(&api, Work::Light, trust, |()| None).await?;
    Ok(axum::http::StatusCode::NO_CONTENT)
}

/// Sends a test message over each channel, or over one.
#[utoipa::path(post, path = "/v1/notify/test", tag = "site", request_body = NotifyOrder,
    responses((status = 200, description = "Whether each one went.", body = [NotifyTestLine])))]
pub(super) async fn notify_test(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Extension(rule): Extension<Rule>,
    Json(order): Json<NotifyOrder>,
) -> Result<axum::Json<Vec<NotifyTestLine>>, Problem> {
    let subject = order.channel.clone().unwrap_or_else(|| "all channels".to_owned());
    let test = move |shared: &crate::api::state::Shared| {
        Ok(shared.daemon.notify_test(order.channel.as_deref())?)
    };
    let told = |lines: &Vec<NotifyTestLine>| {
        let failed = lines.iter().filter(|line| line.problem.is_some()).count();
        Some(format!("{} sent, {failed} failed", lines.len() - failed))
    };
    let change = Change::new(&caller, &rule, subject);
    change.carry_out(&api, Work::Heavy, test, told).await.map(axum::Json)
}

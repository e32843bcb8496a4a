//! Objectives, schedules and pauses.

use crate::api::Problem;
use crate::api::access::Rule;
use crate::api::audited::Change;
use crate::api::extract::Json;
use crate::api::lines::{PauseOrder, Resumed};
use crate::api::peer::Caller;
use crate::api::state::{Api, Shared, Work};
use crate::report::{DueLine, ObjectiveLine, PauseLine};
use crate::settings::Settings;
use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;

/// How well the recovery point objectives are met.
#[utoipa::path(get, path = "/v1/objectives", tag = "plans",
    responses((status = 200, description = "Objectives.", body = [ObjectiveLine])))]
pub(super) async fn objectives(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
) -> Result<axum::Json<Vec<ObjectiveLine>>, Problem> {
    let mut lines = api.work(Work::Light, |shared| Ok(shared.daemon.objectives()?)).await?;
    lines.retain(|line| caller.sees(Some(&line.machine)));
    Ok(axum::Json(lines))
}

/// What runs next by itself.
#[utoipa::path(get, path = "/v1/schedule", tag = "plans",
    responses((status = 200, description = "What is due.", body = [DueLine])))]
pub(super) async fn schedule(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
) -> Result<axum::Json<Vec<DueLine>>, Problem> {
    let mut lines = api.work(Work::Light, |shared| Ok(shared.daemon.schedule())).await?;
    lines.retain(|line| caller.sees(line.machine.as_ref()));
    Ok(axum::Json(lines))
}

/// All that is paused.
#[utoipa::path(get, path = "/v1/pauses", tag = "plans",
    responses((status = 200, description = "Pauses.", body = [PauseLine])))]
pub(super) async fn pauses(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
) -> Result<axum::Json<Vec<PauseLine>>, Problem> {
    let mut lines = api.work(Work::Light, |shared| Ok(shared.daemon.pauses())).await?;
    let settings = api.daemon.settings();
    lines.retain(|line| reaches(&caller, &settings, &line.subject));
    Ok(axum::Json(lines))
}

/// Pauses what runs by itself: everything, or what is of one machine, replica or repository.
#[utoipa::path(post, path = "/v1/pause", tag = "plans", request_body = PauseOrder,
    responses((status = 204, description = "It is paused.")))]
pub(super) async fn pause(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Extension(rule): Extension<Rule>,
    Json(order): Json<PauseOrder>,
) -> Result<StatusCode, Problem> {
    let change = allowed(&api, &caller, &rule, &order.subject).await?;
    let by = change.by().to_owned();
    let pause = move |shared: &Shared| {
        Ok(shared.daemon.pause(&order.subject, order.note, order.until, &by)?)
    };
    change.carry_out(&api, Work::Light, pause, |()| None).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lets it go on.
#[utoipa::path(post, path = "/v1/resume", tag = "plans", request_body = PauseOrder,
    responses((status = 200, description = "Whether it was paused.", body = Resumed)))]
pub(super) async fn resume(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Extension(rule): Extension<Rule>,
    Json(order): Json<PauseOrder>,
) -> Result<axum::Json<Resumed>, Problem> {
    let change = allowed(&api, &caller, &rule, &order.subject).await?;
    let by = change.by().to_owned();
    let resume = move |shared: &Shared| Ok(shared.daemon.resume(&order.subject, &by)?);
    let told = |was: &bool| (!was).then(|| "it was not paused".to_owned());
    let was_paused = change.carry_out(&api, Work::Light, resume, told).await?;
    Ok(axum::Json(Resumed { was_paused }))
}

async fn allowed(
    api: &Api,
    caller: &Caller,
    rule: &Rule,
    subject: &str,
) -> Result<Change, Problem> {
    let change = Change::new(caller, rule, subject);
    if reaches(caller, &api.daemon.settings(), subject) {
        return Ok(change);
    }
    Err(change.refuse(api, Problem::forbidden("this token is for other machines")).await)
}

/// Whether what is called `machine NAME`, `replica NAME` or otherwise is within a caller's reach.
pub(super) fn reaches(caller: &Caller, settings: &Settings, subject: &str) -> bool {
    let machine = match subject.split_once(' ') {
        Some(("machine", name)) => Some(name),
        Some(("replica", name)) => {
            let replica = settings.replicas.iter().find(|(own, _)| own.as_str() == name);
            replica.map(|(_, replica)| replica.machine.as_str())
        }
        _ => None,
    };
    caller.reaches(machine)
}

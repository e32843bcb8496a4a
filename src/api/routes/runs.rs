//! Runs and events.

use crate::api::Problem;
use crate::api::access::{Rule, scope_of};
use crate::api::audited::Change;
use crate::api::extract::{Json, Query, Segment};
use crate::api::limits::{LINES_DEFAULT, LINES_MAX};
use crate::api::lines::Started;
use crate::api::peer::Caller;
use crate::api::state::{Api, Shared, Work};
use crate::api::stream::{Wish, respond};
use crate::catalog::{RunFilter, RunKind, RunStatus, Scope};
use crate::daemon::RunPage;
use crate::operations::Task;
use crate::report::{Event, LiveRun, RunDetail};
use crate::units::{Name, RunId};
use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use jiff::Timestamp;
use std::sync::Arc;
use utoipa::IntoParams;

/// Fewest digits by which a run can be named.
const DIGITS_MIN: usize = 4;

/// Runs that wait or are under way, the oldest first.
#[utoipa::path(get, path = "/v1/live", tag = "runs",
    responses((status = 200, description = "Runs.", body = [LiveRun])))]
pub(super) async fn live(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
) -> Result<axum::Json<Vec<LiveRun>>, Problem> {
    let mut runs = api.work(Work::Light, |shared| Ok(shared.daemon.live())).await?;
    runs.retain(|run| caller.sees(run.machine.as_ref()));
    Ok(axum::Json(runs))
}

/// Which runs to list.
#[derive(Debug, serde::Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct RunsQuery {
    /// Of this kind.
    kind: Option<RunKind>,
    /// Of this machine.
    machine: Option<Name>,
    /// Of this replica.
    replica: Option<Name>,
    /// That ended, or did not yet, in this way.
    status: Option<RunStatus>,
    /// That began at or after this instant.
    since: Option<Timestamp>,
    /// That began before this instant: `next` of the page before.
    before: Option<Timestamp>,
    /// At most so many, up to 1000.
    limit: Option<usize>,
}

/// Runs of the history, the newest first.
#[utoipa::path(get, path = "/v1/runs", tag = "runs", params(RunsQuery),
    responses((status = 200, description = "Runs.", body = RunPage)))]
pub(super) async fn list(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<RunsQuery>,
) -> Result<axum::Json<RunPage>, Problem> {
    if caller.is_restricted() && !caller.sees(query.machine.as_ref()) {
        let detail = "this token is for some machines; name one of them with `machine`";
        return Err(Problem::forbidden(detail));
    }
    let RunsQuery { kind, machine, replica, status, since, before, limit } = query;
    let filter = RunFilter { kind, machine, replica, status, since, before };
    let limit = limit.unwrap_or(LINES_DEFAULT).clamp(1, LINES_MAX);
    let list = move |shared: &Shared| Ok(shared.daemon.runs(&filter, limit)?);
    api.work(Work::Light, list).await.map(axum::Json)
}

/// Begins a run, which waits for its turn. What it needs, and for which machine a token must be,
/// follows from the task.
#[utoipa::path(post, path = "/v1/runs", tag = "runs", request_body = Task,
    responses((status = 202, description = "It is taken on.", body = Started)))]
pub(super) async fn begin(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Extension(rule): Extension<Rule>,
    Json(task): Json<Task>,
) -> Result<(StatusCode, axum::Json<Started>), Problem> {
    let change = Change::new(&caller, &rule, task.describe());
    let settings = api.daemon.settings();
    if let Err(problem) = may(&caller, scope_of(&task), task.machine(&settings)) {
        return Err(change.refuse(&api, problem).await);
    }
    if let Task::Restore(restore) = &task
        && !restore.to.is_absolute()
    {
        return Err(Problem::invalid(
            "`to` is no absolute path: the daemon has no folder of yours",
        ));
    }
    let by = change.by().to_owned();
    let submit = move |shared: &Shared| Ok(shared.daemon.submit(task, &by)?);
    let told = |run: &RunId| Some(format!("run {run}"));
    let run = change.carry_out(&api, Work::Light, submit, told).await?;
    Ok((StatusCode::ACCEPTED, axum::Json(Started { run })))
}

fn may(caller: &Caller, scope: Scope, machine: Option<&str>) -> Result<(), Problem> {
    if !caller.may(scope) {
        return Err(Problem::forbidden(format!("this run needs the scope {scope}")));
    }
    if !caller.reaches(machine) {
        return Err(Problem::forbidden("this token is for other machines"));
    }
    Ok(())
}

/// The run that `text` names, if the caller may see it.
async fn find(api: &Api, caller: &Caller, text: String) -> Result<RunDetail, Problem> {
    let unknown = || Problem::not_found("there is no such run; `afterimage runs` lists them");
    let look = move |shared: &Shared| {
        let id = match text.parse::<RunId>() {
            Ok(id) => id,
            Err(_) => called(shared, &text)?.ok_or_else(unknown)?,
        };
        shared.daemon.run(id)?.ok_or_else(unknown)
    };
    let detail = api.work(Work::Light, look).await?;
    // Whether there is such a run is not told either.
    if caller.sees(detail.line.machine.as_ref()) { Ok(detail) } else { Err(unknown()) }
}

/// The run whose id begins with these digits.
fn called(shared: &Shared, digits: &str) -> Result<Option<RunId>, Problem> {
    let is_digits = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if digits.len() < DIGITS_MIN || digits.len() > 32 || !is_digits {
        return Ok(None);
    }
    let digits = digits.to_lowercase();
    let live = shared.daemon.live().into_iter().map(|run| run.run);
    let mut found: Vec<RunId> = live.filter(|id| id.to_string().starts_with(&digits)).collect();
    found.extend(shared.daemon.history().runs_called(&digits, 2)?);
    found.sort();
    found.dedup();
    match found.as_slice() {
        [one] => Ok(Some(*one)),
        [] => Ok(None),
        _ => Err(Problem::invalid(format!("more than one run begins with {digits}; add digits"))),
    }
}

/// One run, with all that is known of it.
#[utoipa::path(get, path = "/v1/runs/{id}", tag = "runs",
    params(("id" = String, Path, description = "Its id, or the first digits of it.")),
    responses((status = 200, description = "The run.", body = RunDetail)))]
pub(super) async fn show(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Segment(id): Segment,
) -> Result<axum::Json<RunDetail>, Problem> {
    find(&api, &caller, id).await.map(axum::Json)
}

/// The scope that a run of a kind needs to be stopped: the one that it needed to begin.
fn scope_of_run(detail: &RunDetail) -> Scope {
    let task = detail.task.clone().and_then(|task| serde_json::from_value::<Task>(task).ok());
    match (task, detail.line.kind) {
        (Some(task), _) => scope_of(&task),
        (None, RunKind::Backup) => Scope::Backup,
        (None, RunKind::Replicate) => Scope::Replicate,
        (None, RunKind::Restore | RunKind::Verify) => Scope::Recover,
        (None, RunKind::Prune | RunKind::Gc) => Scope::Prune,
        (None, RunKind::Repair | RunKind::Copy) => Scope::Admin,
    }
}

/// Asks a run to stop at the next safe place.
#[utoipa::path(post, path = "/v1/runs/{id}/cancel", tag = "runs",
    params(("id" = String, Path, description = "Its id, or the first digits of it.")),
    responses((status = 202, description = "It is asked to stop.", body = Started)))]
pub(super) async fn cancel(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Extension(rule): Extension<Rule>,
    Segment(id): Segment,
) -> Result<(StatusCode, axum::Json<Started>), Problem> {
    let change = Change::new(&caller, &rule, format!("run {id}"));
    let detail = find(&api, &caller, id).await?;
    let run = detail.line.run;
    if let Err(problem) = may(&caller, scope_of_run(&detail), subject(&detail)) {
        return Err(change.refuse(&api, problem).await);
    }
    let by = change.by().to_owned();
    let cancel = move |shared: &Shared| Ok(shared.daemon.cancel(run, &by)?);
    change.carry_out(&api, Work::Light, cancel, |()| None).await?;
    Ok((StatusCode::ACCEPTED, axum::Json(Started { run })))
}

fn subject(detail: &RunDetail) -> Option<&str> {
    detail.line.machine.as_ref().map(Name::as_str)
}

/// What happens to one run, until it ends: first all that is still kept, then what is new.
#[utoipa::path(get, path = "/v1/runs/{id}/events", tag = "runs",
    params(
        ("id" = String, Path, description = "Its id, or the first digits of it."),
        ("Last-Event-ID" = Option<String>, Header, description = "The last event received.")),
    responses((status = 200, description = "Server-sent events; the data is JSON.", body = Event,
        content_type = "text/event-stream")))]
pub(super) async fn run_events(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Segment(id): Segment,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let detail = find(&api, &caller, id).await?;
    stream(&api, caller, Some(detail.line.run), &headers)
}

/// What happens in the daemon, from now on or after the last event that was received. `gap` tells
/// that some are missing.
#[utoipa::path(get, path = "/v1/events", tag = "runs",
    params(("Last-Event-ID" = Option<String>, Header, description = "The last event received.")),
    responses((status = 200, description = "Server-sent events; the data is JSON.", body = Event,
        content_type = "text/event-stream")))]
pub(super) async fn events(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    stream(&api, caller, None, &headers)
}

fn stream(
    api: &Api,
    caller: Caller,
    run: Option<RunId>,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let permit = Arc::clone(&api.streams).try_acquire_owned();
    let permit = permit.map_err(|_| {
        Problem::unavailable("there are too many streams of events; try again later")
    })?;
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
    Ok(respond(api, caller, Wish { run, last, age_max: api.limits.age_max }, permit))
}

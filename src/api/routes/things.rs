//! Machines, replicas, repositories and their points.

use crate::api::Problem;
use crate::api::access::Rule;
use crate::api::audited::Change;
use crate::api::extract::{Json, Query};
use crate::api::limits::{LINES_DEFAULT, LINES_MAX};
use crate::api::lines::{PinOrder, PointsPage, StateLines, UsageLines};
use crate::api::peer::Caller;
use crate::api::state::{Api, Shared, Work};
use crate::operations::{
    StatusReport, machine_points, pin_point, repository_points, repository_usage, status,
    unpin_point,
};
use crate::progress::Progress;
use crate::report::{MachineStatus, ReplicaStatus, RepositoryStatus, Summary};
use crate::units::Name;
use axum::Extension;
use axum::extract::State;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use utoipa::IntoParams;

async fn report(api: &Api) -> Result<StatusReport, Problem> {
    let look = |shared: &Shared| Ok(status(&shared.daemon.settings(), Timestamp::now()));
    api.work(Work::Heavy, look).await
}

/// What went wrong is told in full only to who may see everything: it names others' things.
fn warnings(caller: &Caller, warnings: Vec<String>) -> Vec<String> {
    if caller.is_restricted() { Vec::new() } else { warnings }
}

/// The machines of the settings, with their newest points.
#[utoipa::path(get, path = "/v1/machines", tag = "things",
    responses((status = 200, description = "Machines.", body = StateLines<MachineStatus>)))]
pub(super) async fn machines(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
) -> Result<axum::Json<StateLines<MachineStatus>>, Problem> {
    let mut report = report(&api).await?;
    report.machines.retain(|line| caller.sees(Some(&line.machine)));
    let warnings = warnings(&caller, report.warnings);
    Ok(axum::Json(StateLines { lines: report.machines, warnings }))
}

/// The replicas of the settings, with the points that they are at.
#[utoipa::path(get, path = "/v1/replicas", tag = "things",
    responses((status = 200, description = "Replicas.", body = StateLines<ReplicaStatus>)))]
pub(super) async fn replicas(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
) -> Result<axum::Json<StateLines<ReplicaStatus>>, Problem> {
    let mut report = report(&api).await?;
    report.replicas.retain(|line| caller.sees(Some(&line.machine)));
    let warnings = warnings(&caller, report.warnings);
    Ok(axum::Json(StateLines { lines: report.replicas, warnings }))
}

/// How the repositories are looked at.
#[derive(Debug, serde::Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct RepositoriesQuery {
    /// What the daemon saw last will do: at most a minute ago, and some seconds after a run ended.
    /// Each repository is listed otherwise, which takes as long as it has many packs.
    recent: Option<bool>,
}

/// The repositories of the settings.
#[utoipa::path(get, path = "/v1/repositories", tag = "things", params(RepositoriesQuery),
    responses((status = 200, description = "Repositories.", body = StateLines<RepositoryStatus>)))]
pub(super) async fn repositories(
    State(api): State<Api>,
    Query(query): Query<RepositoriesQuery>,
) -> Result<axum::Json<StateLines<RepositoryStatus>>, Problem> {
    if query.recent == Some(true)
        && let Some(lines) = api.daemon.repositories_seen()
    {
        return Ok(axum::Json(StateLines { lines, warnings: Vec::new() }));
    }
    let report = report(&api).await?;
    Ok(axum::Json(StateLines { lines: report.repositories, warnings: report.warnings }))
}

/// Which points to list.
#[derive(Debug, serde::Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PointsQuery {
    /// Those of this machine; it need not be in the settings any more.
    machine: Option<String>,
    /// Those in this repository; without a machine and a repository, all.
    repository: Option<Name>,
    /// At most so many, up to 1000.
    limit: Option<usize>,
    /// Pass over so many of the newest.
    offset: Option<usize>,
}

/// Recovery points, the newest first.
#[utoipa::path(get, path = "/v1/points", tag = "things", params(PointsQuery),
    responses((status = 200, description = "Points.", body = PointsPage)))]
pub(super) async fn points(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<PointsQuery>,
) -> Result<axum::Json<PointsPage>, Problem> {
    if caller.is_restricted() && !caller.reaches(query.machine.as_deref()) {
        let detail = "this token is for some machines; name one of them with `machine`";
        return Err(Problem::forbidden(detail));
    }
    let limit = query.limit.unwrap_or(LINES_DEFAULT).min(LINES_MAX);
    let offset = query.offset.unwrap_or(0);
    let found = api.work(Work::Heavy, move |shared| find_points(shared, &query)).await?;
    let (mut points, all_warnings) = found;
    points.sort_by_key(|point| std::cmp::Reverse(point.time));
    let total = points.len();
    let points = points.into_iter().skip(offset).take(limit).collect();
    Ok(axum::Json(PointsPage { points, total, warnings: warnings(&caller, all_warnings) }))
}

type Found = (Vec<crate::report::PointLine>, Vec<String>);

fn find_points(shared: &Shared, query: &PointsQuery) -> Result<Found, Problem> {
    let settings = shared.daemon.settings();
    if let (Some(machine), None) = (&query.machine, &query.repository) {
        let report = machine_points(&settings, machine)?;
        return Ok((report.points, report.warnings));
    }
    let names: Vec<&Name> = match &query.repository {
        Some(name) => vec![name],
        None => settings.repositories.keys().collect(),
    };
    let (mut points, mut warnings) = (Vec::new(), Vec::new());
    for name in names {
        match repository_points(&settings, name) {
            Ok(report) => {
                points.extend(report.points);
                warnings.extend(report.warnings);
            }
            // The others are told all the same.
            Err(error) if query.repository.is_none() => warnings.push(error.to_string()),
            Err(error) => return Err(error.into()),
        }
    }
    if let Some(machine) = &query.machine {
        points.retain(|point| point.machine.as_str() == machine);
    }
    Ok((points, warnings))
}

/// What costs to tell of.
#[derive(Debug, serde::Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct StatsQuery {
    /// Only of this repository.
    repository: Option<Name>,
    /// Only of this machine, with each of its points.
    machine: Option<Name>,
}

/// What repositories and machines cost, and what removing them would free.
#[utoipa::path(get, path = "/v1/stats", tag = "things", params(StatsQuery),
    responses((status = 200, description = "Costs.", body = UsageLines)))]
pub(super) async fn stats(
    State(api): State<Api>,
    Query(query): Query<StatsQuery>,
) -> Result<axum::Json<UsageLines>, Problem> {
    let measure = move |shared: &Shared| {
        let settings = shared.daemon.settings();
        let names: Vec<&Name> = match &query.repository {
            Some(name) => vec![name],
            None => settings.repositories.keys().collect(),
        };
        let mut lines = UsageLines { usage: Vec::new(), warnings: Vec::new() };
        for name in names {
            let report = repository_usage(&settings, name, &Progress::default())?;
            lines.warnings.extend(report.warnings);
            match &query.machine {
                None => {
                    lines.usage.push(report.repository);
                    lines.usage.extend(report.machines);
                }
                Some(machine) => {
                    let own = report.machines.into_iter().chain(report.points);
                    lines.usage.extend(own.filter(|line| line.machine.as_ref() == Some(machine)));
                }
            }
        }
        Ok(lines)
    };
    api.work(Work::Heavy, measure).await.map(axum::Json)
}

/// Keeps a point whatever `keep` says, until it is unpinned.
#[utoipa::path(post, path = "/v1/points/pin", tag = "things", request_body = PinOrder,
    responses((status = 200, description = "The point.", body = Summary)))]
pub(super) async fn pin(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Extension(rule): Extension<Rule>,
    Json(order): Json<PinOrder>,
) -> Result<axum::Json<Summary>, Problem> {
    hold(&api, &caller, &rule, order, |shared, order, zone| {
        let PinOrder { machine, point, note, .. } = order;
        Ok(pin_point(&shared.daemon.settings(), &machine, &point, note, zone)?)
    })
    .await
}

/// Takes all pins of a point away.
#[utoipa::path(post, path = "/v1/points/unpin", tag = "things", request_body = PinOrder,
    responses((status = 200, description = "The point.", body = Summary)))]
pub(super) async fn unpin(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Extension(rule): Extension<Rule>,
    Json(order): Json<PinOrder>,
) -> Result<axum::Json<Summary>, Problem> {
    hold(&api, &caller, &rule, order, |shared, order, zone| {
        Ok(unpin_point(&shared.daemon.settings(), &order.machine, &order.point, zone)?)
    })
    .await
}

async fn hold(
    api: &Api,
    caller: &Caller,
    rule: &Rule,
    order: PinOrder,
    change: impl FnOnce(&Shared, PinOrder, &TimeZone) -> Result<Summary, Problem> + Send + 'static,
) -> Result<axum::Json<Summary>, Problem> {
    let audited = Change::new(caller, rule, format!("point {} of {}", order.point, order.machine));
    if !caller.reaches(Some(&order.machine)) {
        let problem = Problem::forbidden("this token is for other machines");
        return Err(audited.refuse(api, problem).await);
    }
    let zone = zone(order.zone.as_deref())?;
    let told = |summary: &Summary| summary.detail.clone();
    let done = audited
        .carry_out(api, Work::Heavy, move |shared| change(shared, order, &zone), told)
        .await?;
    Ok(axum::Json(done))
}

fn zone(name: Option<&str>) -> Result<TimeZone, Problem> {
    let Some(name) = name else { return Ok(TimeZone::system()) };
    TimeZone::get(name)
        .map_err(|_| Problem::invalid(format!("{name:?} is no IANA name of a time zone")))
}

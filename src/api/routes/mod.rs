//! All routes, in one table with what their callers need.

mod audit;
mod plans;
mod runs;
mod site;
mod things;
mod tokens;

use super::access::{Access, Rule};
use super::gate::{check_host, gate, secure_headers};
use super::limits::BODY_BYTES_MAX;
use super::state::Api;
use super::{Problem, openapi};
use crate::catalog::Scope;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::middleware::{from_fn, from_fn_with_state};
use utoipa::openapi::OpenApi;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};
use utoipa_axum::routes;

/// The table. A route that is not in it does not exist.
fn table() -> Vec<(Rule, UtoipaMethodRouter<Api>)> {
    use Access::{Needs, OfTheRun, Open};
    use Scope::{Admin, Prune, Read};
    let (get, post, delete) = (Rule::get, Rule::post, Rule::delete);
    vec![
        (get("/v1/health", Open), routes!(site::health)),
        (get("/v1/openapi.json", Needs(Read)), routes!(site::openapi)),
        (get("/v1/status", Needs(Read)), routes!(site::status)),
        (get("/v1/config", Needs(Read)).of_the_site(), routes!(site::config)),
        (get("/metrics", Needs(Read)).of_the_site(), routes!(site::metrics)),
        (post("/v1/reload", Needs(Admin)).of_the_site(), routes!(site::reload)),
        (post("/v1/clock/trust", Needs(Admin)).of_the_site(), routes!(site::trust_clock)),
        (post("/v1/notify/test", Needs(Admin)).of_the_site().slow(), routes!(site::notify_test)),
        (get("/v1/machines", Needs(Read)).slow(), routes!(things::machines)),
        (get("/v1/replicas", Needs(Read)).slow(), routes!(things::replicas)),
        (get("/v1/repositories", Needs(Read)).of_the_site().slow(), routes!(things::repositories)),
        (get("/v1/points", Needs(Read)).slow(), routes!(things::points)),
        (get("/v1/stats", Needs(Read)).of_the_site().slow(), routes!(things::stats)),
        (post("/v1/points/pin", Needs(Prune)).slow(), routes!(things::pin)),
        (post("/v1/points/unpin", Needs(Prune)).slow(), routes!(things::unpin)),
        (get("/v1/live", Needs(Read)), routes!(runs::live)),
        (get("/v1/runs", Needs(Read)), routes!(runs::list)),
        (post("/v1/runs", OfTheRun), routes!(runs::begin)),
        (get("/v1/runs/{id}", Needs(Read)), routes!(runs::show)),
        (post("/v1/runs/{id}/cancel", OfTheRun), routes!(runs::cancel)),
        (get("/v1/runs/{id}/events", Needs(Read)), routes!(runs::run_events)),
        (get("/v1/events", Needs(Read)), routes!(runs::events)),
        (get("/v1/objectives", Needs(Read)), routes!(plans::objectives)),
        (get("/v1/schedule", Needs(Read)), routes!(plans::schedule)),
        (get("/v1/pauses", Needs(Read)), routes!(plans::pauses)),
        (post("/v1/pause", Needs(Admin)), routes!(plans::pause)),
        (post("/v1/resume", Needs(Admin)), routes!(plans::resume)),
        (get("/v1/tokens", Needs(Admin)).of_the_site(), routes!(tokens::list)),
        (post("/v1/tokens", Needs(Admin)).of_the_site(), routes!(tokens::add)),
        (delete("/v1/tokens/{name}", Needs(Admin)).of_the_site(), routes!(tokens::revoke)),
        (get("/v1/audit", Needs(Admin)).of_the_site(), routes!(audit::list)),
        (get("/v1/audit/verify", Needs(Admin)).of_the_site().slow(), routes!(audit::verify)),
    ]
}

/// What holds for each route.
pub(super) fn rules() -> Vec<Rule> {
    table().into_iter().map(|(rule, _)| rule).collect()
}

/// All routes without what lets requests through, and their document.
pub(super) fn documented() -> (Router<Api>, OpenApi) {
    build(|_, methods| methods)
}

fn build(
    layered: impl Fn(Rule, axum::routing::MethodRouter<Api>) -> axum::routing::MethodRouter<Api>,
) -> (Router<Api>, OpenApi) {
    let mut router = OpenApiRouter::with_openapi(openapi::begin());
    let mut rules = Vec::new();
    for (rule, (schemas, paths, methods)) in table() {
        router = router.routes((schemas, paths, layered(rule, methods)));
        rules.push(rule);
    }
    let (router, document) = router.split_for_parts();
    (router, openapi::finish(document, &rules))
}

/// What the server serves.
pub(super) fn router(api: &Api) -> Router {
    let (router, _) =
        build(|rule, methods| methods.route_layer(from_fn_with_state((api.clone(), rule), gate)));
    router
        .fallback(nothing)
        .method_not_allowed_fallback(other_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn(check_host))
        .layer(from_fn(secure_headers))
        .with_state(api.clone())
}

async fn nothing() -> Problem {
    Problem::not_found("there is nothing here; `/v1/openapi.json` lists what there is")
}

async fn other_method() -> Problem {
    let detail = "this path has no such method; `/v1/openapi.json` lists what there is";
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail)
}

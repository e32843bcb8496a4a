//! The document and the server are the same.

use crate::schema::Document;
use crate::world::World;
use afterimage::api::ApiServer;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// A request for each route: its method and path in the document, the path as it is sent, the
/// body, and the status that is expected. `{run}` is a run that is under way.
const REQUESTS: &[(&str, &str, &str, Option<&str>, u16)] = &[
    ("GET", "/v1/health", "", None, 200),
    ("GET", "/v1/openapi.json", "", None, 200),
    ("GET", "/v1/status", "", None, 200),
    ("GET", "/v1/config", "", None, 200),
    ("GET", "/metrics", "", None, 200),
    ("POST", "/v1/reload", "", None, 200),
    ("POST", "/v1/clock/trust", "", None, 204),
    ("POST", "/v1/notify/test", "", Some("{}"), 200),
    ("GET", "/v1/machines", "", None, 200),
    ("GET", "/v1/replicas", "", None, 200),
    ("GET", "/v1/repositories", "", None, 200),
    ("GET", "/v1/repositories", "?recent=true", None, 200),
    ("GET", "/v1/repositories", "?recent=now", None, 400),
    ("GET", "/v1/points", "?machine=web01&limit=5", None, 200),
    ("GET", "/v1/points", "", None, 200),
    ("GET", "/v1/points", "?machine=nobody", None, 404),
    ("GET", "/v1/points", "?limit=x", None, 400),
    ("GET", "/v1/stats", "?repository=main", None, 200),
    ("POST", "/v1/points/pin", "", Some(r##"{"machine":"web01","point":"#1","note":"a"}"##), 200),
    ("POST", "/v1/points/unpin", "", Some(r##"{"machine":"web01","point":"latest"}"##), 200),
    ("POST", "/v1/points/pin", "", Some(r##"{"machine":"web01","point":"#9"}"##), 404),
    ("GET", "/v1/live", "", None, 200),
    ("GET", "/v1/runs", "?machine=web01&kind=backup&status=running&limit=3", None, 200),
    ("POST", "/v1/runs", "", Some(r#"{"task":"backup","machine":"web01"}"#), 202),
    ("POST", "/v1/runs", "", Some(r#"{"task":"backup","machine":"db"}"#), 404),
    ("POST", "/v1/runs", "", Some(r#"{"task":"teleport"}"#), 422),
    ("GET", "/v1/runs/{id}", "{run}", None, 200),
    ("GET", "/v1/runs/{id}", "00000000", None, 404),
    ("POST", "/v1/runs/{id}/cancel", "{run}", None, 202),
    ("GET", "/v1/objectives", "", None, 200),
    ("GET", "/v1/schedule", "", None, 200),
    ("POST", "/v1/pause", "", Some(r#"{"subject":"all","note":"a move"}"#), 204),
    ("GET", "/v1/pauses", "", None, 200),
    ("POST", "/v1/resume", "", Some(r#"{"subject":"all"}"#), 200),
    (
        "POST",
        "/v1/tokens",
        "",
        Some(r#"{"name":"ops","scopes":["read"],"machines":["web01"]}"#),
        201,
    ),
    ("POST", "/v1/tokens", "", Some(r#"{"name":"ops","scopes":["read"]}"#), 409),
    ("POST", "/v1/tokens", "", Some(r#"{"name":"none","scopes":[]}"#), 422),
    ("GET", "/v1/tokens", "", None, 200),
    ("DELETE", "/v1/tokens/{name}", "ops", None, 204),
    ("DELETE", "/v1/tokens/{name}", "ops", None, 404),
    ("GET", "/v1/audit", "?limit=5", None, 200),
    ("GET", "/v1/audit/verify", "", None, 200),
];

/// Streams have tests of their own.
const STREAMS: [&str; 2] = ["/v1/events", "/v1/runs/{id}/events"];

fn sent(path: &str, rest: &str, run: &str) -> String {
    match path.split_once('{') {
        Some((before, after)) => {
            let tail = after.split_once('}').unwrap().1;
            format!("{before}{}{tail}", rest.replace("{run}", run))
        }
        None => format!("{path}{rest}"),
    }
}

#[test]
fn every_documented_endpoint_answers_as_the_document_says() {
    let world = World::new();
    let document = Document::new();
    let begun =
        world.local("POST", "/v1/runs", Some(r#"{"task":"replicate","replica":"web01-standby"}"#));
    let run = begun.text("/run");
    let mut tried = BTreeSet::new();
    for (method, path, rest, body, status) in REQUESTS {
        let answer = world.local(method, &sent(path, rest, &run), *body);
        let what = format!("{method} {path}{rest}: {answer:?}");
        assert_eq!(answer.status, *status, "{what}");
        document.check(method, path, &answer).unwrap_or_else(|why| panic!("{why}\n{what}"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{what}");
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{what}");
        assert_eq!(answer.header("access-control-allow-origin"), None, "{what}");
        if answer.status < 300 && answer.header("content-type") == Some("application/json") {
            let response = &document.operation(method, path)["responses"][status.to_string()];
            let schema = &response["content"]["application/json"]["schema"];
            let mut told = answer.json();
            // What was asked for is free: a later version may ask for more.
            if let Some(task) = told.get_mut("task") {
                *task = serde_json::Value::Null;
            }
            let unknown = document.unknown_fields(schema, &told);
            assert!(unknown.is_empty(), "{unknown:?}: {what}");
            tried.insert((method.to_string(), path.to_string()));
        }
        tried.insert((method.to_string(), path.to_string()));
    }
    let all = ApiServer::rules().into_iter().map(|rule| (rule.method, rule.path));
    for (method, path) in all.filter(|(_, path)| !STREAMS.contains(path)) {
        assert!(tried.contains(&(method.to_owned(), path.to_owned())), "{method} {path}");
    }
}

#[test]
fn answers_hold_what_there_is() {
    let world = World::new();
    let points = world.local("GET", "/v1/points?machine=web01", None).json();
    assert_eq!(points["total"], 1);
    assert_eq!(points["points"][0]["machine"], "web01");
    let machines = world.local("GET", "/v1/machines", None).json();
    assert_eq!(machines["lines"][0]["points"], 1);
    let stats = world.local("GET", "/v1/stats?machine=web01", None).json();
    assert_eq!(stats["usage"].as_array().unwrap().len(), 2, "the machine and its point: {stats}");
    world.local(
        "POST",
        "/v1/points/pin",
        Some(r#"{"machine":"web01","point":"latest","note":"x"}"#),
    );
    let points = world.local("GET", "/v1/points?repository=main", None).json();
    assert_eq!(points["points"][0]["pins"][0]["note"], "x");
    let run = world
        .local("POST", "/v1/runs", Some(r#"{"task":"backup","machine":"web01"}"#))
        .text("/run");
    let detail = world.local("GET", &format!("/v1/runs/{}", &run[..8]), None).json();
    assert_eq!(detail["run"], run);
    assert_eq!(detail["task"]["machine"], "web01");
    assert_eq!(detail["live"]["work"], "backup of web01");
}

#[test]
fn the_router_and_the_document_have_the_same_routes() {
    let document = Document::new();
    let rules: BTreeSet<_> =
        ApiServer::rules().iter().map(|rule| (rule.path, rule.method.to_lowercase())).collect();
    let mut documented = BTreeSet::new();
    for (path, item) in document.0["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            documented.insert((path.as_str(), method.clone()));
        }
    }
    assert_eq!(rules, documented.iter().map(|(path, method)| (*path, method.clone())).collect());
    assert!(rules.len() > 30);
}

#[test]
fn the_document_is_whole() {
    let document = Document::new();
    assert!(document.0["openapi"].as_str().unwrap().starts_with("3.1"));
    let mut references = Vec::new();
    each_reference(&document.0, &mut |reference| references.push(reference.to_owned()));
    assert!(references.len() > 50);
    for reference in references {
        let target = document.0.pointer(reference.trim_start_matches('#'));
        assert!(target.is_some(), "{reference} leads nowhere");
    }
    for (path, item) in document.0["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let what = format!("{method} {path}");
            assert!(operation["summary"].is_string() || operation["description"].is_string());
            assert!(operation["responses"]["default"].is_object(), "{what} tells of no problem");
            let is_open = path == "/v1/health";
            assert_eq!(
                operation["security"],
                if is_open { json!([]) } else { json!([{ "token": [] }]) }
            );
            for field in path.split('{').skip(1).map(|part| part.split('}').next().unwrap()) {
                let parameters = operation["parameters"].as_array().unwrap();
                let is_path = |it: &Value| it["name"] == field && it["in"] == "path";
                assert_eq!(parameters.iter().filter(|it| is_path(it)).count(), 1, "{what}");
            }
            let names = operation["parameters"].as_array().into_iter().flatten();
            let names: Vec<_> = names.map(|it| it["name"].as_str().unwrap()).collect();
            assert_eq!(names.len(), names.iter().collect::<BTreeSet<_>>().len(), "{what}: twice");
        }
    }
}

fn each_reference(value: &Value, each: &mut impl FnMut(&str)) {
    match value {
        Value::Object(object) => {
            if let Some(reference) = object.get("$ref").and_then(Value::as_str) {
                each(reference);
            }
            object.values().for_each(|value| each_reference(value, each));
        }
        Value::Array(values) => values.iter().for_each(|value| each_reference(value, each)),
        _ => {}
    }
}

#[test]
fn what_is_not_there_is_told_as_a_problem() {
    let world = World::new();
    let token = world.token("all", &[afterimage::catalog::Scope::Admin], None);
    for (method, path, status) in [
        ("GET", "/", 404),
        ("GET", "/v2/status", 404),
        ("PUT", "/v1/runs", 405),
        ("OPTIONS", "/v1/runs", 405),
    ] {
        let answer = world.remote(method, path, Some(&token), None);
        assert_eq!(answer.status, status, "{answer:?}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        assert_eq!(answer.json()["status"], status);
    }
    let form = "POST /v1/runs HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
                Content-Type: text/plain\r\nContent-Length: 2\r\n";
    let form = format!("{form}Authorization: Bearer {token}\r\n\r\n{{}}");
    let answer = world.raw(form.as_bytes()).unwrap();
    assert_eq!(answer.status, 415, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
}

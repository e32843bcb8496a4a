//! Who may do what, and what the audit log says of it.

use crate::client::{self, request};
use crate::world::World;
use afterimage::api::{Access, ApiServer, Rule};
use afterimage::audit::{AuditOutcome, verify};
use afterimage::catalog::{Scope, TokenGrant};
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeSet;

/// Each task that can be asked for, with the scope that it needs.
const TASKS: [(&str, Scope); 11] = [
    (r#"{"task":"backup","machine":"web01"}"#, Scope::Backup),
    (r#"{"task":"replicate","replica":"web01-standby"}"#, Scope::Replicate),
    (r#"{"task":"replicate","replica":"web01-standby","adopt":true}"#, Scope::Admin),
    (r#"{"task":"verify-replica","replica":"web01-standby"}"#, Scope::Replicate),
    (r#"{"task":"verify-point","machine":"web01","point":"latest"}"#, Scope::Recover),
    (r#"{"task":"restore","machine":"web01","point":"latest","to":"/var/tmp/x"}"#, Scope::Recover),
    (r#"{"task":"prune","machine":"web01"}"#, Scope::Prune),
    (r#"{"task":"gc","repository":"main"}"#, Scope::Prune),
    (r#"{"task":"copy","from":"main","to":"main","machine":"web01"}"#, Scope::Admin),
    (r#"{"task":"repair","repository":"main"}"#, Scope::Admin),
    (r#"{"task":"backup","machine":"web02"}"#, Scope::Backup),
];

fn path_of(rule: &Rule, run: &str) -> String {
    rule.path.replace("{id}", run).replace("{name}", "nobody")
}

/// A body that fits, so that nothing but the scope decides.
fn body_of(rule: &Rule) -> Option<&'static str> {
    match rule.path {
        "/v1/runs" => Some(TASKS[0].0),
        "/v1/notify/test" => Some("{}"),
        "/v1/pause" | "/v1/resume" => Some(r#"{"subject":"machine web01"}"#),
        "/v1/tokens" => Some(r#"{"name":"more","scopes":["read"]}"#),
        path if path.starts_with("/v1/points/") => Some(r#"{"machine":"web01","point":"latest"}"#),
        _ => None,
    }
}

/// Reads only the beginning of an answer: streams have no end.
fn status(world: &World, rule: &Rule, run: &str, token: Option<&str>) -> u16 {
    use std::io::{Read, Write};
    let body = if rule.method == "POST" { body_of(rule) } else { None };
    let mut stream = client::tcp(world.address);
    let text = request(rule.method, &path_of(rule, run), token, body);
    stream.write_all(text.as_bytes()).unwrap();
    let mut begin = [0; 12];
    stream.read_exact(&mut begin).unwrap();
    std::str::from_utf8(&begin[9..]).unwrap().parse().unwrap()
}

fn backup(world: &World) -> String {
    world.local("POST", "/v1/runs", Some(TASKS[0].0)).text("/run")
}

#[test]
fn without_a_token_only_health_answers() {
    let world = World::new();
    let run = backup(&world);
    for rule in ApiServer::rules() {
        let wanted = if rule.path == "/v1/health" { 200 } else { 401 };
        assert_eq!(status(&world, &rule, &run, None), wanted, "{rule:?}");
        assert_eq!(rule.path == "/v1/health", rule.access == Access::Open);
    }
    let unknown = world.remote("GET", "/v1/status", Some(&format!("aft_{}", "A".repeat(43))), None);
    assert_eq!((unknown.status, unknown.header("www-authenticate")), (401, Some("Bearer")));
}

#[test]
fn each_scope_opens_its_routes_and_no_others() {
    let world = World::new();
    let run = backup(&world);
    for scope in Scope::ALL {
        let token = world.token(scope.word(), &[scope], None);
        for rule in ApiServer::rules() {
            let is_allowed = match rule.access {
                Access::Open => true,
                Access::Needs(needed) => scope == needed || scope == Scope::Admin,
                Access::OfTheRun => scope == Scope::Backup || scope == Scope::Admin,
            };
            let found = status(&world, &rule, &run, Some(&token));
            assert_eq!(found != 403, is_allowed, "{scope} {}: {found}", rule.what());
            assert_ne!(found, 401);
        }
        for (task, needed) in TASKS {
            let answer = world.remote("POST", "/v1/runs", Some(&token), Some(task));
            let is_allowed = scope == needed || scope == Scope::Admin;
            assert_eq!(answer.status, if is_allowed { 202 } else { 403 }, "{scope} {task}");
        }
    }
}

#[test]
fn a_token_for_a_machine_sees_and_changes_nothing_else() {
    let world = World::new();
    let all = Scope::ALL;
    let token = world.token("web01-only", &all, Some(&["web01"]));
    let token = Some(token.as_str());
    let run = backup(&world);
    for rule in ApiServer::rules() {
        let found = status(&world, &rule, &run, token);
        if rule.whole_site {
            assert_eq!(found, 403, "{rule:?}");
        }
    }
    let other = world.local("POST", "/v1/runs", Some(TASKS[10].0)).text("/run");
    world.local("POST", "/v1/pause", Some(r#"{"subject":"machine web02"}"#));
    for path in ["machines", "replicas", "schedule", "objectives", "live", "pauses", "status"] {
        let answer = world.remote("GET", &format!("/v1/{path}"), token, None);
        assert_eq!(answer.status, 200, "{path}");
        assert!(!answer.body.contains("web02"), "{path}: {}", answer.body);
    }
    for (method, path, body, wanted) in [
        ("GET", format!("/v1/runs/{other}"), None, 404),
        ("POST", format!("/v1/runs/{other}/cancel"), None, 404),
        ("GET", format!("/v1/runs/{other}/events"), None, 404),
        ("GET", "/v1/runs".to_owned(), None, 403),
        ("GET", "/v1/runs?machine=web02".to_owned(), None, 403),
        ("GET", "/v1/runs?machine=web01".to_owned(), None, 200),
        ("GET", "/v1/points".to_owned(), None, 403),
        ("GET", "/v1/points?machine=web02".to_owned(), None, 403),
        ("GET", "/v1/points?machine=web01".to_owned(), None, 200),
        ("POST", "/v1/pause".to_owned(), Some(r#"{"subject":"all"}"#), 403),
        ("POST", "/v1/pause".to_owned(), Some(r#"{"subject":"machine web02"}"#), 403),
        ("POST", "/v1/pause".to_owned(), Some(r#"{"subject":"replica web01-standby"}"#), 204),
        ("POST", "/v1/points/pin".to_owned(), Some(r#"{"machine":"web02","point":"latest"}"#), 403),
        ("POST", "/v1/runs".to_owned(), Some(TASKS[10].0), 403),
        ("POST", "/v1/runs".to_owned(), Some(TASKS[7].0), 403),
        ("POST", "/v1/runs".to_owned(), Some(TASKS[1].0), 202),
    ] {
        let answer = world.remote(method, &path, token, body);
        assert_eq!(answer.status, wanted, "{method} {path} {body:?}: {answer:?}");
    }
}

#[test]
fn a_token_ends_when_it_expires_or_is_revoked() {
    let world = World::new();
    let now = Timestamp::now();
    let grant = |end: i64| TokenGrant {
        scopes: BTreeSet::from([Scope::Read]),
        machines: None,
        created: now - SignedDuration::from_hours(2),
        expires: Some(now + SignedDuration::from_secs(end)),
    };
    let (old, new) = (world.add("old", &grant(-1)), world.add("new", &grant(600)));
    let ask = |token: &str| world.remote("GET", "/v1/live", Some(token), None);
    assert_eq!(ask(&old).status, 401);
    assert!(ask(&old).text("/detail").contains("expired"));
    assert_eq!(ask(&new).status, 200);
    let tokens = world.local("GET", "/v1/tokens", None).json();
    assert_eq!(tokens[0]["name"], "new");
    assert!(tokens[0]["used"].is_string() && tokens[1].get("used").is_none(), "{tokens}");
    assert_eq!(world.local("DELETE", "/v1/tokens/new", None).status, 204);
    assert_eq!(ask(&new).status, 401);
    assert!(ask(&new).text("/detail").contains("revoked"));
    for secret in [&old, &new] {
        assert!(!tokens.to_string().contains(&secret[4..]));
        let lines = serde_json::to_string(&world.lines()).unwrap();
        assert!(!lines.contains(&secret[4..]), "the audit log holds a token");
    }
}

#[test]
fn a_token_is_shown_once_and_works() {
    let world = World::new();
    let order = r#"{"name":"ops","scopes":["backup"],"expires":"2100-01-01T00:00:00Z"}"#;
    let token = world.local("POST", "/v1/tokens", Some(order)).text("/token");
    let begun = world.remote("POST", "/v1/runs", Some(&token), Some(TASKS[0].0));
    assert_eq!(begun.status, 202);
    let run = world.local("GET", &format!("/v1/runs/{}", begun.text("/run")), None).json();
    assert_eq!(run["by"], "token:ops");
}

#[test]
fn every_change_and_every_refusal_is_in_the_audit_log() {
    let world = World::new();
    let admin = world.token("admin", &[Scope::Admin], None);
    let reader = world.token("reader", &[Scope::Read], None);
    let run = backup(&world);
    for rule in ApiServer::rules().iter().filter(|rule| rule.method != "GET") {
        if rule.path == "/v1/tokens/{name}" {
            world.token("nobody", &[Scope::Read], None);
        }
        let before = world.lines().len();
        status(&world, rule, &run, Some(&admin));
        status(&world, rule, &run, Some(&reader));
        status(&world, rule, &run, None);
        let lines = world.lines().split_off(before);
        let told: Vec<_> =
            lines.iter().map(|line| (line.entry.who.as_str(), line.entry.outcome)).collect();
        let wanted = [
            ("token:admin", AuditOutcome::Asked),
            ("token:admin", AuditOutcome::Done),
            ("token:reader", AuditOutcome::Refused),
            ("nobody", AuditOutcome::Refused),
        ];
        assert_eq!(told, wanted, "{}: {lines:?}", rule.what());
        for line in &lines {
            assert_eq!(line.entry.what, rule.what());
            assert_eq!(line.entry.peer.as_deref(), Some("127.0.0.1"));
        }
        assert!(lines[0].entry.subject.as_ref().is_some_and(|subject| !subject.is_empty()));
    }
    // The same again is counted, and told of at the end.
    let before = world.lines().len();
    for _ in 0..5 {
        world.remote("GET", "/v1/status", None, None);
    }
    assert_eq!(world.lines().len(), before + 1);
    let local = world.local("POST", "/v1/runs", Some(r#"{"task":"backup","machine":"db"}"#));
    assert_eq!(local.status, 404);
    let last = world.lines().pop().unwrap().entry;
    assert_eq!(last.outcome, AuditOutcome::Failed);
    assert!(last.who.starts_with("uid:"), "{last:?}");
    let mut world = world;
    world.stop(std::time::Duration::from_secs(1));
    let counted = world
        .lines()
        .into_iter()
        .find(|line| line.entry.what == "GET /v1/status" && line.entry.count.is_some());
    assert_eq!(counted.unwrap().entry.count, Some(4));
    assert_eq!(verify(&world.audit).unwrap().broken, None);
}

#[test]
fn nothing_is_changed_that_cannot_be_audited() {
    let world = World::new();
    let state = world.folder.path().join("state");
    std::fs::create_dir(state.join("audit.jsonl")).unwrap();
    let answer = world.local("POST", "/v1/runs", Some(TASKS[0].0));
    assert_eq!(answer.status, 503, "{answer:?}");
    assert_eq!(world.local("GET", "/v1/live", None).json().as_array().unwrap().len(), 0);
    std::fs::remove_dir(state.join("audit.jsonl")).unwrap();
    assert_eq!(world.local("POST", "/v1/runs", Some(TASKS[0].0)).status, 202);
}

#[test]
fn a_name_of_another_host_is_not_answered_to() {
    let world = World::new();
    let token = world.token("all", &[Scope::Admin], None);
    for (host, wanted) in [("evil.example", 421), ("127.0.0.1:1", 200), ("localhost", 200)] {
        let text = request("GET", "/v1/live", Some(&token), None).replace("localhost", host);
        assert_eq!(world.raw(text.as_bytes()).unwrap().status, wanted, "{host}");
    }
}

/// Whoever is neither root nor the daemon's user needs a token, over the socket too.
#[test]
fn another_user_of_this_host_needs_a_token() {
    let world = World::new();
    let permissions: std::fs::Permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(world.folder.path(), permissions.clone()).unwrap();
    std::fs::set_permissions(world.folder.path().join("state"), permissions).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(&world.socket).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o660);
    // Only root can become somebody else.
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    std::fs::set_permissions(&world.socket, everybody).unwrap();
    let ask = |token: &str| {
        let text = request("GET", "/v1/live", Some(token).filter(|it| !it.is_empty()), None);
        let file = world.folder.path().join("request");
        std::fs::write(&file, text).unwrap();
        let script = format!(
            "import socket,sys; s=socket.socket(socket.AF_UNIX); s.connect({:?}); \
             s.sendall(open({:?},'rb').read()); sys.stdout.buffer.write(s.makefile('rb').read())",
            world.socket, file
        );
        use std::os::unix::process::CommandExt;
        let output =
            std::process::Command::new("python3").args(["-c", &script]).uid(12345).output();
        String::from_utf8_lossy(&output.unwrap().stdout).into_owned()
    };
    assert!(ask("").starts_with("HTTP/1.1 401"), "{}", ask(""));
    let token = world.token("somebody", &[Scope::Read], None);
    assert!(ask(&token).starts_with("HTTP/1.1 200"));
    let refused = world.lines().into_iter().find(|line| line.entry.who == "uid:12345");
    assert_eq!(refused.unwrap().entry.peer.as_deref(), Some("socket, uid 12345"));
}

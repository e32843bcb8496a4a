//! The real daemon behind the API.

use crate::client::{self, Answer, request, talk};
use crate::schema::Document;
use crate::stand_in::name;
use afterimage::api::{ApiServer, Limits};
use afterimage::audit::{AuditLog, Rotation};
use afterimage::daemon::Daemon;
use afterimage::fsio::RealFileSystem;
use afterimage::operations::{InitChoice, init};
use afterimage::report::{Event, EventKind, RunEnd};
use afterimage::settings::Settings;
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What must never be told: a part of an address, a key and a password.
const SECRETS: [&str; 3] = ["T0pSecretPath", "k3yOfTheRepository", "p4sswordOfTheMail"];

struct Site {
    folder: tempfile::TempDir,
    daemon: Option<Daemon>,
    server: Option<ApiServer>,
    socket: PathBuf,
}

impl Site {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let hold = folder.path().join("hold");
        let text = format!(
            r#"
            state_dir = "state"
            [notify.webhook.ops]
            url = "https://hooks.example.org/{}"
            [notify.mail.ops]
            server = "smtps://mail.example.org"
            user = "afterimage"
            password_file = "mail.password"
            from = "a@example.org"
            to = ["b@example.org"]
            [repository.main]
            url = "repository"
            encryption = {{ passphrase_file = "key" }}
            [machine.web01]
            repository = "main"
            hooks = {{ before = "while [ -e {} ]; do sleep 0.02; done" }}
            [[machine.web01.disk]]
            name = "root"
            source = {{ image = "root.raw", format = "raw", quiesced = true }}
            "#,
            SECRETS[0],
            hold.display(),
        );
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("key"), SECRETS[1]).unwrap();
        std::fs::write(path("mail.password"), SECRETS[2]).unwrap();
        std::fs::write(path("root.raw"), vec![7; 64 * 1024]).unwrap();
        std::fs::write(path("afterimage.toml"), text).unwrap();
        let settings = Settings::load(&path("afterimage.toml")).unwrap();
        init(&settings, &name("main"), InitChoice { recovery_key: false }).unwrap();
        let socket = settings.daemon.socket.clone();
        let fs = RealFileSystem::shared();
        let audit = Arc::new(AuditLog::new(&fs, &settings.state_dir, Rotation::default()));
        let daemon = Daemon::start(settings).unwrap();
        let listener = daemon.socket().listener().unwrap();
        let server = ApiServer::start(listener, daemon.handle(), audit, Limits::default());
        let server = daemon.runtime().block_on(server).unwrap();
        Self { folder, daemon: Some(daemon), server: Some(server), socket }
    }

    fn ask(&self, method: &str, path: &str, body: Option<&str>) -> Answer {
        let text = request(method, path, None, body);
        talk(client::unix(&self.socket), text.as_bytes()).unwrap()
    }

    fn backup(&self) -> String {
        let answer = self.ask("POST", "/v1/runs", Some(r#"{"task":"backup","machine":"web01"}"#));
        assert_eq!(answer.status, 202, "{answer:?}");
        answer.text("/run")
    }

    /// All events of a run until it ends.
    fn events(&self, run: &str) -> Vec<Event> {
        let mut stream = client::unix(&self.socket);
        let path = format!("/v1/runs/{run}/events");
        stream.write_all(request("GET", &path, None, None).as_bytes()).unwrap();
        let lines = BufReader::new(stream).lines().map(Result::unwrap);
        let data = lines.filter_map(|line| Some(line.strip_prefix("data: ")?.to_owned()));
        data.map(|data| serde_json::from_str(&data).unwrap_or_else(|e| panic!("{e}: {data}")))
            .collect()
    }

    fn end(&self, run: &str) -> RunEnd {
        match self.events(run).pop().unwrap().what {
            EventKind::Ended(end) => end,
            other => panic!("{other:?}"),
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let daemon = self.daemon.take().unwrap();
        if let Some(server) = self.server.take() {
            daemon.runtime().block_on(server.stop(Duration::from_millis(100)));
        }
        daemon.stopper().stop();
        daemon.wait(Duration::ZERO);
    }
}

#[test]
fn a_backup_that_is_asked_for_runs_and_is_told_of() {
    let site = Site::new();
    let document = Document::new();
    let run = site.backup();
    let events = site.events(&run);
    let schema = &document.0["components"]["schemas"]["Event"];
    for event in &events {
        let value = serde_json::to_value(event).unwrap();
        document.matches(schema, &value, "$").unwrap();
    }
    let kinds: Vec<_> = events.iter().map(|event| &event.what).collect();
    assert!(kinds.iter().any(|kind| matches!(kind, EventKind::Started(_))), "{kinds:?}");
    let end = site.end(&run);
    assert_eq!(u8::from(end.exit), 0, "{end:?}");
    let detail = site.ask("GET", &format!("/v1/runs/{run}"), None);
    document.check("GET", "/v1/runs/{id}", &detail).unwrap();
    assert_eq!(detail.json()["status"], "completed");
    let by = detail.text("/by");
    assert!(by.starts_with("uid:"), "{by}");
    let points = site.ask("GET", "/v1/points?machine=web01", None).json();
    assert_eq!(points["points"][0]["run"], run);
    let page = site.ask("GET", "/v1/runs?machine=web01", None);
    document.check("GET", "/v1/runs", &page).unwrap();
    assert_eq!(page.json()["runs"][0]["run"], run);
}

#[test]
fn a_run_under_way_is_shown_and_stops_when_it_is_asked_to() {
    let site = Site::new();
    let document = Document::new();
    std::fs::write(site.folder.path().join("hold"), "").unwrap();
    let run = site.backup();
    let live = site.ask("GET", "/v1/live", None);
    document.check("GET", "/v1/live", &live).unwrap();
    assert_eq!(live.json()[0]["run"], run);
    let cancelled = site.ask("POST", &format!("/v1/runs/{run}/cancel"), None);
    assert_eq!(cancelled.status, 202, "{cancelled:?}");
    std::fs::remove_file(site.folder.path().join("hold")).unwrap();
    assert_eq!(u8::from(site.end(&run).exit), 130);
    let again = site.ask("POST", &format!("/v1/runs/{run}/cancel"), None);
    assert_eq!(again.status, 409, "{again:?}");
    document.check("POST", "/v1/runs/{id}/cancel", &again).unwrap();
}

#[test]
fn no_answer_holds_a_secret() {
    let site = Site::new();
    let document = Document::new();
    let run = site.backup();
    site.end(&run);
    let order = r#"{"name":"ops","scopes":["admin"]}"#;
    let token = site.ask("POST", "/v1/tokens", Some(order)).text("/token");
    let mut told = String::new();
    for rule in ApiServer::rules() {
        let path = rule.path.replace("{id}", &run).replace("{name}", "nobody");
        let is_stream = rule.path.ends_with("/events") && !path.contains(&run);
        if rule.path == "/v1/notify/test" || is_stream {
            continue;
        }
        for body in [None, Some("{}"), Some(r#"{"subject":"nobody"}"#)] {
            let answer = site.ask(rule.method, &path, body);
            document
                .check(rule.method, rule.path, &answer)
                .unwrap_or_else(|why| panic!("{why}\n{}: {answer:?}", rule.what()));
            told += &answer.head;
            told += &answer.body;
        }
    }
    for file in std::fs::read_dir(site.folder.path().join("state")).unwrap() {
        let path = file.unwrap().path();
        if path.is_file() {
            told += &String::from_utf8_lossy(&std::fs::read(path).unwrap());
        }
    }
    assert!(told.len() > 10_000);
    for secret in SECRETS.into_iter().chain([&token[4..]]) {
        assert!(!told.contains(secret), "{secret} is told");
    }
}

#[test]
fn a_pause_is_seen_and_ends() {
    let site = Site::new();
    let order = r#"{"subject":"machine web01","note":"moving","until":"2100-01-01T00:00:00Z"}"#;
    assert_eq!(site.ask("POST", "/v1/pause", Some(order)).status, 204);
    let pauses = site.ask("GET", "/v1/pauses", None).json();
    assert_eq!(pauses[0]["note"], "moving");
    let unknown = site.ask("POST", "/v1/pause", Some(r#"{"subject":"machine nobody"}"#));
    assert!([404, 422].contains(&unknown.status), "{unknown:?}");
    let order = Some(r#"{"subject":"machine web01"}"#);
    assert_eq!(site.ask("POST", "/v1/resume", order).json()["was_paused"], Value::Bool(true));
    assert_eq!(site.ask("POST", "/v1/resume", order).json()["was_paused"], Value::Bool(false));
}

#[test]
fn wrong_settings_are_told_in_full_and_the_old_ones_stay() {
    let site = Site::new();
    let before = site.ask("GET", "/v1/config", None).text("/fingerprint");
    let file = site.folder.path().join("afterimage.toml");
    let good = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, good.clone() + "\n[machine.web02]\nnonsense = 1\n").unwrap();
    let refused = site.ask("POST", "/v1/reload", None);
    assert_eq!(refused.status, 422, "{refused:?}");
    assert!(refused.json()["problems"].as_array().unwrap().len() >= 2, "{refused:?}");
    assert_eq!(site.ask("GET", "/v1/config", None).text("/fingerprint"), before);
    std::fs::write(&file, good + "\n# all is well\n").unwrap();
    let began = Instant::now();
    assert_eq!(site.ask("POST", "/v1/reload", None).status, 200);
    assert_ne!(site.ask("GET", "/v1/config", None).text("/fingerprint"), before);
    assert!(began.elapsed() < Duration::from_secs(20));
}

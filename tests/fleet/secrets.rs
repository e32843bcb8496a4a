//! No secret shows in anything that is told or kept.

use crate::site::{Plan, Site};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

const PASSPHRASE: &str = "orchid-lantern-quarry-93";
const HOOK_SECRET: &str = "hook-secret-velvet-umber-17";
const MAIL_PASSWORD: &str = "mail-password-cobalt-heron-58";
/// Looks like a token, and is none.
const WRONG_TOKEN: &str = "aft_c3VwZXItc2VjcmV0LXRva2VuLXRoYXQtaXMtd3Jvbmch";

/// An address that nobody listens at when it is given out.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn settings(folder: &Path, port: u16) -> String {
    for (name, secret) in [("pass", PASSPHRASE), ("hook", HOOK_SECRET), ("mail", MAIL_PASSWORD)] {
        let path = folder.join(name);
        std::fs::write(&path, secret).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&path, mode).unwrap();
    }
    let (hook, mail) = (free_port(), free_port());
    format!(
        "state_dir = \"state\"\n\
         [daemon]\nretry = {{ times = 0 }}\nmetrics_file = \"metrics.prom\"\n\
         [api]\nlisten = \"127.0.0.1:{port}\"\n\
         [notify.webhook.ops]\nurl = \"http://127.0.0.1:{hook}/hook\"\nsecret_file = \"hook\"\n\
         [notify.mail.ops]\nserver = \"smtp://127.0.0.1:{mail}\"\nuser = \"afterimage\"\n\
         password_file = \"mail\"\nfrom = \"a@example.org\"\nto = [\"b@example.org\"]\n\
         [repository.main]\nurl = \"repository\"\nencryption = {{ passphrase_file = \"pass\" }}\n\
         [machine.m0]\nrepository = \"main\"\nrpo = \"1 min\"\nschedule = \"*/2 * * * * *\"\n\
         [[machine.m0.disk]]\nname = \"root\"\n\
         source = {{ image = \"disks/0.raw\", format = \"raw\", quiesced = true }}\n\
         [machine.gone]\nrepository = \"main\"\nschedule = \"* * * * * *\"\n\
         [[machine.gone.disk]]\nname = \"root\"\n\
         source = {{ image = \"disks/gone.raw\", format = \"raw\", quiesced = true }}\n\
         [replica.r0]\nmachine = \"m0\"\n\
         [[replica.r0.disk]]\nname = \"root\"\ntarget = {{ image = \"standby/0.raw\" }}\n"
    )
}

/// What the API answers, with its head.
fn ask(port: u16, method: &str, path: &str, token: Option<&str>, body: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    let token = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{token}\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let (mut answer, mut part, since) = (Vec::new(), [0; 4096], Instant::now());
    while let Ok(count @ 1..) = stream.read(&mut part) {
        answer.extend_from_slice(&part[..count]);
        // A stream of events does not end by itself.
        if since.elapsed() > Duration::from_secs(3) {
            break;
        }
    }
    assert!(answer.starts_with(b"HTTP/1.1 "), "{method} {path}: {answer:?}");
    answer
}

/// All files below a folder, but for those that hold the secrets on purpose.
fn kept(folder: &Path, found: &mut Vec<(String, Vec<u8>)>) {
    for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap()) {
        let path = entry.path();
        let name = path.display().to_string();
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => kept(&path, found),
            kind if kind.is_file() => found.extend(std::fs::read(&path).map(|it| (name, it))),
            _ => {}
        }
    }
}

/// Everything that whoever has `token` is told.
fn listen(site: &Site, port: u16, token: &str, told: &mut Vec<(String, Vec<u8>)>) {
    let document = serde_json::to_value(afterimage::api::document()).unwrap();
    let paths = document["paths"].as_object().unwrap();
    assert!(paths.len() > 15, "{paths:?}");
    let run = site.runs().first().map(|run| run.id.to_string()).unwrap_or_default();
    // Whoever has no token is soon answered slowly: a few are enough.
    for (number, (path, methods)) in paths.iter().enumerate() {
        for method in methods.as_object().unwrap().keys() {
            let filled =
                path.replace("{id}", &run).replace("{run}", &run).replace("{name}", "none");
            let others: &[Option<&str>] = if number < 2 { &[Some(WRONG_TOKEN), None] } else { &[] };
            for token in [Some(token)].iter().chain(others).copied() {
                let method = method.to_uppercase();
                let body = if method == "GET" { "" } else { "{\"password\": \"x\"}" };
                let answer = ask(port, &method, &filled, token, body);
                told.push((format!("{method} {path}"), answer));
            }
        }
    }
    for arguments in [
        &["status"][..],
        &["--json", "status"],
        &["runs"],
        &["--json", "runs"],
        &["run", "show", "latest"],
        &["schedule"],
        &["daemon", "status"],
        &["daemon", "reload"],
        &["token", "list"],
        &["audit"],
        &["--json", "audit"],
        &["audit", "--verify"],
        &["metrics"],
        &["config", "check"],
        &["-v", "notify", "test"],
        &["--json", "notify", "test"],
        &["-v", "backup", "now"],
        &["--json", "backup", "now", "--no-daemon"],
        &["key", "list"],
        &["points"],
    ] {
        let ended = site.command(arguments);
        assert!(ended.output.status.code().is_some(), "{arguments:?}");
        told.push((format!("{arguments:?} out"), ended.output.stdout));
        told.push((format!("{arguments:?} err"), ended.output.stderr));
    }
}

#[test]
fn no_secret_shows_in_logs_answers_processes_or_files() {
    let folder = tempfile::tempdir().unwrap();
    let plan = Plan { machines: 1, schedule: "@yearly".into(), runs: 1, more: String::new() };
    let site = Site::new(folder.path(), env!("CARGO_BIN_EXE_afterimage"), plan);
    let port = free_port();
    std::fs::remove_dir_all(folder.path().join("repository")).unwrap();
    std::fs::remove_dir_all(folder.path().join("state")).unwrap();
    std::fs::write(site.settings_file(), settings(folder.path(), port)).unwrap();
    site.command(&["-q", "init", "--no-recovery-key"]).expect_success();
    let daemon = site.start();
    let shown = site
        .command(&["-q", "token", "add", "grafana", "--scope", "read", "--scope", "admin"])
        .expect_success();
    let token = shown.trim().to_owned();
    assert!(token.starts_with("aft_"), "{token}");

    let mut told = Vec::new();
    listen(&site, port, &token, &mut told);
    let answered = told.iter().filter(|(_, answer)| answer.starts_with(b"HTTP/1.1 200")).count();
    assert!(answered > 10, "only {answered} routes answered");
    for what in ["cmdline", "environ"] {
        let path = format!("/proc/{}/{what}", daemon.pid());
        told.push((path.clone(), std::fs::read(path).unwrap()));
    }
    assert!(daemon.stop().success(), "{}", site.told());
    told.push(("the log".to_owned(), site.told().into_bytes()));
    kept(&folder.path().join("state"), &mut told);
    kept(&folder.path().join("repository"), &mut told);
    told.push(("metrics".to_owned(), std::fs::read(folder.path().join("metrics.prom")).unwrap()));

    let everything: usize = told.iter().map(|(_, bytes)| bytes.len()).sum();
    assert!(everything > 100_000, "only {everything} bytes were looked at");
    for secret in [PASSPHRASE, HOOK_SECRET, MAIL_PASSWORD, WRONG_TOKEN, &token] {
        for (place, bytes) in &told {
            let shows = bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
            assert!(!shows, "{secret} shows in {place}");
        }
    }
}

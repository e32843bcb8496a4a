//! Which daemon a command works with, if any.

use crate::peer::{Peer, STREAM, json};
use crate::world::{Ended, World, ended};
use serde_json::{Value, json as value};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;

const RUN: &str = "0a0b0c0d0e0f07070707070707070707";

/// A world whose settings name the socket of a peer.
struct Site {
    world: World,
    peer: Peer,
}

impl Site {
    fn new() -> Self {
        let (world, peer) = (World::new("\"none\""), Peer::new());
        let mut text = String::from_utf8(world.read("settings.toml")).unwrap();
        text += &format!("[daemon]\nsocket = \"{}\"\n", peer.socket().display());
        world.write("settings.toml", text.as_bytes());
        Self { world, peer }
    }

    /// A daemon that says that it works with `file` as it is now, and whose runs all complete.
    fn serve(&self, file: &str) {
        let path = self.world.path(file);
        let settings = afterimage::settings::Settings::load(&path).unwrap();
        let status = value!({
            "version": env!("CARGO_PKG_VERSION"), "instance": "a", "pid": 1,
            "started": "2026-11-22T09:00:00Z", "settings_file": path,
            "settings_fingerprint": settings.fingerprint.to_string(),
            "settings_loaded": "2026-11-22T09:00:00Z", "running": 0, "queued": 0,
        });
        self.peer.serve(move |asked, mut stream| {
            let answer = match asked.line.as_str() {
                "GET /v1/status" => json(200, &status),
                "POST /v1/runs" => json(202, &value!({"run": RUN})),
                _ => format!("{STREAM}id: a-1\ndata: {}\n\n", completed()),
            };
            let _ = stream.write_all(answer.as_bytes());
        });
    }

    fn run(&self, args: &[&str]) -> Ended {
        self.world.run(args)
    }
}

fn completed() -> Value {
    value!({
        "id": 1, "time": "2026-11-22T09:00:00Z", "run": RUN,
        "what": { "event": "ended", "exit": 0, "summary": {
            "run": RUN, "kind": "backup", "status": "skipped", "machine": "web01",
            "reason": "the daemon says so", "bytes_read": 0, "bytes_changed": 0, "bytes_new": 0,
            "bytes_stored": 0, "bytes_written": 0, "duration_s": 1.0,
            "started": "2026-11-22T09:00:00Z", "ended": "2026-11-22T09:00:01Z",
        } },
    })
}

#[test]
fn a_daemon_with_the_same_settings_is_asked_unless_it_is_not_wanted() {
    let site = Site::new();
    site.serve("settings.toml");
    let ended = site.run(&["backup", "now"]).expect(0).says("web01: skipped, the daemon says so");
    assert_eq!(ended.err, "");
    let body: Value = serde_json::from_str(&site.peer.asked()[1].body).unwrap();
    assert_eq!(body["task"], "backup");
    assert_eq!(body["machine"], "web01");
    let asked = site.peer.asked().len();
    site.run(&["backup", "now", "--no-daemon"]).expect(0).says("web01: point #1");
    assert_eq!(site.peer.asked().len(), asked);
}

#[test]
fn a_daemon_with_older_settings_is_asked_and_the_user_is_told_once() {
    let site = Site::new();
    site.serve("settings.toml");
    let text = String::from_utf8(site.world.read("settings.toml")).unwrap();
    site.world.write("settings.toml", format!("# New.\n{text}").as_bytes());
    let ended = site.run(&["replicate", "now", "--backup-first"]).expect(0);
    assert_eq!(ended.err.matches("afterimage daemon reload").count(), 1, "{ended:?}");
    let summary = site.world.json(&["backup", "now"]).expect(0).summary();
    assert!(summary["warnings"][0].as_str().unwrap().contains("afterimage daemon reload"));
}

#[test]
fn a_daemon_of_another_settings_file_is_not_asked_to_do_anything() {
    let site = Site::new();
    let mut text = String::from_utf8(site.world.read("settings.toml")).unwrap();
    text += "# Another.\n";
    site.world.write("other.toml", text.as_bytes());
    site.serve("other.toml");
    site.run(&["backup", "now"]).expect(2).complains("other.toml").complains("--no-daemon");
    assert!(site.peer.lines().iter().all(|line| line == "GET /v1/status"));
}

#[test]
fn what_is_no_daemon_is_an_error_that_says_how_to_go_on() {
    let site = Site::new();
    site.peer.serve(|_, mut stream| drop(stream.write_all(b"220 mail.example.org ESMTP\r\n\r\n")));
    site.run(&["backup", "now"]).expect(1).complains("--no-daemon");
    // What only reads does not need it.
    site.run(&["status"]).expect(0).complains("warning").says("web01");
    site.run(&["points"]).expect(0);
    site.run(&["runs"]).expect(0);
    site.run(&["backup", "now", "--no-daemon"]).expect(0);
}

#[test]
fn who_may_not_use_the_socket_is_told_so_and_may_still_look() {
    let site = Site::new();
    site.serve("settings.toml");
    site.run(&["backup", "now", "--no-daemon"]).expect(0);
    // The socket stays root's; the rest is this user's.
    let (nobody, folder) = (Some(65534), site.world.folder.path());
    for path in site.world.files(".") {
        std::os::unix::fs::chown(&path, nobody, nobody).unwrap();
    }
    for path in [folder.to_owned(), site.world.path("state"), site.world.path("repository")] {
        std::os::unix::fs::chown(&path, nobody, nobody).unwrap();
    }
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(site.peer.folder.path(), open).unwrap();
    let closed = std::fs::Permissions::from_mode(0o660);
    std::fs::set_permissions(site.peer.socket(), closed).unwrap();
    // The binary may lie where only root looks.
    let binary = site.world.path("afterimage");
    std::fs::copy(env!("CARGO_BIN_EXE_afterimage"), &binary).unwrap();
    let run = |args: &[&str]| {
        let mut command = assert_cmd::Command::new("setpriv");
        command
            .current_dir(folder)
            .env("AFTERIMAGE_CONFIG", "settings.toml")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(&binary)
            .args(args);
        ended(command.output().unwrap())
    };
    run(&["backup", "now"]).expect(1).complains("as root").complains("--no-daemon");
    run(&["runs"]).expect(0).says("backup");
    run(&["run", "show", "latest"]).expect(0).says("backup of web01");
}

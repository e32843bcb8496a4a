//! Runs of a real daemon while they are under way: watched, stopped, cut off.

use crate::site::{LONG, Site};
use serde_json::Value;
use std::io::Read;
use std::process::{Child, Stdio};
use std::time::Instant;

/// A command that goes on beside the test.
struct Beside(Child);

impl Beside {
    fn start(site: &Site, args: &[&str]) -> Self {
        let child = std::process::Command::new(env!("CARGO_BIN_EXE_afterimage"))
            .current_dir(site.world.folder.path())
            .env("AFTERIMAGE_CONFIG", "settings.toml")
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self(child)
    }

    #[track_caller]
    fn ends(mut self, code: i32) -> (String, String) {
        let until = Instant::now() + LONG;
        while self.0.try_wait().unwrap().is_none() && Instant::now() < until {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let _ = self.0.kill();
        let (mut out, mut err) = (String::new(), String::new());
        self.0.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        self.0.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        assert_eq!(self.0.wait().unwrap().code(), Some(code), "{out}\n{err}");
        (out, err)
    }
}

/// What `run show latest` tells.
fn latest(site: &Site) -> Value {
    let lines = site.world.json(&["run", "show", "latest"]).expect(0).lines();
    lines.into_iter().find(|line| line["message_type"] == "run_detail").unwrap()
}

#[test]
fn a_run_is_shown_followed_and_cancelled_by_others() {
    let site = Site::with_daemon();
    site.hold();
    let backup = Beside::start(&site, &["backup", "now"]);
    site.wait_for_capture();
    let run = latest(&site);
    assert_eq!(run["status"], "running");
    assert_eq!(run["live"]["work"], "backup of web01");
    let id = run["run"].as_str().unwrap();
    site.run(&["runs", "--status", "running"]).expect(0).says(&id[..12]);
    site.run(&["daemon", "status"]).expect(0).says("1 run under way");
    let follower = Beside::start(&site, &["run", "show", "latest", "--follow"]);
    site.run(&["run", "cancel", &id[..12]]).expect(0).says(&id[..12]);
    // A hook of the user's is waited for.
    site.let_go();
    backup.ends(130);
    let (out, _) = follower.ends(130);
    assert!(out.contains("status      failed"), "{out}");
    site.run(&["run", "cancel", id]).expect(1).complains("nothing to stop");
    site.run(&["runs", "--status", "running"]).expect(0).says("there are no such runs");
}

#[test]
fn a_run_of_this_process_is_followed_by_its_record() {
    let site = Site::new();
    site.hold();
    let backup = Beside::start(&site, &["backup", "now"]);
    site.wait_for_capture();
    assert_eq!(latest(&site)["status"], "running");
    let follower = Beside::start(&site, &["run", "show", "latest", "--follow"]);
    site.let_go();
    backup.ends(0);
    let (out, _) = follower.ends(0);
    assert!(out.contains("status      completed"), "{out}");
}

#[test]
fn a_command_outlives_the_death_of_the_daemon_and_tells_how_its_run_ended() {
    let mut site = Site::with_daemon();
    site.hold();
    let backup = Beside::start(&site, &["backup", "now"]);
    site.wait_for_capture();
    site.kill();
    site.let_go();
    site.start();
    let (_, err) = backup.ends(1);
    assert!(err.contains("cut off"), "{err}");
    assert_eq!(latest(&site)["exit"], 1);
    // It goes on as if nothing had been.
    site.run(&["backup", "now"]).expect(0).says("web01: point #1");
}

#[test]
fn settings_are_reloaded_and_wrong_ones_are_refused_with_each_problem() {
    let site = Site::with_daemon();
    let good = String::from_utf8(site.world.read("settings.toml")).unwrap();
    site.world.write("settings.toml", format!("{good}nonsense = 1\n").as_bytes());
    let refused = site.world.json(&["daemon", "reload"]);
    assert_eq!(refused.code, 2);
    assert!(refused.json_error()["problems"][0]["line"].is_number());
    site.world.write("settings.toml", format!("# New.\n{good}").as_bytes());
    site.run(&["backup", "now"]).expect(0).complains("afterimage daemon reload");
    site.run(&["daemon", "reload"]).expect(0);
    let ended = site.run(&["backup", "now"]).expect(0);
    assert_eq!(ended.err, "");
}

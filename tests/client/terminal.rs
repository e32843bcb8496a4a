//! Ctrl-C while a run of the daemon is watched: a question on a terminal, an order elsewhere.

use crate::peer::{Peer, STREAM, json};
use serde_json::json as value;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

const RUN: &str = "0a0b0c0d0e0f07070707070707070707";
/// Longer than anything takes here.
const LONG: Duration = Duration::from_secs(30);
const CTRL_C: &[u8] = b"\x03";
const QUESTION: &str = "stop the run (s), leave it running in the daemon (l), go on watching";

const SETTINGS: &str = "state_dir = \"state\"\n[daemon]\nsocket = \"afterimage.sock\"\n\
    [repository.main]\nurl = \"repository\"\nencryption = \"none\"\n[machine.web01]\n\
    repository = \"main\"\n[[machine.web01.disk]]\nname = \"root\"\n\
    source = { image = \"web01.img\" }\n";

/// A daemon that works with [`SETTINGS`], whose only run goes on until it is cancelled.
struct Daemon {
    peer: Peer,
    cancelled: Arc<AtomicBool>,
}

impl Daemon {
    fn new() -> Self {
        let peer = Peer::new();
        let file = peer.folder.path().join("settings.toml");
        std::fs::write(&file, SETTINGS).unwrap();
        let fingerprint = afterimage::settings::Settings::load(&file).unwrap().fingerprint;
        let status = value!({
            "version": env!("CARGO_PKG_VERSION"), "instance": "a", "pid": 1,
            "started": "2026-11-22T09:00:00Z", "settings_file": file,
            "settings_fingerprint": fingerprint.to_string(),
            "settings_loaded": "2026-11-22T09:00:00Z", "running": 0, "queued": 0,
        });
        let cancelled = Arc::new(AtomicBool::new(false));
        let is_cancelled = Arc::clone(&cancelled);
        peer.serve(move |asked, mut stream| {
            let answer = match asked.line.as_str() {
                "GET /v1/status" => json(200, &status),
                "POST /v1/runs" => json(202, &value!({"run": RUN})),
                line if line.ends_with("/cancel") => {
                    is_cancelled.store(true, Ordering::Relaxed);
                    "HTTP/1.1 204 No Content\r\n\r\n".to_owned()
                }
                _ => {
                    let _ = stream.write_all(STREAM.as_bytes());
                    while !is_cancelled.load(Ordering::Relaxed) {
                        if stream.write_all(b": alive\n\n").is_err() {
                            return;
                        }
                        std::thread::sleep(Duration::from_millis(5));
                    }
                    ended()
                }
            };
            let _ = stream.write_all(answer.as_bytes());
        });
        Self { peer, cancelled }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.peer.folder.path())
            .env("AFTERIMAGE_CONFIG", "settings.toml")
            .env("TERM", "xterm")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    fn wait_for_watcher(&self) {
        let until = Instant::now() + LONG;
        while !self.peer.lines().iter().any(|line| line.ends_with("/events")) {
            assert!(Instant::now() < until, "{:?}", self.peer.lines());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn ended() -> String {
    let event = value!({
        "id": 1, "time": "2026-11-22T09:00:00Z", "run": RUN,
        "what": { "event": "ended", "exit": 130, "error": "cancelled by uid:0", "summary": {
            "run": RUN, "kind": "backup", "status": "failed", "bytes_read": 0, "bytes_changed": 0,
            "bytes_new": 0, "bytes_stored": 0, "bytes_written": 0, "duration_s": 1.0,
            "started": "2026-11-22T09:00:00Z", "ended": "2026-11-22T09:00:01Z",
        } },
    });
    format!("id: a-1\ndata: {event}\n\n")
}

/// The binary on a terminal.
struct Terminal {
    child: Child,
    pieces: Receiver<Vec<u8>>,
    seen: String,
}

impl Terminal {
    fn start(daemon: &Daemon) -> Self {
        let binary = Path::new(env!("CARGO_BIN_EXE_afterimage")).display().to_string();
        let mut child = daemon
            .command("script")
            .args([
                "--quiet",
                "--return",
                "--command",
                &format!("{binary} backup now"),
                "/dev/null",
            ])
            .spawn()
            .unwrap();
        let mut out = child.stdout.take().unwrap();
        let (send, pieces) = channel();
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(count @ 1..) = out.read(&mut piece) {
                if send.send(piece[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        daemon.wait_for_watcher();
        Self { child, pieces, seen: String::new() }
    }

    fn types(&mut self, keys: &[u8]) {
        let stdin = self.child.stdin.as_mut().unwrap();
        stdin.write_all(keys).unwrap();
        stdin.flush().unwrap();
    }

    /// Waits until the text was shown, and forgets all up to its end.
    #[track_caller]
    fn shows(&mut self, text: &str) {
        let until = Instant::now() + LONG;
        loop {
            if let Some(at) = self.seen.find(text) {
                self.seen.drain(..at + text.len());
                return;
            }
            let left = until.saturating_duration_since(Instant::now());
            match self.pieces.recv_timeout(left) {
                Ok(piece) => self.seen += &String::from_utf8_lossy(&piece),
                Err(_) => panic!("not shown: {text}\nbut: {}", self.seen),
            }
        }
    }

    #[track_caller]
    fn ends(mut self, code: i32) {
        let until = Instant::now() + LONG;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                assert_eq!(status.code(), Some(code), "{}", self.seen);
                return;
            }
            assert!(Instant::now() < until, "it goes on: {}", self.seen);
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn on_a_terminal_the_run_stops_when_that_is_the_answer() {
    let daemon = Daemon::new();
    let mut terminal = Terminal::start(&daemon);
    terminal.types(CTRL_C);
    terminal.shows(QUESTION);
    assert!(!daemon.is_cancelled());
    terminal.types(b"what?\n");
    terminal.shows(QUESTION);
    terminal.types(b"s\n");
    terminal.shows("cancelled by uid:0");
    terminal.ends(130);
    assert!(daemon.is_cancelled());
}

#[test]
fn on_a_terminal_the_run_can_be_left_to_the_daemon() {
    let daemon = Daemon::new();
    let mut terminal = Terminal::start(&daemon);
    terminal.types(CTRL_C);
    terminal.shows(QUESTION);
    terminal.types(b"l\n");
    terminal.shows("afterimage run show 0a0b0c0d0e0f --follow");
    terminal.ends(130);
    assert!(!daemon.is_cancelled());
}

#[test]
fn on_a_terminal_watching_can_go_on_and_be_asked_about_again() {
    let daemon = Daemon::new();
    let mut terminal = Terminal::start(&daemon);
    terminal.types(CTRL_C);
    terminal.shows(QUESTION);
    terminal.types(b"\n");
    // Only once the answer was read is another Ctrl-C another question; the bar is back then.
    terminal.shows("backup of web01");
    terminal.types(CTRL_C);
    terminal.shows(QUESTION);
    assert!(!daemon.is_cancelled());
    terminal.types(CTRL_C);
    terminal.shows("afterimage run show 0a0b0c0d0e0f --follow");
    terminal.ends(130);
    assert!(!daemon.is_cancelled());
}

#[test]
fn elsewhere_a_signal_stops_the_run_as_one_of_this_process() {
    for signal in ["INT", "TERM"] {
        let daemon = Daemon::new();
        let mut child = daemon
            .command(env!("CARGO_BIN_EXE_afterimage"))
            .args(["--json", "backup", "now"])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        daemon.wait_for_watcher();
        let pid = child.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
        let mut out = String::new();
        child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(130), "{out}");
        assert!(daemon.is_cancelled());
        let last: serde_json::Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
        assert_eq!(last["message_type"], "summary");
        assert_eq!(last["run"], RUN);
    }
}

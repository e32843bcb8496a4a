//! A world with two repositories, and the daemon that works in it.

use crate::world::{Ended, World};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longer than a daemon takes to begin or to end.
pub const LONG: Duration = Duration::from_secs(30);

const SETTINGS: &str = "state_dir = \"state\"\n\
    [repository.main]\nurl = \"repository\"\nencryption = \"none\"\n\
    [repository.second]\nurl = \"second\"\nencryption = \"none\"\n\
    [machine.web01]\nrepository = \"main\"\nkeep = { last = 1 }\n\
    hooks = { before = \"touch FOLDER/began; while [ -e FOLDER/wait ]; do sleep 0.02; done\" }\n\
    [[machine.web01.disk]]\nname = \"root\"\nsource = { image = \"web01.img\" }\n\
    [replica.standby]\nmachine = \"web01\"\ntrigger = \"manual\"\n\
    [[replica.standby.disk]]\nname = \"root\"\ntarget = { image = \"standby/root.raw\" }\n";

/// A world, with a daemon or without.
pub struct Site {
    pub world: World,
    daemon: Option<Child>,
}

impl Site {
    pub fn new() -> Self {
        let world = World { folder: tempfile::tempdir().unwrap() };
        let folder = world.folder.path().display().to_string();
        world.write("settings.toml", SETTINGS.replace("FOLDER", &folder).as_bytes());
        world.write_disk("web01", 1);
        world.run(&["init"]).expect(0);
        Self { world, daemon: None }
    }

    pub fn with_daemon() -> Self {
        let mut site = Self::new();
        site.start();
        site
    }

    pub fn start(&mut self) {
        let log = std::fs::File::create(self.world.path("daemon.log")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_afterimage"))
            // Where it works must not matter.
            .current_dir("/")
            .env("AFTERIMAGE_CONFIG", self.world.path("settings.toml"))
            .env("TZ", "America/Lima")
            .arg("daemon")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.daemon = Some(child);
        let socket = self.world.path("state/afterimage.sock");
        let until = Instant::now() + LONG;
        while UnixStream::connect(&socket).is_err() {
            let log = String::from_utf8_lossy(&self.world.read("daemon.log")).into_owned();
            assert!(Instant::now() < until, "{log}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The next captures wait until [`Self::let_go`].
    pub fn hold(&self) {
        self.world.write("wait", b"");
    }

    pub fn let_go(&self) {
        std::fs::remove_file(self.world.path("wait")).unwrap();
    }

    /// Waits until a capture is under way.
    pub fn wait_for_capture(&self) {
        let until = Instant::now() + LONG;
        while !self.world.path("began").exists() {
            assert!(Instant::now() < until, "no capture began");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends the daemon at once.
    pub fn kill(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }

    pub fn run(&self, args: &[&str]) -> Ended {
        self.world.run(args)
    }

    /// All runs of the history.
    pub fn runs(&self) -> Vec<serde_json::Value> {
        let mut lines = self.world.json(&["runs", "-n", "1000"]).expect(0).lines();
        lines.retain(|line| line["message_type"] == "run");
        lines
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.kill();
    }
}

//! A folder with settings, disks and a repository, and the binary that works in it.

use serde_json::Value;
use std::path::{Path, PathBuf};

/// Size of the disks, in bytes; not a multiple of anything.
pub const DISK_BYTES: usize = (3 << 20) + 4096 + 512;

/// How a process ended.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ended {
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:#?}");
        assert!(!self.err.contains("panicked"), "{self:#?}");
        self
    }

    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(self.out.contains(text), "not in the output: {text}\n{self:#?}");
        self
    }

    #[track_caller]
    pub fn complains(self, text: &str) -> Self {
        assert!(self.err.contains(text), "not in the errors: {text}\n{self:#?}");
        self
    }

    /// The lines of `--json`. The last one is a summary.
    #[track_caller]
    pub fn lines(&self) -> Vec<Value> {
        let lines: Vec<Value> = self
            .out
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
            .collect();
        let last = lines.last().unwrap_or_else(|| panic!("no line: {self:#?}"));
        assert_eq!(last["message_type"], "summary", "{last}");
        lines
    }

    #[track_caller]
    pub fn summary(&self) -> Value {
        self.lines().pop().unwrap()
    }

    /// The error of `--json`.
    #[track_caller]
    pub fn json_error(&self) -> Value {
        let line = self.err.lines().last().unwrap_or_else(|| panic!("no error: {self:#?}"));
        let error: Value = serde_json::from_str(line).unwrap();
        assert_eq!(error["message_type"], "exit_error", "{error}");
        assert_eq!(error["code"], self.code, "{error}");
        error
    }
}

pub struct World {
    pub folder: tempfile::TempDir,
}

impl World {
    /// One machine, `web01`, with the disk `root`, and its replica `standby`; the repository is
    /// there. `encryption` is what the settings say.
    pub fn new(encryption: &str) -> Self {
        let world = Self::without_repository(encryption);
        world.run(&["init"]).expect(0);
        world
    }

    pub fn without_repository(encryption: &str) -> Self {
        let world = Self { folder: tempfile::tempdir().unwrap() };
        world.write_settings(encryption, &["web01"]);
        world.write_disk("web01", 1);
        world
    }

    /// Settings with these machines, each with a replica; that of `web01` is `standby`.
    pub fn write_settings(&self, encryption: &str, machines: &[&str]) {
        let mut text = format!(
            "state_dir = \"state\"\n[repository.main]\nurl = \"repository\"\nencryption = \
             {encryption}\n"
        );
        for machine in machines {
            let replica = if *machine == "web01" { "standby" } else { &format!("{machine}-copy") };
            text += &format!(
                "[machine.{machine}]\nrepository = \"main\"\n[[machine.{machine}.disk]]\n\
                 name = \"root\"\nsource = {{ image = \"{machine}.img\" }}\n\
                 [replica.{replica}]\nmachine = \"{machine}\"\ntrigger = \"manual\"\n\
                 [[replica.{replica}.disk]]\nname = \"root\"\n\
                 target = {{ image = \"{replica}/root.raw\" }}\n"
            );
        }
        self.write("settings.toml", text.as_bytes());
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, content: &[u8]) {
        std::fs::write(self.path(name), content).unwrap();
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    /// Fills the disk of a machine with noise, and gives it back.
    pub fn write_disk(&self, machine: &str, seed: u64) -> Vec<u8> {
        let content = crate::common::noise(seed, DISK_BYTES);
        self.write(&format!("{machine}.img"), &content);
        content
    }

    pub fn command(&self, args: &[&str]) -> assert_cmd::Command {
        let mut command = assert_cmd::Command::new(env!("CARGO_BIN_EXE_afterimage"));
        command
            .current_dir(self.folder.path())
            .env("AFTERIMAGE_CONFIG", "settings.toml")
            .env("TZ", "Asia/Kolkata")
            .args(args);
        command
    }

    pub fn run(&self, args: &[&str]) -> Ended {
        ended(self.command(args).output().unwrap())
    }

    pub fn json(&self, args: &[&str]) -> Ended {
        self.run(&[&["--json"], args].concat())
    }

    /// Backs `web01` up and gives the point's id.
    #[track_caller]
    pub fn backup(&self) -> String {
        let summary = self.json(&["backup", "now", "web01"]).expect(0).summary();
        summary["point"].as_str().unwrap().to_owned()
    }

    /// All files under a folder.
    pub fn files(&self, name: &str) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut folders = vec![self.path(name)];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { folders.push(path) } else { files.push(path) }
            }
        }
        files
    }

    #[track_caller]
    pub fn assert_nothing_partial(&self) {
        let partial = |path: &PathBuf| path.extension().is_some_and(|end| end == "partial");
        let left: Vec<_> = self.files(".").into_iter().filter(partial).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

pub fn ended(output: std::process::Output) -> Ended {
    Ended {
        code: output.status.code().expect("it was not killed"),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Turns a byte of a file over.
pub fn damage(path: &Path, offset: usize) {
    let mut content = std::fs::read(path).unwrap();
    content[offset] ^= 0x55;
    std::fs::write(path, content).unwrap();
}

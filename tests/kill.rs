//! The real program, killed by the kernel at the Nth call of a kind, for many N: what was
//! acknowledged stays, and running it again ends in the right state. Needs `strace`.

mod common;

use common::noise;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const PROGRAM: &str = env!("CARGO_BIN_EXE_afterimage");
/// Calls by which anything becomes visible or durable.
const CALLS: [&str; 6] = ["pwrite64", "fsync", "renameat2", "unlink", "fallocate", "ftruncate"];
/// Cuts for each call, spread evenly over all that a run makes.
const CUTS_MAX: usize = 12;

const SETTINGS: &str = r#"
state_dir = "state"
[repository.main]
url = "repository"
encryption = "none"
[machine.web01]
repository = "main"
keep = { last = 1 }
[[machine.web01.disk]]
name = "root"
source = { image = "root.img", format = "raw" }
[replica.standby]
machine = "web01"
trigger = "manual"
[[replica.standby.disk]]
name = "root"
target = { image = "standby/root.raw" }
"#;

/// A machine with one point, replicated, whose disk has changed since.
struct Scene {
    folder: tempfile::TempDir,
    old: Vec<u8>,
    new: Vec<u8>,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut old = noise(1, 3 << 20);
        old[1 << 20..2 << 20].fill(0);
        let mut new = old.clone();
        new[70_000..200_000].copy_from_slice(&noise(2, 130_000));
        new[(1 << 20) + 5000..(1 << 20) + 9000].fill(7);
        new[2 << 20..(2 << 20) + 300_000].fill(0);
        new.extend(noise(3, 40_000));
        let scene = Self { folder, old, new };
        std::fs::write(scene.path("afterimage.toml"), SETTINGS).unwrap();
        std::fs::write(scene.path("root.img"), &scene.old).unwrap();
        scene.succeed(&["init"]);
        scene.succeed(&["backup", "now"]);
        scene.succeed(&["replicate", "now"]);
        std::fs::write(scene.path("root.img"), &scene.new).unwrap();
        scene
    }

    /// The same in a folder of its own, where the replica's image is another file.
    fn copy(&self) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let status = Command::new("cp").arg("-a").arg(self.path(".")).arg(folder.path()).status();
        assert!(status.unwrap().success());
        Self { folder, old: self.old.clone(), new: self.new.clone() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self, command: &mut Command, arguments: &[&str]) -> Output {
        command
            .arg("-c")
            .arg(self.path("afterimage.toml"))
            .args(arguments)
            .output()
            .expect("the program and strace can be run; Debian's package is strace")
    }

    fn succeed(&self, arguments: &[&str]) -> String {
        let output = self.run(&mut Command::new(PROGRAM), arguments);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs under strace, which kills the program at the `cut`th call, if it makes so many.
    /// Whether it was killed.
    fn killed(&self, arguments: &[&str], call: &str, cut: usize) -> bool {
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-o", "/dev/null", "-e"]).arg(format!("trace={call}"));
        strace.arg("-e").arg(format!("inject={call}:signal=SIGKILL:when={cut}")).arg(PROGRAM);
        !self.run(&mut strace, arguments).status.success()
    }

    /// How many calls of a kind the busiest thread makes.
    fn count(&self, arguments: &[&str], call: &str) -> usize {
        let log = self.path("strace.log");
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-o"]).arg(&log).arg("-e").arg(format!("trace={call}"));
        let output = self.run(strace.arg(PROGRAM), arguments);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{errors}");
        let mut calls = std::collections::BTreeMap::<String, usize>::new();
        for line in std::fs::read_to_string(&log).unwrap().lines() {
            let thread = line.split_whitespace().next().unwrap_or_default().to_owned();
            *calls.entry(thread).or_default() += 1;
        }
        std::fs::remove_file(log).unwrap();
        calls.into_values().max().unwrap_or(0)
    }

    fn restored(&self, point: &str) -> Vec<u8> {
        let to = self.path("restored.img");
        let to_text = to.to_str().unwrap();
        let base = ["restore", "web01", "--disk", "root", "--point", point, "--to", to_text];
        self.succeed(&base);
        let content = std::fs::read(&to).unwrap();
        std::fs::remove_file(to).unwrap();
        content
    }

    fn points(&self) -> usize {
        let lines = self.succeed(&["--json", "points"]);
        lines.lines().filter(|line| line.contains("\"message_type\":\"point\"")).count()
    }

    fn no_leftovers(&self) {
        let left: Vec<_> =
            std::fs::read_dir(self.path("repository/tmp")).unwrap().map(|e| e.unwrap()).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

fn cuts(count: usize) -> impl Iterator<Item = usize> {
    let step = count.div_ceil(CUTS_MAX).max(1);
    (1..=count).step_by(step)
}

#[test]
fn a_backup_that_is_killed_anywhere_loses_nothing() {
    let template = Scene::new();
    let mut killed = 0;
    for call in CALLS {
        let count = template.copy().count(&["backup", "now"], call);
        for cut in cuts(count) {
            let scene = template.copy();
            killed += usize::from(scene.killed(&["backup", "now"], call, cut));
            let points = scene.points();
            assert!((1..=2).contains(&points), "{call} {cut}: {points} points");
            assert!(scene.restored("#1") == scene.old, "{call} {cut}: point 1");
            if points == 2 {
                assert!(scene.restored("#2") == scene.new, "{call} {cut}: point 2");
            }
            scene.succeed(&["backup", "now"]);
            assert!(scene.restored("latest") == scene.new, "{call} {cut}: latest");
            scene.no_leftovers();
        }
    }
    assert!(killed > 20, "strace killed only {killed} runs");
}

#[test]
fn a_replication_that_is_killed_anywhere_is_finished_by_the_next() {
    let template = Scene::new();
    template.succeed(&["backup", "now"]);
    let mut killed = 0;
    for call in CALLS {
        // A copied replica is another file: bring it to the old point first, then go on.
        let count = ready(&template).count(&["replicate", "now"], call);
        for cut in cuts(count) {
            let scene = ready(&template);
            killed += usize::from(scene.killed(&["replicate", "now"], call, cut));
            scene.succeed(&["replicate", "now"]);
            let standby = std::fs::read(scene.path("standby/root.raw")).unwrap();
            assert!(standby == scene.new, "{call} {cut}");
            scene.succeed(&["verify", "--replica", "standby"]);
            check_home(&scene.path("standby/.afterimage-standby"));
        }
    }
    assert!(killed > 20, "strace killed only {killed} runs");
}

#[test]
fn a_rebuild_of_the_catalog_that_is_killed_anywhere_leaves_the_old_one_or_the_new_one() {
    let template = Scene::new();
    let mut killed = 0;
    for call in CALLS.into_iter().chain(["rename"]) {
        let count = template.copy().count(&["catalog", "rebuild"], call);
        for cut in cuts(count) {
            let scene = template.copy();
            killed += usize::from(scene.killed(&["catalog", "rebuild"], call, cut));
            assert_eq!(scene.points(), 1, "{call} {cut}");
            scene.succeed(&["catalog", "check"]);
            let files = std::fs::read_dir(scene.path("state")).unwrap();
            let names = files.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            let left: Vec<String> = names.filter(|name| name.contains("second.sqlite")).collect();
            assert!(left.is_empty(), "{call} {cut}: {left:?}");
            scene.succeed(&["backup", "now"]);
        }
    }
    assert!(killed > 10, "strace killed only {killed} runs");
}

#[test]
fn a_prune_or_a_collection_that_is_killed_anywhere_removes_nothing_that_is_kept() {
    // The replica is at #1, the rules keep #3, and #4 is the newest: only #2 goes.
    let template = Scene::new();
    for seed in 10..13 {
        let mut content = template.old.clone();
        content[..500_000].copy_from_slice(&noise(seed, 500_000));
        std::fs::write(template.path("root.img"), content).unwrap();
        template.succeed(&["backup", "now"]);
    }
    let expected = ["#1", "#3", "#4"].map(|point| (point, template.restored(point)));
    let mut killed = 0;
    for command in [&["prune", "--yes"][..], &["gc"]] {
        if command == ["gc"] {
            template.succeed(&["prune", "--yes"]);
        }
        for call in CALLS {
            let count = template.copy().count(command, call);
            for cut in cuts(count) {
                let scene = template.copy();
                killed += usize::from(scene.killed(command, call, cut));
                scene.succeed(&["prune", "--yes"]);
                scene.succeed(&["gc"]);
                assert_eq!(scene.points(), 3, "{command:?} {call} {cut}");
                for (point, content) in &expected {
                    assert!(scene.restored(point) == *content, "{command:?} {call} {cut}: {point}");
                }
                scene.succeed(&["verify", "--all"]);
                scene.no_leftovers();
            }
        }
    }
    assert!(killed > 20, "strace killed only {killed} runs");
}

/// A scene with two points whose replica is cleanly at the first.
fn ready(template: &Scene) -> Scene {
    let scene = template.copy();
    let points = scene.path("repository/points");
    let newest = newest_point(&scene);
    std::fs::rename(points.join(&newest), scene.path("hidden")).unwrap();
    scene.succeed(&["replicate", "now", "--adopt"]);
    std::fs::rename(scene.path("hidden"), points.join(newest)).unwrap();
    scene
}

fn newest_point(scene: &Scene) -> String {
    let lines = scene.succeed(&["--json", "points"]);
    let points = lines.lines().filter_map(|line| {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        let sequence = value.get("sequence")?.as_u64()?;
        Some((sequence, value.get("point")?.as_str()?.to_owned()))
    });
    points.max().unwrap().1
}

fn check_home(home: &Path) {
    let mut names: Vec<String> = std::fs::read_dir(home)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["lock", "superblock"]);
}

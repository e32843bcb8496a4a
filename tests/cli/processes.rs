//! Signals, pipes and terminals.

use crate::world::{World, ended};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

fn spawn(world: &World, args: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_afterimage"))
        .current_dir(world.folder.path())
        .env("AFTERIMAGE_CONFIG", "settings.toml")
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn an_interrupted_backup_ends_with_130_and_leaves_no_point() {
    let world = World::new("\"none\"");
    world.write("web01.img", &crate::common::noise(9, 300 << 20));
    let mut child = spawn(&world, &["backup", "now"]);
    let deadline = Instant::now() + Duration::from_secs(120);
    let is_writing = || {
        let mut files = world.files("repository/tmp").into_iter();
        files.any(|path| path.extension().is_some_and(|end| end == "tmp"))
    };
    while !is_writing() {
        assert!(Instant::now() < deadline && child.try_wait().unwrap().is_none(), "too late");
        std::thread::sleep(Duration::from_millis(1));
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let ended = ended(child.wait_with_output().unwrap()).expect(130);
    ended.complains("stopped on request; nothing was acknowledged");
    world.run(&["points"]).expect(0).says("there are no points yet");
    world.run(&["status"]).expect(0).says("failed, ");
}

#[test]
fn a_reader_that_goes_away_does_not_stop_the_work() {
    let world = World::new("\"none\"");
    for args in [&["backup", "now"][..], &["points"], &["man"], &["--json", "status"], &["--help"]]
    {
        let mut child = spawn(&world, args);
        drop(child.stdout.take());
        ended(child.wait_with_output().unwrap()).expect(0);
    }
    world.run(&["points"]).expect(0).says("#1");
}

#[test]
fn output_that_is_lost_is_an_error() {
    let world = World::new("\"none\"");
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_afterimage"))
        .current_dir(world.folder.path())
        .args(["-c", "settings.toml", "--json", "points"])
        .stdout(full)
        .output()
        .unwrap();
    ended(output).expect(1).complains("cannot write to standard output");
}

#[test]
fn a_closed_standard_output_does_no_harm() {
    let world = World::new("\"none\"");
    let script = "\"$0\" -c settings.toml backup now >&- 2>&-";
    let output = Command::new("sh")
        .current_dir(world.folder.path())
        .args(["-c", script, env!("CARGO_BIN_EXE_afterimage")])
        .output()
        .unwrap();
    ended(output).expect(0);
    world.run(&["points"]).expect(0).says("#1");
}

#[test]
fn quiet_prints_results_and_errors_only() {
    let world = World::new("\"none\"");
    let ended = world.run(&["-q", "backup", "now"]).expect(0);
    assert_eq!((ended.out.as_str(), ended.err.as_str()), ("", ""));
    world.run(&["-q", "points"]).expect(0).says("#1");
    world.run(&["-q", "backup", "now", "web02"]).expect(2).complains("web02");
}

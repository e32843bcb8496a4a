//! The program is killed at any moment: the guest goes on writing, and the next run cleans up.

use super::daemon::{run, wait_for};
use super::domain::{DISKS, DOMAIN, Domain};
use super::lab::Lab;
use super::running::check_frozen;
use afterimage::testing::Random;
use std::fmt::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Holds up `virsh backup-begin` while there is a file `hold`, and writes down who waits.
const VIRSH: &str = "#!/bin/sh\nhere=${0%/*}\ncase \"$*\" in *backup-begin*)\n\
    [ -e \"$here/hold\" ] && echo $$ >\"$here/held\" && exec sleep 600;; esac\n\
    PATH=\"${PATH#*:}\" exec virsh \"$@\"\n";

/// Writes settings of a machine and of a replica that is fed straight from it.
fn write_settings(lab: &Lab) {
    let world = &lab.world;
    let mut text = format!(
        "state_dir = {:?}\n[repository.main]\nurl = {:?}\nencryption = \"none\"\n\
         [machine.web01]\nrepository = \"main\"\n\
         source = {{ libvirt = {{ domain = \"{DOMAIN}\", uri = {:?}, freeze_timeout = \"15 s\" }} }}\n\
         [replica.standby]\nmachine = \"web01\"\ntrigger = \"manual\"\nmode = \"direct\"\n",
        world.path("cli-state"),
        world.path("cli-repository"),
        lab.domain.daemon.uri(),
    );
    for disk in DISKS {
        let target = world.path("standby").join(format!("{disk}.raw"));
        writeln!(
            text,
            "[[replica.standby.disk]]\nname = \"{disk}\"\ntarget = {{ image = {target:?} }}"
        )
        .unwrap();
    }
    std::fs::create_dir(world.path("standby")).unwrap();
    std::fs::write(world.path("afterimage.toml"), text).unwrap();
    let bin = world.path("bin");
    std::fs::create_dir(&bin).unwrap();
    std::fs::write(bin.join("virsh"), VIRSH).unwrap();
    std::fs::set_permissions(bin.join("virsh"), PermissionsExt::from_mode(0o755)).unwrap();
}

fn program(lab: &Lab, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_afterimage"));
    command.arg("-c").arg(lab.world.path("afterimage.toml")).args(arguments);
    let path = std::env::var("PATH").unwrap();
    command.env("PATH", format!("{}:{path}", lab.world.path("bin").display()));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs the program to its end; gives back what it says.
#[track_caller]
fn expect(lab: &Lab, arguments: &[&str]) -> String {
    let output = program(lab, arguments).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(output.status.success(), "{arguments:?}: {text}");
    text
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

fn images(folder: &std::path::Path) -> Vec<PathBuf> {
    DISKS.map(|disk| folder.join(format!("{disk}.raw"))).into()
}

/// The newest point is whole, and nothing but `checkpoints` is left of any run.
#[track_caller]
fn check_clean(lab: &Lab, checkpoints: usize) {
    let said = expect(lab, &["backup", "now", "web01"]);
    let marked = lab.domain.marked();
    assert_eq!(marked.len(), checkpoints, "{marked:?} after {said}");
    let to = lab.world.path("restored-by-cli");
    let _ = std::fs::remove_dir_all(&to);
    expect(lab, &["restore", "web01", "--to", to.to_str().unwrap()]);
    check_frozen(&images(&to));
}

/// How often the guest wrote to its disk.
fn written(lab: &Lab) -> u64 {
    let told = lab.domain.virsh(&["domblkstat", DOMAIN, "vdb"]);
    let count = told.lines().find_map(|line| line.strip_prefix("vdb wr_req ")).unwrap();
    count.trim().parse().unwrap()
}

#[track_caller]
fn wait_for_writes(lab: &Lab) {
    let first = written(lab);
    wait_for("a write of the guest", || (written(lab) > first).then_some(()));
}

#[test]
fn a_program_that_is_killed_at_any_moment_leaves_the_guest_writing_and_nothing_behind() {
    let lab = Lab::of(Domain::with_guest);
    write_settings(&lab);
    expect(&lab, &["init"]);
    let began = Instant::now();
    check_clean(&lab, 1);
    let usual = began.elapsed();
    let seed = 20_261_128;
    let mut random = Random::new(seed);
    for _ in 0..4 {
        let after = usual.mul_f64(random.below(1000) as f64 / 1200.0);
        let child = program(&lab, &["backup", "now", "web01"]).spawn().unwrap();
        std::thread::sleep(after);
        kill(child);
    }
    wait_for_writes(&lab);
    // What the killed one had begun may still come.
    std::thread::sleep(Duration::from_secs(1));
    check_clean(&lab, 1);

    // Killed while the guest is frozen.
    std::fs::write(lab.world.path("bin/hold"), "").unwrap();
    let held = lab.world.path("bin/held");
    let child = program(&lab, &["backup", "now", "web01"]).spawn().unwrap();
    wait_for("the freeze", || std::fs::metadata(&held).ok().filter(|it| it.len() > 1));
    let before = written(&lab);
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(written(&lab), before, "the guest is not frozen");
    kill(child);
    wait_for_writes(&lab);
    run("kill", &[std::fs::read_to_string(&held).unwrap().trim()]);
    std::fs::remove_file(lab.world.path("bin/hold")).unwrap();
    assert!(lab.domain.marked().iter().any(|name| name.ends_with("-frozen")));
    check_clean(&lab, 1);

    // The replica has a checkpoint of its own.
    for _ in 0..2 {
        expect(&lab, &["replicate", "now", "standby"]);
        check_frozen(&images(&lab.world.path("standby")));
        assert_eq!(lab.domain.marked().len(), 2, "{:?}", lab.domain.marked());
    }
    check_clean(&lab, 2);
}

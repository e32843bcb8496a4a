//! Backups by way of clones and snapshots, through the binary.

use crate::common::{assert_same, noise};
use crate::qcow2::Opened;
use crate::volume::{Kind, Volume};
use crate::world::{World, ended};
use serde_json::Value;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const DISK_BYTES: usize = 8 << 20;

/// Settings of one machine with this source, and its replica; the repository is there.
fn world_with(source: &str) -> World {
    let world = World { folder: tempfile::tempdir().unwrap() };
    write_settings(&world, source);
    world.run(&["init"]).expect(0);
    world
}

fn write_settings(world: &World, source: &str) {
    let text = format!(
        "state_dir = \"state\"\n[repository.main]\nurl = \"repository\"\nencryption = \"none\"\n\
         [machine.web01]\nrepository = \"main\"\n[[machine.web01.disk]]\nname = \"root\"\n\
         source = {source}\n[replica.standby]\nmachine = \"web01\"\ntrigger = \"manual\"\n\
         [[replica.standby.disk]]\nname = \"root\"\ntarget = {{ image = \"standby/root.raw\" }}\n"
    );
    world.write("settings.toml", text.as_bytes());
    world.run(&["config", "check"]).expect(0);
}

#[track_caller]
fn backup(world: &World) -> Value {
    world.json(&["backup", "now", "web01"]).expect(0).summary()
}

fn bytes_read(summary: &Value) -> u64 {
    summary["bytes_read"].as_u64().unwrap()
}

/// The newest point and the replica hold what the image holds.
#[track_caller]
fn assert_is_kept(world: &World, image: &Path, round: usize) {
    let expected = std::fs::read(image).unwrap();
    let to = format!("restored-{round}");
    world.run(&["restore", "web01", "--to", &to]).expect(0);
    assert_same(&world.read(&format!("{to}/root.raw")), &expected, "the restored disk");
    world.run(&["replicate", "now"]).expect(0);
    assert_same(&world.read("standby/root.raw"), &expected, "the replica");
}

fn write(image: &Path, offset: u64, bytes: &[u8]) {
    let file = std::fs::File::options().write(true).open(image).unwrap();
    file.write_all_at(bytes, offset).unwrap();
}

fn consistency(world: &World) -> String {
    let points = world.json(&["points", "web01"]).expect(0).out;
    points.lines().rev().find(|line| line.contains("consistency")).unwrap_or_default().to_owned()
}

fn with_image(kind: Kind) -> (Volume, PathBuf, World) {
    let volume = Volume::new(kind);
    let image = volume.path("web01.img");
    std::fs::write(&image, noise(1, DISK_BYTES)).unwrap();
    let world = world_with(&format!(
        "{{ image = \"{}\", format = \"raw\", snapshot = \"reflink\" }}",
        image.display()
    ));
    (volume, image, world)
}

#[test]
fn an_image_in_use_is_backed_up_from_clones_and_only_what_changed_is_read() {
    for kind in [Kind::Xfs, Kind::Btrfs] {
        let (volume, image, world) = with_image(kind);
        assert_eq!(bytes_read(&backup(&world)), DISK_BYTES as u64);
        assert!(consistency(&world).contains("offline"), "{}", consistency(&world));
        for round in 0..3 {
            // As a guest has it.
            let held = Opened::new("raw", &image);
            write(&image, 1_000_000 * (round + 1), &noise(round, 10_000));
            let summary = backup(&world);
            assert!(bytes_read(&summary) < 400_000, "{kind:?}: {summary}");
            assert_eq!(summary["warnings"], Value::Null);
            drop(held);
            assert_is_kept(&world, &image, round as usize);
            assert_eq!(volume.clones().len(), 1, "{:?}", volume.clones());
        }
        assert!(consistency(&world).contains("crash"), "{}", consistency(&world));
        assert_eq!(bytes_read(&backup(&world)), 0);
        // Mounted anew, the clone still is what it was.
        volume.remount();
        write(&image, 50_000, b"x");
        let summary = backup(&world);
        assert!(bytes_read(&summary) < 400_000, "{kind:?}: {summary}");
        assert_is_kept(&world, &image, 9);
    }
}

#[test]
fn without_the_clone_of_the_last_point_everything_is_read_and_that_is_said() {
    let (volume, image, world) = with_image(Kind::Xfs);
    backup(&world);
    let clone = volume.path(".afterimage-clones").join(&volume.clones()[0]);
    std::fs::remove_file(clone).unwrap();
    write(&image, 70_000, b"x");
    let second = world.run(&["backup", "now", "web01"]).expect(0);
    second.complains("disk root was read in full").complains("is gone");
    assert_is_kept(&world, &image, 0);
    assert_eq!(bytes_read(&backup(&world)), 0);
    // A full read is one, and what follows builds upon its clone.
    let full = world.json(&["backup", "now", "web01", "--full-read"]).expect(0).summary();
    assert_eq!(bytes_read(&full), DISK_BYTES as u64);
    assert_eq!(bytes_read(&backup(&world)), 0);
    assert_eq!(volume.clones().len(), 1);
    // A disk of another size.
    let file = std::fs::File::options().write(true).open(&image).unwrap();
    file.set_len(DISK_BYTES as u64 + 4096).unwrap();
    world.run(&["backup", "now", "web01"]).expect(0).complains("size changed");
    assert_is_kept(&world, &image, 1);
}

#[test]
fn what_cannot_be_cloned_makes_no_point_and_leaves_nothing() {
    // A file system in memory cannot clone.
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let image = folder.path().join("web01.img");
    std::fs::write(&image, noise(1, DISK_BYTES)).unwrap();
    let world =
        world_with(&format!("{{ image = \"{}\", snapshot = \"reflink\" }}", image.display()));
    let refused = world.run(&["backup", "now", "web01"]).expect(1);
    refused.complains("disk root").complains("XFS or btrfs");
    world.run(&["points"]).expect(0).says("there are no points yet");
    assert!(!image.with_file_name(".afterimage-clones").exists());
}

fn spawn(world: &World) -> Child {
    Command::new(env!("CARGO_BIN_EXE_afterimage"))
        .current_dir(world.folder.path())
        .env("AFTERIMAGE_CONFIG", "settings.toml")
        .args(["backup", "now", "web01"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Waits until something is so while the process runs, then kills the process.
#[track_caller]
fn kill_when(mut child: Child, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !is_so() {
        assert!(Instant::now() < deadline && child.try_wait().unwrap().is_none(), "too late");
        std::thread::sleep(Duration::from_micros(200));
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_backup_that_is_killed_leaves_a_clone_that_the_next_one_removes() {
    let (volume, image, world) = with_image(Kind::Xfs);
    std::fs::write(&image, noise(1, 48 << 20)).unwrap();
    backup(&world);
    let base = volume.clones();
    std::fs::write(&image, noise(2, 48 << 20)).unwrap();
    kill_when(spawn(&world), || volume.clones().len() == 2);
    assert_eq!(volume.clones().len(), 2);
    assert!(volume.clones().contains(&base[0]));
    let summary = backup(&world);
    assert_eq!(summary["warnings"], Value::Null);
    assert_eq!(volume.clones().len(), 1);
    assert!(!volume.clones().contains(&base[0]));
    assert_is_kept(&world, &image, 0);
}

/// Commands that copy an image, and its settings.
fn with_commands() -> (World, PathBuf) {
    let world = World { folder: tempfile::tempdir().unwrap() };
    let place = world.folder.path().display().to_string();
    std::fs::create_dir(world.path("snapshots")).unwrap();
    let image = world.path("web01.img");
    std::fs::write(&image, noise(1, DISK_BYTES)).unwrap();
    write_settings(&world, &commands(&place, "", ""));
    world.run(&["init"]).expect(0);
    (world, image)
}

fn commands(place: &str, more: &str, create: &str) -> String {
    format!(
        "{{ snapshot = {{ create = 'cp {place}/web01.img {place}/snapshots/$AFTERIMAGE_SNAPSHOT\
         {create}', path = '{place}/snapshots/$AFTERIMAGE_SNAPSHOT', remove = 'rm -f \
         {place}/snapshots/$AFTERIMAGE_SNAPSHOT'{more} }} }}"
    )
}

fn snapshots(world: &World) -> Vec<PathBuf> {
    world.files("snapshots")
}

fn records(world: &World) -> usize {
    let files = world.files("state/snapshots").into_iter();
    files.filter(|path| !path.ends_with("lock")).count()
}

#[test]
fn a_disk_is_backed_up_by_commands_and_only_what_they_tell_is_read() {
    let (world, image) = with_commands();
    assert_eq!(bytes_read(&backup(&world)), DISK_BYTES as u64);
    assert_eq!((snapshots(&world).len(), records(&world)), (0, 0));
    assert!(consistency(&world).contains("crash"), "{}", consistency(&world));
    let place = world.folder.path().display().to_string();
    let list = format!(", changed = 'cat {place}/list'");
    write_settings(&world, &commands(&place, &list, ""));
    assert_eq!(bytes_read(&backup(&world)), DISK_BYTES as u64);
    assert_eq!((snapshots(&world).len(), records(&world)), (1, 1));
    write(&image, 3_000_000, &noise(5, 5000));
    world.write("list", b"{\"format\":1,\"extents\":[[3000000,5000]]}");
    let summary = backup(&world);
    assert!(bytes_read(&summary) < 400_000, "{summary}");
    assert_is_kept(&world, &image, 0);
    assert_eq!((snapshots(&world).len(), records(&world)), (1, 1));
    // Not a list.
    write(&image, 100, b"more");
    world.write("list", b"garbage");
    let in_full = world.run(&["backup", "now", "web01"]).expect(0);
    in_full.complains("disk root was read in full").complains("`changed`");
    assert_is_kept(&world, &image, 1);
    // One that fails makes no point, and the snapshot of the last one stays.
    let before = snapshots(&world);
    write_settings(&world, &commands(&place, &list, "; echo pool is full >&2; exit 1"));
    let failed = world.run(&["backup", "now", "web01"]).expect(1);
    failed.complains("disk root").complains("pool is full");
    assert_eq!(snapshots(&world), before);
}

#[test]
fn a_backup_that_is_killed_while_a_snapshot_is_made_leaves_it_to_the_next() {
    let (world, image) = with_commands();
    let place = world.folder.path().display().to_string();
    let hanging = format!("; echo $$ > {place}/pid; exec sleep 1000");
    write_settings(&world, &commands(&place, "", &hanging));
    let is_hanging = || std::fs::read(world.path("pid")).is_ok_and(|pid| pid.ends_with(b"\n"));
    kill_when(spawn(&world), is_hanging);
    // Nobody is left to end the command.
    let pid = std::fs::read_to_string(world.path("pid")).unwrap();
    succeed_kill(pid.trim());
    assert_eq!((snapshots(&world).len(), records(&world)), (1, 1));
    write_settings(&world, &commands(&place, "", ""));
    backup(&world);
    assert_eq!((snapshots(&world).len(), records(&world)), (0, 0));
    assert_is_kept(&world, &image, 0);
    // One that hangs is ended by afterimage itself.
    let limited = ", timeout = \"1 s\"";
    write_settings(&world, &commands(&place, limited, &hanging));
    let output = world.command(&["backup", "now", "web01"]).output().unwrap();
    ended(output).expect(1).complains("`create` was killed").complains("1.0s");
    assert_eq!((snapshots(&world).len(), records(&world)), (0, 0));
}

fn succeed_kill(pid: &str) {
    crate::volume::succeed(Command::new("kill").args(["-9", pid]));
}

/// Two disks, both in use: that they were held one after another is said, unless they held still.
#[test]
fn disks_that_are_held_one_after_another_are_told_of() {
    let (volume, image, world) = with_image(Kind::Xfs);
    let second = volume.path("data.img");
    std::fs::write(&second, noise(2, 1 << 20)).unwrap();
    let text = String::from_utf8(world.read("settings.toml")).unwrap();
    let disk = format!(
        "[[machine.web01.disk]]\nname = \"data\"\nsource = {{ image = \"{}\", snapshot = \
         \"reflink\" }}\n[replica.standby]",
        second.display()
    );
    let target = "[[replica.standby.disk]]\nname = \"data\"\ntarget = { image = \"data.raw\" }\n";
    let text = text.replace("[replica.standby]", &disk) + target;
    world.write("settings.toml", text.as_bytes());
    let _held = (Opened::new("raw", &image), Opened::new("raw", &second));
    world.run(&["backup", "now"]).expect(0).complains("2 disks were in use");
    let hooks = "[machine.web01]\nhooks = { before = \"true\", after = \"true\" }\n";
    world.write("settings.toml", text.replace("[machine.web01]\n", hooks).as_bytes());
    let held_still = world.run(&["backup", "now"]).expect(0);
    assert!(!held_still.err.contains("were in use"), "{held_still:#?}");
    assert_eq!(volume.clones().len(), 2);
}

//! Block devices as targets, with loop devices; needs root.

mod common;

use afterimage::backup::BackupError;
use afterimage::destination::TargetKind;
use afterimage::fsio::{FileSystem, RealFileSystem};
use afterimage::progress::Progress;
use afterimage::recover::{RestoreError, RestoreOptions, plan_restore, restore};
use afterimage::replay::{
    PlanConflict, ReplayError, ReplicaSession, ReplicateRequest, Replicated, TargetSpec, replicate,
};
use afterimage::units::{Breakage, break_here};
use common::{World, name, noise};
use std::path::{Path, PathBuf};
use std::process::Command;

const DISK_BYTES: usize = 5 << 20;

/// A loop device, detached when dropped.
struct Loop {
    device: PathBuf,
}

impl Loop {
    fn attach(file: &Path) -> Self {
        let output = Command::new("losetup").args(["-f", "--show"]).arg(file).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "this test needs root and loop devices: {errors}");
        let device = String::from_utf8(output.stdout).unwrap();
        Self { device: PathBuf::from(device.trim()) }
    }

    /// Gives the device another file, as a device's name gets another disk at the next boot.
    fn swap(&self, file: &Path) {
        let detach = Command::new("losetup").arg("-d").arg(&self.device).status().unwrap();
        assert!(detach.success());
        let attach = Command::new("losetup").arg(&self.device).arg(file).status().unwrap();
        assert!(attach.success());
    }

    fn content(&self) -> Vec<u8> {
        std::fs::read(&self.device).unwrap()
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("-d").arg(&self.device).status();
    }
}

fn file_of(world: &World, file: &str, content: &[u8]) -> PathBuf {
    let path = world.path(file);
    std::fs::write(&path, content).unwrap();
    path
}

fn replicate_to(world: &World, device: &Path, adopt: bool) -> Result<Replicated, ReplayError> {
    let (replica, machine) = (name("standby"), name("web01"));
    let kind = TargetKind::Device;
    let targets = vec![TargetSpec { disk: name("root"), path: device.to_owned(), kind }];
    let home = afterimage::destination::ReplicaHome::locate(
        &world.state_dir(),
        None,
        &replica,
        device,
        kind,
    );
    let mut session = ReplicaSession::open(&world.fs, home, &replica, &targets)?;
    let repository = world.repository();
    let request =
        ReplicateRequest { machine: &machine, targets, sources: Vec::new(), adopt, workers: 2 };
    let catalog = world.catalog(&repository);
    replicate(&mut session, &repository, &catalog, &request, &Progress::default())
}

/// A machine whose disk is backed up once, and then changed and backed up again by the closure.
fn world(content: &[u8]) -> World {
    let world = World::new(&["root"], false);
    world.write_disk("root", content);
    world.backup().unwrap();
    world
}

#[test]
fn a_device_is_seeded_and_replayed_and_never_taken_for_another() {
    let mut disk = noise(1, DISK_BYTES);
    disk[1 << 20..3 << 20].fill(0);
    let world = world(&disk);
    let file = file_of(&world, "device", &vec![0; DISK_BYTES]);
    let device = Loop::attach(&file);
    let seeded = replicate_to(&world, &device.device, false).unwrap();
    assert!(matches!(seeded, Replicated::Seeded { .. }), "{seeded:?}");
    assert!(device.content() == disk);

    disk[500_000..600_000].copy_from_slice(&noise(2, 100_000));
    disk[(3 << 20)..(3 << 20) + 70_000].fill(0);
    world.write_disk("root", &disk);
    world.backup().unwrap();
    let replayed = replicate_to(&world, &device.device, false).unwrap();
    assert!(matches!(replayed, Replicated::Replayed { .. }), "{replayed:?}");
    assert!(device.content() == disk);

    // The name stands for somebody else's disk now.
    let other = noise(9, DISK_BYTES);
    device.swap(&file_of(&world, "other", &other));
    let refused = replicate_to(&world, &device.device, false).unwrap_err();
    let is_foreign = matches!(&refused, ReplayError::Conflict(PlanConflict::Foreign { .. }));
    assert!(is_foreign, "{refused}");
    assert!(device.content() == other, "nothing was written");

    // It is the right disk again, as after a restart of the system: compared, then current.
    device.swap(&file);
    let repaired = replicate_to(&world, &device.device, false).unwrap();
    assert!(matches!(repaired, Replicated::Repaired { differing_bytes: 0, .. }), "{repaired:?}");
    let skipped = replicate_to(&world, &device.device, false).unwrap();
    assert!(matches!(skipped, Replicated::Skipped { .. }), "{skipped:?}");
}

/// A device that is larger than the disk, and holds something past it, when the disk grows.
fn grown_over_dirt() -> bool {
    let mut disk = noise(1, 4 << 20);
    let world = world(&disk);
    let device = Loop::attach(&file_of(&world, "device", &vec![0xff; DISK_BYTES]));
    replicate_to(&world, &device.device, true).unwrap();
    disk.resize(DISK_BYTES, 0);
    world.write_disk("root", &disk);
    world.backup().unwrap();
    let replayed = replicate_to(&world, &device.device, false).unwrap();
    assert!(matches!(replayed, Replicated::Replayed { .. }), "{replayed:?}");
    device.content() == disk
}

#[test]
fn what_a_disk_gains_is_zero_on_a_device_that_held_something_there() {
    assert!(grown_over_dirt());
    break_here(Some(Breakage::GainKeepsOld));
    assert!(!grown_over_dirt(), "this test would not notice if nothing was zeroed");
    break_here(None);
}

#[test]
fn a_write_to_a_device_by_someone_else_is_noticed_and_repaired() {
    use std::os::unix::fs::FileExt;
    let disk = noise(1, DISK_BYTES);
    let world = world(&disk);
    let device = Loop::attach(&file_of(&world, "device", &vec![0; DISK_BYTES]));
    replicate_to(&world, &device.device, false).unwrap();
    let foreign = std::fs::OpenOptions::new().write(true).open(&device.device).unwrap();
    foreign.write_all_at(&[7; 4096], 1 << 20).unwrap();
    foreign.sync_all().unwrap();
    drop(foreign);
    let repaired = replicate_to(&world, &device.device, false).unwrap();
    let few = matches!(repaired, Replicated::Repaired { differing_bytes: 1..400_000, .. });
    assert!(few, "{repaired:?}");
    assert!(device.content() == disk);
}

#[test]
fn a_device_that_holds_something_is_only_taken_with_adopt() {
    let disk = noise(1, DISK_BYTES);
    let world = world(&disk);
    let other = noise(9, DISK_BYTES + (1 << 20));
    let device = Loop::attach(&file_of(&world, "device", &other));
    let refused = replicate_to(&world, &device.device, false).unwrap_err();
    let is_occupied = matches!(&refused, ReplayError::Conflict(PlanConflict::Occupied { .. }));
    assert!(is_occupied, "{refused}");
    assert!(device.content() == other, "nothing was written");
    replicate_to(&world, &device.device, true).unwrap();
    assert!(device.content()[..DISK_BYTES] == disk);
}

#[test]
fn a_point_is_restored_to_a_device_only_with_force_and_enough_room() {
    let mut disk = noise(1, DISK_BYTES);
    disk[..1 << 20].fill(0);
    let world = world(&disk);
    let (repository, point) = (world.repository(), world.points().remove(0));
    let catalog = world.catalog(&repository);
    let options = |device: &Loop, force| RestoreOptions {
        disk: None,
        to: device.device.clone(),
        force,
        protected: Vec::new(),
        workers: 2,
        damaged: afterimage::destination::Damaged::Fail,
    };
    let run = |options: &RestoreOptions| -> Result<(), RestoreError> {
        let plan = plan_restore(&RealFileSystem, &repository, &catalog, &point, options)?;
        restore(&world.fs, &repository, &catalog, &plan, options, &Progress::default())?;
        Ok(())
    };
    let device = Loop::attach(&file_of(&world, "device", &noise(5, DISK_BYTES + 4096)));
    let refused = run(&options(&device, false)).unwrap_err();
    assert!(matches!(refused, RestoreError::DeviceNeedsForce { .. }), "{refused}");
    run(&options(&device, true)).unwrap();
    assert!(device.content()[..DISK_BYTES] == disk);

    let small = Loop::attach(&file_of(&world, "small", &vec![0; DISK_BYTES - 512]));
    let refused = run(&options(&small, true)).unwrap_err().to_string();
    assert!(refused.contains("the disk needs"), "{refused}");

    let mount = world.path("mnt");
    std::fs::create_dir(&mount).unwrap();
    let made = Command::new("mke2fs").args(["-q", "-F"]).arg(&device.device).status().unwrap();
    assert!(made.success());
    let mounted = Command::new("mount").arg(&device.device).arg(&mount).status().unwrap();
    assert!(mounted.success());
    let refused = run(&options(&device, true));
    assert!(Command::new("umount").arg(&mount).status().unwrap().success());
    let message = refused.unwrap_err().to_string();
    assert!(message.contains("mounted or in use"), "{message}");
}

/// The name was looked at when the restore was planned, and not again.
#[test]
fn a_name_that_leads_to_a_source_device_once_the_user_was_asked_is_refused() {
    let world = world(&noise(1, DISK_BYTES));
    let (repository, point) = (world.repository(), world.points().remove(0));
    let catalog = world.catalog(&repository);
    let harmless = Loop::attach(&file_of(&world, "harmless", &vec![0; DISK_BYTES]));
    let content = noise(2, DISK_BYTES);
    let source = Loop::attach(&file_of(&world, "source", &content));
    let link = world.path("link");
    std::os::unix::fs::symlink(&harmless.device, &link).unwrap();
    let stat = RealFileSystem.stat(&source.device).unwrap().unwrap();
    let options = RestoreOptions {
        disk: None,
        to: link.clone(),
        force: true,
        protected: vec![(stat, "the source of a disk".to_owned())],
        workers: 1,
        damaged: afterimage::destination::Damaged::Fail,
    };
    let plan = plan_restore(&RealFileSystem, &repository, &catalog, &point, &options).unwrap();
    std::fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink(&source.device, &link).unwrap();
    let done = restore(&world.fs, &repository, &catalog, &plan, &options, &Progress::default());
    assert!(matches!(done, Err(RestoreError::Protected { .. })), "{done:?}");
    assert!(source.content() == content, "it was written to");
}

#[test]
fn a_source_that_fails_in_the_middle_makes_no_point_and_is_named() {
    let world = World::new(&["root"], false);
    let file = file_of(&world, "device", &noise(1, DISK_BYTES));
    let device = Loop::attach(&file);
    std::os::unix::fs::symlink(&device.device, world.disk("root")).unwrap();
    // What lies past the end of its file, a loop device cannot read.
    let file = std::fs::File::options().write(true).open(&file).unwrap();
    file.set_len(2 << 20).unwrap();
    let failed = world.backup().unwrap_err();
    let message = failed.to_string();
    // What tells the format of a disk may already read its end.
    let is_told = matches!(failed, BackupError::Source { .. } | BackupError::Capture(_));
    assert!(is_told, "{message}");
    for part in ["root", "root.img", "Input/output error"] {
        assert!(message.contains(part), "{part} is not named: {message}");
    }
    assert!(world.points().is_empty());
    assert!(world.leftovers().is_empty(), "{:?}", world.leftovers());
    file.set_len(DISK_BYTES as u64).unwrap();
    world.backup().unwrap();
    assert_eq!(world.points().len(), 1);
}

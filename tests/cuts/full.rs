//! File systems with room for a little more, or for a few more files.

use super::check::Checked;
use super::ended::{self, Ended};
use super::knobs::Knobs;
use super::mount::{Kind, Mount};
use super::place::Place;
use super::task::Task;
use super::world::{State, World};
use afterimage::catalog::Catalog;
use afterimage::testing::Random;
use afterimage::units::RepositoryId;
use rustix::fs::FallocateFlags;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

/// All of them write something.
const TASKS: [Task; 8] = Task::ALL;
const BLOCK_BYTES: u64 = 4096;

/// What takes the room away while it is there.
struct Ballast {
    folder: PathBuf,
}

impl Ballast {
    /// Leaves so many bytes.
    fn leave_bytes(folder: &Path, room_bytes: u64) -> Self {
        let ballast = Self { folder: folder.join("ballast") };
        std::fs::create_dir(&ballast.folder).unwrap();
        rustix::fs::syncfs(File::open(folder).unwrap()).unwrap();
        let stat = rustix::fs::statvfs(folder).unwrap();
        let free = stat.f_bavail * stat.f_frsize;
        let file = File::create(ballast.folder.join("filler")).unwrap();
        // A few blocks are needed for the list of its extents.
        let mut bytes = free.saturating_sub(room_bytes);
        while bytes > 0 && rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, bytes).is_err()
        {
            bytes = bytes.saturating_sub(BLOCK_BYTES);
        }
        ballast
    }

    /// Leaves so many files.
    fn leave_files(folder: &Path, files: u64) -> Self {
        let ballast = Self { folder: folder.join("ballast") };
        std::fs::create_dir(&ballast.folder).unwrap();
        let free = rustix::fs::statvfs(folder).unwrap().f_favail;
        for number in files..free {
            File::create(ballast.folder.join(number.to_string())).unwrap();
        }
        ballast
    }
}

impl Drop for Ballast {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Whether the error names a place below `folder` and says that it is full.
fn says_that_it_is_full(ended: &Ended, folder: &Path) -> bool {
    let mut errors = ended.errors().into_iter();
    let folder = folder.to_str().unwrap();
    errors.any(|text| {
        let full = ["No space left", "free some space", "not enough space"];
        text.contains(folder) && full.iter().any(|word| text.contains(word))
    })
}

#[derive(Default)]
struct Count {
    runs: u64,
    /// Runs that failed for want of room.
    failed: BTreeMap<String, u64>,
    checked: Checked,
}

/// Runs a task with little room, then with enough.
fn squeeze(
    world: &mut World,
    task: Task,
    ballast: impl FnOnce(&Path) -> Ballast,
    count: &mut Count,
) -> Result<(), String> {
    if task == Task::Gc {
        // There is something to collect and to write anew.
        let prune = world.begin(Task::Prune);
        let ended = world.succeed(&["prune", "--yes"])?;
        world.learn(&prune, &ended);
    }
    let begun = world.begin(task);
    let full = ballast(&world.folder);
    let ended = ended::run(world.command(&begun.args));
    drop(full);
    world.learn(&begun, &ended);
    count.runs += 1;
    if !ended.is_done() {
        *count.failed.entry(format!("{task:?}")).or_default() += 1;
        // A collection that cannot write packs anew does the rest.
        let is_right = ended.code == Some(1) || task == Task::Gc && ended.code == Some(3);
        if !is_right || !says_that_it_is_full(&ended, &world.folder) {
            return Err(format!("{task:?} does not say clearly that the disk is full: {ended:#?}"));
        }
    }
    count.checked += world.check()?;
    let again = world.begin(task);
    let args: Vec<&str> = again.args.iter().map(String::as_str).collect();
    let ended = world.succeed(&args)?;
    world.learn(&again, &ended);
    count.checked += world.check()?;
    Ok(())
}

/// Squeezes each task `steps` times, with more and more room.
fn sweep(name: &str, more: &[&str], steps: u64, ballast: impl Fn(&Path, u64) -> Ballast) {
    let knobs = Knobs::new("AFTERIMAGE_FULL", steps);
    let mut random = Random::new(knobs.seed);
    let mut count = Count::default();
    for task in TASKS {
        let mut mount = Mount::new(Kind::Ext4, more);
        let mut world = World::new(mount.folder(), random.split(), State::Beside);
        if task == Task::Rotate && !world.encrypted {
            continue;
        }
        for step in knobs.cycles() {
            let done = squeeze(&mut world, task, |folder| ballast(folder, step), &mut count);
            if let Err(error) = done {
                let kept = mount.keep();
                panic!(
                    "{name}, seed {}, step {step}: {error}\nkept: {}",
                    knobs.seed,
                    kept.display()
                );
            }
        }
    }
    let Count { runs, failed, checked } = count;
    println!("\ncount: {name}: {runs} runs, of them failed {failed:?}, {checked}");
    for task in ["Backup", "Replicate", "Copy", "Restore"] {
        assert!(failed.contains_key(task), "{task} never failed: {failed:?}");
    }
}

#[test]
fn what_fails_on_a_full_disk_says_so_and_goes_on_when_there_is_room() {
    sweep("full file systems", &[], 12, |folder, step| {
        // More and more, to somewhat above what any task needs.
        Ballast::leave_bytes(folder, step * step * 4 * BLOCK_BYTES)
    });
}

#[test]
fn what_fails_for_want_of_inodes_says_so_and_goes_on_when_there_are_some() {
    sweep("file systems without inodes", &["-N", "1024"], 6, |folder, step| {
        Ballast::leave_files(folder, step)
    });
}

/// SQLite's own words for it are "disk I/O error" and "unable to open database file".
#[test]
fn a_catalog_without_room_says_that_the_disk_is_full() {
    use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
    for room in [c"size=32k", c"nr_inodes=3"] {
        let place = Place::new();
        let folder = place.path("mnt");
        std::fs::create_dir(&folder).unwrap();
        mount("tmpfs", &folder, "tmpfs", MountFlags::empty(), Some(room)).expect("root may mount");
        let opened = Catalog::open(&folder, RepositoryId([1; 16])).map_err(|e| e.to_string());
        unmount(&folder, UnmountFlags::DETACH).unwrap();
        let error = opened.unwrap_err();
        assert!(error.contains("the disk is full: free some space"), "{error}");
    }
}

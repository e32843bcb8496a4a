//! Every step of the engine, killed, without power and out of space at each of its operations.
//!
//! What must hold afterwards: points that were acknowledged are there and restore exactly; at
//! most one more is there, which then restores exactly too; a replica is at exactly one point,
//! without the repository; no restored file has its name before it is complete; and the next run
//! succeeds and leaves nothing behind.

mod common;

use afterimage::destination::{ReplicaHome, State};
use afterimage::fsio::{FileSystem, RealFileSystem};
use afterimage::testing::{CutFileSystem, Full, FullFileSystem, LastOperation};
use afterimage::testing::{Lost, UnsyncedFileSystem};
use afterimage::units::PointId;
use common::{World, assert_same, noise, small_cut, write_noticed, write_sparse};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Init,
    FirstBackup,
    SecondBackup,
    Seed,
    Replay,
    Repair,
    Restore,
}

/// Content of each disk.
type Contents = BTreeMap<String, Vec<u8>>;

/// State 0, 1, … of a machine: its disks grow, shrink, lose data and gain it.
fn state(number: u64) -> Contents {
    let mut root = noise(1, 150_000 + 40_000 * (number as usize % 2));
    root[20_000..60_000].fill(0);
    let at = 70_000 + 3000 * number as usize;
    root[at..at + 9000].copy_from_slice(&noise(number, 9000));
    root[100_000..100_000 + 5000 * number as usize].fill(0);
    let data = noise(2, 9001 - 500 * number as usize);
    [("root".to_owned(), root), ("data".to_owned(), data)].into()
}

/// A machine, and what is known of its points.
struct Scene {
    world: World,
    phase: Phase,
    number: RefCell<u64>,
    acknowledged: RefCell<BTreeMap<PointId, Contents>>,
}

fn text<T, E: Display>(result: Result<T, E>) -> Result<(), String> {
    result.map(drop).map_err(|error| error.to_string())
}

impl Scene {
    /// Everything that comes before the phase.
    fn before(phase: Phase, encrypted: bool) -> Self {
        let mut world = World::in_memory(&["root", "data"], encrypted);
        world.workers = 1;
        let (number, acknowledged) = Default::default();
        let scene = Self { world, phase, number, acknowledged };
        scene.write_disks(0);
        let steps: &[Phase] = match phase {
            Phase::Init => &[],
            Phase::FirstBackup => &[Phase::Init],
            Phase::SecondBackup | Phase::Seed | Phase::Restore => {
                &[Phase::Init, Phase::FirstBackup]
            }
            Phase::Replay | Phase::Repair => {
                &[Phase::Init, Phase::FirstBackup, Phase::Seed, Phase::SecondBackup]
            }
        };
        for step in steps {
            if *step == Phase::SecondBackup {
                scene.write_disks(1);
            }
            scene.act(&RealFileSystem::shared(), *step).unwrap();
        }
        match phase {
            Phase::SecondBackup => scene.write_disks(1),
            Phase::Repair => write_noticed(&scene.image("root"), 30_000, b"foreign"),
            _ => {}
        }
        scene
    }

    fn image(&self, disk: &str) -> std::path::PathBuf {
        self.world.path(&format!("standby/{disk}.raw"))
    }

    fn write_disks(&self, number: u64) {
        self.number.replace(number);
        for (disk, content) in state(number) {
            write_sparse(&self.world.disk(&disk), &content);
        }
    }

    fn act(&self, fs: &Arc<dyn FileSystem>, phase: Phase) -> Result<(), String> {
        match phase {
            Phase::Init => text(self.world.init_on(fs, small_cut())),
            Phase::FirstBackup | Phase::SecondBackup => {
                let done = self.world.backup_on(fs).map_err(|error| error.to_string())?;
                let saw = state(*self.number.borrow());
                self.acknowledged.borrow_mut().insert(done.point.id, saw);
                Ok(())
            }
            Phase::Seed | Phase::Replay | Phase::Repair => {
                text(self.world.replicate_on(fs, "standby", false))
            }
            Phase::Restore => {
                let point = self.world.points().pop().unwrap();
                text(self.world.restore_on(fs, &point, "restored"))
            }
        }
    }

    /// What must hold right after the fault, before anything is done about it.
    fn check(&self, what: &str) {
        self.check_replica(what);
        self.check_restored_files(what);
        if !self.world.path("repository/repository.json").exists() {
            assert!(self.phase == Phase::Init, "{what}");
            return;
        }
        let listed = self.world.points();
        let mut acknowledged = self.acknowledged.borrow_mut();
        for id in acknowledged.keys() {
            assert!(listed.iter().any(|point| point.id == *id), "{what}: a point is gone");
        }
        let is_backup = matches!(self.phase, Phase::FirstBackup | Phase::SecondBackup);
        let more = listed.len() - acknowledged.len();
        assert!(more <= usize::from(is_backup), "{what}: {more} points more");
        for point in &listed {
            let saw = acknowledged.entry(point.id).or_insert(state(*self.number.borrow()));
            let folder = self.world.restore(point, "looked-at").unwrap();
            for (disk, content) in saw {
                let found = std::fs::read(folder.join(format!("{disk}.raw"))).unwrap();
                assert_same(&found, content, &format!("{what}: {disk}"));
            }
        }
    }

    /// The replica becomes whole without the repository, and is what it says.
    fn check_replica(&self, what: &str) {
        let home = self.world.replica_home("standby");
        if !home.superblock().exists() {
            assert!(!matches!(self.phase, Phase::Replay | Phase::Repair), "{what}");
            return;
        }
        let (here, hidden) = (self.world.path("repository"), self.world.path("hidden"));
        std::fs::rename(&here, &hidden).unwrap();
        let session = self.world.open_replica(&RealFileSystem::shared(), "standby");
        std::fs::rename(&hidden, &here).unwrap();
        let session = session.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(session.unfinished, None, "{what}");
        match &session.record().unwrap().state {
            State::Clean { point } if self.phase != Phase::Repair => {
                let acknowledged = self.acknowledged.borrow();
                for (disk, content) in &acknowledged[&point.id] {
                    let found = std::fs::read(self.image(disk)).unwrap();
                    assert_same(&found, content, &format!("{what}: replica's {disk}"));
                }
            }
            // Someone else wrote to it, which the next run finds out.
            State::Clean { .. } => {}
            State::Seeding { .. } => {
                assert!(matches!(self.phase, Phase::Seed | Phase::Repair), "{what}");
            }
            other => panic!("{what}: {other:?}"),
        }
    }

    fn check_restored_files(&self, what: &str) {
        // What is restored is the first state.
        for (disk, content) in state(0) {
            if let Ok(found) = std::fs::read(self.world.path(&format!("restored/{disk}.raw"))) {
                assert_same(&found, &content, &format!("{what}: restored {disk}"));
            }
        }
    }

    /// The next runs succeed, and nothing is left of the one that was interrupted.
    fn go_on(&self, what: &str) {
        let fs = RealFileSystem::shared();
        let good = |done: Result<(), String>| done.unwrap_or_else(|e| panic!("{what}: {e}"));
        if !self.world.path("repository/repository.json").exists() {
            good(self.act(&fs, Phase::Init));
        }
        if self.phase == Phase::Restore {
            good(self.act(&fs, Phase::Restore));
        }
        // First to the point that there was, then to a new one.
        if !self.acknowledged.borrow().is_empty() {
            good(self.act(&fs, Phase::Replay));
        }
        self.write_disks(2);
        good(self.act(&fs, Phase::SecondBackup));
        good(self.act(&fs, Phase::Replay));
        for (disk, content) in state(2) {
            assert_same(&std::fs::read(self.image(&disk)).unwrap(), &content, what);
        }
        self.check(what);
        self.world.check_catalog();
        assert_eq!(self.world.leftovers(), Vec::<String>::new(), "{what}");
        let home: ReplicaHome = self.world.replica_home("standby");
        assert_eq!(names(home.folder()), ["lock", "superblock"], "{what}");
        if self.phase == Phase::Restore {
            let restored = names(&self.world.path("restored"));
            assert_eq!(restored, ["data.raw", "root.raw"], "{what}");
        }
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Interrupts the phase at each of its operations, and once not at all; then the power may go.
fn cut_everywhere(phase: Phase, last: LastOperation, lost: Option<Lost>) {
    for cut in 0.. {
        let what = format!("{phase:?}, {last:?}, {lost:?} lost, cut {cut}");
        let scene = Scene::before(phase, cut % 2 == 1);
        let unsynced = UnsyncedFileSystem::new(RealFileSystem::shared());
        let fs = CutFileSystem::new(unsynced.clone(), cut, last);
        let done = scene.act(&(fs.clone() as Arc<dyn FileSystem>), phase);
        // What only tidies up may fail unnoticed.
        assert!(done.is_ok() || fs.is_cut(), "{what}: {done:?}");
        if let Some(lost) = lost {
            unsynced.power_cut(lost).unwrap();
        }
        scene.check(&what);
        scene.go_on(&what);
        if !fs.is_cut() {
            assert!(cut > 4, "{what}: so few operations");
            break;
        }
    }
}

fn killed(phase: Phase) {
    cut_everywhere(phase, LastOperation::Torn, None);
    cut_everywhere(phase, LastOperation::Absent, None);
}

fn without_power(phase: Phase) {
    for lost in [Lost::Content, Lost::Names, Lost::Everything] {
        cut_everywhere(phase, LastOperation::Torn, Some(lost));
    }
}

#[test]
fn an_init_that_is_cut_anywhere_can_be_repeated() {
    killed(Phase::Init);
    without_power(Phase::Init);
}

#[test]
fn a_first_backup_that_is_cut_anywhere_is_a_whole_point_or_none() {
    killed(Phase::FirstBackup);
    without_power(Phase::FirstBackup);
}

#[test]
fn a_second_backup_that_is_cut_anywhere_is_a_whole_point_or_none() {
    killed(Phase::SecondBackup);
    without_power(Phase::SecondBackup);
}

#[test]
fn a_seed_that_is_cut_anywhere_claims_no_point_before_it_holds_it() {
    killed(Phase::Seed);
    without_power(Phase::Seed);
}

#[test]
fn a_replay_that_is_cut_anywhere_is_at_exactly_one_point_without_the_repository() {
    killed(Phase::Replay);
    without_power(Phase::Replay);
}

#[test]
fn a_repair_that_is_cut_anywhere_claims_no_point_before_it_holds_it() {
    killed(Phase::Repair);
    without_power(Phase::Repair);
}

#[test]
fn a_restore_that_is_cut_anywhere_names_only_complete_files() {
    killed(Phase::Restore);
    without_power(Phase::Restore);
}

#[test]
fn a_full_disk_acknowledges_nothing_and_later_everything_succeeds() {
    let phases = [
        Phase::Init,
        Phase::FirstBackup,
        Phase::SecondBackup,
        Phase::Seed,
        Phase::Replay,
        Phase::Repair,
        Phase::Restore,
    ];
    for (phase, full) in phases.iter().flat_map(|it| [(*it, Full::Once), (*it, Full::ForEver)]) {
        for at in 0.. {
            let what = format!("{phase:?}, {full:?}, full at {at}");
            let scene = Scene::before(phase, at % 2 == 1);
            let points = scene.acknowledged.borrow().len();
            let fs = FullFileSystem::new(RealFileSystem::shared(), at, full);
            let done = scene.act(&(fs.clone() as Arc<dyn FileSystem>), phase);
            if !fs.was_full() {
                assert!(done.is_ok() && at > 2, "{what}: {done:?}");
                break;
            }
            let error = done.expect_err(&what);
            assert!(error.contains("no storage space"), "{what}: {error}");
            scene.check(&what);
            assert_eq!(scene.acknowledged.borrow().len(), points, "{what}");
            scene.go_on(&what);
        }
    }
}

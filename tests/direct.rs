//! Replicas that are fed straight from their machine: the same content, the same states, the same
//! promises after a crash as from backups, and the way from one to the other and back.

mod common;

use afterimage::destination::{NO_REPOSITORY, ReplicaRecord, State};
use afterimage::extent::Extent;
use afterimage::fsio::{FileSystem, RealFileSystem};
use afterimage::progress::Progress;
use afterimage::replay::{
    DirectRequest, DirectlyReplicated, ReplayError, Replicated, replicate_directly,
};
use afterimage::scrub::{DirectVerdict, VerifyDirectRequest, VerifyError, verify_direct};
use afterimage::source::DiskBase;
use afterimage::testing::{CutFileSystem, LastOperation, Lost, UnsyncedFileSystem};
use afterimage::units::{Name, RunId};
use common::tracked::Tracked;
use common::{World, assert_same, name, noise, write_noticed};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::Duration;

const DISK_BYTES: usize = (5 << 20) + 512;

/// A machine with one disk, and its replica `standby`.
struct Scene {
    world: World,
    machine: Tracked,
    distrusted: RefCell<BTreeSet<Name>>,
    full_read_every: Option<Duration>,
}

impl Scene {
    fn new() -> Self {
        let mut content = noise(1, DISK_BYTES);
        content[1 << 20..3 << 20].fill(0);
        Self {
            world: World::without_repository(&["root"], false),
            machine: Tracked::new(&content),
            distrusted: RefCell::default(),
            full_read_every: None,
        }
    }

    fn run_on(
        &self,
        fs: &Arc<dyn FileSystem>,
        progress: &Progress,
    ) -> Result<DirectlyReplicated, ReplayError> {
        self.world.tick();
        let mut session = self.world.open_replica(fs, "standby")?;
        let request = DirectRequest {
            machine: &name("web01"),
            capturer: &self.machine.capturer("root"),
            targets: self.world.targets("standby"),
            sources: Vec::new(),
            distrusted: self.distrusted.borrow().clone(),
            full_read_every: self.full_read_every,
            adopt: false,
            now: self.world.now(),
            run: RunId::random().unwrap(),
            workers: self.world.workers,
        };
        replicate_directly(&mut session, &request, progress)
    }

    fn run(&self) -> Replicated {
        self.run_on(&self.world.fs, &Progress::default()).unwrap().replicated
    }

    fn record(&self) -> ReplicaRecord {
        let session = self.world.open_replica(&RealFileSystem::shared(), "standby").unwrap();
        session.record().unwrap().clone()
    }

    #[track_caller]
    fn check(&self, what: &str) {
        let found = self.world.replica_disk("standby", "root");
        assert_same(&found, &self.machine.content(), what);
        let record = self.record();
        assert!(matches!(record.state, State::Clean { .. }), "{what}: {:?}", record.state);
        let base = &record.direct.as_ref().unwrap().bases[&name("root")];
        let DiskBase::Snapshot { token } = base else { panic!("{what}: {base:?}") };
        assert_eq!(self.machine.kept(), std::slice::from_ref(token), "{what}");
    }

    fn verify(&self) -> Result<DirectVerdict, VerifyError> {
        let request = VerifyDirectRequest {
            replica: &name("standby"),
            home: self.world.replica_home("standby"),
            capturer: &self.machine.capturer("root"),
            workers: 2,
        };
        verify_direct(&self.world.fs, &request, &Progress::default())
    }
}

#[test]
fn a_machine_is_followed_without_a_repository() {
    let scene = Scene::new();
    assert!(matches!(scene.run(), Replicated::Seeded { .. }));
    scene.check("seeded");
    assert_eq!(scene.record().repository, NO_REPOSITORY);
    let image = scene.world.path("standby/root.raw");
    let allocated = || std::fs::metadata(&image).unwrap().blocks() * 512;
    assert!(allocated() < (DISK_BYTES - (2 << 20) + 65_536) as u64, "what is zero is a hole");
    assert!(matches!(scene.run(), Replicated::Skipped { .. }));
    scene.check("skipped");

    scene.machine.bytes_read();
    scene.machine.write(10_000, &noise(2, 5000));
    scene.machine.write(4 << 20, &vec![0; 65_536]);
    // Written with what was there: it is read, and goes no further.
    let same = scene.machine.content()[500_000..600_000].to_vec();
    scene.machine.write(500_000, &same);
    let progress = Progress::default();
    let done = scene.run_on(&scene.world.fs, &progress).unwrap();
    assert!(matches!(done.replicated, Replicated::Replayed { .. }), "{done:?}");
    assert_eq!(done.notes, ["disk root: a note of the capture"]);
    scene.check("replayed");
    let counts = progress.counts();
    assert!(counts.read <= 4 * 4096 && counts.written <= 4 * 4096, "{counts:?}");
    assert_eq!(scene.machine.bytes_read(), counts.read);
    let before = allocated();
    scene.machine.write(0, &noise(3, 100));
    scene.run();
    scene.check("replayed again");
    assert_eq!(allocated(), before);
}

#[test]
fn what_is_in_doubt_is_compared_as_a_whole() {
    let scene = Scene::new();
    scene.run();
    let expect = |reason: &str, differing: std::ops::Range<u64>| {
        let Replicated::Repaired { reason: told, differing_bytes, .. } = scene.run() else {
            panic!("{reason}: nothing was compared")
        };
        assert!(told.contains(reason), "{told}");
        assert!(differing.contains(&differing_bytes), "{reason}: {differing_bytes}");
        scene.check(reason);
    };
    scene.machine.write(9000, b"changed");
    scene.machine.restart();
    expect("started anew", 1..4097);
    write_noticed(&scene.world.path("standby/root.raw"), 2_000_000, b"foreign");
    expect("changed", 1..4097);
    let mut grown = scene.machine.content();
    grown.extend(noise(9, 100_000));
    scene.machine.set(&grown);
    expect("another size", 1..200_000);
    scene.machine.set(&grown[..70_000]);
    expect("another size", 0..1);
    assert_eq!(scene.world.replica_disk("standby", "root").len(), 70_000);
}

#[test]
fn a_replica_goes_over_to_backups_and_back_without_a_new_copy() {
    let scene = Scene::new();
    let world = &scene.world;
    scene.run();
    let id = scene.record().replica_id;
    let is_repair = |replicated: &Replicated, most: u64| match replicated {
        Replicated::Repaired { differing_bytes, .. } => *differing_bytes <= most,
        _ => false,
    };
    let cut = common::small_cut();
    world.init_on(&world.fs, cut).unwrap();
    for round in 0..2 {
        scene.machine.write(20_000 + round * 7000, &noise(5 + round as u64, 3000));
        world.write_disk("root", &scene.machine.content());
        world.tick();
        world.backup().unwrap();
        let replicated = world.replicate("standby").unwrap();
        assert!(is_repair(&replicated, 16_384), "{replicated:?}");
        let record = scene.record();
        assert_eq!((record.replica_id, record.direct), (id, None));
        assert_eq!(record.repository, world.repository().header().id);
        assert!(world.replica_disk("standby", "root") == scene.machine.content());
        assert!(matches!(world.replicate("standby").unwrap(), Replicated::Skipped { .. }));

        scene.machine.write(200_000 + round * 7000, &noise(15 + round as u64, 3000));
        let replicated = scene.run();
        assert!(is_repair(&replicated, 8192), "{replicated:?}");
        scene.check("straight from the machine again");
        // A point that is older than the capture takes nothing back.
        assert!(matches!(world.replicate("standby").unwrap(), Replicated::Skipped { .. }));
        scene.check("still as the machine is");
    }
    assert_eq!(scene.record().replica_id, id);
    // The points that the machine has are not those of the replica: none is kept for it.
    assert!(scene.record().points().is_empty());
}

#[test]
fn a_verification_holds_the_replica_against_the_machine_where_that_did_not_change() {
    let scene = Scene::new();
    scene.run();
    scene.machine.write(40_960, &noise(7, 8192));
    let verdict = scene.verify().unwrap();
    assert_eq!(verdict.disks[0].differing, []);
    assert_eq!(verdict.changed_bytes, 8192);
    write_noticed(&scene.world.path("standby/root.raw"), 3_500_000, b"rot");
    let verdict = scene.verify().unwrap();
    let block = 3_500_000 / 4096 * 4096;
    assert_eq!(verdict.disks[0].differing, [Extent::between(block, block + 4096)]);
    scene.machine.restart();
    assert!(matches!(scene.verify(), Err(VerifyError::ChangesUnknown { .. })));
}

#[test]
fn a_machine_that_tells_of_too_little_is_found_out_by_a_full_comparison() {
    let mut scene = Scene::new();
    scene.full_read_every = Some(Duration::from_secs(3));
    scene.run();
    let (hidden, seen) = (409_600, 800_000);
    scene.machine.lie_about(Some(Extent::between(hidden, hidden + 4096)));
    scene.machine.write(hidden as usize + 10, &noise(2, 500));
    scene.machine.write(seen, &noise(3, 500));
    assert!(matches!(scene.run(), Replicated::Replayed { .. }));
    assert!(scene.world.replica_disk("standby", "root") != scene.machine.content(), "it lied");
    scene.world.tick();
    scene.machine.write(seen, &noise(4, 500));
    let done = scene.run_on(&scene.world.fs, &Progress::default()).unwrap();
    assert!(matches!(done.replicated, Replicated::Repaired { .. }), "{done:?}");
    let (disk, untold) = &done.untold[0];
    assert_eq!((disk, untold.bytes), (&name("root"), 4096));
    assert_eq!(untold.extents, [Extent::between(hidden, hidden + 4096)]);
    let same = || scene.world.replica_disk("standby", "root") == scene.machine.content();
    assert!(same());
    // Nothing was left to build upon, and while it is not believed, nothing is.
    for _ in 0..2 {
        scene.machine.write(hidden as usize, &noise(5, 600));
        assert!(matches!(scene.run(), Replicated::Repaired { .. }));
        assert!(same());
        scene.distrusted.borrow_mut().insert(name("root"));
    }
    scene.distrusted.borrow_mut().clear();
    scene.machine.lie_about(None);
    scene.machine.write(hidden as usize, &noise(6, 600));
    assert!(matches!(scene.run(), Replicated::Replayed { .. }));
    scene.check("believed again");
    assert!(matches!(scene.run(), Replicated::Skipped { .. }));
}

/// Interrupts a direct replication at each of its operations; then the power may go.
fn cut_everywhere(seeded: bool, last: LastOperation, lost: Option<Lost>) {
    for cut in 0.. {
        let what = format!("seeded: {seeded}, {last:?}, {lost:?} lost, cut {cut}");
        let mut scene = Scene::new();
        scene.world = World::in_memory(&["root"], false);
        scene.world.workers = 1;
        let first = noise(1, 200_000);
        scene.machine.set(&first);
        if seeded {
            scene.run();
            scene.machine.write(4000, &noise(2, 9000));
            scene.machine.write(100_000, &[0; 20_000]);
        }
        let second = scene.machine.content();
        let unsynced = UnsyncedFileSystem::new(RealFileSystem::shared());
        let fs = CutFileSystem::new(unsynced.clone(), cut, last);
        scene.machine.set_killed(true);
        let done = scene.run_on(&(fs.clone() as Arc<dyn FileSystem>), &Progress::default());
        scene.machine.set_killed(false);
        assert!(done.is_ok() || fs.is_cut(), "{what}: {done:?}");
        if let Some(lost) = lost {
            unsynced.power_cut(lost).unwrap();
        }
        if scene.world.replica_home("standby").superblock().exists() {
            let record = scene.record();
            if matches!(record.state, State::Clean { .. }) {
                let found = scene.world.replica_disk("standby", "root");
                let is_old = record.state.point().sequence.0 == 1 && seeded;
                assert_same(&found, if is_old { &first } else { &second }, &what);
            } else {
                assert!(!seeded, "{what}: {:?}", record.state);
            }
        } else {
            assert!(!seeded, "{what}: the superblock is gone");
        }
        scene.machine.write(50_000, &noise(3, 3000));
        scene.run();
        scene.check(&what);
        if !fs.is_cut() {
            assert!(cut > 4, "{what}: so few operations");
            break;
        }
    }
}

#[test]
fn a_replication_that_is_cut_anywhere_is_at_exactly_one_capture() {
    for last in [LastOperation::Torn, LastOperation::Absent] {
        cut_everywhere(true, last, None);
    }
    for lost in [Lost::Content, Lost::Names, Lost::Everything] {
        cut_everywhere(true, LastOperation::Torn, Some(lost));
    }
}

#[test]
fn a_first_copy_that_is_cut_anywhere_claims_no_capture_before_it_holds_it() {
    cut_everywhere(false, LastOperation::Torn, None);
    cut_everywhere(false, LastOperation::Torn, Some(Lost::Everything));
}

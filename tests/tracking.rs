//! Backups of a machine whose changes are tracked: what a capture leaves is noted and retired in
//! the right order, whatever fails leads to a larger read, and a source that tells of too few
//! changes is found out.

mod common;

use afterimage::backup::{BackupError, BackupRequest, BackupResult, ChangeHints, backup};
use afterimage::catalog::History;
use afterimage::extent::Extent;
use afterimage::point::{Consistency, Provenance};
use afterimage::progress::Progress;
use afterimage::units::RunId;
use common::tracked::Tracked;
use common::{World, name, noise};
use std::time::Duration;

struct Scene {
    world: World,
    machine: Tracked,
    history: History,
    full_read_every: Option<Duration>,
}

impl Scene {
    fn new() -> Self {
        let world = World::small(&["root"], false);
        let history = History::open(&world.state_dir()).unwrap();
        let machine = Tracked::new(&noise(1, 500_000));
        Self { world, machine, history, full_read_every: None }
    }

    fn run(
        &self,
        history: Option<&History>,
        progress: &Progress,
    ) -> Result<BackupResult, BackupError> {
        self.world.tick();
        let repository = self.world.repository();
        let machine = name("web01");
        let request = BackupRequest {
            machine: &machine,
            capturer: &self.machine.capturer("root"),
            hints: ChangeHints {
                sources: self.history.sources(repository.header().id, &machine).unwrap(),
                tracking: self.history.tracking(&machine).unwrap(),
                full_read_every: self.full_read_every,
                ..ChangeHints::default()
            },
            definition: Vec::new(),
            lock_until: None,
            now: self.world.now(),
            run: RunId::random().unwrap(),
            workers: 2,
            history,
        };
        backup(&repository, &self.world.catalog(&repository), &request, progress)
    }

    /// Backs up and gives how the disk was read.
    #[track_caller]
    fn backup(&self) -> (BackupResult, Provenance) {
        let result = self.run(Some(&self.history), &Progress::default()).unwrap();
        let provenance = result.disks[0].provenance;
        (result, provenance)
    }

    #[track_caller]
    fn check(&self, result: &BackupResult) {
        assert!(self.world.restored(&result.point, "root") == self.machine.content());
    }
}

#[test]
fn what_a_capture_leaves_is_built_upon_and_then_goes() {
    let scene = Scene::new();
    let (first, how) = scene.backup();
    assert_eq!(how, Provenance::FullRead);
    assert_eq!(first.point.manifest.consistency, Consistency::CrashConsistent);
    assert_eq!(first.notes, ["disk root: a note of the capture"]);
    assert_eq!(scene.machine.kept(), ["capture-1"]);
    for round in 2..5 {
        scene.machine.bytes_read();
        scene.machine.write(round * 10_000, &noise(round as u64, 100));
        let (result, how) = scene.backup();
        assert_eq!(how, Provenance::Snapshot);
        assert!(scene.machine.bytes_read() < 30_000);
        assert_eq!(scene.machine.kept(), [format!("capture-{round}")]);
        scene.check(&result);
    }
    scene.machine.write(99_000, b"changed");
    scene.machine.restart();
    let (result, how) = scene.backup();
    assert_eq!(how, Provenance::FullRead);
    let told = result.disks[0].in_full_because.as_deref();
    assert_eq!(told, Some("the machine was started anew"));
    scene.check(&result);
    scene.world.check_catalog();
}

#[test]
fn a_base_goes_only_when_the_new_one_is_noted_with_a_point() {
    let scene = Scene::new();
    scene.backup();
    // A backup that fails leaves all as it was.
    scene.machine.write(5000, b"one");
    let cancelled = Progress::default();
    cancelled.cancel();
    assert!(scene.run(Some(&scene.history), &cancelled).is_err());
    assert_eq!(scene.machine.kept(), ["capture-1"]);
    let (result, how) = scene.backup();
    assert_eq!(how, Provenance::Snapshot);
    scene.check(&result);
    // A point of which nothing could be noted: what was noted is of the point before, and no
    // capture of this one is there. Everything is read.
    scene.machine.write(6000, b"two");
    scene.run(None, &Progress::default()).unwrap();
    scene.machine.write(7000, b"three");
    let (result, how) = scene.backup();
    assert_eq!(how, Provenance::FullRead);
    scene.check(&result);
    assert_eq!(scene.backup().1, Provenance::Snapshot);
}

#[test]
fn a_source_that_tells_of_too_little_is_found_out_and_not_believed_any_more() {
    let mut scene = Scene::new();
    scene.full_read_every = Some(Duration::from_secs(5));
    scene.backup();
    let (hidden, seen) = (40_960, 80_000);
    scene.machine.lie_about(Some(Extent::between(hidden, hidden + 4096)));
    scene.machine.write(hidden as usize + 100, &noise(2, 500));
    scene.machine.write(seen, &noise(3, 500));
    let (result, how) = scene.backup();
    assert_eq!((how, result.disks[0].untold.bytes), (Provenance::Snapshot, 0));
    assert!(scene.world.restored(&result.point, "root") != scene.machine.content(), "it lied");
    // In time everything is read, and what is missing shows.
    for _ in 0..4 {
        scene.world.tick();
    }
    scene.machine.write(seen, &noise(4, 500));
    let (result, how) = scene.backup();
    assert_eq!(how, Provenance::FullRead);
    scene.check(&result);
    let untold = &result.disks[0].untold;
    let [told] = untold.extents[..] else { panic!("{untold:?}") };
    // From the block's start; a chunk that did not change may begin before its end.
    assert!(told.start() == hidden && told.end() >= hidden + 600, "{told:?}");
    assert!(told.end() <= hidden + 4096 && untold.bytes == told.len(), "{untold:?}");
    let tracking = scene.history.tracking(&name("web01")).unwrap();
    let distrust = tracking[&name("root")].distrust.clone().unwrap();
    assert_eq!((distrust.bytes, distrust.extents), (told.len(), vec![(hidden, told.len())]));
    // From now on nothing that it tells counts.
    scene.machine.write(hidden as usize, &noise(5, 600));
    let (result, how) = scene.backup();
    assert_eq!(how, Provenance::FullRead);
    assert!(result.disks[0].in_full_because.as_deref().unwrap().contains("not believed"));
    scene.check(&result);
    // Until the user says so.
    scene.machine.lie_about(None);
    assert_eq!(scene.history.trust(&name("web01")).unwrap(), [name("root")]);
    scene.machine.write(1000, b"told");
    let (result, how) = scene.backup();
    assert_eq!(how, Provenance::Snapshot);
    scene.check(&result);
}

#[test]
fn a_source_that_tells_of_all_is_not_accused() {
    let mut scene = Scene::new();
    scene.full_read_every = Some(Duration::from_secs(1));
    scene.backup();
    for round in 0..6 {
        // Odd places and lengths: chunks reach further than what changed.
        scene.machine.write(round * 77_777 + 13, &noise(round as u64, 1 + round * 999));
        let content = scene.machine.content();
        scene.machine.write(300_000, &vec![if round % 2 == 0 { 0 } else { 7 }; 50_000]);
        scene.machine.write(300_000, &content[300_000..300_000 + 10_000 * round]);
        let (result, how) = scene.backup();
        assert_eq!((how, result.disks[0].untold.bytes), (Provenance::FullRead, 0));
        scene.check(&result);
    }
}

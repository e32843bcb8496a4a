//! Pruning, pins, locks and points that are gone, in a whole world: what must stay stays, whatever
//! is cut, damaged, missing or under way.

mod common;

use afterimage::catalog::Catalog;
use afterimage::destination::State;
use afterimage::fsio::{FileLock, FileSystem, LockHolder, LockMode, RealFileSystem};
use afterimage::point::{Hold, HoldKind, Point, commit_hold, list_holds, remove_hold};
use afterimage::progress::Progress;
use afterimage::retain::{
    PruneRequest, Pruned, ReplicaPlace, RetainError, lock_until, plan_prune, prune,
};
use afterimage::store::{Damage, Repository};
use afterimage::testing::{CutFileSystem, LastOperation, Lost, UnsyncedFileSystem};
use afterimage::units::{HoldId, Keep, PointId, RunId};
use common::{World, assert_same, name, noise, small_cut};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

/// A prune of `web01`.
struct Prune {
    keep: Keep,
    lock_days: u32,
    replicas: Vec<ReplicaPlace>,
    recorded: Option<Timestamp>,
    now: Timestamp,
}

impl Prune {
    /// One that keeps the last point besides what is protected.
    fn last_one(world: &World) -> Self {
        let keep = Keep { last: 1, ..Keep::default() };
        let (lock_days, replicas, recorded) = (0, Vec::new(), None);
        Self { keep, lock_days, replicas, recorded, now: world.now() }
    }

    fn follow(mut self, world: &World, replica: &str, was_fed: bool) -> Self {
        let home = world.replica_home(replica);
        self.replicas.push(ReplicaPlace { replica: name(replica), home, was_fed });
        self
    }

    fn run(&self, world: &World) -> Result<Pruned, RetainError> {
        self.run_on(world, &world.fs)
    }

    fn run_on(&self, world: &World, fs: &Arc<dyn FileSystem>) -> Result<Pruned, RetainError> {
        let repository = Repository::open(fs, &world.path("repository"), world.secret.as_ref(), 1)?;
        let catalog = world.catalog(&repository);
        let machine = name("web01");
        let request = PruneRequest {
            machine: &machine,
            keep: &self.keep,
            zone: &TimeZone::UTC,
            lock_days: self.lock_days,
            replicas: &self.replicas,
            recorded: self.recorded,
            now: self.now,
        };
        let approved = plan_prune(fs.as_ref(), &repository, &catalog, &request)?.going();
        let (run, progress) = (RunId::random().unwrap(), Progress::default());
        prune(fs.as_ref(), &repository, &catalog, &request, &approved, run, &progress)
    }
}

fn content(number: u64) -> Vec<u8> {
    let mut content = noise(1, 60_000);
    content[5000 * number as usize..][..3000].copy_from_slice(&noise(100 + number, 3000));
    content
}

/// A world with so many points of the disk `root`.
fn world_with(points: u64, encrypted: bool) -> World {
    let mut world = World::in_memory(&["root"], encrypted);
    world.workers = 1;
    world.init_on(&RealFileSystem::shared(), small_cut()).unwrap();
    for number in 1..=points {
        back_up(&world, number);
    }
    world
}

fn back_up(world: &World, number: u64) -> Point {
    world.write_disk("root", &content(number));
    world.backup().unwrap().point
}

fn sequences(points: &[Point]) -> Vec<u64> {
    points.iter().map(|point| point.manifest.sequence.0).collect()
}

fn point(world: &World, sequence: u64) -> Point {
    let found = world.points().into_iter().find(|it| it.manifest.sequence.0 == sequence);
    found.unwrap_or_else(|| panic!("there is no point #{sequence}"))
}

fn hold(world: &World, point: PointId, kind: HoldKind) -> HoldId {
    let repository = world.repository();
    let run = RunId::random().unwrap();
    let hold = Hold { point, kind, created: world.now(), run, host: "here".to_owned() };
    commit_hold(&repository, &repository.begin_writing(run).unwrap(), &hold).unwrap()
}

fn pin(world: &World, sequence: u64) -> HoldId {
    let note = Some("before the upgrade".to_owned());
    hold(world, point(world, sequence).id, HoldKind::Pin { note })
}

fn check_content(world: &World, what: &str) {
    for point in world.points() {
        let found = world.restored(&point, "root");
        assert_same(&found, &content(point.manifest.sequence.0), what);
    }
}

fn missing(world: &World) -> BTreeSet<PointId> {
    let repository = world.repository();
    let report = world.catalog(&repository).sync(&repository).unwrap();
    assert_eq!(report.damages.len(), report.missing.len(), "{:?}", report.damages);
    report.missing
}

/// Six points: the first one was locked, the second one is pinned, a replica is at the third.
fn scene(encrypted: bool) -> (World, Prune) {
    let mut world = world_with(0, encrypted);
    world.lock_until = Some(world.now() + SignedDuration::from_secs(3));
    back_up(&world, 1);
    world.lock_until = None;
    back_up(&world, 2);
    back_up(&world, 3);
    world.replicate("standby").unwrap();
    (4..=6).for_each(|number| drop(back_up(&world, number)));
    pin(&world, 2);
    let prune = Prune::last_one(&world).follow(&world, "standby", true);
    (world, prune)
}

const KEPT: [u64; 4] = [2, 3, 5, 6];

fn cut_everywhere(last: LastOperation, lost: Option<Lost>) {
    for cut in 0.. {
        let what = format!("{last:?}, {lost:?} lost, cut {cut}");
        let (world, prune) = scene(cut % 2 == 1);
        let unsynced = UnsyncedFileSystem::new(RealFileSystem::shared());
        let fs = CutFileSystem::new(unsynced.clone(), cut, last);
        let done = prune.run_on(&world, &(fs.clone() as Arc<dyn FileSystem>));
        assert!(done.is_ok() || fs.is_cut(), "{what}: {done:?}");
        if let Some(lost) = lost {
            unsynced.power_cut(lost).unwrap();
        }
        // What is kept is there and whole, what is gone is gone on purpose, and nothing in between.
        let left = sequences(&world.points());
        assert!(KEPT.iter().all(|number| left.contains(number)), "{what}: {left:?}");
        if done.is_ok() && lost.is_none() {
            assert_eq!(left, KEPT, "{what}");
        }
        check_content(&world, &what);
        assert!(missing(&world).is_empty(), "{what}");
        // The next one ends as this one would have, and the one after it has nothing to do.
        prune.run(&world).unwrap();
        assert_eq!(sequences(&world.points()), KEPT, "{what}");
        assert!(prune.run(&world).unwrap().removed.is_empty(), "{what}");
        check_content(&world, &what);
        world.check_catalog();
        // What the first one left under construction goes when the next writer begins.
        drop(world.repository().begin_writing(RunId::random().unwrap()).unwrap());
        assert_eq!(world.leftovers(), Vec::<String>::new(), "{what}");
        let holds = list_holds(&world.repository()).unwrap();
        assert_eq!(holds.iter().count(), 1, "{what}: only the pin is left");
        if !fs.is_cut() {
            assert!(cut > 8, "{what}: so few operations");
            break;
        }
    }
}

#[test]
fn a_prune_that_is_killed_anywhere_keeps_what_is_kept_and_the_next_one_ends_the_same() {
    cut_everywhere(LastOperation::Torn, None);
    cut_everywhere(LastOperation::Absent, None);
}

#[test]
fn a_prune_without_power_anywhere_keeps_what_is_kept_and_the_next_one_ends_the_same() {
    for lost in [Lost::Content, Lost::Names, Lost::Everything] {
        cut_everywhere(LastOperation::Torn, Some(lost));
    }
}

#[test]
fn an_acknowledged_point_is_always_locked_wherever_the_backup_is_cut() {
    let sweeps = [
        (LastOperation::Torn, None),
        (LastOperation::Absent, None),
        (LastOperation::Torn, Some(Lost::Content)),
        (LastOperation::Torn, Some(Lost::Names)),
        (LastOperation::Torn, Some(Lost::Everything)),
    ];
    for (last, lost) in sweeps {
        for cut in 0.. {
            let what = format!("{last:?}, {lost:?} lost, cut {cut}");
            let mut world = world_with(0, cut % 2 == 1);
            let until = world.now() + SignedDuration::from_hours(24);
            world.lock_until = Some(until);
            world.write_disk("root", &content(1));
            let unsynced = UnsyncedFileSystem::new(RealFileSystem::shared());
            let fs = CutFileSystem::new(unsynced.clone(), cut, last);
            let done = world.backup_on(&(fs.clone() as Arc<dyn FileSystem>));
            if let Some(lost) = lost {
                unsynced.power_cut(lost).unwrap();
            }
            let holds = list_holds(&world.repository()).unwrap();
            for point in world.points() {
                assert_eq!(holds.locked_until(point.id), Some(until), "{what}");
            }
            assert!(done.is_err() || world.points().len() == 1, "{what}");
            if !fs.is_cut() {
                break;
            }
        }
    }
}

#[test]
fn nothing_shortens_a_lock_and_the_settings_can_lengthen_it() {
    let mut world = world_with(0, true);
    world.lock_until = lock_until(world.now(), 1);
    back_up(&world, 1);
    world.lock_until = None;
    (2..=4).for_each(|number| drop(back_up(&world, number)));
    // The settings lock nothing any more: what was locked stays locked.
    let mut prune = Prune::last_one(&world);
    hold(&world, point(&world, 1).id, HoldKind::Lock { until: world.now() });
    let mut left_after = |lock_days, hours| {
        (prune.lock_days, prune.now) = (lock_days, world.now() + SignedDuration::from_hours(hours));
        prune.run(&world).unwrap();
        sequences(&world.points())
    };
    assert_eq!(left_after(0, 0), [1, 3, 4]);
    assert_eq!(left_after(0, 23), [1, 3, 4]);
    // Now they lock all that is there for longer.
    assert_eq!(left_after(3, 71), [1, 3, 4]);
    assert_eq!(left_after(0, 71), [3, 4]);
    assert_eq!(list_holds(&world.repository()).unwrap().iter().count(), 0);
}

#[test]
fn a_pin_keeps_a_point_until_it_is_taken_away() {
    let world = world_with(4, false);
    let id = pin(&world, 1);
    let prune = Prune::last_one(&world);
    prune.run(&world).unwrap();
    assert_eq!(sequences(&world.points()), [1, 3, 4]);
    remove_hold(&world.repository(), id).unwrap();
    prune.run(&world).unwrap();
    assert_eq!(sequences(&world.points()), [3, 4]);
}

#[test]
fn nothing_goes_while_any_pin_or_lock_cannot_be_read() {
    let world = world_with(4, true);
    let path = world.repository().layout().hold(pin(&world, 1));
    let good = std::fs::read(&path).unwrap();
    let prune = Prune::last_one(&world);
    let stray = path.with_file_name("stray");
    let renamed = path.with_file_name("0".repeat(64));
    let flipped = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        bytes
    };
    let cases: [(&PathBuf, Vec<u8>); 5] = [
        (&path, flipped(good.len() - 1)),
        (&path, good[..70].to_vec()),
        (&path, Vec::new()),
        (&stray, good.clone()),
        (&renamed, good.clone()),
    ];
    for (place, bytes) in cases {
        std::fs::write(place, bytes).unwrap();
        let error = prune.run(&world).unwrap_err();
        assert!(matches!(error, RetainError::Hold { .. }), "{error}");
        assert!(error.to_string().contains("pin or lock"), "{error}");
        assert_eq!(world.points().len(), 4);
        std::fs::remove_file(place).unwrap();
        std::fs::write(&path, &good).unwrap();
    }
    prune.run(&world).unwrap();
    assert_eq!(sequences(&world.points()), [1, 3, 4]);
}

#[test]
fn what_a_replica_is_at_stays_also_while_it_is_brought_to_another_point() {
    let world = world_with(1, false);
    world.replicate("standby").unwrap();
    (2..=6).for_each(|number| drop(back_up(&world, number)));
    let prune = Prune::last_one(&world).follow(&world, "standby", true);
    prune.run(&world).unwrap();
    assert_eq!(sequences(&world.points()), [1, 5, 6]);
    // Another one holds the replica: it may be bringing it to any of the later points.
    (7..=9).for_each(|number| drop(back_up(&world, number)));
    let home = world.replica_home("standby");
    let holder = LockHolder::this_process("replicate");
    let lock = FileLock::try_take(&RealFileSystem, &home.lock(), LockMode::Exclusive, &holder);
    let mut prune = prune;
    prune.now = world.now();
    let done = prune.run(&world).unwrap();
    assert!(done.removed.is_empty(), "{done:?}");
    drop(lock.unwrap());
    prune.run(&world).unwrap();
    assert_eq!(sequences(&world.points()), [1, 8, 9]);
    world.replicate("standby").unwrap();
    assert_same(&world.replica_disk("standby", "root"), &content(9), "the replica");
}

#[test]
fn both_ends_of_an_interrupted_update_stay() {
    // Where the update is cut is found by trying: after the commit it is `applying`.
    for cut in 0.. {
        let world = world_with(1, false);
        world.replicate("standby").unwrap();
        back_up(&world, 2);
        let fs = CutFileSystem::new(RealFileSystem::shared(), cut, LastOperation::Torn);
        let _ = world.replicate_on(&(fs.clone() as Arc<dyn FileSystem>), "standby", false);
        assert!(fs.is_cut(), "it was never found applying");
        let path = world.replica_home("standby").superblock();
        let record = afterimage::destination::Superblock::read_only(
            &RealFileSystem,
            &path,
            &name("standby"),
        );
        if !matches!(record.unwrap().state, State::Applying { .. }) {
            continue;
        }
        (3..=6).for_each(|number| drop(back_up(&world, number)));
        Prune::last_one(&world).follow(&world, "standby", true).run(&world).unwrap();
        assert_eq!(sequences(&world.points()), [1, 2, 5, 6]);
        break;
    }
}

#[test]
fn nothing_goes_while_the_state_of_a_replica_is_not_known() {
    let world = world_with(4, false);
    let never = Prune::last_one(&world).follow(&world, "standby", false);
    let fed = Prune::last_one(&world).follow(&world, "standby", true);
    let error = fed.run(&world).unwrap_err().to_string();
    assert!(error.contains("standby") && error.contains("is gone"), "{error}");
    world.replicate("standby").unwrap();
    let path = world.replica_home("standby").superblock();
    std::fs::write(&path, b"no superblock").unwrap();
    for prune in [&never, &fed] {
        assert!(matches!(prune.run(&world), Err(RetainError::Replica { .. })));
    }
    assert_eq!(world.points().len(), 4);
    std::fs::remove_file(&path).unwrap();
    never.run(&world).unwrap();
    assert_eq!(sequences(&world.points()), [3, 4]);
}

#[test]
fn nothing_goes_while_the_clock_cannot_be_right() {
    let world = world_with(3, false);
    let mut prune = Prune::last_one(&world);
    prune.recorded = Some(world.now() + SignedDuration::from_hours(1));
    let error = prune.run(&world).unwrap_err();
    assert!(matches!(error, RetainError::ClockWentBack { .. }), "{error}");
    prune.recorded = None;
    prune.now = world.now() - SignedDuration::from_hours(1);
    let error = prune.run(&world).unwrap_err().to_string();
    assert!(error.contains("of web01 is dated"), "{error}");
    // The point of another machine tells that the clock is wrong as well as one's own.
    prune.now = world.now() + SignedDuration::from_mins(1);
    let (disks, progress) = (world.disks.clone(), Progress::default());
    for _ in 0..600 {
        world.tick();
    }
    world.backup_of(&world.fs, "db01", &disks, &progress).unwrap();
    let error = prune.run(&world).unwrap_err().to_string();
    assert!(error.contains("of db01"), "{error}");
    assert_eq!(world.points().len(), 3);
}

#[test]
fn nothing_is_removed_that_was_not_approved() {
    let world = world_with(4, false);
    let prune_two = Prune::last_one(&world);
    let repository = world.repository();
    let catalog = world.catalog(&repository);
    let machine = name("web01");
    let request = PruneRequest {
        machine: &machine,
        keep: &prune_two.keep,
        zone: &TimeZone::UTC,
        lock_days: 0,
        replicas: &[],
        recorded: None,
        now: world.now(),
    };
    let first = point(&world, 1).id;
    let approved = [first, point(&world, 4).id].into();
    let (run, progress) = (RunId::random().unwrap(), Progress::default());
    let fs = RealFileSystem;
    let done = prune(&fs, &repository, &catalog, &request, &approved, run, &progress).unwrap();
    assert_eq!((done.removed, done.kept), ([first].into(), 3));
    assert_eq!(sequences(&world.points()), [2, 3, 4]);
}

#[test]
fn a_prune_is_alone_and_pins_wait_for_no_one() {
    let world = world_with(3, false);
    let repository = world.repository();
    let pinning = repository.lock_prune(LockMode::Shared, "a pin").unwrap();
    let error = Prune::last_one(&world).run(&world).unwrap_err().to_string();
    assert!(error.contains("prune.lock"), "{error}");
    drop(pinning);
    Prune::last_one(&world).run(&world).unwrap();
}

#[test]
fn a_point_that_is_missing_is_told_until_it_is_back_or_given_up() {
    let world = world_with(3, true);
    let lost = point(&world, 2);
    let file = world.repository().layout().point(lost.id);
    let aside = world.path("aside");
    std::fs::rename(&file, &aside).unwrap();
    for _ in 0..2 {
        assert_eq!(missing(&world), [lost.id].into());
        assert_eq!(sequences(&world.points()), [1, 3]);
    }
    let repository = world.repository();
    let catalog = world.catalog(&repository);
    let report = catalog.sync(&repository).unwrap();
    let Damage::Manifest { point, reason } = &report.damages[0] else { panic!("{report:?}") };
    assert_eq!(*point, lost.id);
    assert!(reason.contains("nothing says that it was removed"), "{reason}");
    // A prune says it too, and takes nothing from it: neither the point nor what held it.
    hold(&world, lost.id, HoldKind::Pin { note: None });
    let done = Prune::last_one(&world).run(&world).unwrap();
    assert_eq!(done.damages.len(), 1);
    assert_eq!(list_holds(&repository).unwrap().of(lost.id).len(), 1);

    std::fs::rename(&aside, &file).unwrap();
    assert!(missing(&world).is_empty());
    assert!(world.points().iter().any(|it| it.id == lost.id));
    world.check_catalog();

    std::fs::remove_file(&file).unwrap();
    assert_eq!(missing(&world), [lost.id].into());
    assert_eq!(catalog.missing_points().unwrap(), [lost.id].into());
    catalog.acknowledge_missing(lost.id).unwrap();
    assert!(missing(&world).is_empty());
    world.check_catalog();
}

#[test]
fn the_number_of_a_missing_point_is_not_given_again() {
    let world = world_with(3, false);
    let newest = point(&world, 3);
    let file = world.repository().layout().point(newest.id);
    std::fs::rename(&file, world.path("aside")).unwrap();
    let next = back_up(&world, 4);
    assert_eq!(next.manifest.sequence.0, 4);
    assert_eq!(next.manifest.parent, Some(point(&world, 2).id));
    std::fs::rename(world.path("aside"), &file).unwrap();
    assert_eq!(sequences(&world.points()), [1, 2, 3, 4]);
}

#[test]
fn another_host_learns_of_what_was_removed_from_its_record() {
    let world = world_with(4, true);
    let repository = world.repository();
    let other = Catalog::open(&world.path("other"), repository.header().id).unwrap();
    other.sync(&repository).unwrap();
    Prune::last_one(&world).run(&world).unwrap();
    let report = other.sync(&repository).unwrap();
    assert_eq!((report.points_gone, report.missing.len()), (2, 0), "{:?}", report.damages);
    assert_eq!(other.contents().unwrap(), world.catalog(&repository).contents().unwrap());

    // Without the record, nobody knows.
    let late = Catalog::open(&world.path("late"), repository.header().id).unwrap();
    late.add_point(&point(&world, 3)).unwrap();
    back_up(&world, 5);
    let records = repository.layout().removed();
    let gone = point(&world, 3);
    let mut prune = Prune::last_one(&world);
    prune.keep = Keep { yearly: 1, ..Keep::default() };
    prune.run(&world).unwrap();
    assert_eq!(sequences(&world.points()), [4, 5]);
    for entry in std::fs::read_dir(&records).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[80] ^= 1;
        std::fs::write(&path, bytes).unwrap();
    }
    let report = late.sync(&repository).unwrap();
    assert_eq!(report.missing, [gone.id].into());
    let documents =
        report.damages.iter().filter(|it| matches!(it, Damage::Document { .. })).count();
    assert_eq!(documents, 2, "{:?}", report.damages);
}

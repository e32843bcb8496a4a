//! Pruning, pins, locks and points that are gone, in a whole world: what must stay stays, whatever
//! is cut, damaged, missing or under way.

#[path = "../common/mod.rs"]
mod common;
mod cuts;
mod documents;
mod fixtures;
mod missing;
mod world;

use afterimage::destination::{State, Superblock};
use afterimage::fsio::{FileLock, FileSystem, LockHolder, LockMode, RealFileSystem};
use afterimage::point::{HoldKind, list_holds, remove_hold};
use afterimage::progress::Progress;
use afterimage::retain::{PruneRequest, RetainError, lock_until, prune};
use afterimage::testing::{CutFileSystem, LastOperation};
use afterimage::units::RunId;
use common::{assert_same, name};
use jiff::SignedDuration;
use jiff::tz::TimeZone;
use std::path::PathBuf;
use std::sync::Arc;
use world::*;

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
        let record = Superblock::read_only(&RealFileSystem, &path, &name("standby"));
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

//! A prune, and a backup that locks its point, cut at each of their operations.

use crate::common::World;
use crate::world::*;
use afterimage::fsio::{FileSystem, RealFileSystem};
use afterimage::point::list_holds;
use afterimage::testing::{CutFileSystem, LastOperation, Lost, UnsyncedFileSystem};
use afterimage::units::RunId;
use jiff::SignedDuration;
use std::sync::Arc;

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
fn a_pin_that_is_cut_anywhere_is_there_or_not_and_stays_once_it_is_acknowledged() {
    let lost = [None, Some(Lost::Content), Some(Lost::Names), Some(Lost::Everything)];
    for lost in lost {
        for cut in 0.. {
            let what = format!("{lost:?} lost, cut {cut}");
            let world = world_with(1, cut % 2 == 1);
            let unsynced = UnsyncedFileSystem::new(RealFileSystem::shared());
            let fs = CutFileSystem::new(unsynced.clone(), cut, LastOperation::Torn);
            let repository = world.repository_on(&(fs.clone() as Arc<dyn FileSystem>));
            let done = try_pin(&repository, point(&world, 1).id);
            if let Some(lost) = lost {
                unsynced.power_cut(lost).unwrap();
            }
            // Whatever there is can be read.
            let count = list_holds(&world.repository()).unwrap().iter().count();
            assert!(count == 1 || (done.is_err() && count == 0), "{what}: {count}");
            if !fs.is_cut() {
                assert!(cut > 4, "{what}: so few operations");
                break;
            }
        }
    }
}

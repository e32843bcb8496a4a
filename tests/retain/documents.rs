//! What a verification says of pins, locks, records and lists that are gone.

use super::common::World;
use super::common::template::{open, verify};
use super::world::*;
use afterimage::point::{HoldKind, remove_hold};
use afterimage::scrub::{Finding, FindingKind, Scope};
use std::path::PathBuf;

/// What is found now; every point is good.
fn findings(world: &World) -> Vec<Finding> {
    let verdict = verify(world, Scope::All).unwrap();
    assert!(verdict.points.iter().all(|point| point.is_good()), "{verdict:?}");
    verdict.findings
}

/// The only file of a folder of the repository.
fn only_file(world: &World, folder: &str) -> PathBuf {
    let folder = std::fs::read_dir(world.path("repository").join(folder)).unwrap();
    let files: Vec<PathBuf> = folder.map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files[0].clone()
}

fn assert_one_loss(world: &World, folder: &str, name: &str) -> Finding {
    let found = findings(world);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].kind, FindingKind::LostDocument);
    assert_eq!(found[0].file, format!("{folder}/{name}"));
    assert_eq!(findings(world), [], "it is told once");
    found[0].clone()
}

#[test]
fn a_pin_that_vanished_is_told_once_with_its_point_and_one_that_was_unpinned_is_not() {
    let world = world_with(3, true);
    let (unpinned, vanished) = (pin(&world, 1), pin(&world, 2));
    assert_eq!(findings(&world), []);
    let (repository, catalog) = open(&world).unwrap();
    catalog.remove_hold(&repository, unpinned).unwrap();
    assert_eq!(findings(&world), []);
    remove_hold(&repository, vanished).unwrap();
    let found = assert_one_loss(&world, "holds", &vanished.to_string());
    assert_eq!(found.points, [point(&world, 2).id].into());
}

#[test]
fn what_a_prune_and_collections_take_away_is_not_missed_here_nor_on_another_host() {
    let world = world_with(3, false);
    hold(&world, point(&world, 1).id, HoldKind::Lock { until: world.now() });
    Prune::last_one(&world).run(&world).unwrap();
    world.gc().unwrap();
    back_up(&world, 4);
    hold(&world, point(&world, 2).id, HoldKind::Lock { until: world.now() });
    assert_eq!(findings(&world), []);
    // The state of a host that sees nothing of what comes.
    let copy = world.path("other-state");
    std::fs::create_dir(&copy).unwrap();
    for entry in std::fs::read_dir(world.state_dir()).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, copy.join(path.file_name().unwrap())).unwrap();
    }
    let list = only_file(&world, "condemned");
    Prune::last_one(&world).run(&world).unwrap();
    assert!(world.gc().unwrap().removed_packs > 0);
    assert_eq!(std::fs::read_dir(world.path("repository/holds")).unwrap().count(), 0);
    assert_ne!(only_file(&world, "condemned"), list);
    assert_eq!(findings(&world), []);
    std::fs::remove_dir_all(world.state_dir()).unwrap();
    std::fs::rename(copy, world.state_dir()).unwrap();
    assert_eq!(findings(&world), []);
}

#[test]
fn a_record_or_list_that_vanished_is_told_once() {
    let world = world_with(3, true);
    world.remove_point(point(&world, 1).id);
    world.gc().unwrap();
    assert_eq!(findings(&world), []);
    for folder in ["removed", "condemned"] {
        let file = only_file(&world, folder);
        std::fs::remove_file(&file).unwrap();
        assert_one_loss(&world, folder, file.file_name().unwrap().to_str().unwrap());
    }
    // A catalog that is built anew knows of none.
    pin(&world, 2);
    assert_eq!(findings(&world), []);
    std::fs::remove_file(only_file(&world, "holds")).unwrap();
    world.rebuild_catalog();
    assert_eq!(findings(&world), []);
}

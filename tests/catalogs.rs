//! Second catalogs: they go when they are given up, and know how far the first one has come.

mod common;

use afterimage::catalog::{Catalog, CatalogError, History, SecondCatalog};
use afterimage::progress::Progress;
use common::{World, noise};

fn with_points(count: u64) -> World {
    let world = World::small(&["root"], false);
    for number in 0..count {
        world.write_disk("root", &noise(number, 100_000));
        world.backup().unwrap();
    }
    world
}

fn files(world: &World) -> Vec<String> {
    let entries = std::fs::read_dir(world.state_dir()).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| !name.ends_with(".lock"));
    names.sort();
    names
}

#[test]
fn a_second_catalog_that_is_stopped_or_given_up_leaves_no_file() {
    let world = with_points(2);
    let repository = world.repository();
    let before = files(&world);
    let second = SecondCatalog::begin(&world.state_dir(), repository.header().id).unwrap();
    assert_ne!(files(&world), before);
    let twice = SecondCatalog::begin(&world.state_dir(), repository.header().id);
    assert!(matches!(twice, Err(CatalogError::Lock(_))), "{twice:?}");
    let progress = Progress::default();
    progress.cancel();
    let stopped = second.catalog().sync_watched(&repository, &progress);
    assert!(matches!(stopped, Err(CatalogError::Cancelled(_))), "{stopped:?}");
    assert!(!world.catalog(&repository).compare(second.catalog()).unwrap().is_equal());
    drop(second);
    assert_eq!(files(&world), before);
    world.check_catalog();
    assert_eq!(files(&world), before);
}

#[test]
fn a_replaced_catalog_is_one_file_and_may_be_opened_by_others_later() {
    let world = with_points(2);
    let before = world.catalog(&world.repository()).contents().unwrap();
    world.rebuild_catalog();
    let catalog = world.catalog(&world.repository());
    assert_eq!(catalog.contents().unwrap(), before);
    drop(catalog);
    let is_log = |name: &String| name.ends_with("-wal") || name.ends_with("-shm");
    assert!(!files(&world).iter().any(is_log), "{:?}", files(&world));
    world.backup().unwrap();
    world.check_catalog();
    // Whoever has the old one open is waited for.
    let id = world.repository().header().id;
    let in_use = Catalog::lock_in_use(&world.state_dir(), id).unwrap();
    let second = SecondCatalog::begin(&world.state_dir(), id).unwrap();
    let refused = second.replace_live();
    assert!(matches!(refused, Err(CatalogError::Lock(_))), "{refused:?}");
    drop(in_use);
    world.check_catalog();
}

#[test]
fn the_generation_rises_with_every_change_and_with_nothing_else() {
    let world = with_points(1);
    let repository = world.repository();
    let catalog = world.catalog(&repository);
    let mut last = catalog.generation().unwrap();
    assert!(last > 0);
    let mut rises = |what: &str, expected: bool| {
        let now = catalog.generation().unwrap();
        assert_eq!(now > last, expected, "{what}: from {last} to {now}");
        last = now;
    };
    catalog.sync(&repository).unwrap();
    rises("a synchronisation with nothing to do", false);
    let point = catalog.points(None).unwrap().pop().unwrap();
    catalog.add_point(&point).unwrap();
    rises("a point that is known", false);
    catalog.forget_points(&[point.id]).unwrap();
    rises("a point that is forgotten", true);
    catalog.sync(&repository).unwrap();
    rises("a point that is found", true);
    let packs: Vec<_> = catalog.packs().unwrap().into_keys().collect();
    catalog.forget_packs(&packs).unwrap();
    rises("packs that are forgotten", true);
    catalog.sync(&repository).unwrap();
    rises("packs that are found", true);
    catalog.note_damaged(&[]).unwrap();
    catalog.raise_generation(1).unwrap();
    assert_eq!(catalog.durable_generation().unwrap(), Some(catalog.generation().unwrap()));

    let history = History::open(&world.state_dir()).unwrap();
    let id = repository.header().id;
    assert_eq!(history.generation(id).unwrap(), 0);
    for (noted, highest) in [(5, 5), (9, 9), (7, 9)] {
        history.note_generation(id, noted).unwrap();
        assert_eq!(history.generation(id).unwrap(), highest);
    }
}

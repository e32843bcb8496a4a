//! Points that are gone: on purpose, as a record says, or not.

use crate::world::*;
use afterimage::catalog::Catalog;
use afterimage::point::{HoldKind, list_holds};
use afterimage::store::Damage;
use afterimage::units::Keep;

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

//! Collection of garbage, beside everything else that may go on at the same time.

mod common;

use afterimage::backup::BackupError;
use afterimage::catalog::Catalog;
use afterimage::fsio::RealFileSystem;
use afterimage::point::{Point, commit_point};
use afterimage::retain::GcError;
use afterimage::store::{Codec, Lease, PackKind, Stage, StoreError};
use afterimage::testing::{CutFileSystem, LastOperation};
use afterimage::units::{Breakage, PackName, RunId, break_here};
use common::{World, assert_same, noise, small_cut};
use std::sync::Arc;

/// State 0, 1, … of the disk: half of it stays, half of it is new each time.
fn state(number: u64) -> Vec<u8> {
    let mut content = noise(1, 200_000);
    content[..100_000].copy_from_slice(&noise(1000 + number, 100_000));
    content
}

/// Points of the states from 0 to `count`, the oldest first.
fn world(count: u64, encrypted: bool) -> (World, Vec<Point>) {
    let mut world = World::in_memory(&["root"], encrypted);
    world.init_on(&RealFileSystem::shared(), small_cut()).unwrap();
    world.workers = 1;
    let points = (0..count).map(|number| add_point(&world, number)).collect();
    (world, points)
}

fn add_point(world: &World, number: u64) -> Point {
    world.write_disk("root", &state(number));
    world.backup().unwrap().point
}

fn check(world: &World, point: &Point, number: u64) {
    assert_same(&world.restored(point, "root"), &state(number), &format!("state {number}"));
}

fn lease(world: &World) -> Lease {
    world.repository().lock_shared("something that began before").unwrap()
}

/// The packs of chunks, with their lengths in bytes.
fn chunk_packs(world: &World) -> Vec<(PackName, u64)> {
    let repository = world.repository();
    let mut packs = repository.list_packs().unwrap();
    packs.retain(|(pack, _)| repository.read_pack_record(*pack).unwrap().kind == PackKind::Data);
    packs
}

fn stage(world: &World) -> Stage {
    world.repository().condemned().unwrap().stage()
}

#[test]
fn the_space_of_removed_points_comes_back_and_the_others_restore() {
    for encrypted in [false, true] {
        let (world, points) = world(8, encrypted);
        let before = world.pack_bytes();
        let idle = world.gc().unwrap();
        assert_eq!((idle.removed_packs, idle.dead_bytes), (0, 0), "nothing was garbage");
        points[..6].iter().for_each(|point| world.remove_point(point.id));
        let outcome = world.gc().unwrap();
        assert!(outcome.removed_packs > 0 && outcome.pending_packs == 0, "{outcome:?}");
        assert!(outcome.dead_bytes * 4 <= outcome.live_bytes + outcome.dead_bytes, "{outcome:?}");
        // Six halves of the disk are gone, three are left.
        assert!(world.pack_bytes() < before * 45 / 100, "{} of {before}", world.pack_bytes());
        check(&world, &points[6], 6);
        check(&world, &points[7], 7);
        world.check_catalog();
        let again = world.gc().unwrap();
        assert_eq!((again.removed_packs, again.rewritten_packs), (0, 0), "{again:?}");
        // What was collected is stored again when it comes again.
        let back = add_point(&world, 0);
        check(&world, &back, 0);
        assert!(world.leftovers().is_empty());
    }
}

#[test]
fn an_empty_repository_and_one_whose_points_are_all_gone_are_collected_too() {
    let (world, points) = world(2, true);
    points.iter().for_each(|point| world.remove_point(point.id));
    world.gc().unwrap();
    assert_eq!(world.pack_bytes(), 0);
    assert_eq!(world.gc().unwrap().removed_packs, 0);
    let point = add_point(&world, 5);
    check(&world, &point, 5);
}

#[test]
fn a_writer_that_began_before_may_still_refer_to_what_was_condemned() {
    let (world, points) = world(3, false);
    let old_writer = lease(&world);
    world.remove_point(points[0].id);
    let outcome = world.gc().unwrap();
    assert!(outcome.pending_packs > 0 && outcome.removed_packs == 0, "{outcome:?}");
    assert_eq!(stage(&world), Stage::Condemned);
    // It found all of state 0 in the repository before the collection began, and commits now.
    let repository = world.repository();
    let session = repository.begin_writing(RunId::random().unwrap()).unwrap();
    let late = commit_point(&repository, &session, points[0].manifest.clone()).unwrap();
    drop((session, old_writer));
    let outcome = world.gc().unwrap();
    assert!(outcome.rescued_packs > 0, "{outcome:?}");
    for (point, number) in [(&late, 0), (&points[1], 1), (&points[2], 2)] {
        check(&world, point, number);
    }
    world.check_catalog();
}

/// The second mark took a copy that is known to be damaged, or that has rotted since, for one that
/// stays, as long as the trailer of its pack listed it: the good copy was removed.
#[test]
fn a_condemned_pack_with_the_only_copy_that_can_be_read_is_rescued() {
    for noted in [true, false] {
        let (world, points) = world(1, false);
        let repository = world.repository();
        let catalog = world.catalog(&repository);
        let (old, _) = chunk_packs(&world)[0];
        let last = repository.read_pack_record(old).unwrap().locations().last().unwrap();
        // This one keeps the pack, but needs nothing of the chunk that rots in it.
        world.write_disk("root", &state(0)[..180_000]);
        let shorter = world.backup().unwrap().point;
        let path = repository.layout().pack(old);
        let mut content = std::fs::read(&path).unwrap();
        content[last.offset as usize] ^= 1;
        std::fs::write(&path, content).unwrap();
        catalog.note_damaged(&[(last.entry.name, old)]).unwrap();
        // It is stored again. A writer begins, which relies on that.
        let healed = add_point(&world, 0);
        if !noted {
            catalog.clear_damaged(old).unwrap();
        }
        let old_writer = lease(&world);
        world.remove_points(&[points[0].id, healed.id]);
        let outcome = world.gc().unwrap();
        assert!(outcome.pending_packs > 0, "the good copy was not condemned: {outcome:?}");
        assert!(chunk_packs(&world).iter().any(|(pack, _)| *pack == old), "noted: {noted}");
        let session = repository.begin_writing(RunId::random().unwrap()).unwrap();
        let late = commit_point(&repository, &session, healed.manifest.clone()).unwrap();
        drop((session, old_writer));
        let outcome = world.gc().unwrap();
        assert!(outcome.rescued_packs > 0, "noted: {noted}, {outcome:?}");
        check(&world, &late, 0);
        assert_same(&world.restored(&shorter, "root"), &state(0)[..180_000], "the shorter one");
    }
}

#[test]
fn what_lies_in_a_condemned_pack_counts_as_unknown_for_a_new_backup() {
    let (world, points) = world(3, true);
    let old_reader = lease(&world);
    world.remove_point(points[0].id);
    assert!(world.gc().unwrap().pending_packs > 0);
    let before = world.pack_bytes();
    let again = add_point(&world, 0);
    assert!(world.pack_bytes() > before + 90_000, "its half was stored again");
    drop(old_reader);
    let outcome = world.gc().unwrap();
    assert!(outcome.removed_packs > 0 && outcome.rescued_packs == 0, "{outcome:?}");
    for (point, number) in [(&again, 0), (&points[1], 1), (&points[2], 2)] {
        check(&world, point, number);
    }
}

#[test]
fn a_reader_keeps_what_it_could_see_when_it_began() {
    let (world, points) = world(3, false);
    let packs = world.repository().list_packs().unwrap();
    let reader = lease(&world);
    world.remove_point(points[0].id);
    for _ in 0..3 {
        world.gc().unwrap();
        let now = world.repository().list_packs().unwrap();
        assert!(packs.iter().all(|pack| now.contains(pack)));
    }
    // One that came after the packs were condemned is waited for as well, before they go.
    let second = lease(&world);
    drop(reader);
    assert!(world.gc().unwrap().pending_packs > 0);
    assert_eq!(stage(&world), Stage::Confirmed);
    let now = world.repository().list_packs().unwrap();
    assert!(packs.iter().all(|pack| now.contains(pack)));
    drop(second);
    let third = lease(&world);
    assert!(world.gc().unwrap().removed_packs > 0, "nothing begins with them any more");
    drop(third);
    check(&world, &points[1], 1);
}

/// Whether a reader that came after the packs were condemned, and before they go, keeps them.
fn late_reader_keeps_packs() -> bool {
    let (world, points) = world(3, false);
    let reader = lease(&world);
    world.remove_point(points[0].id);
    world.gc().unwrap();
    let packs = world.repository().list_packs().unwrap();
    let late = lease(&world);
    drop(reader);
    world.gc().unwrap();
    let now = world.repository().list_packs().unwrap();
    drop(late);
    packs.iter().all(|pack| now.contains(pack))
}

#[test]
fn a_reader_that_came_after_the_condemnation_is_waited_for_too() {
    assert!(late_reader_keeps_packs());
    break_here(Some(Breakage::Unconfirmed));
    assert!(!late_reader_keeps_packs(), "this test would not notice if nobody was waited for");
    break_here(None);
}

#[test]
fn what_a_writer_has_just_written_is_left_until_it_is_done() {
    let (world, points) = world(2, true);
    let repository = world.repository();
    let catalog = world.catalog(&repository);
    let writer = repository.writer(&catalog, RunId::random().unwrap()).unwrap();
    let mut codec = Codec::new(1).unwrap();
    let content = noise(77, 4000);
    let name = repository.keys().namer().chunk(&content);
    writer.put_chunk(name, &content, &mut codec).unwrap();
    writer.flush().unwrap();
    let bytes = world.pack_bytes();
    world.remove_point(points[0].id);
    let outcome = world.gc().unwrap();
    assert!(outcome.removed_packs == 0 || world.pack_bytes() < bytes, "{outcome:?}");
    assert_eq!(world.catalog(&repository).contains(&[name.into()]).unwrap(), [true]);
    drop(writer);
    world.gc().unwrap();
    assert_eq!(world.catalog(&repository).contains(&[name.into()]).unwrap(), [false]);
    check(&world, &points[1], 1);
}

#[test]
fn two_collections_do_not_run_at_once() {
    let (world, _) = world(1, false);
    let lock = world.path("repository/locks/gc.lock");
    std::fs::create_dir_all(lock.parent().unwrap()).unwrap();
    let held = std::fs::File::create(lock).unwrap();
    held.lock().unwrap();
    assert!(matches!(world.gc(), Err(GcError::Lock(_))));
}

#[test]
fn anything_that_cannot_be_read_stops_the_collection() {
    let (world, points) = world(4, true);
    world.remove_point(points[0].id);
    let repository = world.repository();
    let packs = repository.list_packs().unwrap();
    let refuse = |what: &str| {
        let error = world.gc().unwrap_err();
        assert!(matches!(error, GcError::Unreadable { .. }), "{what}: {error}");
        assert!(error.to_string().contains("afterimage repair"), "{error}");
        assert_eq!(repository.list_packs().unwrap(), packs, "{what}");
    };
    let flipped = |path: std::path::PathBuf, at: usize, what: &str| {
        let good = std::fs::read(&path).unwrap();
        let mut bad = good.clone();
        let at = at.min(bad.len() - 1);
        bad[at] ^= 1;
        std::fs::write(&path, bad).unwrap();
        refuse(what);
        std::fs::write(&path, good).unwrap();
    };
    // The catalog does not know this point yet, so that its manifest must be read.
    let layout = repository.layout();
    flipped(layout.point(points[1].id), 100, "a manifest");
    for (pack, _) in &packs {
        let record = repository.read_pack_record(*pack).unwrap();
        if record.kind == PackKind::Tree {
            let root = points[3].manifest.disks[0].root.unwrap();
            if let Some(at) = record.locations().find(|at| at.entry.name == root.into()) {
                flipped(layout.pack(*pack), at.offset as usize + 3, "a root");
            }
        }
    }
    assert!(world.gc().unwrap().removed_packs > 0);
}

#[test]
fn a_damaged_list_of_condemned_packs_stops_collecting_and_writing_but_not_reading() {
    let (world, points) = world(3, false);
    let reader = lease(&world);
    world.remove_point(points[0].id);
    assert!(world.gc().unwrap().pending_packs > 0);
    drop(reader);
    let folder = world.repository().layout().condemned();
    let list = std::fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
    let good = std::fs::read(&list).unwrap();
    std::fs::write(&list, &good[..good.len() - 1]).unwrap();
    assert!(matches!(world.gc(), Err(GcError::Unreadable { .. })));
    let refused = world.backup().unwrap_err();
    assert!(matches!(refused, BackupError::Store(StoreError::Damaged(_))), "{refused}");
    let repository = world.repository();
    let reader = repository.lock_for_reading("a restore").unwrap();
    check(&world, &points[1], 1);
    drop(reader);
    std::fs::write(&list, &good).unwrap();
    assert!(world.gc().unwrap().removed_packs > 0);
    check(&world, &points[2], 2);
}

#[test]
fn a_collection_that_is_killed_anywhere_loses_nothing_and_is_taken_up() {
    let prepare = || {
        let (world, points) = world(4, true);
        points[..2].iter().for_each(|point| world.remove_point(point.id));
        (world, points)
    };
    let (world, _) = prepare();
    let counting = CutFileSystem::counting(RealFileSystem::shared());
    world.gc_on(&(Arc::clone(&counting) as _)).unwrap();
    let total = counting.ops_done();
    assert!(total > 20, "{total}");
    for cut in 0..total {
        let (world, points) = prepare();
        let fs = CutFileSystem::new(RealFileSystem::shared(), cut, LastOperation::Torn);
        // The last of its operations tidies up after itself: nothing depends on that.
        let result = world.gc_on(&(Arc::clone(&fs) as _));
        assert!(fs.is_cut() && (result.is_err() || cut > total - 3), "cut {cut}: {result:?}");
        let back = if cut % 3 == 0 { Some(add_point(&world, 0)) } else { None };
        check(&world, &points[2], 2);
        let outcome = world.gc().unwrap();
        assert!(outcome.pending_packs == 0, "cut {cut}: {outcome:?}");
        assert!(outcome.dead_bytes * 4 <= outcome.live_bytes + outcome.dead_bytes, "cut {cut}");
        check(&world, &points[2], 2);
        check(&world, &points[3], 3);
        if let Some(back) = back {
            check(&world, &back, 0);
        }
        assert_eq!(stage(&world), Stage::Idle);
        assert!(world.leftovers().is_empty(), "cut {cut}: {:?}", world.leftovers());
        world.check_catalog();
    }
}

/// A file of any name that ended in `.lock` was taken for a writer's: `a.lock` for that of every
/// writer whose name began so, and nobody held it.
#[test]
fn a_stray_lock_file_does_not_sweep_the_files_of_writers_at_work() {
    let (world, _) = world(1, false);
    let repository = world.repository();
    let catalog = world.catalog(&repository);
    let run = RunId([0xab; 16]);
    let writer = repository.writer(&catalog, run).unwrap();
    let content = noise(77, 4000);
    let name = repository.keys().namer().chunk(&content);
    writer.put_chunk(name, &content, &mut Codec::new(1).unwrap()).unwrap();
    let of_writer = |names: Vec<String>| {
        names.into_iter().filter(|name| name.starts_with(&run.to_string())).count()
    };
    assert_eq!(of_writer(world.leftovers()), 2, "its lock, and a pack under construction");
    for stray in [".lock", "a.lock", "abab.lock"] {
        std::fs::write(world.path("repository/tmp").join(stray), "").unwrap();
    }
    let second = repository.begin_writing(RunId::random().unwrap()).unwrap();
    assert_eq!(of_writer(world.leftovers()), 2, "they were swept");
    writer.flush().unwrap();
    drop((second, writer));
    assert_eq!(catalog.contains(&[name.into()]).unwrap(), [true]);
}

#[test]
fn a_writer_that_begins_leaves_the_files_of_another_one_alone() {
    let (world, points) = world(1, true);
    let repository = world.repository();
    let catalog = world.catalog(&repository);
    let first = repository.writer(&catalog, RunId::random().unwrap()).unwrap();
    let content = noise(77, 4000);
    let name = repository.keys().namer().chunk(&content);
    first.put_chunk(name, &content, &mut Codec::new(1).unwrap()).unwrap();
    let second = repository.writer(&catalog, RunId::random().unwrap()).unwrap();
    first.flush().unwrap();
    second.flush().unwrap();
    drop((first, second));
    assert_eq!(catalog.contains(&[name.into()]).unwrap(), [true]);
    assert!(world.leftovers().is_empty());
    check(&world, &points[0], 0);
}

/// Whatever else was noted meanwhile, as that a copy is damaged, lifted the ban.
#[test]
fn nothing_is_relied_on_until_the_list_of_condemned_packs_is_known_again() {
    let (world, points) = world(3, false);
    let reader = lease(&world);
    world.remove_point(points[0].id);
    assert!(world.gc().unwrap().pending_packs > 0);
    drop(reader);
    let repository = world.repository();
    let list = std::fs::read_dir(repository.layout().condemned()).unwrap().next().unwrap();
    let list = list.unwrap().path();
    let good = std::fs::read(&list).unwrap();
    std::fs::write(&list, &good[1..]).unwrap();
    let catalog = world.catalog(&repository);
    assert_eq!(catalog.sync(&repository).unwrap().damages.len(), 1);
    let (pack, _) = chunk_packs(&world)[0];
    let name = repository.read_pack_record(pack).unwrap().entries[0].name;
    assert!(catalog.contains(&[name]).is_err());
    catalog.note_damaged(&[(name, pack)]).unwrap();
    assert!(catalog.contains(&[name]).is_err(), "a note of damage lifted the ban");
    catalog.clear_damaged(pack).unwrap();
    assert!(catalog.contains(&[name]).is_err(), "taking it back lifted the ban");
    std::fs::write(&list, &good).unwrap();
    catalog.sync(&repository).unwrap();
    assert!(catalog.contains(&[name]).is_ok());
}

/// What must not be relied on was remembered by numbers, which are given again.
#[test]
fn a_condemned_pack_stays_so_when_another_process_gives_it_another_number() {
    let (world, _) = world(1, false);
    let repository = world.repository();
    let packs = repository.list_packs().unwrap();
    let record = |at: usize| repository.read_pack_record(packs[at].0).unwrap();
    let (going, staying) = (record(0), record(1));
    let open = || Catalog::open(&world.path("numbers"), repository.header().id).unwrap();
    let catalog = open();
    catalog.add_pack(&going).unwrap();
    catalog.add_pack(&staying).unwrap();
    catalog.set_condemned(&[going.name].into()).unwrap();
    let names = [going.entries[0].name, staying.entries[0].name];
    assert_eq!(catalog.contains(&names).unwrap(), [false, true]);
    let other = open();
    other.forget_packs(&[going.name, staying.name]).unwrap();
    other.add_pack(&staying).unwrap();
    other.add_pack(&going).unwrap();
    other.set_condemned(&[going.name].into()).unwrap();
    assert_eq!(catalog.contains(&names).unwrap(), [false, true]);
}

//! Points that were copied to another repository: they restore byte for byte, cost what changed,
//! and survive every interruption.

mod common;

use afterimage::chunk::CutParameters;
use afterimage::fsio::{FileSystem, RealFileSystem};
use afterimage::point::{Point, commit_point};
use afterimage::progress::{Counts, Progress};
use afterimage::store::{PackKind, PackRecord, Repository};
use afterimage::testing::{CutFileSystem, Full, FullFileSystem, LastOperation};
use afterimage::testing::{Lost, UnsyncedFileSystem};
use afterimage::transfer::{CopyRequest, CopyResult, Side, TransferError, copy_points};
use afterimage::units::{PointId, RunId};
use common::{World, assert_same, name, noise, small_cut, write_sparse};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

type Contents = BTreeMap<String, Vec<u8>>;

/// Copies the points of `web01`.
fn copy_on(
    fs: &Arc<dyn FileSystem>,
    from: &World,
    to: &World,
    only: Option<PointId>,
    progress: &Progress,
) -> Result<CopyResult, TransferError> {
    let source = from.repository();
    let target = Repository::open(fs, &to.path("repository"), to.secret.as_ref(), 1)?;
    let (theirs, ours) = (from.catalog(&source), to.catalog(&target));
    let machine = name("web01");
    let run = RunId::random().unwrap();
    let request = CopyRequest { machine: &machine, only, run, workers: to.workers };
    copy_points(
        Side { repository: &source, catalog: &theirs },
        Side { repository: &target, catalog: &ours },
        &request,
        progress,
    )
}

fn copy(from: &World, to: &World) -> (CopyResult, Counts) {
    let progress = Progress::default();
    let result = copy_on(&to.fs, from, to, None, &progress).unwrap();
    let (done, total) = progress.position();
    assert_eq!(done, total, "all of the work that was announced is done");
    (result, progress.counts())
}

/// Restores a point and compares it with what the disks held.
fn check(world: &World, point: &Point, contents: &Contents, what: &str) {
    let folder = world.restore(point, "looked-at").unwrap();
    for (disk, content) in contents {
        let found = std::fs::read(folder.join(format!("{disk}.raw"))).unwrap();
        assert_same(&found, content, &format!("{what}: {disk}"));
    }
    std::fs::remove_dir_all(folder).unwrap();
}

/// A machine with one disk, and what each of its points saw.
struct Source {
    world: World,
    saw: Vec<Contents>,
}

impl Source {
    fn new(cut: CutParameters, encrypted: bool) -> Self {
        Self { world: World::with_cut(&["root"], encrypted, cut), saw: Vec::new() }
    }

    fn backup(&mut self, content: &[u8]) -> Point {
        write_sparse(&self.world.disk("root"), content);
        self.saw.push([("root".to_owned(), content.to_vec())].into());
        self.world.backup().unwrap().point
    }

    /// Every point that is at the other place holds what the first one saw.
    fn check_copies(&self, to: &World, what: &str) -> Vec<Point> {
        let copies = to.points();
        for point in &copies {
            let number = point.manifest.sequence.0 as usize;
            check(to, point, &self.saw[number - 1], &format!("{what}, #{number}"));
        }
        copies
    }
}

fn other_cut(region_bytes: u32) -> CutParameters {
    CutParameters {
        region_bytes,
        granule_bytes: 2048,
        chunk_bytes_average: 2048,
        block_bytes: None,
        ..small_cut()
    }
}

#[test]
fn copies_restore_byte_for_byte_whatever_keys_and_sizes_the_repositories_have() {
    let cuts = [small_cut(), other_cut(64 * 1024), other_cut(16 * 1024), other_cut(256 * 1024)];
    for (number, cut) in cuts.into_iter().enumerate() {
        for encrypted in [false, true] {
            let what = format!("cut {number}, encrypted: {encrypted}");
            let mut from = Source::new(small_cut(), !encrypted);
            let mut content = noise(1, 300_123);
            content[70_000..200_000].fill(0);
            from.backup(&content);
            content[10_000..10_500].fill(7);
            content.resize(420_000, 0);
            from.backup(&content);
            content.truncate(150_001);
            content[80_000..90_000].copy_from_slice(&noise(3, 10_000));
            from.backup(&content);
            let to = World::with_cut(&["root"], encrypted, cut);
            let (result, _) = copy(&from.world, &to);
            assert_eq!((result.copied.len(), result.already), (3, 0), "{what}");
            assert!(result.unreadable.is_empty() && result.not_noted.is_none(), "{what}");
            let copies = from.check_copies(&to, &what);
            assert_eq!(copies, result.copied, "{what}");
            for (index, point) in copies.iter().enumerate() {
                let original = &from.world.points()[index].manifest;
                let manifest = &point.manifest;
                let parent = index.checked_sub(1).map(|before| copies[before].id);
                assert_eq!(manifest.parent, parent, "{what}");
                assert_eq!(manifest.repository, to.repository().header().id, "{what}");
                assert_eq!(
                    (manifest.machine_id, manifest.sequence, manifest.time),
                    (original.machine_id, original.sequence, original.time),
                    "{what}"
                );
                assert_eq!(manifest.disks[0].id, original.disks[0].id, "{what}");
                assert_ne!(manifest.run, original.run, "{what}");
            }
            to.check_catalog();
            let (again, counts) = copy(&from.world, &to);
            assert_eq!((again.copied.len(), again.already), (0, 3), "{what}");
            assert_eq!(counts, Counts::default(), "{what}");
            assert_eq!(to.leftovers(), Vec::<String>::new(), "{what}");
        }
    }
}

#[test]
fn an_incremental_copy_reads_what_changed_and_stores_what_a_backup_would() {
    let mut from = Source::new(small_cut(), false);
    // 65 regions: a tree of one node, and much that does not change.
    let mut content = noise(5, 65 * 64 * 1024);
    from.backup(&content);
    let to = World::small(&["root"], true);
    let (_, first) = copy(&from.world, &to);
    assert!(first.read >= content.len() as u64, "{first:?}");
    content[1_000_000..1_000_100].fill(1);
    from.backup(&content);
    let (result, second) = copy(&from.world, &to);
    assert_eq!((result.copied.len(), result.already), (1, 1));
    // One region, or two at its edge.
    assert!(second.read <= 2 * 64 * 1024, "{second:?}");
    assert!(second.new <= 3 * 4096 && second.stored < 64 * 1024, "{second:?}");
    from.check_copies(&to, "incremental");

    // What was skipped is built from what there is, also from a newer point.
    for round in 0..3 {
        content[2_000_000 + round..2_000_010].fill(round as u8 + 1);
        from.backup(&content);
    }
    let points = from.world.points();
    copy_on(&to.fs, &from.world, &to, Some(points[4].id), &Progress::default()).unwrap();
    assert_eq!(to.points().len(), 3);
    let (result, third) = copy(&from.world, &to);
    assert_eq!((result.copied.len(), result.already), (2, 3));
    assert!(third.read <= 4 * 64 * 1024, "{third:?}");
    from.check_copies(&to, "in between");
    to.check_catalog();
    // And the same the other way round, into a third place with the first one's keys.
    let back = World::small(&["root"], false);
    assert_eq!(copy(&to, &back).0.copied.len(), 5);
    from.check_copies(&back, "back");
}

#[test]
fn a_backup_goes_on_where_the_copies_end_and_a_copy_then_refuses_what_went_apart() {
    let mut from = Source::new(small_cut(), false);
    from.backup(&noise(1, 100_000));
    let to = World::small(&["root"], false);
    copy(&from.world, &to);
    write_sparse(&to.disk("root"), &noise(2, 100_000));
    let point = to.backup().unwrap().point;
    assert_eq!(point.manifest.sequence.0, 2);
    assert_eq!(point.manifest.machine_id, from.world.points()[0].manifest.machine_id);
    from.backup(&noise(3, 90_000));
    let refused = copy_on(&to.fs, &from.world, &to, None, &Progress::default());
    assert!(matches!(refused, Err(TransferError::Diverged { .. })), "{refused:?}");

    let stranger = World::small(&["root"], false);
    write_sparse(&stranger.disk("root"), &noise(2, 1000));
    stranger.backup().unwrap();
    let refused = copy_on(&to.fs, &from.world, &stranger, None, &Progress::default());
    assert!(matches!(refused, Err(TransferError::OtherMachine { .. })), "{refused:?}");
    let refused = copy_on(&to.fs, &to, &to, None, &Progress::default());
    assert!(matches!(refused, Err(TransferError::SameRepository { .. })), "{refused:?}");
}

#[test]
fn a_point_that_cannot_be_read_does_not_stop_the_others() {
    let mut from = Source::new(small_cut(), false);
    let shared = noise(1, 200_000);
    from.backup(&shared);
    let mut content = shared.clone();
    content[..30_000].copy_from_slice(&noise(2, 30_000));
    let second = from.backup(&content);
    from.backup(&shared);
    // A chunk that only the second point needs.
    let repository = from.world.repository();
    let packs = data_packs(&repository).into_iter();
    let newest = packs.min_by_key(|record| record.bytes).unwrap();
    let path = repository.layout().pack(newest.name);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let to = World::small(&["root"], true);
    let result = copy_on(&to.fs, &from.world, &to, None, &Progress::default()).unwrap();
    assert_eq!(result.copied.len(), 2);
    assert_eq!(result.unreadable.len(), 1);
    assert_eq!(result.unreadable[0].0.id, second.id);
    let copies = from.check_copies(&to, "others");
    assert_eq!(copies.iter().map(|it| it.manifest.sequence.0).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(copies[1].manifest.parent, None, "the point before was not copied");
}

#[test]
fn damage_of_what_was_copied_before_is_not_handed_on() {
    let mut from = Source::new(small_cut(), false);
    let mut content = noise(1, 300_000);
    from.backup(&content);
    let to = World::small(&["root"], false);
    copy(&from.world, &to);
    content[..100].fill(9);
    from.backup(&content);
    // A chunk of the first copy, far from what changed, is known not to decode.
    let repository = to.repository();
    let catalog = to.catalog(&repository);
    let record = data_packs(&repository).pop().unwrap();
    let chunk = record.entries[record.entries.len() - 1].name;
    catalog.note_damaged(&[(chunk, record.name)]).unwrap();
    drop(catalog);
    let (_, counts) = copy(&from.world, &to);
    assert!(counts.read >= content.len() as u64, "all of it is looked up again: {counts:?}");
    let catalog = to.catalog(&repository);
    assert_eq!(catalog.contains(&[chunk]).unwrap(), [true]);
    drop(catalog);
    content[..100].fill(8);
    from.backup(&content);
    let (_, counts) = copy(&from.world, &to);
    assert!(counts.read <= 2 * 64 * 1024, "it is healed: {counts:?}");
}

#[test]
fn while_packs_are_condemned_nothing_is_taken_over_from_points_that_are_there() {
    let region = small_cut().region_bytes as usize;
    // The first region takes nearly all of the pack of chunks, but little of that of leaves.
    let mut content = noise(1, region);
    content.extend((1..8 * region).map(|at| (at / 700) as u8));
    let mut from = World::small(&["root"], false);
    from.workers = 1;
    from.write_disk("root", &content);
    from.backup().unwrap();
    let to = World::small(&["root"], false);
    copy(&from, &to);
    let there = to.points().pop().unwrap();
    // Another machine keeps the leaves of the other regions.
    let mut other = content.clone();
    other[..region].fill(9);
    to.write_disk("root", &other);
    to.backup_of(&to.fs, "web02", &to.disks, &Progress::default()).unwrap();
    // A writer that began before makes the point anew after the collection has condemned its chunks.
    let repository = to.repository();
    let old_writer = repository.lock_shared("something that began before").unwrap();
    to.remove_point(there.id);
    assert!(to.gc().unwrap().pending_packs > 0);
    let session = repository.begin_writing(RunId::random().unwrap()).unwrap();
    commit_point(&repository, &session, there.manifest).unwrap();
    drop((session, old_writer));
    content[7 * region..7 * region + 2000].fill(77);
    from.write_disk("root", &content);
    from.backup().unwrap();
    let (_, counts) = copy(&from, &to);
    assert!(counts.read >= content.len() as u64 - 1, "everything is looked at: {counts:?}");
    assert!(counts.stored > region as u64, "what is condemned was stored again: {counts:?}");
    to.gc().unwrap();
    let point = to.points().pop().unwrap();
    check(&to, &point, &[("root".to_owned(), content)].into(), "the copy");
}

fn data_packs(repository: &Repository) -> Vec<PackRecord> {
    let packs = repository.list_packs().unwrap().into_iter();
    let records = packs.map(|(pack, _)| repository.read_pack_record(pack).unwrap());
    records.filter(|record| record.kind == PackKind::Data).collect()
}

/// Two points, of which none or the first was copied before.
fn scene(copied: bool, encrypted: bool) -> (Source, World) {
    let mut world = World::in_memory(&["root"], encrypted);
    world.workers = 1;
    world.init_on(&RealFileSystem::shared(), small_cut()).unwrap();
    let mut from = Source { world, saw: Vec::new() };
    let mut to = World::in_memory(&["root"], !encrypted);
    to.workers = 1;
    to.init_on(&RealFileSystem::shared(), small_cut()).unwrap();
    let mut content = noise(1, 150_000);
    content[20_000..90_000].fill(0);
    from.backup(&content);
    if copied {
        copy(&from.world, &to);
    }
    content[120_000..121_000].fill(3);
    from.backup(&content);
    (from, to)
}

/// After the fault: what is there is whole. The next run completes it and leaves nothing behind.
fn check_and_go_on(from: &Source, to: &World, copied: bool, what: &str) {
    let there = from.check_copies(to, what).len();
    assert!((usize::from(copied)..=2).contains(&there), "{what}: {there} points");
    let (result, _) = copy(&from.world, to);
    assert_eq!((result.copied.len(), result.already), (2 - there, there), "{what}");
    assert_eq!(from.check_copies(to, what).len(), 2, "{what}");
    to.check_catalog();
    // A writer sweeps what one before it left.
    write_sparse(&to.disk("root"), &noise(7, 5000));
    to.backup().unwrap();
    assert_eq!(to.leftovers(), Vec::<String>::new(), "{what}");
}

#[test]
fn a_copy_that_is_cut_anywhere_leaves_whole_points_and_goes_on() {
    let lost = [None, Some(Lost::Content), Some(Lost::Names), Some(Lost::Everything)];
    let modes = [LastOperation::Torn, LastOperation::Absent];
    for (copied, lost, last) in [false, true]
        .into_iter()
        .flat_map(|copied| lost.map(|lost| (copied, lost)))
        .flat_map(|(copied, lost)| modes.map(|last| (copied, lost, last)))
        .filter(|(_, lost, last)| lost.is_none() || *last == LastOperation::Torn)
    {
        for cut in 0.. {
            let what = format!("copied {copied}, {lost:?} lost, {last:?}, cut {cut}");
            let (from, to) = scene(copied, cut % 2 == 1);
            let unsynced = UnsyncedFileSystem::new(RealFileSystem::shared());
            let fs = CutFileSystem::new(unsynced.clone(), cut, last);
            let shared = fs.clone() as Arc<dyn FileSystem>;
            let done = copy_on(&shared, &from.world, &to, None, &Progress::default());
            assert!(done.is_ok() || fs.is_cut(), "{what}: {done:?}");
            if let Some(lost) = lost {
                unsynced.power_cut(lost).unwrap();
            }
            check_and_go_on(&from, &to, copied, &what);
            if !fs.is_cut() {
                assert!(cut > 4, "{what}: so few operations");
                break;
            }
        }
    }
}

#[test]
fn a_copy_to_a_full_disk_acknowledges_only_whole_points() {
    for (copied, full) in [(false, Full::Once), (true, Full::ForEver)] {
        for at in 0.. {
            let what = format!("{full:?}, full at {at}");
            let (from, to) = scene(copied, at % 2 == 1);
            let fs = FullFileSystem::new(RealFileSystem::shared(), at, full);
            let shared = fs.clone() as Arc<dyn FileSystem>;
            let done = copy_on(&shared, &from.world, &to, None, &Progress::default());
            if !fs.was_full() {
                assert!(done.is_ok() && at > 2, "{what}: {done:?}");
                break;
            }
            let error = done.expect_err(&what).to_string();
            assert!(error.contains("no storage space"), "{what}: {error}");
            check_and_go_on(&from, &to, copied, &what);
        }
    }
}

#[test]
fn a_copy_that_is_stopped_says_so_and_goes_on() {
    let (from, to) = scene(true, false);
    let progress = Progress::default();
    progress.cancel();
    let stopped = copy_on(&to.fs, &from.world, &to, None, &progress);
    assert!(matches!(stopped, Err(TransferError::Cancelled(_))), "{stopped:?}");
    check_and_go_on(&from, &to, true, "stopped");
}

fn cut() -> impl Strategy<Value = CutParameters> {
    prop_oneof![
        Just(small_cut()),
        Just(other_cut(64 * 1024)),
        Just(other_cut(32 * 1024)),
        Just(other_cut(128 * 1024)),
    ]
}

fn config() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok());
    let cases = cases.unwrap_or(12);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_history_copied_in_any_order_restores_exactly(
        cuts in (cut(), cut()),
        encrypted in any::<(bool, bool)>(),
        changes in prop::collection::vec(
            (0_usize..500_000, 0_usize..90_000, any::<u8>(), 0_usize..500_000), 1..7
        ),
        order in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
    ) {
        let mut from = Source::new(cuts.0, encrypted.0);
        let to = World::with_cut(&["root"], encrypted.1, cuts.1);
        let mut content = noise(1, 250_000);
        for (at, len, byte, size) in changes {
            let end = (at + len).min(content.len());
            if at < end {
                let bytes = if byte < 100 { vec![0; end - at] } else { noise(byte.into(), end - at) };
                content[at..end].copy_from_slice(&bytes);
            }
            content.resize(size, 0);
            from.backup(&content);
        }
        let points = from.world.points();
        for index in order {
            let only = Some(index.get(&points).id);
            copy_on(&to.fs, &from.world, &to, only, &Progress::default()).unwrap();
        }
        copy(&from.world, &to);
        prop_assert_eq!(from.check_copies(&to, "any history").len(), points.len());
        to.check_catalog();
    }
}

//! Backups that read only what changed: they make the points that full reads make, they read
//! little, and whatever is in doubt is read in full.

mod common;

use afterimage::backup::{BackupResult, ChangeHints, DiskRead};
use afterimage::extent::{Extent, joined};
use afterimage::point::Provenance;
use afterimage::progress::Progress;
use afterimage::source::{ChangedList, DiskBase, FileIdentity, HandedOver};
use afterimage::testing::{Random, noise};
use afterimage::units::{PackName, PointId};
use common::{World, name, write_sparse};
use proptest::prelude::*;

const DISK_BYTES: usize = 20 << 20;

/// A disk of many regions, some of them zeros, and two of which differ in a few places.
fn first_content(random: &mut Random, len: usize) -> Vec<u8> {
    let mut content = vec![0; len];
    for _ in 0..random.below(30) {
        write(&mut content, random);
    }
    content
}

/// Writes noise, zeros or a copy of another place, and says where.
fn write(content: &mut [u8], random: &mut Random) -> Extent {
    let len = content.len() as u64;
    let at = random.below(len);
    let count = match random.below(4) {
        0 => random.below(2 << 20),
        1 => 4096 * random.below(40),
        _ => random.below(3000),
    };
    let range = at as usize..(at + count).min(len) as usize;
    let bytes = match random.below(4) {
        0 => vec![0; range.len()],
        1 => content.iter().copied().cycle().skip(range.len()).take(range.len()).collect(),
        _ => noise(random.below(1 << 30), range.len()),
    };
    content[range.clone()].copy_from_slice(&bytes);
    Extent::between(range.start as u64, range.end as u64)
}

fn hand_over(since: PointId, extents: Vec<Extent>) -> ChangeHints {
    let list = HandedOver::List(ChangedList { since, extents: joined(extents) });
    ChangeHints { lists: [(name("root"), list)].into(), ..ChangeHints::default() }
}

fn how(result: &BackupResult) -> &DiskRead {
    &result.disks[0]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn an_incremental_backup_makes_the_tree_of_a_full_one(seed in any::<u64>(), encrypted in any::<bool>()) {
        let mut random = Random::new(seed);
        let mut world = World::small(&["root"], encrypted);
        // One region, trees of one level, and of two; also ends that are no multiple of anything.
        let len = [60_000, 900_000, DISK_BYTES][random.below(3) as usize] - random.below(5000) as usize;
        let mut content = first_content(&mut random, len);
        write_sparse(&world.disk("root"), &content);
        let mut newest = world.backup().unwrap().point;
        for _ in 0..4 {
            let mut changed = Vec::new();
            for _ in 0..random.below(6) {
                let extent = write(&mut content, &mut random);
                // What is told may be more than what changed.
                let start = extent.start().saturating_sub(random.below(9000));
                let end = (extent.end() + random.below(9000)).min(len as u64);
                changed.push(Extent::between(start, end));
            }
            if random.below(8) == 0 {
                content.fill(0);
                changed = vec![Extent::between(0, len as u64)];
            }
            write_sparse(&world.disk("root"), &content);
            world.hints = hand_over(newest.id, changed);
            let incremental = world.backup().unwrap();
            prop_assert_eq!(how(&incremental).provenance, Provenance::List);
            world.hints = ChangeHints::default();
            let full = world.backup().unwrap();
            prop_assert_eq!(how(&full).provenance, Provenance::FullRead);
            let root = |result: &BackupResult| result.point.manifest.disks[0].root;
            prop_assert_eq!(root(&incremental), root(&full), "seed {}", seed);
            prop_assert!(world.restored(&incremental.point, "root") == content);
            newest = full.point;
        }
        world.check_catalog();
    }
}

/// A backup whose counts are looked at.
fn counted(world: &World) -> (BackupResult, Progress) {
    let progress = Progress::default();
    let result = world.backup_of(&world.fs, "web01", &world.disks, &progress).unwrap();
    (result, progress)
}

#[test]
fn what_is_read_and_written_follows_the_change() {
    let mut world = World::small(&["root"], false);
    let mut content = noise(1, DISK_BYTES);
    std::fs::write(world.disk("root"), &content).unwrap();
    let first = world.backup().unwrap().point;
    let extents: Vec<Extent> = (0..20)
        .map(|index| {
            let at = index * 1_000_000 + 12_345;
            content[at..at + 512].copy_from_slice(&noise(7 + index as u64, 512));
            Extent::between(at as u64, at as u64 + 512)
        })
        .collect();
    std::fs::write(world.disk("root"), &content).unwrap();
    world.hints = hand_over(first.id, extents);
    let (result, progress) = counted(&world);
    let counts = progress.counts();
    assert_eq!(how(&result).provenance, Provenance::List);
    // Chunks are of at most 4 KiB here, and a change reaches into two and touches a third.
    assert!(counts.read <= 20 * 3 * 4096, "{counts:?}");
    assert!(counts.changed >= 20 * 512 && counts.changed <= 20 * 3 * 4096);
    assert_eq!(world.restored(&result.point, "root"), content);
}

#[test]
fn a_disk_that_nobody_wrote_to_is_not_read() {
    let mut world = World::small(&["root"], false);
    std::fs::write(world.disk("root"), noise(1, 300_000)).unwrap();
    // The world's clock stands before the file's times: they prove nothing.
    let racy = world.backup().unwrap();
    assert!(racy.sources.disks.is_empty());
    let long_ago = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    let file = std::fs::File::options().write(true).open(world.disk("root")).unwrap();
    file.set_modified(long_ago).unwrap();
    let identity = |now: jiff::Timestamp| {
        let stat = afterimage::fsio::FileSystem::stat(
            &afterimage::fsio::RealFileSystem,
            &world.disk("root"),
        );
        FileIdentity::of(&stat.unwrap().unwrap(), now)
    };
    assert_eq!(identity(world.now()), None, "its attributes changed just now");
    let later = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(10);
    let mut sources = racy.sources.clone();
    let files = vec![identity(later).unwrap()];
    sources.disks.insert(name("root"), DiskBase::Files { files });
    world.hints = ChangeHints { sources: Some(sources.clone()), ..ChangeHints::default() };
    let (unmodified, progress) = counted(&world);
    assert_eq!(how(&unmodified).provenance, Provenance::Unmodified);
    assert_eq!(progress.counts().read, 0);
    let root = |result: &BackupResult| result.point.manifest.disks[0].root;
    assert_eq!(root(&unmodified), root(&racy));
    // The hints are of the point before the newest one now.
    assert_eq!(how(&world.backup().unwrap()).provenance, Provenance::FullRead);
    // After the system was booted anew, times prove nothing.
    let newest = world.backup().unwrap();
    let mut rebooted = sources.clone();
    (rebooted.point, rebooted.boot_id) = (newest.point.id, Some("another".to_owned()));
    world.hints.sources = Some(rebooted);
    assert_eq!(how(&world.backup().unwrap()).provenance, Provenance::FullRead);
    // A write that leaves the length shows.
    let newest = world.backup().unwrap();
    sources.point = newest.point.id;
    world.hints.sources = Some(sources);
    assert_eq!(how(&world.backup().unwrap()).provenance, Provenance::Unmodified);
    let newest = world.points().last().unwrap().id;
    world.hints.sources.as_mut().unwrap().point = newest;
    common::write_noticed(&world.disk("root"), 1000, b"written");
    let written = world.backup().unwrap();
    assert_eq!(how(&written).provenance, Provenance::FullRead);
    assert_ne!(root(&written), root(&racy));
}

#[test]
fn a_list_that_does_not_fit_is_told_and_everything_is_read() {
    let mut world = World::small(&["root"], false);
    std::fs::write(world.disk("root"), noise(1, 300_000)).unwrap();
    let first = world.backup().unwrap().point;
    let range = |start, end| vec![Extent::between(start, end)];
    for (hints, reason) in [
        (hand_over(PointId([3; 32]), range(0, 10)), "since the point 0303"),
        (hand_over(first.id, range(299_999, 300_001)), "byte 300001 of a disk of 300000"),
    ] {
        world.hints = hints;
        let result = world.backup().unwrap();
        let read = how(&result);
        assert_eq!(read.provenance, Provenance::FullRead);
        let told = read.in_full_because.as_deref().unwrap();
        assert!(told.contains(reason), "{told}");
        world.remove_point(result.point.id);
    }
    // Another size: the list says nothing of what came or went.
    std::fs::write(world.disk("root"), noise(1, 200_000)).unwrap();
    world.hints = hand_over(first.id, Vec::new());
    let result = world.backup().unwrap();
    assert_eq!(how(&result).in_full_because.as_deref(), Some("its size changed"));
    assert_eq!(world.restored(&result.point, "root"), noise(1, 200_000));
}

/// Loses one data pack, which the first point needs.
fn lose_a_pack(world: &World) -> PackName {
    let repository = world.repository();
    let packs = repository.list_packs().unwrap();
    let is_data = |pack: &&(PackName, u64)| {
        let record = repository.read_pack_record(pack.0).unwrap();
        record.kind == afterimage::store::PackKind::Data
    };
    let pack = packs.iter().find(is_data).unwrap().0;
    std::fs::remove_file(repository.layout().pack(pack)).unwrap();
    pack
}

#[test]
fn what_was_lost_is_stored_again_and_not_built_upon() {
    let mut world = World::small(&["root"], false);
    let content = noise(1, 300_000);
    std::fs::write(world.disk("root"), &content).unwrap();
    let first = world.backup().unwrap();
    lose_a_pack(&world);
    world.hints = hand_over(first.point.id, Vec::new());
    // Also what was known of the point when it was made counts no more.
    world.hints.sources = Some(first.sources);
    let result = world.backup().unwrap();
    let read = how(&result);
    assert_eq!(read.provenance, Provenance::FullRead);
    assert!(read.in_full_because.as_deref().unwrap().contains("relied on"));
    assert_eq!(world.restored(&result.point, "root"), content);
    // From here on it can be built upon again.
    world.hints = hand_over(result.point.id, Vec::new());
    world.hints.sources = Some(result.sources);
    assert_eq!(how(&world.backup().unwrap()).provenance, Provenance::List);
}

#[test]
fn a_tree_that_cannot_be_read_is_not_built_upon_and_is_stored_again() {
    let mut world = World::small(&["root"], false);
    // One region: its leaf is all of the tree.
    let content = noise(1, 60_000);
    std::fs::write(world.disk("root"), &content).unwrap();
    let first = world.backup().unwrap();
    let repository = world.repository();
    for (pack, _) in repository.list_packs().unwrap() {
        let record = repository.read_pack_record(pack).unwrap();
        if record.kind == afterimage::store::PackKind::Tree {
            // The trailer stays good; what lies before it is no more.
            let path = repository.layout().pack(pack);
            let mut damaged = std::fs::read(&path).unwrap();
            for place in record.locations() {
                damaged[place.offset as usize] ^= 0xff;
            }
            std::fs::write(&path, damaged).unwrap();
        }
    }
    world.hints = hand_over(first.point.id, vec![Extent::between(0, 5000)]);
    world.hints.sources = Some(first.sources);
    let result = world.backup().unwrap();
    let read = how(&result);
    assert_eq!(read.provenance, Provenance::FullRead);
    assert!(read.in_full_because.as_deref().unwrap().contains("cannot be built upon"));
    // It was stored again, as it was found to be damaged.
    assert_eq!(world.restored(&result.point, "root"), content);
}

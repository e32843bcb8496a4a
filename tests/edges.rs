//! Disks at the edges: of no bytes, of one, all zeros, twice the same, full of small holes.

mod common;

use afterimage::progress::{Counts, Progress};
use afterimage::replay::Replicated;
use common::{World, assert_same, noise, write_sparse};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const MIB: usize = 1 << 20;
const REGION: usize = 16 * MIB;

fn counted(world: &World) -> Counts {
    let progress = Progress::default();
    world.backup_of(&world.fs, "web01", &world.disks, &progress).unwrap();
    progress.counts()
}

fn allocated(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().blocks() * 512
}

#[test]
fn disks_of_every_odd_size_go_all_the_way() {
    let sizes = [0, 1, 511, 4097, REGION - 1, REGION, REGION + 1];
    let world = World::new(&["a", "b"], false);
    let fill: [fn(usize) -> Vec<u8>; 2] = [|size| vec![0; size], |size| noise(9, size)];
    for (number, size) in sizes.iter().chain(sizes.iter().rev()).enumerate() {
        let contents = fill.map(|fill| fill(*size));
        world.write_disk("a", &contents[number % 2]);
        world.write_disk("b", &contents[1 - number % 2]);
        let point = world.backup().unwrap().point;
        let done = world.replicate("standby").unwrap();
        assert!(matches!(done, Replicated::Replayed { .. }) || number == 0, "{done:?}");
        for (disk, content) in [("a", &contents[number % 2]), ("b", &contents[1 - number % 2])] {
            assert_same(&world.replica_disk("standby", disk), content, disk);
            assert_same(&world.restored(&point, disk), content, disk);
        }
    }
    world.check_catalog();
}

#[test]
fn equal_content_is_stored_once_wherever_it_lies() {
    let world = World::new(&["a", "b"], true);
    let content = noise(1, 20 * MIB);
    world.write_disk("a", &content);
    world.write_disk("b", &content);
    let first = counted(&world);
    assert!((20 * MIB as u64..21 * MIB as u64).contains(&first.stored), "{first:?}");
    let unchanged = counted(&world);
    assert_eq!((unchanged.new, unchanged.changed, unchanged.stored), (0, 0, 0), "{unchanged:?}");
    // Another machine has it behind a gap and after other content: only what meets the edges of
    // regions is cut anew.
    let mut moved = noise(2, MIB);
    moved.resize(3 * MIB, 0);
    moved.extend_from_slice(&content);
    world.write_disk("c", &moved);
    let progress = Progress::default();
    world.backup_of(&world.fs, "db01", &["c".to_owned()], &progress).unwrap();
    let other = progress.counts();
    assert!(other.stored < 2 * MIB as u64, "{other:?}");
}

/// 4 KiB of data, then holes of one to four blocks, again and again.
fn full_of_holes(seed: u64) -> Vec<u8> {
    let mut disk = vec![0; 6 * MIB + 100];
    let mut at = 4096 * (seed as usize % 3);
    while at + 4096 < disk.len() {
        disk[at..at + 4096].copy_from_slice(&noise(seed + at as u64, 4096));
        at += 4096 * (2 + at / 4096 % 4);
    }
    disk
}

#[test]
fn copies_of_sparse_disks_are_as_thin_as_their_sources() {
    let world = World::new(&["root"], false);
    let image = world.path("standby/root.raw");
    let check = |path: &Path, what: &str| {
        let source = allocated(&world.disk("root"));
        let most = source + source / 100 + 64 * 1024;
        assert!(allocated(path) <= most, "{what}: {} of {source}", allocated(path));
    };
    let mut disk = full_of_holes(0);
    write_sparse(&world.disk("root"), &disk);
    assert!(
        allocated(&world.disk("root")) < disk.len() as u64 / 2,
        "no holes here: test elsewhere"
    );
    world.backup().unwrap();
    world.replicate("standby").unwrap();
    check(&image, "seeded");
    // Other blocks have data, and what was data are holes.
    disk = full_of_holes(1);
    write_sparse(&world.disk("root"), &disk);
    world.backup().unwrap();
    assert!(matches!(world.replicate("standby").unwrap(), Replicated::Replayed { .. }));
    check(&image, "replayed");
    disk[MIB..4 * MIB].fill(0);
    write_sparse(&world.disk("root"), &disk);
    let point = world.backup().unwrap().point;
    assert!(matches!(world.replicate("standby").unwrap(), Replicated::Replayed { .. }));
    check(&image, "punched");
    let folder = world.restore(&point, "restored").unwrap();
    check(&folder.join("root.raw"), "restored");
    assert_same(&std::fs::read(&image).unwrap(), &disk, "replica");
}

//! Whatever is written to an image, in whatever way: what changed is covered, every time.

use crate::image::{Image, clone};
use crate::volume::{Kind, Volume, succeed};
use afterimage::extent::Extent;
use std::fs::File;
use std::path::Path;
use std::process::Command;

/// Panics where the two differ outside of `changed`.
#[track_caller]
pub fn assert_covered(old: &[u8], new: &[u8], changed: &[Extent], context: &str) {
    let mut start = 0;
    let end = [Extent::between(new.len() as u64, u64::MAX)];
    for extent in changed.iter().chain(&end) {
        let unchanged = start..extent.start() as usize;
        let was = old.get(unchanged.clone());
        let is_same = was.is_some_and(|was| was == &new[unchanged.clone()]);
        assert!(is_same || unchanged.is_empty(), "{context}: {unchanged:?} of {changed:?}");
        start = extent.end() as usize;
    }
}

/// Bytes that were said to have changed, and that did, in blocks.
#[derive(Debug, Default)]
struct Told {
    bytes: u64,
    changed_bytes: u64,
}

fn changed_blocks(old: &[u8], new: &[u8]) -> u64 {
    let same = |block: &&[u8], at: usize| old.get(at..at + block.len()) == Some(block);
    let blocks = new.chunks(4096).enumerate();
    blocks.filter(|(index, block)| !same(block, index * 4096)).count() as u64 * 4096
}

fn run_batches(volume: &Volume, image: &Path, seed: u64, batches: u32) -> Told {
    let mut told = Told::default();
    let mut image = Image::new(image.to_owned(), volume.kind, seed);
    let mut first = clone(&image.path, None).unwrap();
    first.keep(None);
    let mut base = first.as_base();
    let mut content = std::fs::read(&base.path).unwrap();
    for batch in 0..batches {
        image.change();
        let mut next = clone(&image.path, Some(&base)).unwrap();
        let changed = next.changed_since(&base).unwrap();
        let now = std::fs::read(next.spec().path).unwrap();
        let context = format!("{:?}, seed {seed}, batch {batch}", volume.kind);
        assert_covered(&content, &now, &changed, &context);
        if batch % 16 == 0 {
            assert!(std::fs::read(&base.path).unwrap() == content, "{context}: the base changed");
            assert!(std::fs::read(&image.path).unwrap() == now, "{context}: another content");
        }
        told.bytes += changed.iter().map(Extent::len).sum::<u64>();
        told.changed_bytes += changed_blocks(&content, &now);
        assert_eq!(next.keep(Some(&base)), [""; 0]);
        base = next.as_base();
        content = now;
    }
    assert_eq!(volume.clones().len(), 1, "{:?}", volume.clones());
    told
}

/// As many as are asked for, for longer searches: AFTERIMAGE_BATCHES=20000 AFTERIMAGE_SEED=7.
fn asked_for(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap())
}

fn run_on(kind: Kind, batches: u64) -> Told {
    let volume = Volume::new(kind);
    let seed = asked_for("AFTERIMAGE_SEED", 1);
    let batches = asked_for("AFTERIMAGE_BATCHES", batches);
    let told = run_batches(&volume, &volume.path("disk.img"), seed, batches as u32);
    println!("count: {batches} batches on {kind:?}: {told:?}");
    told
}

#[test]
fn a_thousand_batches_of_changes_are_covered_on_xfs() {
    let told = run_on(Kind::Xfs, 1000);
    assert!(told.bytes < told.changed_bytes * 3, "{told:?}");
}

#[test]
fn a_thousand_batches_of_changes_are_covered_on_btrfs() {
    let told = run_on(Kind::Btrfs, 1000);
    assert!(told.bytes < told.changed_bytes * 4, "{told:?}");
}

#[test]
fn batches_of_changes_are_covered_where_btrfs_compresses() {
    run_on(Kind::Compressed, 300);
}

#[test]
fn batches_of_changes_to_an_image_that_is_written_in_place_are_covered() {
    let volume = Volume::new(Kind::Btrfs);
    let path = volume.path("disk.img");
    File::create(&path).unwrap();
    succeed(Command::new("chattr").arg("+C").arg(&path));
    std::fs::write(&path, afterimage::testing::noise(3, 4 << 20)).unwrap();
    let told = run_batches(&volume, &path, 3, 300);
    assert!(told.bytes < told.changed_bytes * 4, "{told:?}");
}

/// Blocks that are written as a whole are what is told, and nothing else.
fn is_exact_on(kind: Kind) {
    let volume = Volume::new(kind);
    let mut image = Image::new(volume.path("disk.img"), kind, 1);
    let mut first = clone(&image.path, None).unwrap();
    first.keep(None);
    let base = first.as_base();
    let mut expected = Vec::new();
    for block in [0, 1, 7, 100, 101, 102, 500, 1023] {
        image.write(block * 4096, 4096);
        afterimage::extent::push_joined(
            &mut expected,
            Extent::between(block * 4096, (block + 1) * 4096),
        );
    }
    let next = clone(&image.path, Some(&base)).unwrap();
    assert_eq!(next.changed_since(&base).unwrap(), expected, "{kind:?}");
    // The image itself may go, and come back with the same content: that is another content.
    let content = std::fs::read(&image.path).unwrap();
    drop(next);
    std::fs::remove_file(&image.path).unwrap();
    std::fs::write(&image.path, content).unwrap();
    let next = clone(&image.path, Some(&base)).unwrap();
    assert_eq!(next.changed_since(&base).unwrap(), [Extent::between(0, 4 << 20)]);
}

#[test]
fn what_changed_is_told_exactly_in_blocks() {
    is_exact_on(Kind::Xfs);
    is_exact_on(Kind::Btrfs);
}

/// Where blocks move by themselves, more is told, never less.
#[test]
fn blocks_that_are_moved_count_as_changed() {
    let volume = Volume::new(Kind::Btrfs);
    let mut image = Image::new(volume.path("disk.img"), volume.kind, 1);
    let mut first = clone(&image.path, None).unwrap();
    first.keep(None);
    let base = first.as_base();
    let before = std::fs::read(&base.path).unwrap();
    image.write(8192, 4096);
    let next = clone(&image.path, Some(&base)).unwrap();
    succeed(Command::new("btrfs").args(["balance", "start", "-d"]).arg(volume.folder()));
    let changed = next.changed_since(&base).unwrap();
    let now = std::fs::read(next.spec().path).unwrap();
    assert_covered(&before, &now, &changed, "after a balance");
    // Both clones were moved together.
    assert_eq!(changed, [Extent::between(8192, 12288)]);
}

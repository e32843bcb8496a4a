//! A clone of an image that is being written to is the image at one instant.

use crate::image::clone;
use crate::volume::{Kind, Volume};
use afterimage::capture::clone::CloneState;
use std::fs::File;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const BLOCK: usize = 4096;
const BLOCKS: u64 = 256;
const CLONES: u32 = 60;

/// Memory that a direct write can be made from.
fn aligned(number: u64, memory: &mut [u8]) -> &[u8] {
    let start = memory.as_ptr().align_offset(BLOCK);
    let block = &mut memory[start..start + BLOCK];
    block.fill(number as u8);
    block[..8].copy_from_slice(&number.to_le_bytes());
    block
}

/// Writes number after number, each to the next block, around and around; each write begins when the
/// one before is done.
fn write_on(path: &Path, direct: bool, written: &AtomicU64, stop: &AtomicBool) {
    let flags = if direct { libc::O_DIRECT } else { 0 };
    let file = File::options().write(true).custom_flags(flags).open(path).unwrap();
    let mut memory = vec![0; 2 * BLOCK];
    let mut number = BLOCKS;
    while !stop.load(Ordering::Relaxed) {
        let offset = number % BLOCKS * BLOCK as u64;
        file.write_all_at(aligned(number, &mut memory), offset).unwrap();
        written.store(number, Ordering::Release);
        number += 1;
    }
}

/// The last number in the clone, if everything before it is there, and nothing torn.
#[track_caller]
fn last_number(content: &[u8]) -> u64 {
    let number = |block: &[u8]| u64::from_le_bytes(block[..8].try_into().unwrap());
    let blocks = content.chunks(BLOCK);
    let last = blocks.clone().map(number).max().unwrap();
    for (index, block) in blocks.enumerate() {
        let expected = last - (last + BLOCKS - index as u64) % BLOCKS;
        assert_eq!(number(block), expected, "block {index}, the last number is {last}");
        assert!(block[8..].iter().all(|byte| *byte == expected as u8), "block {index} is torn");
    }
    last
}

fn clones_are_instants(kind: Kind, direct: bool) {
    let volume = Volume::new(kind);
    let path = volume.path("disk.img");
    let mut memory = vec![0; 2 * BLOCK];
    let content = (0..BLOCKS).flat_map(|number| aligned(number, &mut memory).to_vec());
    std::fs::write(&path, content.collect::<Vec<_>>()).unwrap();
    let (written, stop) = (AtomicU64::new(BLOCKS - 1), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| write_on(&path, direct, &written, &stop));
        // Stops the writer also when an assertion fails.
        let _stop = StopOnDrop(&stop);
        while written.load(Ordering::Acquire) < BLOCKS {
            std::thread::yield_now();
        }
        for _ in 0..CLONES {
            let before = written.load(Ordering::Acquire);
            let held = clone(&path, None).unwrap();
            let after = written.load(Ordering::Acquire);
            let last = last_number(&std::fs::read(held.spec().path).unwrap());
            // The write that was under way may be in it, or not.
            assert!((before..=after + 1).contains(&last), "{before} {last} {after}");
            assert_eq!(last_number(&std::fs::read(held.spec().path).unwrap()), last);
        }
    });
    assert!(volume.clones().is_empty());
}

struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_clone_on_xfs_is_one_instant_of_what_is_written_meanwhile() {
    clones_are_instants(Kind::Xfs, false);
    clones_are_instants(Kind::Xfs, true);
}

#[test]
fn a_clone_on_btrfs_is_one_instant_of_what_is_written_meanwhile() {
    clones_are_instants(Kind::Btrfs, false);
    clones_are_instants(Kind::Btrfs, true);
}

#[test]
fn whether_somebody_wrote_is_told() {
    let volume = Volume::new(Kind::Xfs);
    let path = volume.path("disk.img");
    std::fs::write(&path, [1; 8192]).unwrap();
    assert_eq!(clone(&path, None).unwrap().state(), CloneState::Quiet);
    let held = crate::qcow2::Opened::new("raw", &path);
    assert_eq!(clone(&path, None).unwrap().state(), CloneState::InUse);
    drop(held);
    assert_eq!(clone(&path, None).unwrap().state(), CloneState::Quiet);
}

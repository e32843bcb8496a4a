//! An image that is written to in every way, and the clones of it.

use crate::volume::{Kind, succeed};
use afterimage::capture::clone::{CloneError, CloneRequest, ImageClone, KeptClone};
use afterimage::capture::{CaptureUser, Mark, OwnerId};
use afterimage::source::ImageFormat;
use afterimage::testing::{Random, noise};
use afterimage::units::RunId;
use rustix::fs::{FallocateFlags, fallocate};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Nothing makes the image larger than this.
pub const IMAGE_BYTES_MAX: u64 = 6 << 20;
const BLOCK: u64 = 4096;

pub fn mark() -> Mark {
    mark_of(1)
}

/// The mark of another installation.
pub fn mark_of(owner: u8) -> Mark {
    let name = |text: &str| text.parse().unwrap();
    Mark::new(OwnerId([owner; 16]), CaptureUser::Machine(&name("web01")), &name("root"))
}

/// Clones the image.
pub fn clone(image: &Path, kept: Option<&KeptClone>) -> Result<ImageClone, CloneError> {
    clone_as(image, Some(ImageFormat::Raw), mark(), kept)
}

pub fn clone_as(
    image: &Path,
    format: Option<ImageFormat>,
    mark: Mark,
    kept: Option<&KeptClone>,
) -> Result<ImageClone, CloneError> {
    let (machine, disk) = ("web01".parse().unwrap(), "root".parse().unwrap());
    let run = RunId::random().unwrap();
    let (machine, disk) = (&machine, &disk);
    ImageClone::take(&CloneRequest { image, format, machine, disk, mark, run, kept })
}

/// An image under random changes.
pub struct Image {
    pub path: PathBuf,
    kind: Kind,
    file: File,
    random: Random,
}

impl Image {
    pub fn new(path: PathBuf, kind: Kind, seed: u64) -> Self {
        let options = || File::options().read(true).write(true).open(&path);
        if !path.exists() {
            std::fs::write(&path, noise(seed, 4 << 20)).unwrap();
        }
        let file = options().unwrap();
        Self { path, kind, file, random: Random::new(seed) }
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.random.below(limit.max(1))
    }

    fn size(&self) -> u64 {
        self.file.metadata().unwrap().len()
    }

    /// A range within the image; on block boundaries more often than not.
    fn range(&mut self, bytes_max: u64) -> (u64, u64) {
        let size = self.size();
        let (mut start, mut len) = (self.below(size), 1 + self.below(bytes_max));
        if self.below(3) > 0 {
            (start, len) = (start / BLOCK * BLOCK, len.div_ceil(BLOCK) * BLOCK);
        }
        (start, len.min(size - start).max(1))
    }

    pub fn write(&mut self, start: u64, len: u64) {
        let seed = self.random.word();
        // A part of it compresses, a part is zeros.
        let mut content = noise(seed, len as usize);
        match seed % 4 {
            0 => content.fill(seed as u8),
            1 => content.fill(0),
            _ => {}
        }
        self.file.write_all_at(&content, start).unwrap();
    }

    fn allocate(&mut self, flags: FallocateFlags, start: u64, len: u64) {
        // Some file systems refuse some of it, and then nothing changes.
        let _ = fallocate(&self.file, flags, start, len);
    }

    /// Runs `xfs_io`, which has what no safe call offers. It may refuse.
    fn io(&self, commands: &[String], direct: bool) {
        let mut io = Command::new("xfs_io");
        if direct {
            io.arg("-d");
        }
        for command in commands {
            io.args(["-c", command]);
        }
        // xfs_io tells of refusals on its outputs, not by its status.
        let output = io.arg(&self.path).output();
        output.expect("xfs_io is there: Debian's package is xfsprogs");
    }

    /// Copies a part onto another by sharing its blocks, where the file system can.
    fn share(&mut self) {
        let blocks = self.size() / BLOCK;
        let len = (1 + self.below(16)) * BLOCK;
        let (mut from, mut to) = (self.below(blocks) * BLOCK, self.below(blocks) * BLOCK);
        let end = (blocks * BLOCK).saturating_sub(len);
        (from, to) = (from.min(end), to.min(end));
        if from.abs_diff(to) >= len {
            let (source, target) = (&self.file, &self.file);
            let (mut from, mut to) = (from, to);
            let copy = rustix::fs::copy_file_range;
            copy(source, Some(&mut from), target, Some(&mut to), len as usize).unwrap();
        }
    }

    fn resize(&mut self) {
        let grown = self.below(IMAGE_BYTES_MAX);
        let size = self.size();
        // Down a little, or up anywhere.
        let to = if self.below(2) == 0 { size - size / 16 } else { size.max(grown) };
        self.file.set_len(to.max(1 << 20)).unwrap();
    }

    fn shift(&mut self) {
        let start = self.below(self.size() / BLOCK) * BLOCK;
        let len = (1 + self.below(8)) * BLOCK;
        let grows = self.size() + len <= IMAGE_BYTES_MAX && self.below(2) == 0;
        let shifted =
            if grows { FallocateFlags::INSERT_RANGE } else { FallocateFlags::COLLAPSE_RANGE };
        self.allocate(shifted, start, len);
    }

    fn by_xfs_io(&mut self) {
        let (start, len) = self.range(64 << 10);
        let (from, _) = self.range(1);
        match self.below(4) {
            0 => {
                let from = from / BLOCK * BLOCK;
                let start = start / BLOCK * BLOCK;
                // The same content first, so that there is something to share.
                self.share();
                let path = self.path.display();
                self.io(&[format!("dedupe {path} {from} {start} {BLOCK}")], false);
            }
            1 => {
                let (map, write) =
                    (format!("mmap 0 {}", self.size()), format!("mwrite {start} {len}"));
                self.io(&[map, write], false);
            }
            2 => {
                let (start, len) = (start / BLOCK * BLOCK, len.div_ceil(BLOCK) * BLOCK);
                self.io(&[format!("pwrite -S 7 {start} {len}")], true);
            }
            _ if self.kind.is_btrfs() => {
                let mut defragment = Command::new("btrfs");
                defragment.args(["filesystem", "defragment", "-f"]).arg(&self.path);
                succeed(&mut defragment);
            }
            _ => self.io(&["fsync".to_owned()], false),
        }
    }

    /// One change, or a few.
    pub fn change(&mut self) {
        for _ in 0..=self.below(4) {
            let (start, len) = self.range(200 << 10);
            let keep = FallocateFlags::KEEP_SIZE;
            match self.below(64) {
                0..30 => self.write(start, len),
                30..36 => self.allocate(keep | FallocateFlags::PUNCH_HOLE, start, len),
                36..42 => self.allocate(keep | FallocateFlags::ZERO_RANGE, start, len),
                42..46 => self.allocate(keep, start, len),
                46..48 => self.allocate(FallocateFlags::empty(), start, len),
                48..53 => self.share(),
                53..56 => self.resize(),
                56..58 => self.shift(),
                58..61 => self.file.sync_data().unwrap(),
                _ => self.by_xfs_io(),
            }
        }
    }
}

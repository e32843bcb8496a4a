//! Clones of qcow2 images: what changed is told in bytes of the disk.

use crate::batches::assert_covered;
use crate::image::{clone_as, mark};
use crate::volume::{Kind, Volume, succeed};
use afterimage::capture::clone::{CloneError, ImageClone};
use afterimage::extent::Extent;
use afterimage::source::{ImageFormat, open_clone};
use afterimage::testing::Random;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// qemu-io, which has the image open for writing until this is dropped.
pub struct Opened(Child);

impl Opened {
    pub fn new(format: &str, path: &Path) -> Self {
        let mut command = Command::new("qemu-io");
        command.args(["-f", format]).arg(path).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("qemu-io is there: Debian's package is qemu-utils");
        child.stdin.as_mut().unwrap().write_all(b"length\n").unwrap();
        // An answer means that the image is open and locked.
        let mut answer = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut answer).unwrap();
        assert!(answer.contains('B') || answer.contains("iB"), "{answer}");
        Self(child)
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn qemu_io(path: &Path, commands: &[String]) {
    let mut io = Command::new("qemu-io");
    io.args(["-f", "qcow2"]);
    for command in commands {
        io.args(["-c", command]);
    }
    let printed = succeed(io.arg(path));
    assert!(!printed.contains("failed"), "{printed}");
}

fn content(clone: &ImageClone) -> Vec<u8> {
    let source = open_clone(&clone.spec()).unwrap();
    let mut content = vec![0; source.size_bytes() as usize];
    source.read_exact_at(&mut content, 0).unwrap();
    content
}

fn take(path: &Path, kept: Option<&ImageClone>) -> Result<ImageClone, CloneError> {
    clone_as(path, None, mark(), kept.map(ImageClone::as_base).as_ref())
}

/// Changes what QEMU can change of a disk.
fn change(path: &Path, random: &mut Random) {
    let mut commands = Vec::new();
    for _ in 0..=random.below(4) {
        let start = random.below(8 << 20) / 512 * 512;
        let len = (512 + random.below(150 << 10) / 512 * 512).min((8 << 20) - start);
        let cluster = start / 65536 * 65536;
        commands.push(match random.below(6) {
            0..3 => format!("write -P {} {start} {len}", 1 + random.below(200)),
            3 => format!("write -z {start} {len}"),
            4 => format!("discard {start} {len}"),
            _ => format!("write -c -P {} {cluster} 65536", 1 + random.below(200)),
        });
    }
    // QEMU refuses to compress what is written already; the rest is done.
    let mut io = Command::new("qemu-io");
    io.args(["-d", "unmap", "-f", "qcow2"]);
    io.args(commands.iter().flat_map(|command| ["-c", command]));
    io.arg(path).output().unwrap();
}

fn batches_on(kind: Kind, options: &str) {
    let volume = Volume::new(kind);
    let path = volume.path("disk.qcow2");
    let mut create = Command::new("qemu-img");
    succeed(create.args(["create", "-q", "-f", "qcow2", "-o", options]).arg(&path).arg("8M"));
    qemu_io(&path, &["write -P 9 0 4M".to_owned()]);
    let mut random = Random::new(1);
    let mut base = take(&path, None).unwrap();
    base.keep(None);
    let mut before = content(&base);
    let mut told = 0;
    for batch in 0..25 {
        change(&path, &mut random);
        let mut next = take(&path, Some(&base)).unwrap();
        let changed = next.changed_since(&base.as_base()).unwrap();
        let now = content(&next);
        assert_covered(&before, &now, &changed, &format!("{kind:?}, {options}, batch {batch}"));
        told += changed.iter().map(Extent::len).sum::<u64>();
        next.keep(Some(&base.as_base()));
        (base, before) = (next, now);
    }
    // Less than a quarter of it, on average.
    assert!(told < 25 * (2 << 20), "{told}");
    let quiet = take(&path, Some(&base)).unwrap();
    assert_eq!(quiet.changed_since(&base.as_base()).unwrap(), []);
}

#[test]
fn batches_of_changes_to_qcow2_images_are_covered() {
    batches_on(Kind::Xfs, "compat=1.1");
    batches_on(Kind::Btrfs, "compression_type=zstd,extended_l2=on,cluster_size=64k");
}

#[test]
fn the_format_is_found_by_the_name_of_the_image() {
    let volume = Volume::new(Kind::Xfs);
    let path = volume.path("disk.qcow2");
    succeed(Command::new("qemu-img").args(["create", "-q", "-f", "qcow2"]).arg(&path).arg("1M"));
    assert_eq!(take(&path, None).unwrap().spec().format, ImageFormat::Qcow2);
    std::fs::rename(&path, volume.path("disk.img")).unwrap();
    let refused = take(&volume.path("disk.img"), None).unwrap_err().to_string();
    assert!(refused.contains("say what it is"), "{refused}");
    assert!(volume.clones().is_empty());
}

/// QEMU keeps tables of an open qcow2 image in its memory.
#[test]
fn a_qcow2_image_in_use_is_refused() {
    let volume = Volume::new(Kind::Xfs);
    let path = volume.path("disk.qcow2");
    succeed(Command::new("qemu-img").args(["create", "-q", "-f", "qcow2"]).arg(&path).arg("1M"));
    let held = Opened::new("qcow2", &path);
    let refused = take(&path, None).unwrap_err();
    assert!(matches!(refused, CloneError::Qcow2InUse { .. }), "{refused}");
    assert!(!volume.path(".afterimage-clones").exists());
    drop(held);
    take(&path, None).unwrap();
}

/// The names in an image are relative to its own folder, not to that of its clones.
#[test]
fn an_image_that_stands_on_another_is_read_whole() {
    let volume = Volume::new(Kind::Xfs);
    let (below, path) = (volume.path("below.raw"), volume.path("disk.qcow2"));
    std::fs::write(&below, afterimage::testing::noise(1, 1 << 20)).unwrap();
    let mut create = Command::new("qemu-img");
    create.args(["create", "-q", "-f", "qcow2", "-b", "below.raw", "-F", "raw"]);
    succeed(create.arg(&path));
    qemu_io(&path, &["write -P 5 4k 4k".to_owned()]);
    let mut base = take(&path, None).unwrap();
    let mut expected = std::fs::read(&below).unwrap();
    expected[4096..8192].fill(5);
    assert!(content(&base) == expected);
    base.keep(None);
    let next = take(&path, Some(&base)).unwrap();
    let unknown = next.changed_since(&base.as_base()).unwrap_err();
    assert!(unknown.contains("stands on another"), "{unknown}");
    // What lies in a file of its own is not cloned.
    let path = volume.path("apart.qcow2");
    let mut create = Command::new("qemu-img");
    create.args(["create", "-q", "-f", "qcow2", "-o", "data_file=data.raw"]).arg(&path).arg("1M");
    succeed(create.current_dir(volume.folder()));
    let held = take(&path, None).unwrap();
    let refused = open_clone(&held.spec()).unwrap_err().to_string();
    assert!(refused.contains("another file"), "{refused}");
}

//! QEMU's tools, loop devices and comparisons. A missing tool is a failure, not a skipped test.

use crate::extent::Extent;
use crate::source::{ImageFormat, Source, SourceError, SourceSpec, open};
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

fn run(program: &str, args: &[&OsStr]) -> Output {
    Command::new(program).args(args).output().unwrap_or_else(|e| {
        panic!("{program} is needed ({e}): install the Debian packages qemu-utils and mount")
    })
}

/// Runs qemu-img with words that are split at spaces, then `paths`.
pub(super) fn qemu_img(words: &str, paths: &[&Path]) {
    let words = words.split(' ').map(OsStr::new);
    let args: Vec<&OsStr> = words.chain(paths.iter().map(|path| path.as_os_str())).collect();
    let output = run("qemu-img", &args);
    assert!(output.status.success(), "qemu-img {args:?}: {output:?}");
}

/// Runs qemu-io commands on an image.
pub(super) fn qemu_io(format: &str, path: &Path, commands: &[String]) -> Output {
    let mut args: Vec<&OsStr> = vec!["-f".as_ref(), format.as_ref()];
    for command in commands {
        args.extend([OsStr::new("-c"), OsStr::new(command)]);
    }
    args.push(path.as_os_str());
    run("qemu-io", &args)
}

/// Runs qemu-io commands that must succeed.
pub(super) fn write(path: &Path, commands: &[String]) {
    let output = qemu_io("qcow2", path, commands);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && !text.contains("failed"), "{commands:?}: {output:?}");
}

/// What QEMU reads from an image.
pub(super) fn as_qemu_reads(format: &str, path: &Path) -> Vec<u8> {
    let raw = path.with_extension("as-qemu-reads");
    qemu_img(&format!("convert -f {format} -O raw"), &[path, &raw]);
    let content = std::fs::read(&raw).unwrap();
    std::fs::remove_file(&raw).unwrap();
    content
}

/// A program that has an image open for writing until it is dropped.
pub(super) struct Writer(Child);

impl Writer {
    pub(super) fn on(path: &Path) -> Self {
        let mut child = Command::new("qemu-io")
            .args(["-f", "qcow2"])
            .arg(path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("qemu-io is needed: install the Debian package qemu-utils");
        child.stdin.as_mut().unwrap().write_all(b"length\n").unwrap();
        // Any answer means that the image is open and locked.
        let mut answer = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut answer).unwrap();
        Self(child)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A loop device over a file, detached when dropped.
pub(super) struct Loop(pub(super) PathBuf);

impl Loop {
    pub(super) fn over(image: &Path, sector_bytes: u32) -> Self {
        let sector_bytes = sector_bytes.to_string();
        let words = ["--find", "--show", "--sector-size", &sector_bytes].map(OsStr::new);
        let args: Vec<&OsStr> = words.into_iter().chain([image.as_os_str()]).collect();
        let output = run("losetup", &args);
        assert!(output.status.success(), "this test needs root and loop devices: {output:?}");
        Self(PathBuf::from(String::from_utf8(output.stdout).unwrap().trim()))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        run("losetup", &["--detach".as_ref(), self.0.as_os_str()]);
    }
}

/// Numbers that depend on nothing but a seed.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % limit
    }

    pub(super) fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.below(256) as u8).collect()
    }
}

/// A file to read, whatever it holds.
pub(super) fn spec(path: &Path, format: Option<ImageFormat>) -> SourceSpec {
    SourceSpec { path: path.to_owned(), format, must_be_device: false, quiesced: false }
}

/// Opens a qcow2 image.
pub(super) fn open_qcow2(path: &Path) -> Result<Box<dyn Source>, SourceError> {
    open(&spec(path, Some(ImageFormat::Qcow2)))
}

/// Opens a qcow2 image that must be refused.
pub(super) fn refused(path: &Path) -> SourceError {
    open_qcow2(path).expect_err("it should have been refused")
}

/// Holds that `source` reads as `expected`, and that what it calls zeros is zeros.
pub(super) fn assert_reads_as(source: &dyn Source, expected: &[u8], context: &str) {
    assert_eq!(source.size_bytes(), expected.len() as u64, "{context}");
    let mut read = vec![0xaa; expected.len()];
    // Pieces that fit no cluster.
    for (index, piece) in read.chunks_mut(1_000_003).enumerate() {
        source.read_exact_at(piece, index as u64 * 1_000_003).unwrap();
    }
    let differs = read.iter().zip(expected).position(|(ours, theirs)| ours != theirs);
    assert_eq!(differs, None, "{context}: first byte that differs");

    let extents = source.data_extents(Extent::between(0, source.size_bytes())).unwrap();
    assert_zeros_outside(&extents, expected, context);
    for offset in [0, 1, 4096, expected.len() as u64 / 2, expected.len() as u64 - 1] {
        let next = extents.iter().find(|extent| extent.end() > offset);
        let next = next.map(|extent| extent.start().max(offset));
        assert_eq!(source.next_data(offset).unwrap(), next, "{context}: data after {offset}");
    }
    assert_eq!(source.next_data(source.size_bytes()).unwrap(), None, "{context}");
    source.check_unchanged().unwrap();
}

/// Holds that `extents` are sorted, apart, and that `expected` is zero outside them.
pub(super) fn assert_zeros_outside(extents: &[Extent], expected: &[u8], context: &str) {
    let mut position = 0;
    for extent in extents {
        assert!(position == 0 || extent.start() > position, "{context}: {extents:?}");
        let gap = &expected[position as usize..extent.start() as usize];
        assert!(gap.iter().all(|byte| *byte == 0), "{context}: before {extent:?}");
        position = extent.end();
    }
    assert!(expected[position as usize..].iter().all(|byte| *byte == 0), "{context}: the end");
}

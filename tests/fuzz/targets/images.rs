//! Images that a disk is read from.

use super::world::{self, World};
use afterimage::extent::Extent;
use afterimage::source::{ImageFormat, Source, SourceError, SourceSpec, open};
use afterimage::units::DISK_BYTES_MAX;
use std::path::PathBuf;

/// Longest part of a disk that is read at once, and how much of it is looked at from each end.
const READ_BYTES: u64 = 64 * 1024;
const LOOK_BYTES: u64 = 1 << 20;
/// The most reads from each end.
const READS_MAX: usize = 16;

/// A qcow2 image that stands alone.
pub fn qcow2(bytes: &[u8]) -> bool {
    world::with(|world| {
        let path = world.real("0.img", bytes);
        check(open_image(path, Some(ImageFormat::Qcow2)))
    })
}

/// Several images; those behind the first are there as `1.img`, `2.img` and `3.img`, so that they
/// can be backing files or data files.
pub fn qcow2_chain(bytes: &[u8]) -> bool {
    let pieces = world::pieces(bytes, 4);
    world::with(|world| {
        for number in 0..4 {
            let piece = pieces.get(number).copied().unwrap_or_default();
            world.real(&format!("{number}.img"), piece);
        }
        check(open_image(world.folder.path().join("0.img"), Some(ImageFormat::Qcow2)))
    })
}

/// A file whose format is not told, under two names.
pub fn probe(bytes: &[u8]) -> bool {
    world::with(|world| {
        let raw = open_image(world.real("probed.raw", bytes), None);
        let is_raw = match &raw {
            Ok(source) => check_raw(world, source.as_ref(), bytes),
            Err(_) => false,
        };
        let qcow2 = open_image(world.real("probed.qcow2", bytes), None);
        if let Ok(source) = &qcow2 {
            assert_eq!(source.description(), "qcow2 image");
            assert!(raw.is_err(), "one content is two formats");
        }
        is_raw || check(qcow2)
    })
}

fn check_raw(_world: &World, source: &dyn Source, bytes: &[u8]) -> bool {
    assert_eq!(source.description(), "raw image");
    assert_eq!(source.size_bytes(), bytes.len() as u64);
    let mut read = vec![0xee; bytes.len()];
    source.read_exact_at(&mut read, 0).unwrap();
    assert_eq!(read, bytes);
    check_part(source, Extent::between(0, bytes.len() as u64))
}

fn open_image(path: PathBuf, format: Option<ImageFormat>) -> Result<Box<dyn Source>, SourceError> {
    // Who quiesced it vouches for it, so nothing is locked.
    open(&SourceSpec { path, format, must_be_device: false, quiesced: true })
}

fn check(opened: Result<Box<dyn Source>, SourceError>) -> bool {
    let source = match opened {
        Ok(source) => source,
        Err(error) => {
            let _ = (error.to_string(), error.is_permanent());
            return false;
        }
    };
    let size = source.size_bytes();
    assert!(size <= DISK_BYTES_MAX);
    assert!(!source.files().is_empty());
    source.check_unchanged().unwrap();
    let head = Extent::between(0, size.min(LOOK_BYTES));
    let tail = Extent::between(size.saturating_sub(LOOK_BYTES), size);
    let head_is_good = check_part(source.as_ref(), head);
    let tail_is_good = check_part(source.as_ref(), tail);
    if let Ok(bitmap) = source.stored_bitmap("changes") {
        let extents = &bitmap.extents;
        assert!(extents.iter().all(|it| !it.is_empty() && it.end() <= size));
        assert!(extents.windows(2).all(|pair| pair[0].end() < pair[1].start()));
    }
    // Past the end nothing is given.
    assert!(source.read_exact_at(&mut [0], size).is_err());
    assert!(source.data_extents(Extent::between(size, size + 1)).is_err());
    head_is_good && tail_is_good
}

/// What is reported as zeros reads as zeros, and the two ways to ask for data agree.
fn check_part(source: &dyn Source, range: Extent) -> bool {
    let Ok(extents) = source.data_extents(range) else { return false };
    let within = |extent: &Extent| extent.start() >= range.start() && extent.end() <= range.end();
    assert!(extents.iter().all(|extent| within(extent) && !extent.is_empty()));
    assert!(extents.windows(2).all(|pair| pair[0].end() < pair[1].start()), "they touch");
    if let Ok(next) = source.next_data(range.start()) {
        let first = extents.first().map(Extent::start);
        assert_eq!(next.filter(|at| *at < range.end()), first, "the first data differs");
    }
    let mut is_good = true;
    let mut at = range.start();
    let mut buffer = Vec::new();
    for _ in 0..READS_MAX {
        let part = Extent::between(at, range.end().min(at.saturating_add(READ_BYTES)));
        if part.is_empty() {
            break;
        }
        buffer.clear();
        buffer.resize(part.len() as usize, 0xee);
        if source.read_exact_at(&mut buffer, at).is_ok() {
            check_zeros(&buffer, part, &extents);
        } else {
            is_good = false;
        }
        at = part.end();
    }
    is_good
}

fn check_zeros(buffer: &[u8], part: Extent, extents: &[Extent]) {
    let mut at = part.start();
    let inside = extents.iter().map(|extent| extent.intersection(part));
    let ends = inside.filter(|it| !it.is_empty()).map(|it| (it.start(), it.end()));
    for (start, end) in ends.chain([(part.end(), part.end())]) {
        let hole = &buffer[(at - part.start()) as usize..(start - part.start()) as usize];
        assert!(hole.iter().all(|byte| *byte == 0), "what is no data at {at} is not zero");
        at = end;
    }
}

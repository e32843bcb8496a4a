//! Raw images, block devices, probing, changes.

use super::tools::*;
use crate::extent::Extent;
use crate::fsio::DeviceClaim;
use crate::source::{ImageFormat, SourceError, SourceSpec, open};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

const RAW: Option<ImageFormat> = Some(ImageFormat::Raw);

fn sparse_file(path: &Path, len: u64, data: &[(u64, usize)]) -> std::fs::File {
    let file = std::fs::File::options().create_new(true).read(true).write(true).open(path).unwrap();
    file.set_len(len).unwrap();
    for (offset, len) in data {
        file.write_all_at(&vec![7; *len], *offset).unwrap();
    }
    file
}

#[test]
fn a_sparse_raw_image_of_odd_size_reads_exactly() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk.raw");
    sparse_file(&path, 4_000_007, &[(0, 10), (1 << 20, 100_000), (4_000_000, 7)]);
    let source = open(&spec(&path, None)).unwrap();
    assert_reads_as(&*source, &std::fs::read(&path).unwrap(), "raw");
    assert_eq!(source.description(), "raw image");
    let extents = source.data_extents(Extent::between(0, source.size_bytes())).unwrap();
    assert!(extents.len() == 3, "the file system of this test tells holes: {extents:?}");
    let error = source.read_exact_at(&mut [0; 8], 4_000_000).unwrap_err();
    assert!(matches!(error, SourceError::PastEnd { .. }), "{error}");
}

#[test]
fn a_sparse_disk_of_one_tebibyte_is_passed_over_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let raw = folder.path().join("disk.raw");
    sparse_file(&raw, 1 << 40, &[((1 << 39) + 4096, 4096)]);
    let qcow2 = folder.path().join("disk.qcow2");
    qemu_img("create -q -f qcow2", &[&qcow2, "1T".as_ref()]);
    write(&qcow2, &[format!("write -P 7 {} 4096", (1_u64 << 39) + 4096)]);
    let top = folder.path().join("top.qcow2");
    qemu_img("create -q -f qcow2 -F raw -b disk.raw", &[&top]);
    for path in [raw, qcow2, top] {
        let source = open(&spec(&path, None)).unwrap();
        let began = Instant::now();
        let first = source.next_data(0).unwrap().unwrap();
        let extents = source.data_extents(Extent::between(0, 1 << 40)).unwrap();
        assert!(began.elapsed() < Duration::from_secs(1), "{path:?}: {:?}", began.elapsed());
        assert_eq!(extents.len(), 1, "{path:?}: {extents:?}");
        assert_eq!(extents[0].start(), first);
        assert!((1 << 39..=(1 << 39) + 4096).contains(&first), "{path:?}: {first}");
    }
}

#[test]
fn clusters_that_were_only_allocated_in_advance_are_no_data() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk.qcow2");
    qemu_img("create -q -f qcow2 -o preallocation=metadata", &[&path, "20G".as_ref()]);
    write(&path, &["write -P 7 9G 64k".to_owned()]);
    let source = open(&spec(&path, None)).unwrap();
    let extents = source.data_extents(Extent::between(0, source.size_bytes())).unwrap();
    let data = Extent::between(9 << 30, (9 << 30) + 65_536);
    let bytes: u64 = extents.iter().map(Extent::len).sum();
    assert!(extents.iter().any(|extent| extent.intersection(data) == data), "{extents:?}");
    assert!(bytes < 1 << 20, "{extents:?}");
}

#[test]
fn devices_are_read_past_the_page_cache_at_any_position() {
    let folder = tempfile::tempdir().unwrap();
    for (sector_bytes, tail_bytes) in [(512, 0), (512, 3 * 512), (4096, 0), (4096, 5 * 4096)] {
        let path = folder.path().join(format!("{sector_bytes}-{tail_bytes}"));
        let content = Random(9).bytes((2 << 20) + tail_bytes);
        std::fs::write(&path, &content).unwrap();
        let device = Loop::over(&path, sector_bytes);
        let source = open(&SourceSpec { must_be_device: true, ..spec(&device.0, None) }).unwrap();
        assert_eq!(source.description(), "block device");
        assert_reads_as(&*source, &content, &format!("{sector_bytes}, {tail_bytes}"));
        let mut random = Random(10);
        for _ in 0..100 {
            let offset = random.below(content.len() as u64) as usize;
            let len = random.below(9000).min((content.len() - offset) as u64) as usize;
            let mut buffer = vec![0; len];
            source.read_exact_at(&mut buffer, offset as u64).unwrap();
            assert!(buffer == content[offset..offset + len], "{offset}, {len}");
        }
        // The first to know of a write to the device is whoever reads past the page cache.
        let writer = std::fs::File::options().write(true).open(&device.0).unwrap();
        source.check_unchanged().unwrap();
        writer.write_all_at(&[1; 4096], 0).unwrap();
        let mut buffer = [0; 4096];
        source.read_exact_at(&mut buffer, 0).unwrap();
        assert_eq!(buffer, [1; 4096]);
        let error = source.check_unchanged().unwrap_err();
        assert!(matches!(error, SourceError::Changed { .. }), "{error}");
    }
}

#[test]
fn a_qcow2_image_on_a_device_is_read_when_the_user_says_that_it_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk.qcow2");
    qemu_img("create -q -f qcow2", &[&path, "3M".as_ref()]);
    write(&path, &["write -c -P 3 0 64k".to_owned(), "write -P 4 100k 1M".to_owned()]);
    let expected = as_qemu_reads("qcow2", &path);
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_len(8 << 20).unwrap();
    let device = Loop::over(&path, 512);
    let error = open(&spec(&device.0, None)).unwrap_err();
    assert!(matches!(error, SourceError::FormatUnclear { .. }), "{error}");
    // Waits until no child process of another test has a copy of the claim.
    let source = std::iter::repeat_with(|| open_qcow2(&device.0)).take(100).find_map(|opened| {
        std::thread::sleep(Duration::from_millis(10));
        opened.ok()
    });
    let source = source.unwrap();
    assert_reads_as(&*source, &expected, "on a device");
    assert_ne!(source.files()[0].raw_device, 0);
}

#[test]
fn a_claimed_device_is_refused_unless_the_user_vouches_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk");
    sparse_file(&path, 1 << 20, &[]);
    let error = open(&SourceSpec { must_be_device: true, ..spec(&path, RAW) }).unwrap_err();
    assert!(matches!(error, SourceError::NotADevice { .. }), "{error}");
    let device = Loop::over(&path, 512);
    let _claim = DeviceClaim::take(&device.0).unwrap();
    let error = open(&spec(&device.0, RAW)).unwrap_err();
    assert!(matches!(error, SourceError::Claimed(_)), "{error}");
    open(&SourceSpec { quiesced: true, ..spec(&device.0, RAW) }).unwrap();
}

#[test]
fn a_change_of_any_file_of_the_chain_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("base.raw");
    let file = sparse_file(&base, 1 << 20, &[(0, 512)]);
    let top = folder.path().join("top.qcow2");
    qemu_img("create -q -f qcow2 -F raw -b base.raw", &[&top]);
    type Change<'a> = (&'a str, &'a dyn Fn());
    let changes: [Change<'_>; 3] = [
        ("modification", &|| file.write_all_at(&[1], 5).unwrap()),
        ("size", &|| file.set_len(2 << 20).unwrap()),
        ("attributes", &|| {
            let mut permissions = file.metadata().unwrap().permissions();
            permissions.set_readonly(true);
            file.set_permissions(permissions).unwrap();
        }),
    ];
    for (what, change) in changes {
        let source = open(&spec(&top, None)).unwrap();
        source.check_unchanged().unwrap();
        // Longer than a tick of the clock that stamps files.
        std::thread::sleep(Duration::from_millis(20));
        change();
        let error = source.check_unchanged().unwrap_err();
        assert!(matches!(&error, SourceError::Changed { path, .. } if *path == base), "{error}");
        assert!(error.to_string().contains(what), "{error}");
        assert!(!error.is_permanent());
    }
}

#[test]
fn a_raw_image_that_is_cut_off_while_open_gives_no_zeros() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk.raw");
    let file = sparse_file(&path, 1 << 20, &[(0, 1 << 20)]);
    let source = open(&spec(&path, None)).unwrap();
    file.set_len(4096).unwrap();
    assert!(matches!(source.next_data(8192), Err(SourceError::Changed { .. })));
    assert!(source.data_extents(Extent::between(8192, 16384)).is_err());
    assert!(matches!(source.read_exact_at(&mut [0; 8192], 0), Err(SourceError::File(_))));
}

#[test]
fn probing_refuses_what_is_not_read_and_what_a_guest_could_have_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for format in ["vmdk", "vhdx", "vpc", "vdi", "qed", "parallels"] {
        qemu_img(&format!("create -q -f {format}"), &[&path(format), "1M".as_ref()]);
        let error = open(&spec(&path(format), None)).unwrap_err();
        assert!(matches!(error, SourceError::UnsupportedFormat { .. }), "{format}: {error}");
        assert!(error.to_string().contains("qemu-img convert -O qcow2 '"), "{error}");
        assert_eq!(open(&spec(&path(format), RAW)).unwrap().description(), "raw image");
    }
    qemu_img("create -q -f vpc -o subformat=fixed", &[&path("fixed"), "1M".as_ref()]);
    let error = open(&spec(&path("fixed"), None)).unwrap_err();
    assert!(matches!(error, SourceError::UnsupportedFormat { format: "VHD", .. }), "{error}");

    qemu_img("create -q -f qcow2", &[&path("a.QCOW2"), "1M".as_ref()]);
    assert_eq!(open(&spec(&path("a.QCOW2"), None)).unwrap().description(), "qcow2 image");
    for name in ["a.raw", "a.img", "a"] {
        std::fs::copy(path("a.QCOW2"), path(name)).unwrap();
        let error = open(&spec(&path(name), None)).unwrap_err();
        assert!(matches!(error, SourceError::FormatUnclear { .. }), "{error}");
        assert_eq!(open_qcow2(&path(name)).unwrap().size_bytes(), 1 << 20);
        assert_eq!(open(&spec(&path(name), RAW)).unwrap().description(), "raw image");
    }
    sparse_file(&path("b.qcow2"), 1 << 20, &[]);
    let error = open(&spec(&path("b.qcow2"), None)).unwrap_err();
    assert!(matches!(error, SourceError::FormatUnclear { .. }), "{error}");
}

#[test]
fn what_is_no_disk_is_refused_and_a_file_of_no_bytes_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let error = open(&spec(folder.path(), None)).unwrap_err();
    assert!(matches!(error, SourceError::NotADisk { .. }), "{error}");
    let error = open(&spec(Path::new("/dev/null"), None)).unwrap_err();
    assert!(matches!(error, SourceError::NotADisk { .. }), "{error}");
    let error = open(&spec(&folder.path().join("missing"), None)).unwrap_err();
    assert!(matches!(error, SourceError::File(_)), "{error}");
    let empty = folder.path().join("empty");
    sparse_file(&empty, 0, &[]);
    assert_eq!(open(&spec(&empty, None)).unwrap().size_bytes(), 0);
}

//! The client with servers of others: `qemu-nbd` and `nbdkit`.

use crate::peers::{Daemon, content};
use crate::run;
use afterimage::extent::Extent;
use afterimage::nbd::{BASE_ALLOCATION, ErrorCode, Fault, Options, STATE_ZERO, Zeroing};
use afterimage::source::{NbdSource, Source, SourceError, open_nbd};
use afterimage::testing::noise;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A raw image of 16 MiB: one of noise, a gap, and an odd end.
fn raw_image(folder: &Path) -> (PathBuf, Vec<u8>) {
    let mut bytes = vec![0; 16 << 20];
    bytes[..1 << 20].copy_from_slice(&noise(1, 1 << 20));
    bytes[9 << 20..(9 << 20) + 70_000].copy_from_slice(&noise(2, 70_000));
    bytes.extend(noise(3, 512));
    let path = folder.join("disk.raw");
    let file = std::fs::File::create(&path).unwrap();
    file.set_len(bytes.len() as u64).unwrap();
    for (from, to) in [(0, 1 << 20), (9 << 20, (9 << 20) + 70_000), (16 << 20, bytes.len())] {
        std::os::unix::fs::FileExt::write_all_at(&file, &bytes[from..to], from as u64).unwrap();
    }
    (path, bytes)
}

#[test]
fn a_raw_image_of_qemu_is_read_as_it_is_with_its_holes() {
    let folder = tempfile::tempdir().unwrap();
    let (path, bytes) = raw_image(folder.path());
    let server = Daemon::qemu(folder.path(), &["--format=raw", "--read-only", text(&path)]);
    let source = open_nbd(&server.address("disk"), &Options::default()).unwrap();
    assert_eq!(source.size_bytes(), bytes.len() as u64);
    assert!(source.client().is_read_only());
    assert_eq!(source.client().connections(), 4);
    assert_eq!(content(source.client()), bytes);
    // Odd places and lengths.
    for (offset, len) in [(1, 1), (511, 1026), (MIB - 3, 7), (9 * MIB + 5, 70_001), (0, 0)] {
        let mut part = vec![0xee; len];
        source.read_exact_at(&mut part, offset).unwrap();
        assert_eq!(part, bytes[offset as usize..offset as usize + len], "{offset}, {len}");
    }
    let all = Extent::between(0, source.size_bytes());
    let data = source.data_extents(all).unwrap();
    assert_eq!(data[0], Extent::between(0, MIB));
    assert_eq!(data[1].start(), 9 * MIB);
    assert_eq!(data.last().unwrap().end(), source.size_bytes());
    assert!(data.iter().map(Extent::len).sum::<u64>() < 2 * MIB, "{data:?}");
    assert_eq!(source.next_data(MIB + 1).unwrap(), Some(9 * MIB));
    assert_eq!(source.next_data(3).unwrap(), Some(3));
    assert_eq!(source.next_data(source.size_bytes()).unwrap(), None);
    assert_eq!(source.data_extents(Extent::between(2 * MIB + 1, 3 * MIB)).unwrap(), []);
    let mut part = [0];
    let past = source.read_exact_at(&mut part, source.size_bytes()).unwrap_err();
    assert!(past.to_string().contains("nbd+unix"), "{past}");
    assert!(source.files().is_empty());
    source.check_unchanged().unwrap();
}

#[test]
fn the_dirty_bitmap_of_a_qcow2_image_tells_what_changed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk.qcow2");
    let image = text(&path);
    run(Command::new("qemu-img").args(["create", "-q", "-f", "qcow2", image, "64M"]));
    let io = |command: &str| {
        run(Command::new("qemu-io").args(["-f", "qcow2", "-c", command, image]));
    };
    io("write -P 1 0 4M");
    run(Command::new("qemu-img").args(["bitmap", "--add", image, "since"]));
    io("write -P 2 1M 64k");
    io("write -P 3 32M 192k");
    io("write -z 3M 128k");
    let server =
        Daemon::qemu(folder.path(), &["--format=qcow2", "--read-only", "--bitmap=since", image]);
    let contexts = vec!["qemu:dirty-bitmap:since".to_owned()];
    let options = Options { contexts, ..Options::default() };
    let source = open_nbd(&server.address("disk"), &options).unwrap();
    let changed = source.changed_extents("since").unwrap();
    let extent = |from_kib: u64, len_kib: u64| Extent::new(from_kib << 10, len_kib << 10).unwrap();
    assert_eq!(changed, [extent(1024, 64), extent(3072, 128), extent(32_768, 192)]);
    // A zeroed cluster counts as zeros, and so does what was never written.
    let data = source.data_extents(Extent::between(0, 64 * MIB)).unwrap();
    assert_eq!(data, [extent(0, 3072), extent(3200, 896), extent(32_768, 192)]);
    let mut byte = [0];
    for (at, value) in [(0, 1), (MIB, 2), (33 * MIB - 1, 0), (32 * MIB, 3), (3 * MIB, 0)] {
        source.read_exact_at(&mut byte, at).unwrap();
        assert_eq!(byte, [value], "{at}");
    }
    let missing = source.changed_extents("other").unwrap_err();
    assert!(matches!(missing.fault, Fault::NoContext(_)), "{missing}");
    // A wrong name of an export is told as such.
    let wrong = open_nbd(&server.address("disc"), &options).unwrap_err();
    assert!(
        matches!(&wrong, SourceError::Nbd(error) if matches!(error.fault, Fault::UnknownExport(_))),
        "{wrong}"
    );
}

#[test]
fn what_is_written_to_qemu_is_in_its_image() {
    let folder = tempfile::tempdir().unwrap();
    let (path, mut bytes) = raw_image(folder.path());
    let server = Daemon::qemu(folder.path(), &["--format=raw", text(&path)]);
    let client = server.client("disk");
    assert!(client.can_zero() && client.can_trim() && client.can_flush());
    let new = noise(4, 6 << 20);
    client.write_all_at(&new, 512).unwrap();
    bytes[512..512 + new.len()].copy_from_slice(&new);
    client.write_durably_at(&new[..4096], 12 * MIB).unwrap();
    bytes[12 << 20..(12 << 20) + 4096].copy_from_slice(&new[..4096]);
    client.write_zeroes(Extent::between(MIB, 2 * MIB), Zeroing::MayUnmap).unwrap();
    client.write_zeroes(Extent::between(3 * MIB, 4 * MIB), Zeroing::KeepsAllocated).unwrap();
    bytes[1 << 20..2 << 20].fill(0);
    bytes[3 << 20..4 << 20].fill(0);
    client.trim(Extent::between(5 * MIB, 5 * MIB + 4096)).unwrap();
    client.flush().unwrap();
    let status = client.block_status(BASE_ALLOCATION, Extent::between(0, 4 * MIB)).unwrap();
    assert!(status.contains(&(Extent::between(MIB, 2 * MIB), 3)), "{status:?}");
    let mut read = content(&client);
    // What is trimmed may be anything.
    read[5 << 20..(5 << 20) + 4096].copy_from_slice(&bytes[5 << 20..(5 << 20) + 4096]);
    assert!(read == bytes);
    drop((client, server));
    let mut image = std::fs::read(&path).unwrap();
    image[5 << 20..(5 << 20) + 4096].copy_from_slice(&bytes[5 << 20..(5 << 20) + 4096]);
    assert!(image == bytes);
}

#[test]
fn several_threads_read_over_several_connections() {
    let folder = tempfile::tempdir().unwrap();
    let (path, bytes) = raw_image(folder.path());
    let server = Daemon::qemu(folder.path(), &["--format=raw", "--read-only", text(&path)]);
    let client = server.client("disk");
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (client, bytes) = (&client, &bytes);
            scope.spawn(move || {
                for round in 0..50 {
                    let at = (thread * 1_999_993 + round * 77_777) % (15 << 20);
                    let mut part = vec![0; 100_000];
                    client.read_exact_at(&mut part, at as u64).unwrap();
                    assert!(part == bytes[at..at + part.len()]);
                }
            });
        }
    });
}

#[test]
fn a_server_that_is_killed_or_frozen_is_an_error_in_bounded_time_and_never_asked_again() {
    let folder = tempfile::tempdir().unwrap();
    let (path, _) = raw_image(folder.path());
    let arguments = ["--format=raw", "--read-only", text(&path)];
    let mut server = Daemon::qemu(folder.path(), &arguments);
    let client = server.client("disk");
    server.kill();
    let mut part = [0; 4096];
    let lost = client.read_exact_at(&mut part, 0).unwrap_err();
    assert!(matches!(lost.fault, Fault::Lost { .. }) && !lost.is_permanent(), "{lost}");
    // Also when a server is there again.
    std::fs::remove_file(folder.path().join("qemu.sock")).unwrap();
    let server = Daemon::qemu(folder.path(), &arguments);
    let failed = client.read_exact_at(&mut part, 0).unwrap_err();
    assert!(matches!(failed.fault, Fault::Failed(_)), "{failed}");
    assert!(client.check_alive().is_err());

    let second = Duration::from_secs(1);
    let options = Options {
        connect_time_max: second,
        request_time_max: second,
        flush_time_max: second,
        ..Options::default()
    };
    let source = NbdSource::new(Arc::new(server.client_with("disk", &options))).unwrap();
    server.freeze();
    let began = Instant::now();
    let stalled = source.read_exact_at(&mut part, 0).unwrap_err();
    assert!(stalled.to_string().contains("no answer within"), "{stalled}");
    let refused = open_nbd(&server.address("disk"), &options).unwrap_err();
    assert!(refused.to_string().contains("no answer within"), "{refused}");
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
}

#[test]
fn errors_of_the_server_are_told_and_leave_the_connection_good() {
    let folder = tempfile::tempdir().unwrap();
    let trigger = folder.path().join("trigger");
    let file = format!("error-file={}", text(&trigger));
    let arguments = ["--filter=error", "memory", "8M", "error=ENOSPC", "error-rate=1", &file];
    let server = Daemon::nbdkit(folder.path(), &arguments);
    let client = server.client("");
    let data = noise(5, 1 << 20);
    client.write_all_at(&data, 4096).unwrap();
    std::fs::write(&trigger, "").unwrap();
    let full = client.write_all_at(&data, 0).unwrap_err();
    let is_full =
        matches!(full.fault, Fault::Request { code: ErrorCode(ErrorCode::NOSPC), offset: 0, .. });
    assert!(is_full && full.is_permanent(), "{full}");
    let mut part = vec![0; 1 << 20];
    let unread = client.read_exact_at(&mut part, 4096).unwrap_err();
    assert!(matches!(unread.fault, Fault::Request { .. }), "{unread}");
    let unknown = client.block_status(BASE_ALLOCATION, Extent::between(0, 8 * MIB));
    assert!(matches!(unknown.unwrap_err().fault, Fault::Request { .. }));
    std::fs::remove_file(&trigger).unwrap();
    client.read_exact_at(&mut part, 4096).unwrap();
    assert!(part == data);
}

#[test]
fn a_slow_server_is_waited_for_until_the_limit() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["--filter=delay", "memory", "8M", "rdelay=700ms", "wdelay=30"];
    let server = Daemon::nbdkit(folder.path(), &arguments);
    let limit = Duration::from_secs(5);
    let options = Options { request_time_max: limit, connections: 1, ..Options::default() };
    let client = server.client_with("", &options);
    assert_eq!(client.connections(), 1);
    let mut part = [1; 512];
    client.read_exact_at(&mut part, 0).unwrap();
    assert_eq!(part, [0; 512]);
    let began = Instant::now();
    let stalled = client.write_all_at(&part, 0).unwrap_err();
    assert!(matches!(stalled.fault, Fault::Stalled { action: "write", .. }), "{stalled}");
    assert!(began.elapsed() < Duration::from_secs(25));
}

#[test]
fn the_block_sizes_of_a_server_are_honoured() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = [
        "--filter=blocksize-policy",
        "memory",
        "8M",
        "blocksize-minimum=4096",
        "blocksize-maximum=64K",
        "blocksize-error-policy=error",
    ];
    let server = Daemon::nbdkit(folder.path(), &arguments);
    let client = server.client("");
    assert_eq!(client.block_bytes(), 4096);
    let data = noise(6, 1 << 20);
    client.write_all_at(&data, 8192).unwrap();
    for (offset, len) in
        [(8192, 1 << 20), (8193, 1), (12_287, 2), (10_000, 300_001), (9000, 70_000)]
    {
        let mut part = vec![0; len];
        client.read_exact_at(&mut part, offset).unwrap();
        let from = offset as usize - 8192;
        assert!(part == data[from..from + len], "{offset}, {len}");
    }
    let odd = client.write_all_at(&data[..100], 0).unwrap_err();
    assert!(matches!(odd.fault, Fault::Unaligned { block_bytes: 4096, .. }), "{odd}");
    let odd = Extent::between(8191, 8193);
    let status = client.block_status(BASE_ALLOCATION, odd).unwrap();
    assert_eq!(status[0].0.start(), odd.start());
    assert_eq!(status.last().unwrap().0.end(), odd.end());
}

#[test]
fn without_contexts_and_structured_replies_everything_is_data() {
    let folder = tempfile::tempdir().unwrap();
    let server = Daemon::nbdkit(folder.path(), &["--no-sr", "--filter=exitlast", "memory", "8M"]);
    let source = NbdSource::new(Arc::new(server.client(""))).unwrap();
    assert!(!source.client().has_context(BASE_ALLOCATION));
    let all = Extent::between(0, 8 * MIB);
    assert_eq!(source.data_extents(all).unwrap(), [all]);
    assert_eq!(source.next_data(77).unwrap(), Some(77));
    assert!(content(source.client()).iter().all(|byte| *byte == 0));
    let none = source.client().block_status(BASE_ALLOCATION, all).unwrap_err();
    assert!(matches!(none.fault, Fault::NoContext(_)), "{none}");
    assert!(source.client().read_exact_at(&mut [0; 2], 8 * MIB - 1).is_err());
}

#[test]
fn a_huge_sparse_export_is_found_empty_quickly() {
    let folder = tempfile::tempdir().unwrap();
    let server = Daemon::nbdkit(folder.path(), &["memory", "4T"]);
    let client = server.client("");
    client.write_all_at(b"end", (4 << 40) - 512).unwrap();
    let end = client.next_data(0).unwrap().unwrap();
    assert!(end > (4 << 40) - MIB && end <= (4 << 40) - 512, "{end}");
    let status = client.block_status(BASE_ALLOCATION, Extent::between(0, MIB)).unwrap();
    assert!(status.iter().all(|(_, flags)| flags & STATE_ZERO != 0));
}

//! The server with clients of others: `nbdinfo`, `nbdcopy`, `qemu-img` and `qemu-io`.

use crate::exports::{MemoryExport, serve};
use crate::{run, run_in_vain};
use afterimage::nbd::{Limits, Server};
use afterimage::testing::noise;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;

const MIB: usize = 1 << 20;

/// Noise, a gap, noise, and an odd end.
fn sparse_disk() -> Vec<u8> {
    let mut bytes = vec![0; 12 * MIB + 512];
    bytes[..2 * MIB].copy_from_slice(&noise(1, 2 * MIB));
    bytes[7 * MIB..8 * MIB].copy_from_slice(&noise(2, MIB));
    bytes[12 * MIB..].fill(7);
    bytes
}

fn uri(server: &Server, export: &str) -> String {
    server.address(export).unwrap().to_string()
}

fn file(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn nbdinfo_sees_the_exports_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let exports = [
        ("disk", MemoryExport::new(sparse_disk())),
        ("a b/ü", MemoryExport::read_only(vec![1; 512])),
    ];
    let server = serve(folder.path(), &exports, Limits::default());
    let shown = run(Command::new("nbdinfo").args(["--json", "--list", &uri(&server, "")]));
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["protocol"], "newstyle-fixed");
    assert_eq!(shown["structured"], true);
    let list = shown["exports"].as_array().unwrap();
    let find = |name: &str| list.iter().find(|it| it["export-name"] == name).unwrap();
    let (disk, other) = (find("disk"), find("a b/ü"));
    assert_eq!(disk["export-size"], 12 * MIB + 512);
    assert_eq!(other["export-size"], 512);
    let is = |export: &serde_json::Value, key: &str| export[key].as_bool().unwrap();
    for key in ["can_flush", "can_fua", "can_multi_conn", "can_trim", "can_zero"] {
        assert!(is(disk, key), "{key}");
    }
    assert!(!is(disk, "is_read_only") && is(other, "is_read_only") && !is(other, "can_zero"));
    assert_eq!(disk["block_size_minimum"], 1);
    let contexts = disk["contexts"].as_array().unwrap();
    assert_eq!(contexts[0], "base:allocation");
    assert_eq!(contexts[1], "qemu:dirty-bitmap:odd");

    let map = run(Command::new("nbdinfo").args(["--map", "--json", &uri(&server, "disk")]));
    let map: serde_json::Value = serde_json::from_str(&map).unwrap();
    let map: Vec<(u64, u64, u64)> = map
        .as_array()
        .unwrap()
        .iter()
        .map(|it| {
            let number = |key: &str| it[key].as_u64().unwrap();
            (number("offset"), number("length"), number("type"))
        })
        .collect();
    let mib = MIB as u64;
    let expected = [
        (0, 2 * mib, 0),
        (2 * mib, 5 * mib, 3),
        (7 * mib, mib, 0),
        (8 * mib, 4 * mib, 3),
        (12 * mib, 512, 0),
    ];
    assert_eq!(map, expected);
    let dirty = ["--map=qemu:dirty-bitmap:odd", &uri(&server, "disk")];
    assert_eq!(run(Command::new("nbdinfo").args(dirty)).lines().count(), 13);
    run_in_vain(Command::new("nbdinfo").arg(uri(&server, "none")));
}

#[test]
fn nbdcopy_reads_and_writes_everything() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = sparse_disk();
    let disk = MemoryExport::new(bytes.clone());
    let old = noise(3, bytes.len());
    let blank = MemoryExport::new(old);
    let exports = [("disk", Arc::clone(&disk)), ("blank", Arc::clone(&blank))];
    let server = serve(folder.path(), &exports, Limits::default());
    let image = folder.path().join("copy.raw");
    run(Command::new("nbdcopy").args([&uri(&server, "disk"), file(&image)]));
    assert!(std::fs::read(&image).unwrap() == bytes);
    run(Command::new("nbdcopy").args(["--flush", file(&image), &uri(&server, "blank")]));
    assert!(blank.content() == bytes);
    assert!(blank.flushes.load(Ordering::Relaxed) > 0);
    // Without structured replies, from one export to the other, over one connection.
    disk.bytes.lock().unwrap().rotate_left(512);
    let plain = ["--synchronous", "--connections=1"];
    run(Command::new("nbdcopy").args(plain).args([&uri(&server, "disk"), &uri(&server, "blank")]));
    assert!(blank.content() == disk.content());
}

#[test]
fn qemu_reads_writes_and_compares() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = sparse_disk();
    let disk = MemoryExport::new(bytes.clone());
    let server = serve(folder.path(), &[("disk", Arc::clone(&disk))], Limits::default());
    let image = folder.path().join("disk.raw");
    std::fs::write(&image, &bytes).unwrap();
    let uri = uri(&server, "disk");
    let compare = ["compare", "-f", "raw", "-F", "raw", file(&image), &uri];
    run(Command::new("qemu-img").args(compare));
    let copy = folder.path().join("copy.qcow2");
    run(Command::new("qemu-img").args(["convert", "-f", "raw", "-O", "qcow2", &uri, file(&copy)]));
    run(Command::new("qemu-img").args(["compare", file(&copy), file(&image)]));
    let commands = [
        "write -P 0x5a 1M 3M",
        "write -f -P 0x5b 100k 1k",
        "write -z 7M 64k",
        "write -z -u 7168k 64k",
        "discard 8M 1M",
        "flush",
        "read -P 0x5a 1M 3M",
        "read -P 0 7M 64k",
    ];
    for target in [uri.as_str(), file(&image)] {
        let mut io = Command::new("qemu-io");
        io.args(["-f", "raw"]);
        for command in commands {
            io.args(["-c", command]);
        }
        run(io.arg(target));
    }
    run(Command::new("qemu-img").args(compare));
    assert!(disk.content() == std::fs::read(&image).unwrap());
    // Past the end.
    run_in_vain(Command::new("qemu-io").args(["-f", "raw", "-c", "read 12M 1M", &uri]));
}

#[test]
fn a_bad_sector_is_told_and_the_rest_can_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let disk = MemoryExport { bad_at: Some(5 << 20), ..MemoryExport::default() };
    *disk.bytes.lock().unwrap() = noise(4, 8 * MIB);
    let server = serve(folder.path(), &[("disk", Arc::new(disk))], Limits::default());
    let uri = uri(&server, "disk");
    let io = |command: &str| {
        let mut io = Command::new("qemu-io");
        io.args(["-r", "-f", "raw", "-c", command, "-c", "read 0 1M", &uri]).output().unwrap()
    };
    let shown = |command| String::from_utf8(io(command).stdout).unwrap();
    for command in ["read 4M 2M", "read 5M 512", "read 3M 4M"] {
        let shown = shown(command);
        assert!(shown.contains("Input/output error"), "{command}: {shown}");
        assert!(shown.contains("read 1048576/1048576 bytes at offset 0"), "{command}: {shown}");
    }
    assert!(shown("read 6M 2M").contains("read 2097152/2097152"));
}

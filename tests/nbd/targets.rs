//! Replicas on NBD exports.

use crate::common::{World, name};
use crate::exports::{MemoryExport, serve};
use crate::peers::Daemon;
use afterimage::destination::{
    Background, ReplicaHome, Target, TargetAccess, TargetError, TargetKind,
};
use afterimage::extent::Extent;
use afterimage::nbd::{Address, Fault, Limits};
use afterimage::progress::Progress;
use afterimage::replay::{
    PlanConflict, ReplayError, ReplicaSession, ReplicateRequest, Replicated, TargetSpec, replicate,
};
use afterimage::testing::noise;
use std::path::PathBuf;
use std::sync::Arc;

const DISK_BYTES: usize = (5 << 20) + 512;

fn target(address: &Address) -> Vec<TargetSpec> {
    let path = PathBuf::from(address.to_string());
    vec![TargetSpec { disk: name("root"), path, kind: TargetKind::Export }]
}

fn replicate_to(world: &World, address: &Address, adopt: bool) -> Result<Replicated, ReplayError> {
    let (replica, machine) = (name("standby"), name("web01"));
    let targets = target(address);
    let (path, kind) = (&targets[0].path, TargetKind::Export);
    let home = ReplicaHome::locate(&world.state_dir(), None, &replica, path, kind);
    let mut session = ReplicaSession::open(&world.fs, home, &replica, &targets)?;
    let repository = world.repository();
    let request =
        ReplicateRequest { machine: &machine, targets, sources: Vec::new(), adopt, workers: 2 };
    let catalog = world.catalog(&repository);
    replicate(&mut session, &repository, &catalog, &request, &Progress::default())
}

fn world(content: &[u8]) -> World {
    let world = World::new(&["root"], false);
    world.write_disk("root", content);
    world.backup().unwrap();
    world
}

fn changed(world: &World, disk: &mut [u8], seed: u64) {
    disk[500_001..600_000].copy_from_slice(&noise(seed, 99_999));
    disk[(3 << 20)..(3 << 20) + 70_000].fill(0);
    world.write_disk("root", disk);
    world.backup().unwrap();
}

#[test]
fn an_export_of_qemu_is_seeded_and_replayed() {
    let mut disk = noise(1, DISK_BYTES);
    disk[1 << 20..3 << 20].fill(0);
    let world = world(&disk);
    let image = world.path("standby.raw");
    std::fs::File::create(&image).unwrap().set_len(DISK_BYTES as u64).unwrap();
    let arguments = ["--format=raw", "--discard=unmap", image.to_str().unwrap()];
    let server = Daemon::qemu(world.folder.path(), &arguments);
    let address = server.address("disk");
    let seeded = replicate_to(&world, &address, false).unwrap();
    assert!(matches!(seeded, Replicated::Seeded { .. }), "{seeded:?}");
    assert!(std::fs::read(&image).unwrap() == disk);

    changed(&world, &mut disk, 2);
    let replayed = replicate_to(&world, &address, false).unwrap();
    assert!(matches!(replayed, Replicated::Replayed { .. }), "{replayed:?}");
    assert!(std::fs::read(&image).unwrap() == disk);
    let skipped = replicate_to(&world, &address, false).unwrap();
    assert!(matches!(skipped, Replicated::Skipped { .. }), "{skipped:?}");
    let allocated = std::os::unix::fs::MetadataExt::blocks(&image.metadata().unwrap()) * 512;
    assert!(allocated < (DISK_BYTES - (1 << 20)) as u64, "{allocated} bytes are not thin");
}

#[test]
fn an_export_that_holds_something_is_not_overwritten_and_its_size_must_fit() {
    let disk = noise(1, DISK_BYTES);
    let world = world(&disk);
    let other = MemoryExport::new(noise(9, DISK_BYTES));
    let short = MemoryExport::new(vec![0; DISK_BYTES - 512]);
    let long = MemoryExport::new(vec![0; DISK_BYTES + 512]);
    let fixed = MemoryExport::read_only(vec![0; DISK_BYTES]);
    let exports = [
        ("other", Arc::clone(&other)),
        ("short", short),
        ("long", Arc::clone(&long)),
        ("fixed", fixed),
    ];
    let server = serve(world.folder.path(), &exports, Limits::default());
    let address = |name: &str| server.address(name).unwrap();
    let refused = replicate_to(&world, &address("other"), false).unwrap_err();
    assert!(matches!(refused, ReplayError::Conflict(PlanConflict::Occupied { .. })), "{refused}");
    assert!(other.content() == noise(9, DISK_BYTES), "it was written to");
    for (name, why) in [("short", "cannot be resized"), ("long", "cannot be resized")] {
        let refused = replicate_to(&world, &address(name), false).unwrap_err();
        assert!(refused.to_string().contains(why), "{refused}");
    }
    assert!(long.content().iter().all(|byte| *byte == 0));
    let refused = replicate_to(&world, &address("fixed"), false).unwrap_err();
    assert!(refused.to_string().contains("read-only"), "{refused}");
    replicate_to(&world, &address("other"), true).unwrap();
    assert!(other.content() == disk);
}

#[test]
fn a_replica_whose_server_was_gone_is_finished_when_it_is_back() {
    let mut disk = noise(1, DISK_BYTES);
    let world = world(&disk);
    let export = MemoryExport::new(vec![0; DISK_BYTES]);
    let exports = [("disk", Arc::clone(&export))];
    let server = serve(world.folder.path(), &exports, Limits::default());
    let address = server.address("disk").unwrap();
    replicate_to(&world, &address, false).unwrap();
    changed(&world, &mut disk, 3);
    server.stop();
    let gone = replicate_to(&world, &address, false).unwrap_err();
    assert!(gone.to_string().contains("cannot connect"), "{gone}");
    let _server = serve(world.folder.path(), &exports, Limits::default());
    let replayed = replicate_to(&world, &address, false).unwrap();
    assert!(matches!(replayed, Replicated::Replayed { .. }), "{replayed:?}");
    assert!(export.content() == disk);
}

#[test]
fn parts_of_blocks_are_written_where_a_server_takes_whole_ones() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = [
        "--filter=blocksize-policy",
        "memory",
        "1M",
        "blocksize-minimum=4096",
        "blocksize-error-policy=error",
    ];
    let server = Daemon::nbdkit(folder.path(), &arguments);
    let target = Target::over_export(server.client(""), TargetAccess::Write).unwrap();
    assert_eq!((target.kind(), target.size()), (TargetKind::Export, 1 << 20));
    let mut model = vec![0; 1 << 20];
    for (at, len) in [(0, 1 << 20), (1, 1), (4095, 2), (5000, 100), (8192, 4096), (9000, 20_000)] {
        let bytes = noise(at as u64, len);
        target.write_thin(at as u64, &bytes, Background::Unknown).unwrap();
        model[at..at + len].copy_from_slice(&bytes);
    }
    for (at, len) in [(100, 1), (20_000, 20_000), (65_535, 2), (70_000, 0)] {
        let range = Extent::new(at as u64, len as u64).unwrap();
        target.zero(range, Background::Unknown).unwrap();
        model[at..at + len].fill(0);
    }
    target.sync().unwrap();
    let mut content = vec![0xee; 1 << 20];
    target.read_exact_at(&mut content, 0).unwrap();
    assert!(content == model);
    let (before, now) = (target.identity().unwrap(), target.identity().unwrap());
    before.matches(&now).unwrap();
    assert!(before.is_same_place(&now));
    assert!(target.resize(2 << 20).is_err());
    assert!(matches!(target.read_exact_at(&mut [0], 1 << 20), Err(TargetError::PastTheEnd { .. })));
    drop((target, server));

    let other = tempfile::tempdir().unwrap();
    let server = Daemon::nbdkit(other.path(), &["--readonly", "memory", "1M"]);
    let refused = Target::over_export(server.client(""), TargetAccess::Write).unwrap_err();
    let is_read_only = |error: &TargetError| match error {
        TargetError::Nbd(error) => matches!(error.fault, Fault::ReadOnly),
        _ => false,
    };
    assert!(is_read_only(&refused), "{refused}");
    Target::over_export(server.client(""), TargetAccess::Read).unwrap();
}

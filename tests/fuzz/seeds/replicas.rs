//! Seeds of what lies beside a replica.

use super::{Seeds, seed};
use crate::targets::world::{self, joined};
use afterimage::destination::{
    DiskRecord, JournalDisk, JournalHeader, JournalRef, JournalWriter, NO_REPOSITORY, PointRef,
    ReplicaRecord, State, Superblock, TargetIdentity, TargetKind,
};
use afterimage::extent::Extent;
use afterimage::fsio::DeviceActivity;
use afterimage::testing::noise;
use afterimage::units::{Epoch, JournalDigest, PointId, ReplicaId, RepositoryId, Sequence};
use std::path::Path;

pub fn journals() -> Seeds {
    world::with(|world| {
        let path = Path::new("/seeds/journal");
        world.fs.create_dir_all(path.parent().unwrap()).unwrap();
        let disk = |name: &str, before, after| JournalDisk {
            name: name.parse().unwrap(),
            size_before_bytes: before,
            size_bytes: after,
        };
        let header = JournalHeader {
            replica_id: ReplicaId([1; 16]),
            from: PointId([2; 32]),
            to: PointId([3; 32]),
            disks: vec![disk("root", 1 << 20, 2 << 20), disk("data", 5000, 4096)],
        };
        let finish = |writer: JournalWriter| {
            writer.finish().unwrap();
            let bytes = world.disk.content(path).unwrap();
            world.remove(path);
            bytes
        };
        let empty = JournalWriter::create(&world.fs, path, header.clone()).unwrap();
        let empty = finish(empty);
        let mut full = JournalWriter::create(&world.fs, path, header).unwrap();
        full.data(0, 4096, &noise(1, 700)).unwrap();
        full.zeros(0, Extent::new(1 << 20, 1 << 20).unwrap()).unwrap();
        full.data(1, 0, b"data").unwrap();
        full.zeros(1, Extent::new(100, 3996).unwrap()).unwrap();
        full.data(0, 0, &[7; 40]).unwrap();
        vec![seed("empty", &empty), seed("full", &finish(full))]
    })
}

fn record(state: State, kind: TargetKind) -> ReplicaRecord {
    let activity = DeviceActivity {
        boot_id: "5c1b0b4e".to_owned(),
        diskseq: 9,
        sectors_written: 1,
        discards: 0,
    };
    let is_device = kind == TargetKind::Device;
    let identity = TargetIdentity {
        path: "/srv/standby/root.raw".into(),
        kind,
        device: 64,
        inode: 5,
        size_bytes: 1 << 20,
        mtime_ns: 1_700_000_000_123_456_789,
        ctime_ns: -1,
        raw_device: u64::from(is_device),
        activity: is_device.then_some(activity),
    };
    let is_seeding = matches!(state, State::Seeding { .. });
    let disk = DiskRecord {
        name: "root".parse().unwrap(),
        size_bytes: 1 << 20,
        path: "/srv/standby/root.raw".into(),
        identity: (!is_seeding).then_some(identity),
    };
    ReplicaRecord {
        replica: "standby".parse().unwrap(),
        replica_id: ReplicaId([1; 16]),
        repository: RepositoryId([2; 16]),
        machine: "web01".parse().unwrap(),
        epoch: Epoch(3),
        state,
        disks: vec![disk],
        direct: None,
    }
}

fn point_ref(byte: u8) -> PointRef {
    let time = jiff::Timestamp::from_second(1_700_000_000).unwrap();
    PointRef { id: PointId([byte; 32]), sequence: Sequence(u64::from(byte)), time }
}

/// Slots of superblocks, as `superblock-repaired` takes them: without the zeros behind.
pub fn superblocks() -> Seeds {
    let journal = JournalRef {
        file: "journal".parse().unwrap(),
        bytes: 1000,
        sha256: JournalDigest([4; 32]),
    };
    let (one, two) = (point_ref(1), point_ref(2));
    let device = TargetKind::Device;
    let seeding = record(State::Seeding { to: one }, TargetKind::Image);
    let clean = record(State::Clean { point: one }, device);
    let applying = record(State::Applying { from: one, to: two, journal }, device);
    let promoted = record(State::Promoted { point: one }, TargetKind::Image);
    let bases = serde_json::json!({
        "capture": one.id, "compared": one.time, "boot_id": null,
        "bases": { "root": { "kind": "snapshot", "token": "web01-root-1" } }
    });
    let direct = ReplicaRecord {
        repository: NO_REPOSITORY,
        direct: Some(serde_json::from_value(bases).unwrap()),
        ..record(State::Seeding { to: one }, TargetKind::Image)
    };
    let slots = |index: u64, record: &ReplicaRecord| slot(index, record);
    vec![
        seed("seeding", &joined(&[&slots(2, &seeding), &slots(1, &seeding)])),
        seed("clean", &joined(&[&slots(2, &seeding), &slots(3, &clean)])),
        seed("applying", &joined(&[&slots(4, &applying), &slots(3, &clean)])),
        seed("promoted", &joined(&[&slots(6, &promoted)])),
        seed("direct", &joined(&[&slots(2, &direct), &slots(1, &direct)])),
    ]
}

/// A slot as `docs/on-disk-format.md` has it; held against the code's own.
fn slot(generation: u64, record: &ReplicaRecord) -> Vec<u8> {
    let payload = serde_json::to_vec(record).unwrap();
    let version: u32 = if record.direct.is_some() { 2 } else { 1 };
    let mut slot = b"AIREPSB\0".to_vec();
    slot.extend(version.to_le_bytes());
    slot.extend((payload.len() as u32).to_le_bytes());
    slot.extend(generation.to_le_bytes());
    slot.extend(world::sha256(&[&slot[..], &[0; 32], &payload].concat()));
    slot.extend(payload);
    if matches!(record.state, State::Seeding { .. }) && generation == 2 {
        world::with(|world| {
            let path = Path::new("/seeds/superblock");
            world.fs.create_dir_all(path.parent().unwrap()).unwrap();
            if world.fs.stat(path).unwrap().is_some() {
                world.remove(path);
            }
            Superblock::create(&world.fs, path, record.clone()).unwrap();
            assert!(world.disk.content(path).unwrap().starts_with(&slot));
        });
    }
    slot
}

/// The file that pieces of a superblock stand for.
pub fn whole(slots: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    for (number, slot) in world::pieces(slots, 2).into_iter().enumerate() {
        file.resize(number * 64 * 1024, 0);
        file.extend_from_slice(slot);
    }
    file
}

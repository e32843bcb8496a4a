//! Defects of the parsers, found by fuzzing (`tests/fuzz`) and mended, each held by a test.

use afterimage::catalog::Catalog;
use afterimage::chunk::CutParameters;
use afterimage::destination::{DiskRecord, PointRef, ReplicaRecord, State, Superblock};
use afterimage::fsio::{
    DeviceActivity, FileLock, FileSystem, LockHolder, LockMode, OpenMode, RealFileSystem,
};
use afterimage::point::{Leaf, Node, Span};
use afterimage::store::{
    Codec, CondemnedList, Encoding, InitOptions, Layout, Repository, Stage, check_slots, list_slots,
};
use afterimage::testing::disk::SimulatedDisk;
use afterimage::testing::point;
use afterimage::units::{
    CollectionEpoch, Epoch, PackName, PointId, ReplicaId, RepositoryId, RunId, Sequence, SlotId,
    TreeName,
};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn cut() -> CutParameters {
    CutParameters::with_average(16 * 1024).unwrap()
}

fn disk_in_memory() -> Arc<dyn FileSystem> {
    Arc::new(SimulatedDisk::new())
}

/// A few nodes without children that point to each other would have taken for ever to walk.
#[test]
fn a_node_without_children_is_refused() {
    let bytes = Node::default().encode(1);
    assert_eq!(Node::decode(&bytes, 1), Err("it has no children"));
}

#[test]
fn a_node_of_a_level_that_no_disk_has_is_refused() {
    let mut node = Node::default();
    node.children[3] = Some(TreeName([1; 32]));
    for (level, is_known) in [(0, false), (1, true), (8, true), (9, false), (255, false)] {
        assert_eq!(Node::decode(&node.encode(level), level).is_ok(), is_known, "{level}");
    }
}

/// Of a pack with very many objects of one byte, 64 MiB were filled with zeros for every other one.
#[test]
fn no_room_is_made_for_an_object_that_cannot_have_the_length_that_is_said_of_it() {
    assert!(!Codec::may_be(Encoding::Raw, b"x", 64 << 20));
    let mut codec = Codec::new(3).unwrap();
    let plain = vec![0; 5000];
    let encoded = codec.encode(&plain, |_| true).unwrap();
    assert!(Codec::may_be(encoded.encoding, encoded.bytes, 5000));
    assert!(!Codec::may_be(encoded.encoding, encoded.bytes, 64 << 20));
}

#[test]
fn a_leaf_of_zeros_is_refused() {
    let leaf = Leaf { spans: vec![Span::Hole { len: 4096 }] };
    assert!(Leaf::decode(&leaf.encode(), 4096, &cut()).is_err());
    assert!(Leaf::decode(&Leaf::default().encode(), 0, &cut()).is_err());
}

#[test]
fn a_list_of_condemned_packs_that_is_idle_names_none() {
    let fs = disk_in_memory();
    let root = Path::new("/repository");
    let options = InitOptions {
        cut: cut(),
        secret: None,
        recovery_key: None,
        now: jiff::Timestamp::UNIX_EPOCH,
    };
    Repository::init(&fs, root, &options).unwrap();
    let repository = Repository::open(&fs, root, None, 3).unwrap();
    let run = RunId([1; 16]);
    let list = CondemnedList {
        epoch: CollectionEpoch(1),
        stage: Stage::Idle,
        packs: [PackName([1; 32])].into(),
        time: jiff::Timestamp::UNIX_EPOCH,
        run,
        host: "host".to_owned(),
    };
    let before = repository.condemned().unwrap();
    let session = repository.begin_writing(run).unwrap();
    repository.publish_condemned(&session, &list, &before).unwrap();
    let error = repository.condemned().unwrap_err().to_string();
    assert!(error.contains("it is idle, and yet it names packs"), "{error}");
}

fn record(state: State, disks: &[(&str, u64)]) -> ReplicaRecord {
    let disk = |(name, size_bytes): &(&str, u64)| DiskRecord {
        name: name.parse().unwrap(),
        size_bytes: *size_bytes,
        path: PathBuf::from("/srv/standby").join(name),
        identity: None,
    };
    ReplicaRecord {
        replica: "standby".parse().unwrap(),
        replica_id: ReplicaId([1; 16]),
        repository: RepositoryId([2; 16]),
        machine: "web01".parse().unwrap(),
        epoch: Epoch(1),
        state,
        disks: disks.iter().map(disk).collect(),
        direct: None,
    }
}

/// Its checksum may be right all the same: whoever can write to the file can set it.
#[test]
fn a_superblock_that_says_the_impossible_is_damaged() {
    let time = jiff::Timestamp::UNIX_EPOCH;
    let to = PointRef { id: PointId([3; 32]), sequence: Sequence(1), time };
    let read = |record: &ReplicaRecord| {
        let fs = disk_in_memory();
        let path = Path::new("/replica/superblock");
        fs.create_dir_all(Path::new("/replica")).unwrap();
        fs.open(path, OpenMode::CreateNew).unwrap().write_all_at(&slot(record), 0).unwrap();
        Superblock::read_only(fs.as_ref(), path, &record.replica)
    };
    let two = |second| [("root", 4096), second];
    let seeding = State::Seeding { to };
    let good = record(seeding.clone(), &two(("data", 4096)));
    assert_eq!(read(&good).unwrap(), good);
    for hostile in [
        record(seeding.clone(), &two(("root", 4096))),
        record(seeding, &two(("data", u64::MAX))),
        record(State::Clean { point: to }, &two(("data", 4096))),
    ] {
        let error = read(&hostile).unwrap_err().to_string();
        assert!(error.contains("a slot's content makes no sense"), "{error}");
    }
}

/// The first slot of a superblock, with the right checksum.
fn slot(record: &ReplicaRecord) -> Vec<u8> {
    let payload = serde_json::to_vec(record).unwrap();
    let mut slot = b"AIREPSB\0\x01\0\0\0".to_vec();
    slot.extend((payload.len() as u32).to_le_bytes());
    slot.extend(2_u64.to_le_bytes());
    let digest: [u8; 32] = Sha256::digest([&slot[..], &[0; 32], &payload].concat()).into();
    slot.extend(digest);
    slot.extend(payload);
    slot
}

#[test]
fn an_unknown_key_deep_in_a_superblock_is_refused() {
    let text = r#"{"boot_id":"a","diskseq":1,"sectors_written":2,"discards":3}"#;
    assert!(serde_json::from_str::<DeviceActivity>(text).is_ok());
    let more = text.replace('}', r#","new":4}"#);
    assert!(serde_json::from_str::<DeviceActivity>(&more).is_err());
}

/// Sizes from there went into sums that then overflowed, or asked for impossible disks.
#[test]
fn a_manifest_in_the_catalog_is_believed_no_more_than_one_in_the_repository() {
    let folder = tempfile::tempdir().unwrap();
    let repository = RepositoryId([0; 16]);
    let catalog = Catalog::open(folder.path(), repository).unwrap();
    let names = ["root".parse().unwrap(), "data".parse().unwrap()];
    let mut hostile = point(1, 1, 0, &names);
    catalog.add_point(&hostile).unwrap();
    assert_eq!(catalog.points(None).unwrap(), [hostile.clone()]);
    let mut is_refused = |change: &dyn Fn(&mut afterimage::point::Manifest)| {
        catalog.forget_points(&[hostile.id]).unwrap();
        change(&mut hostile.manifest);
        catalog.add_point(&hostile).unwrap();
        catalog.points(None).is_err() && catalog.known_points().is_err()
    };
    assert!(is_refused(&|manifest| manifest.disks[0].size_bytes = u64::MAX));
    assert!(is_refused(&|manifest| {
        manifest.disks[0].size_bytes = 4096;
        manifest.disks[1].name = manifest.disks[0].name.clone();
    }));
    assert!(is_refused(&|manifest| {
        manifest.disks.truncate(1);
        manifest.repository = RepositoryId([9; 16]);
    }));
}

fn write(fs: &Arc<dyn FileSystem>, path: &Path, text: &str) {
    fs.create_dir_all(path.parent().unwrap()).unwrap();
    fs.open(path, OpenMode::CreateNew).unwrap().write_all_at(text.as_bytes(), 0).unwrap();
}

/// Whoever could write to a repository could have a command clear the terminal, or worse.
#[test]
fn what_is_told_of_a_hostile_file_disturbs_no_terminal() {
    let fs = disk_in_memory();
    let layout = Layout::new("/repository".into());
    let hostile = "{\"index\": {\"format\": 1, \"\\u001b[2J\": 0}}";
    write(&fs, &layout.slot_index(), hostile);
    let slot = "{\"format\": 1, \"\\u001b[2J\\n\": 0}";
    write(&fs, &layout.slot(SlotId([1; 16])), slot);
    write(&fs, &layout.slots().join("a\u{1b}[2J"), "");
    assert!(list_slots(fs.as_ref(), &layout).unwrap().is_empty());
    let problems = check_slots(fs.as_ref(), &layout, None).unwrap();
    assert_eq!(problems.len(), 3);
    for problem in problems {
        let text = problem.to_string();
        assert!(!text.contains(char::is_control) && text.contains("\\u{1b}"), "{text:?}");
    }
}

#[test]
fn the_note_of_who_holds_a_lock_disturbs_no_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.lock");
    let own = LockHolder::this_process("a test");
    let take = || FileLock::try_take(&RealFileSystem, &path, LockMode::Exclusive, &own);
    let _held = take().unwrap();
    let note = serde_json::json!({ "work": "\u{1b}[2J", "pid": 1, "host": "x".repeat(2000) });
    std::fs::write(&path, note.to_string()).unwrap();
    let text = take().unwrap_err().to_string();
    assert!(!text.contains(char::is_control) && text.contains("\\u{1b}"), "{text:?}");
    assert!(text.len() < 1000, "{text}");
}

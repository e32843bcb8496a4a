use super::*;
use crate::destination::{JournalRef, Target, TargetIdentity};
use crate::fsio::RealFileSystem;
use crate::testing::{CutFileSystem, LastOperation};
use crate::units::{
    DISK_BYTES_MAX, Epoch, JournalDigest, PointId, ReplicaId, RepositoryId, Sequence,
};
use proptest::prelude::*;
use std::fs;

fn point(number: u8) -> PointRef {
    let time = jiff::Timestamp::from_second(1_700_000_000 + i64::from(number)).unwrap();
    PointRef { id: PointId([number; 32]), sequence: Sequence(u64::from(number)), time }
}

fn journal() -> JournalRef {
    JournalRef { file: "journal".parse().unwrap(), bytes: 77, sha256: JournalDigest([8; 32]) }
}

fn identity() -> TargetIdentity {
    let folder = tempfile::tempdir().unwrap();
    Target::create(&RealFileSystem, &folder.path().join("disk")).unwrap().identity().unwrap()
}

fn record(state: State, epoch: u64) -> ReplicaRecord {
    let disk = DiskRecord {
        name: "root".parse().unwrap(),
        size_bytes: 0,
        path: identity().path,
        identity: Some(identity()),
    };
    ReplicaRecord {
        replica: "standby".parse().unwrap(),
        replica_id: ReplicaId([1; 16]),
        repository: RepositoryId([2; 16]),
        machine: "web01".parse().unwrap(),
        epoch: Epoch(epoch),
        state,
        disks: vec![disk],
        direct: None,
    }
}

fn with(base: &ReplicaRecord, state: State, epoch: u64) -> ReplicaRecord {
    ReplicaRecord { state, epoch: Epoch(epoch), ..base.clone() }
}

fn seeding() -> ReplicaRecord {
    record(State::Seeding { to: point(1) }, 1)
}

/// All states of a replica between its points 1 and 2.
fn states() -> [State; 5] {
    [
        State::Seeding { to: point(1) },
        State::Clean { point: point(1) },
        State::Applying { from: point(1), to: point(2), journal: journal() },
        State::Clean { point: point(2) },
        State::Promoted { point: point(2) },
    ]
}

fn create(fs: &Arc<dyn FileSystem>, path: &Path) -> Superblock {
    Superblock::create(fs, path, seeding()).unwrap()
}

fn read(path: &Path) -> Result<ReplicaRecord, SuperblockError> {
    Superblock::read_only(&RealFileSystem, path, &"standby".parse().unwrap())
}

#[test]
fn only_the_transitions_of_the_diagram_are_allowed() {
    let base = seeding();
    let allowed = |from: usize, to: usize, raise: u64| {
        let from = with(&base, states()[from].clone(), 5);
        check_transition(&from, &with(&base, states()[to].clone(), 5 + raise)).is_ok()
    };
    let table: Vec<Vec<bool>> =
        (0..5).map(|from| (0..5).map(|to| allowed(from, to, 0)).collect()).collect();
    let expected = [
        [true, true, false, false, false],
        [true, true, true, false, false],
        [true, false, true, true, false],
        [true, false, false, true, false],
        [false, false, false, false, true],
    ];
    assert_eq!(table, expected);
    let raised: Vec<Vec<bool>> =
        (0..5).map(|from| (0..5).map(|to| allowed(from, to, 1)).collect()).collect();
    let expected = [
        [true, true, false, false, false],
        [true, true, true, false, false],
        [true, false, true, true, false],
        [true, false, false, true, true],
        [true, false, false, false, true],
    ];
    assert_eq!(raised, expected);
}

#[test]
fn the_epoch_never_falls_and_a_replica_stays_itself() {
    let base = seeding();
    let lower = with(&base, base.state.clone(), 0);
    let refused = check_transition(&base, &lower).unwrap_err();
    assert!(matches!(refused, TransitionError::EpochFell { .. }), "{refused}");
    let other = ReplicaRecord { replica_id: ReplicaId([9; 16]), ..base.clone() };
    let refused = check_transition(&base, &other).unwrap_err();
    assert_eq!(refused, TransitionError::Identity { what: "identity" });
    let clean = with(&base, State::Clean { point: point(1) }, 1);
    let mut unknown = clean.clone();
    unknown.disks[0].identity = None;
    let refused = check_transition(&base, &unknown).unwrap_err();
    assert!(matches!(refused, TransitionError::Unidentified { .. }), "{refused}");
    let mut fewer = clean.clone();
    fewer.disks.clear();
    assert_eq!(check_transition(&clean, &fewer), Err(TransitionError::Disks));
    let mut journal = journal();
    journal.bytes += 1;
    let applying = with(&base, states()[2].clone(), 1);
    let other = State::Applying { from: point(1), to: point(2), journal };
    let refused = check_transition(&applying, &with(&base, other, 1)).unwrap_err();
    assert!(matches!(refused, TransitionError::Point { .. }), "{refused}");
}

#[test]
fn a_superblock_keeps_what_is_stored() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("superblock");
    let fs = RealFileSystem::shared();
    let mut superblock = create(&fs, &path);
    let base = superblock.current().clone();
    for state in states() {
        let epoch = if state.word() == "promoted" { 2 } else { 1 };
        let next = with(&base, state, epoch);
        superblock.store(next.clone()).unwrap();
        assert_eq!(superblock.current(), &next);
        assert_eq!(read(&path).unwrap(), next);
        superblock = Superblock::open(fs.as_ref(), &path, &base.replica).unwrap();
        assert_eq!(superblock.current(), &next);
    }
    let back = with(&base, State::Clean { point: point(2) }, 9);
    let refused = superblock.store(back).unwrap_err();
    assert!(refused.to_string().contains("promoted"), "{refused}");
    let again = Superblock::create(&fs, &path, base.clone()).unwrap_err();
    assert!(matches!(&again, SuperblockError::File(e) if e.already_exists()), "{again}");
    let other = Superblock::open(fs.as_ref(), &path, &"other".parse().unwrap()).unwrap_err();
    assert!(matches!(other, SuperblockError::Foreign { .. }), "{other}");
    assert_eq!(fs::metadata(&path).unwrap().len(), FILE_BYTES as u64);
}

#[test]
fn damage_of_one_slot_loses_nothing_and_of_both_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("superblock");
    let fs = RealFileSystem::shared();
    let mut superblock = create(&fs, &path);
    let clean = with(superblock.current(), State::Clean { point: point(1) }, 1);
    superblock.store(clean.clone()).unwrap();
    let good = fs::read(&path).unwrap();
    for slot in 0..2 {
        let mut bytes = good.clone();
        bytes[slot * SLOT_BYTES..][..SLOT_BYTES].fill(0xff);
        fs::write(&path, bytes).unwrap();
        assert_eq!(read(&path).unwrap(), clean);
    }
    let mut bytes = good.clone();
    bytes[SLOT_BYTES + 100] ^= 1;
    bytes[100] ^= 1;
    fs::write(&path, bytes).unwrap();
    let damaged = read(&path).unwrap_err();
    assert!(damaged.to_string().contains("`afterimage replicate now standby`"), "{damaged}");
    let mut swapped = good[SLOT_BYTES..].to_vec();
    swapped.extend(&good[..SLOT_BYTES]);
    fs::write(&path, swapped).unwrap();
    assert!(matches!(read(&path), Err(SuperblockError::Damaged { .. })));
}

#[test]
fn a_newer_format_is_refused_and_not_taken_for_damage() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("superblock");
    create(&RealFileSystem::shared(), &path);
    let mut file = fs::read(&path).unwrap();
    let payload = b"not even JSON";
    let mut slot = b"AIREPSB\0".to_vec();
    slot.extend(7_u32.to_le_bytes());
    slot.extend((payload.len() as u32).to_le_bytes());
    slot.extend(3_u64.to_le_bytes());
    let digest = {
        use sha2::{Digest, Sha256};
        Sha256::new().chain_update(&slot).chain_update([0; 32]).chain_update(payload).finalize()
    };
    slot.extend(digest);
    slot.extend(payload);
    file[SLOT_BYTES..][..slot.len()].copy_from_slice(&slot);
    fs::write(&path, file).unwrap();
    let refused = read(&path).unwrap_err();
    assert!(matches!(refused, SuperblockError::NewerFormat { found: 7, .. }), "{refused}");
}

#[test]
fn no_flipped_bit_and_no_truncation_of_a_slot_is_accepted() {
    let record = seeding();
    let slot = slot::encode(&record, 6).unwrap();
    let used = 56 + serde_json::to_vec(&record).unwrap().len();
    let whole = Slot { generation: 6, record: Ok(Box::new(record)) };
    assert_eq!(slot::decode(&slot, 0).as_ref(), Ok(&whole));
    for at in 0..used {
        for bit in 0..8 {
            let mut bytes = slot.clone();
            bytes[at] ^= 1 << bit;
            assert!(slot::decode(&bytes, 0).is_err(), "bit {bit} of byte {at}");
        }
    }
    for len in 0..used {
        assert!(slot::decode(&slot[..len], 0).is_err(), "cut to {len}");
    }
    // Only the padding is left: it says nothing.
    assert_eq!(slot::decode(&slot[..used], 0), Ok(whole));
}

#[test]
fn a_file_cut_anywhere_falls_back_to_the_whole_slot_or_is_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("superblock");
    let record = create(&RealFileSystem::shared(), &path).current().clone();
    let used = 56 + serde_json::to_vec(&record).unwrap().len();
    let good = fs::read(&path).unwrap();
    for len in (0..used + 9).chain((used..FILE_BYTES).step_by(997)) {
        fs::write(&path, &good[..len]).unwrap();
        match read(&path) {
            Ok(found) => assert!(len >= used && found == record, "cut to {len}"),
            Err(error) => {
                assert!(matches!(error, SuperblockError::Damaged { .. }), "{error}");
                assert!(len < used, "cut to {len}");
            }
        }
    }
}

#[test]
fn a_record_too_large_for_a_slot_is_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("superblock");
    let mut superblock = create(&RealFileSystem::shared(), &path);
    let mut next = superblock.current().clone();
    next.disks = vec![next.disks[0].clone(); 400];
    let refused = superblock.store(next).unwrap_err();
    assert!(matches!(refused, SuperblockError::Unstorable { .. }), "{refused}");
    assert_eq!(&read(&path).unwrap(), superblock.current());
    superblock.store(superblock.current().clone()).unwrap();
}

#[test]
fn a_cut_at_every_operation_of_a_store_leaves_the_old_or_the_new_state() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("superblock");
    let name: Name = "standby".parse().unwrap();
    let old = create(&RealFileSystem::shared(), &path).current().clone();
    let new = with(&old, State::Clean { point: point(1) }, 1);
    let good = fs::read(&path).unwrap();
    let counting = CutFileSystem::counting(RealFileSystem::shared());
    let mut superblock = Superblock::open(counting.as_ref(), &path, &name).unwrap();
    let opened = counting.ops_done();
    superblock.store(new.clone()).unwrap();
    let total = counting.ops_done();
    // The current slot again, then the other one and it, each written and synced.
    assert_eq!(total - opened, 6);
    for last in [LastOperation::Absent, LastOperation::Torn] {
        for cut in opened..total {
            fs::write(&path, &good).unwrap();
            let fs = CutFileSystem::new(RealFileSystem::shared(), cut, last);
            let mut superblock = Superblock::open(fs.as_ref(), &path, &name).unwrap();
            assert!(superblock.store(new.clone()).is_err());
            let again = superblock.store(new.clone()).unwrap_err();
            assert!(matches!(again, SuperblockError::GivenUp { .. }), "{again}");
            let expected = if cut < opened + 3 { &old } else { &new };
            // The record is short: half a slot holds it whole, and that is the new state.
            let found = read(&path).unwrap();
            assert!(found == *expected || found == new, "{last:?} {cut}: {found:?}");
            let mut reopened = Superblock::open(&RealFileSystem, &path, &name).unwrap();
            reopened.store(new.clone()).unwrap();
            assert_eq!(read(&path).unwrap(), new);
        }
    }
}

#[test]
fn a_store_torn_after_any_byte_leaves_the_old_or_the_new_state() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("superblock");
    let old = create(&RealFileSystem::shared(), &path).current().clone();
    let new = with(&old, State::Clean { point: point(1) }, 1);
    let good = fs::read(&path).unwrap();
    let slot = slot::encode(&new, 3).unwrap();
    let used = 56 + serde_json::to_vec(&new).unwrap().len();
    for len in 0..used + 2 {
        let mut bytes = good.clone();
        bytes[SLOT_BYTES..][..len].copy_from_slice(&slot[..len]);
        fs::write(&path, bytes).unwrap();
        // What was there before may end in the same bytes.
        let found = read(&path).unwrap();
        assert!(found == new && len + 4 > used || found == old && len < used, "torn at {len}");
    }
}

#[test]
fn a_cut_at_every_operation_of_a_creation_leaves_no_superblock_or_a_whole_one() {
    let folder = tempfile::tempdir().unwrap();
    let first = seeding();
    let make = |fs: Arc<CutFileSystem>, path: &Path| {
        Superblock::create(&(fs as Arc<dyn FileSystem>), path, first.clone()).map(drop)
    };
    let counting = CutFileSystem::counting(RealFileSystem::shared());
    make(Arc::clone(&counting), &folder.path().join("all")).unwrap();
    for last in [LastOperation::Absent, LastOperation::Torn] {
        for cut in 0..counting.ops_done() {
            let path = folder.path().join(format!("{last:?}-{cut}"));
            assert!(make(CutFileSystem::new(RealFileSystem::shared(), cut, last), &path).is_err());
            match read(&path) {
                Ok(found) => assert_eq!(found, first),
                Err(SuperblockError::File(error)) => assert!(error.not_found(), "{error}"),
                Err(error) => panic!("{error}"),
            }
        }
    }
}

proptest! {
    #[test]
    fn records_survive_their_slot(
        state in 0_usize..5,
        epoch in any::<u64>(),
        generation in 0_u64..1 << 62,
        size_bytes in 0..=DISK_BYTES_MAX,
        mtime_ns in any::<i128>(),
    ) {
        let mut record = record(states()[state].clone(), epoch);
        record.disks[0].size_bytes = size_bytes;
        record.disks[0].identity.as_mut().unwrap().mtime_ns = mtime_ns;
        let slot = slot::encode(&record, generation).unwrap();
        let whole = Slot { generation, record: Ok(Box::new(record)) };
        prop_assert_eq!(slot::decode(&slot, generation % 2), Ok(whole));
    }

    #[test]
    fn bytes_of_any_kind_are_no_slot(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut framed = b"AIREPSB\0".to_vec();
        framed.extend(&bytes);
        prop_assert!(slot::decode(&bytes, 0).is_err());
        prop_assert!(slot::decode(&framed, 0).is_err());
    }
}

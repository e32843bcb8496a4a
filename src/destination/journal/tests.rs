use super::*;
use crate::extent::Extent;
use crate::fsio::{FileSystem, RealFileSystem};
use crate::testing::{CutFileSystem, LastOperation};
use crate::units::MIB;
use proptest::prelude::*;
use std::fs;
use std::sync::Arc;

/// A record that owns its data.
#[derive(Debug, Clone, PartialEq)]
enum Owned {
    Data(u16, u64, Vec<u8>),
    Zeros(u16, Extent),
}

const DISK_BYTES: u64 = 4 * MIB;

fn header(disks: usize) -> JournalHeader {
    let disk = |index| JournalDisk {
        name: format!("disk{index}").parse().unwrap(),
        size_before_bytes: MIB,
        size_bytes: DISK_BYTES,
    };
    JournalHeader {
        replica_id: ReplicaId([1; 16]),
        from: PointId([2; 32]),
        to: PointId([3; 32]),
        disks: (0..disks).map(disk).collect(),
    }
}

fn write(
    fs: &Arc<dyn FileSystem>,
    path: &Path,
    steps: &[Owned],
) -> Result<JournalRef, JournalError> {
    let mut writer = JournalWriter::create(fs, path, header(2))?;
    for step in steps {
        match step {
            Owned::Data(disk, offset, bytes) => writer.data(*disk, *offset, bytes)?,
            Owned::Zeros(disk, extent) => writer.zeros(*disk, *extent)?,
        }
    }
    writer.finish()
}

fn records(path: &Path, expected: &JournalRef) -> Result<Vec<Owned>, JournalError> {
    let journal = JournalReader::open(&RealFileSystem, path)?.verify(expected)?;
    let mut found = Vec::new();
    journal.for_each(|record| {
        found.push(match record {
            Record::Data { disk, offset, bytes } => Owned::Data(disk, offset, bytes.to_vec()),
            Record::Zeros { disk, extent } => Owned::Zeros(disk, extent),
        });
        Ok::<(), JournalError>(())
    })?;
    Ok(found)
}

/// The disks that records leave behind.
fn replay(steps: &[Owned]) -> Vec<Vec<u8>> {
    let mut disks = vec![vec![9; DISK_BYTES as usize]; 2];
    for step in steps {
        match step {
            Owned::Data(disk, offset, bytes) => {
                disks[usize::from(*disk)][*offset as usize..][..bytes.len()].copy_from_slice(bytes);
            }
            Owned::Zeros(disk, extent) => {
                disks[usize::from(*disk)][extent.start() as usize..extent.end() as usize].fill(0);
            }
        }
    }
    disks
}

fn small() -> Vec<Owned> {
    vec![
        Owned::Data(0, 10, vec![5; 20]),
        Owned::Zeros(1, Extent::between(0, 4096)),
        Owned::Data(1, 8192, vec![6; 30]),
    ]
}

fn step() -> impl Strategy<Value = Owned> {
    let len = prop_oneof![0_u64..2000, MIB - 1..MIB + 2, Just(2 * MIB + 5)];
    (any::<bool>(), 0_u16..2, 0..DISK_BYTES, len, any::<u8>()).prop_map(
        |(zeros, disk, start, len, byte)| {
            let end = DISK_BYTES.min(start + len);
            if zeros {
                Owned::Zeros(disk, Extent::between(start, end))
            } else {
                Owned::Data(disk, start, vec![byte; (end - start) as usize])
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_journal_says_what_was_put_in(steps in proptest::collection::vec(step(), 0..12)) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let reference = write(&RealFileSystem::shared(), &path, &steps).unwrap();
        prop_assert_eq!(reference.bytes, fs::metadata(&path).unwrap().len());
        prop_assert_eq!(replay(&records(&path, &reference).unwrap()), replay(&steps));
    }

    #[test]
    fn bytes_of_any_kind_are_no_journal_and_no_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..400),
        keep in 0_usize..200,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let mut reference = write(&RealFileSystem::shared(), &path, &small()).unwrap();
        let mut content = fs::read(&path).unwrap();
        content.truncate(keep);
        content.extend(bytes);
        reference.bytes = content.len() as u64;
        fs::write(&path, content).unwrap();
        prop_assert!(records(&path, &reference).is_err());
    }
}

#[test]
fn adjacent_data_becomes_one_record_and_long_data_several() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let steps = [
        Owned::Data(0, 0, vec![1; 100]),
        Owned::Data(0, 100, vec![2; 100]),
        Owned::Zeros(0, Extent::between(200, 300)),
        Owned::Zeros(0, Extent::between(300, 400)),
        Owned::Data(1, 400, vec![3; MIB as usize + 1]),
    ];
    let reference = write(&RealFileSystem::shared(), &path, &steps).unwrap();
    let found = records(&path, &reference).unwrap();
    let lengths: Vec<u64> = found
        .iter()
        .map(|record| match record {
            Owned::Data(_, _, bytes) => bytes.len() as u64,
            Owned::Zeros(_, extent) => extent.len(),
        })
        .collect();
    assert_eq!(lengths, [200, 200, MIB, 1]);
}

#[test]
fn every_flipped_bit_and_every_truncation_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let reference = write(&RealFileSystem::shared(), &path, &small()).unwrap();
    let good = fs::read(&path).unwrap();
    let refused = |bytes: &[u8], what: &str| {
        fs::write(&path, bytes).unwrap();
        let error = records(&path, &reference).expect_err(what);
        assert!(error.to_string().contains("journal"), "{what}: {error}");
        // The reference is of the right length and still nothing fits.
        let own_length = JournalRef { bytes: bytes.len() as u64, ..reference.clone() };
        records(&path, &own_length).expect_err(what);
    };
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut bytes = good.clone();
            bytes[at] ^= 1 << bit;
            refused(&bytes, &format!("bit {bit} of byte {at} flipped"));
        }
    }
    for len in 0..good.len() {
        refused(&good[..len], &format!("cut to {len}"));
    }
    let mut longer = good.clone();
    longer.push(0);
    refused(&longer, "one byte appended");
}

#[test]
fn a_flipped_footer_with_a_matching_reference_is_still_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let reference = write(&RealFileSystem::shared(), &path, &small()).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
    assert!(matches!(records(&path, &reference), Err(JournalError::Damaged { .. })));
}

#[test]
fn a_whole_journal_of_another_apply_is_foreign() {
    let folder = tempfile::tempdir().unwrap();
    let (path, other) = (folder.path().join("journal"), folder.path().join("other"));
    let reference = write(&RealFileSystem::shared(), &path, &small()).unwrap();
    let mut steps = small();
    steps[0] = Owned::Data(0, 10, vec![4; 20]);
    write(&RealFileSystem::shared(), &other, &steps).unwrap();
    let error = records(&other, &reference).unwrap_err();
    assert!(matches!(error, JournalError::Foreign { .. }), "{error}");
}

#[test]
fn a_newer_format_and_a_missing_file_are_told_from_damage() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    write(&RealFileSystem::shared(), &path, &small()).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes[8] = 2;
    fs::write(&path, bytes).unwrap();
    let error = JournalReader::open(&RealFileSystem, &path).unwrap_err();
    assert!(matches!(error, JournalError::NewerFormat { found: 2, .. }), "{error}");
    fs::remove_file(&path).unwrap();
    let error = JournalReader::open(&RealFileSystem, &path).unwrap_err();
    assert!(matches!(error, JournalError::Missing { .. }), "{error}");
}

#[test]
fn what_lies_outside_its_disk_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let fs = RealFileSystem::shared();
    let mut writer = JournalWriter::create(&fs, &path, header(1)).unwrap();
    assert!(writer.data(0, DISK_BYTES, b"x").is_err());
    assert!(writer.data(0, u64::MAX, b"x").is_err());
    assert!(writer.data(1, 0, b"x").is_err());
    assert!(writer.zeros(0, Extent::between(0, DISK_BYTES + 1)).is_err());
    let mut twice = header(1);
    twice.disks.extend(header(1).disks);
    assert!(JournalWriter::create(&fs, &folder.path().join("b"), twice).is_err());
}

#[test]
fn a_journal_that_is_there_is_never_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let fs = RealFileSystem::shared();
    let late = JournalWriter::create(&fs, &path, header(2)).unwrap();
    fs::write(&path, "there").unwrap();
    assert!(matches!(late.finish(), Err(JournalError::Exists { .. })));
    let early = JournalWriter::create(&fs, &path, header(2));
    assert!(matches!(early, Err(JournalError::Exists { .. })));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_cut_at_every_operation_leaves_no_journal_or_a_whole_one() {
    let mut steps = small();
    // Long enough for several writes.
    steps.push(Owned::Data(0, MIB, (0..2 * MIB + 9).map(|n| n as u8).collect()));
    let folder = tempfile::tempdir().unwrap();
    let counting = CutFileSystem::counting(RealFileSystem::shared());
    let reference =
        write(&(counting.clone() as Arc<dyn FileSystem>), &folder.path().join("all"), &steps)
            .unwrap();
    let total = counting.ops_done();
    assert!(total >= 8, "{total}");
    for last in [LastOperation::Absent, LastOperation::Torn] {
        for cut in 0..total {
            let path = folder.path().join(format!("{last:?}-{cut}"));
            let fs: Arc<dyn FileSystem> = CutFileSystem::new(RealFileSystem::shared(), cut, last);
            assert!(write(&fs, &path, &steps).is_err(), "cut {cut}");
            if path.exists() {
                assert_eq!(replay(&records(&path, &reference).unwrap()), replay(&steps));
                // Only its folder was not yet synced.
                assert_eq!(cut, total - 1);
            }
        }
    }
}

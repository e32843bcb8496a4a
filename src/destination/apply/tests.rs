use super::*;
use crate::destination::{JournalHeader, JournalReader, JournalWriter, TargetAccess};
use crate::fsio::{FileSystem, RealFileSystem};
use crate::testing::{CutFileSystem, LastOperation};
use crate::units::{PointId, ReplicaId};
use std::fs;
use std::path::PathBuf;

const BEFORE_BYTES: [usize; 3] = [100_000, 60_000, 50_000];
const AFTER_BYTES: [usize; 3] = [100_000, 90_000, 20_000];

/// Three disks (one stays, one grows, one shrinks) at a point, and the journal to the next one.
struct Scene {
    folder: tempfile::TempDir,
    journal: VerifiedJournal,
    expected: Vec<Vec<u8>>,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let disks = (0..3).map(|index| JournalDisk {
            name: format!("disk{index}").parse().unwrap(),
            size_before_bytes: BEFORE_BYTES[index] as u64,
            size_bytes: AFTER_BYTES[index] as u64,
        });
        let header = JournalHeader {
            replica_id: ReplicaId([1; 16]),
            from: PointId([2; 32]),
            to: PointId([3; 32]),
            disks: disks.collect(),
        };
        let path = folder.path().join("journal");
        let mut writer = JournalWriter::create(&RealFileSystem::shared(), &path, header).unwrap();
        let mut expected: Vec<Vec<u8>> =
            BEFORE_BYTES.iter().enumerate().map(|(disk, len)| vec![disk as u8 + 1; *len]).collect();
        for (disk, content) in expected.iter_mut().enumerate() {
            content.resize(AFTER_BYTES[disk], 0);
            let mut data = vec![9; 17_000];
            data[4_000..13_000].fill(0);
            for start in [0, 1_000 * (disk + 1)] {
                content[start..][..data.len()].copy_from_slice(&data);
                writer.data(disk as u16, start as u64, &data).unwrap();
            }
            content[9_000..11_000].fill(0);
            writer.zeros(disk as u16, Extent::between(9_000, 11_000)).unwrap();
        }
        expected[1][80_000..80_010].fill(5);
        writer.data(1, 80_000, &[5; 10]).unwrap();
        let reference = writer.finish().unwrap();
        let journal =
            JournalReader::open(&RealFileSystem, &path).unwrap().verify(&reference).unwrap();
        Self { folder, journal, expected }
    }

    fn path(&self, disk: usize) -> PathBuf {
        self.folder.path().join(format!("disk{disk}"))
    }

    fn reset(&self) {
        for (disk, len) in BEFORE_BYTES.iter().enumerate() {
            fs::write(self.path(disk), vec![disk as u8 + 1; *len]).unwrap();
        }
    }

    fn apply(&self, fs: &dyn FileSystem) -> Result<Applied, ApplyError> {
        let open = |disk| Target::open(fs, &self.path(disk), None, TargetAccess::Write);
        let targets = [open(0)?, open(1)?, open(2)?];
        apply(&self.journal, &targets)
    }

    fn assert_applied(&self, what: &str) {
        for (disk, expected) in self.expected.iter().enumerate() {
            assert!(&fs::read(self.path(disk)).unwrap() == expected, "{what}: disk {disk}");
        }
    }
}

#[test]
fn a_journal_can_be_applied_twice() {
    let scene = Scene::new();
    scene.reset();
    let first = scene.apply(&RealFileSystem).unwrap();
    scene.assert_applied("once");
    assert!(first.bytes_written > 0 && first.bytes_zeroed >= 30_000, "{first:?}");
    assert_eq!(scene.apply(&RealFileSystem).unwrap(), first);
    scene.assert_applied("twice");
}

#[test]
fn a_cut_at_every_operation_is_healed_by_applying_again() {
    let scene = Scene::new();
    scene.reset();
    let counting = CutFileSystem::counting(RealFileSystem::shared());
    scene.apply(counting.as_ref()).unwrap();
    let total = counting.ops_done();
    assert!(total > 20, "{total}");
    for last in [LastOperation::Absent, LastOperation::Torn] {
        for cut in 0..total {
            scene.reset();
            let fs = CutFileSystem::new(RealFileSystem::shared(), cut, last);
            assert!(scene.apply(fs.as_ref()).is_err(), "cut {cut}");
            // The second attempt may be cut as well.
            let fs = CutFileSystem::new(RealFileSystem::shared(), cut / 2, last);
            assert!(scene.apply(fs.as_ref()).is_err(), "cut {cut}");
            scene.apply(&RealFileSystem).unwrap();
            scene.assert_applied(&format!("{last:?} cut {cut}"));
        }
    }
}

#[test]
fn other_targets_than_the_journals_are_refused_untouched() {
    let scene = Scene::new();
    scene.reset();
    let target = Target::open(&RealFileSystem, &scene.path(0), None, TargetAccess::Write).unwrap();
    let refused = apply(&scene.journal, &[target]).unwrap_err();
    assert!(matches!(refused, ApplyError::OtherDisks { expected: 3, found: 1 }), "{refused}");
    assert_eq!(fs::read(scene.path(0)).unwrap(), vec![1; BEFORE_BYTES[0]]);
}

#[test]
fn a_journal_that_changes_after_it_was_verified_writes_nothing_outside_and_is_told() {
    let scene = Scene::new();
    let journal = scene.folder.path().join("journal");
    let good = fs::read(&journal).unwrap();
    for at in (0..good.len()).step_by(61) {
        scene.reset();
        let mut bytes = good.clone();
        bytes[at] ^= 0x10;
        fs::write(&journal, &bytes).unwrap();
        assert!(scene.apply(&RealFileSystem).is_err(), "byte {at}");
        for (disk, after) in AFTER_BYTES.iter().enumerate() {
            let len = fs::metadata(scene.path(disk)).unwrap().len() as usize;
            assert!(len <= (*after).max(BEFORE_BYTES[disk]), "byte {at}");
        }
        fs::write(&journal, &good).unwrap();
        scene.apply(&RealFileSystem).unwrap();
        scene.assert_applied(&format!("byte {at}"));
    }
}

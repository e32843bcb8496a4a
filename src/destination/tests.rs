//! The order of durable steps, as a whole, cut at every operation: by a kill and by the loss of
//! power. The replica must hold exactly the point that its superblock names.

use super::*;
use crate::extent::Extent;
use crate::fsio::{FileSystem, RealFileSystem};
use crate::testing::{CutFileSystem, LastOperation, Lost, UnsyncedFileSystem};
use crate::units::{Epoch, Name, PointId, ReplicaId, RepositoryId, Sequence};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

type AnyResult = Result<(), Box<dyn std::error::Error>>;

/// Sizes of the two disks at points 1 and 2.
const SIZES_BYTES: [[usize; 2]; 2] = [[40_000, 30_000], [50_000, 20_000]];

fn point(number: usize) -> PointRef {
    let time = jiff::Timestamp::from_second(1_700_000_000 + number as i64).unwrap();
    PointRef { id: PointId([number as u8; 32]), sequence: Sequence(number as u64), time }
}

/// What disk `disk` holds at a point.
fn content(number: usize, disk: usize) -> Vec<u8> {
    let mut bytes = vec![disk as u8 + 1; SIZES_BYTES[0][disk]];
    if number == 2 {
        bytes.resize(SIZES_BYTES[1][disk], 0);
        bytes[5_000..9_000].fill(0x77);
        bytes[9_000..15_000].fill(0);
    }
    bytes
}

/// A replica of two images that is clean at point 1.
struct Scene {
    folder: tempfile::TempDir,
    home: ReplicaHome,
    name: Name,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let name: Name = "standby".parse().unwrap();
        let first = folder.path().join("disk0");
        let home = ReplicaHome::locate(folder.path(), None, &name, &first, TargetKind::Image);
        let scene = Self { folder, home, name };
        scene.seed().unwrap();
        scene
    }

    fn path(&self, disk: usize) -> PathBuf {
        self.folder.path().join(format!("disk{disk}"))
    }

    fn targets(&self, fs: &dyn FileSystem) -> Result<Vec<Target>, TargetError> {
        (0..2).map(|disk| Target::open(fs, &self.path(disk), None, TargetAccess::Write)).collect()
    }

    fn seed(&self) -> AnyResult {
        let fs = RealFileSystem::shared();
        fs.create_dir_all(self.home.folder())?;
        let disks = (0..2).map(|disk| DiskRecord {
            name: format!("disk{disk}").parse().unwrap(),
            size_bytes: SIZES_BYTES[0][disk] as u64,
            path: self.path(disk),
            identity: None,
        });
        let record = ReplicaRecord {
            replica: self.name.clone(),
            replica_id: ReplicaId([1; 16]),
            repository: RepositoryId([2; 16]),
            machine: "web01".parse()?,
            epoch: Epoch(1),
            state: State::Seeding { to: point(1) },
            disks: disks.collect(),
            direct: None,
        };
        let mut superblock = Superblock::create(&fs, &self.home.superblock(), record)?;
        let mut targets = Vec::new();
        for (disk, size_bytes) in SIZES_BYTES[0].into_iter().enumerate() {
            let target = Target::create(fs.as_ref(), &self.path(disk))?;
            target.resize(size_bytes as u64)?;
            target.write_thin(0, &content(1, disk), Background::Zeros)?;
            target.sync()?;
            targets.push(target);
        }
        self.settle(&mut superblock, &targets, point(1))
    }

    fn settle(&self, superblock: &mut Superblock, targets: &[Target], at: PointRef) -> AnyResult {
        let mut next = superblock.current().clone();
        next.state = State::Clean { point: at };
        for (disk, target) in next.disks.iter_mut().zip(targets) {
            disk.size_bytes = target.size();
            disk.identity = Some(target.identity()?);
        }
        Ok(superblock.store(next)?)
    }

    /// What every run begins with.
    fn recover(&self, fs: &dyn FileSystem) -> Result<Superblock, Box<dyn std::error::Error>> {
        self.home.sweep(fs)?;
        let mut superblock = Superblock::open(fs, &self.home.superblock(), &self.name)?;
        if let State::Applying { to, journal, .. } = superblock.current().state.clone() {
            let journal = JournalReader::open(fs, &self.home.journal())?.verify(&journal)?;
            let targets = self.targets(fs)?;
            apply(&journal, &targets)?;
            self.settle(&mut superblock, &targets, to)?;
        }
        self.home.discard_journal(fs)?;
        Ok(superblock)
    }

    fn stage(&self, fs: &Arc<dyn FileSystem>) -> Result<JournalRef, JournalError> {
        let disks = (0..2).map(|disk| JournalDisk {
            name: format!("disk{disk}").parse().unwrap(),
            size_before_bytes: SIZES_BYTES[0][disk] as u64,
            size_bytes: SIZES_BYTES[1][disk] as u64,
        });
        let header = JournalHeader {
            replica_id: ReplicaId([1; 16]),
            from: point(1).id,
            to: point(2).id,
            disks: disks.collect(),
        };
        let mut writer = JournalWriter::create(fs, &self.home.journal(), header)?;
        for disk in 0..2 {
            writer.data(disk, 5_000, &[0x77; 4_000])?;
            writer.zeros(disk, Extent::between(9_000, 15_000))?;
        }
        writer.finish()
    }

    /// From point 1 to point 2, or nothing when it is there.
    fn replicate(&self, fs: &Arc<dyn FileSystem>) -> AnyResult {
        let mut superblock = self.recover(fs.as_ref())?;
        if superblock.current().state == (State::Clean { point: point(2) }) {
            return Ok(());
        }
        let journal = self.stage(fs)?;
        let mut next = superblock.current().clone();
        next.state = State::Applying { from: point(1), to: point(2), journal };
        superblock.store(next)?;
        self.recover(fs.as_ref()).map(drop)
    }

    fn assert_is_a_point(&self, what: &str) -> usize {
        let fs = RealFileSystem;
        self.recover(&fs).unwrap_or_else(|error| panic!("{what}: {error}"));
        let record = Superblock::read_only(&fs, &self.home.superblock(), &self.name).unwrap();
        let State::Clean { point } = record.state else { panic!("{what}: {record:?}") };
        for disk in 0..2 {
            let found = fs::read(self.path(disk)).unwrap();
            assert!(found == content(point.sequence.0 as usize, disk), "{what}: disk {disk}");
        }
        point.sequence.0 as usize
    }
}

fn sweep(last: LastOperation, lost: Option<Lost>) {
    let scene = Scene::new();
    let counting = CutFileSystem::counting(RealFileSystem::shared());
    scene.replicate(&(counting.clone() as Arc<dyn FileSystem>)).unwrap();
    assert_eq!(scene.assert_is_a_point("uncut"), 2);
    let mut points = Vec::new();
    for cut in 0..counting.ops_done() {
        let what = format!("{last:?}, {lost:?} lost, cut {cut}");
        let scene = Scene::new();
        // The second time it is cut while it recovers.
        for cut in [cut, cut / 3] {
            let unsynced = UnsyncedFileSystem::new(RealFileSystem::shared());
            let fs = CutFileSystem::new(unsynced.clone(), cut, last);
            let done = scene.replicate(&(fs.clone() as Arc<dyn FileSystem>));
            assert_eq!(done.is_err(), fs.is_cut(), "{what}: {done:?}");
            if let Some(lost) = lost {
                unsynced.power_cut(lost).unwrap();
            }
        }
        points.push(scene.assert_is_a_point(&what));
        scene.replicate(&RealFileSystem::shared()).unwrap();
        assert_eq!(scene.assert_is_a_point(&what), 2, "{what}");
    }
    assert!(points.is_sorted() && points.first() == Some(&1) && points.last() == Some(&2));
}

#[test]
fn a_replica_killed_at_any_operation_is_at_exactly_one_point() {
    sweep(LastOperation::Absent, None);
    sweep(LastOperation::Torn, None);
}

#[test]
fn a_replica_without_power_at_any_operation_is_at_exactly_one_point() {
    for lost in [Lost::Content, Lost::Names, Lost::Everything] {
        sweep(LastOperation::Torn, Some(lost));
    }
}

//! Random histories of a machine: whatever happens in whatever order, every replica equals its
//! sync point, every point that is kept restores to the bytes that it saw, and the catalog is
//! what the repository says.

#[path = "../common/mod.rs"]
mod common;
mod steps;

use afterimage::catalog::Catalog;
use afterimage::destination::{State, Superblock};
use afterimage::replay::{PlanConflict, ReplayError, Replicated};
use afterimage::units::PointId;
use common::{World, name, noise};
use proptest::prelude::*;
use proptest::test_runner::Config;
use std::collections::BTreeMap;
use std::path::PathBuf;
use steps::{DISKS, Place, REPLICAS, Step, range, size, step};

/// What the disks held.
type Contents = BTreeMap<String, Vec<u8>>;

/// What is known of a replica.
#[derive(Default)]
struct Replica {
    /// What its images hold, those of disks that it had once included.
    images: Contents,
    at: Option<PointId>,
    /// Whether the point that it is at is one that was deleted since.
    orphaned: bool,
    /// Disks of its superblock.
    disks: Vec<String>,
    touched: bool,
}

impl Replica {
    /// Whether an image that is there holds, once it has the right size, something else.
    fn differs_from(&self, point: &Contents) -> bool {
        point.iter().any(|(disk, content)| {
            self.images.get(disk).is_some_and(|image| {
                let mut image = image.clone();
                image.resize(content.len(), 0);
                image != *content
            })
        })
    }
}

struct Run {
    world: World,
    /// The disks as they must be now.
    disks: Contents,
    points: BTreeMap<PointId, Contents>,
    /// The disks of the newest point, in its order.
    order: Vec<String>,
    newest: Option<PointId>,
    replicas: [Replica; 2],
    kept_catalog: Option<Vec<(PathBuf, Vec<u8>)>>,
}

impl Run {
    fn new(disks: &[(bool, u64)], encrypted: bool) -> Self {
        let mut world = World::small(&[], encrypted);
        world.target_disks = Some(DISKS.map(str::to_owned).to_vec());
        let mut contents = Contents::new();
        for (index, (present, size)) in disks.iter().enumerate() {
            let mut content = noise(index as u64, 200_000.min(*size as usize));
            content.resize(*size as usize, 0);
            contents.insert(DISKS[index].to_owned(), content);
            if *present || index == 0 {
                world.disks.push(DISKS[index].to_owned());
            }
        }
        let (points, replicas) = (BTreeMap::new(), Default::default());
        let (order, newest, kept_catalog) = (Vec::new(), None, None);
        Self { world, disks: contents, points, order, newest, replicas, kept_catalog }
    }

    /// The files of the disks, sparse wherever a block is zero.
    fn write_out(&mut self) {
        for (disk, content) in &self.disks {
            common::write_sparse(&self.world.disk(disk), content);
        }
    }

    fn content(&mut self, disk: usize) -> &mut Vec<u8> {
        self.disks.get_mut(DISKS[disk]).unwrap()
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Noise { disk, place, seed } => {
                let content = self.content(disk);
                let range = range(content, place);
                let bytes = noise(seed, range.len());
                content[range].copy_from_slice(&bytes);
            }
            Step::Zeros { disk, place } => {
                let content = self.content(disk);
                let range = range(content, place);
                content[range].fill(0);
            }
            Step::Repeat { from, to, place, at } => {
                let source = self.content(from);
                let bytes = source[range(source, place)].to_vec();
                let target = self.content(to);
                let range = range(target, Place { at, len: bytes.len() as u64 });
                let len = range.len();
                target[range].copy_from_slice(&bytes[..len]);
            }
            Step::Punch { disk, place, back } => {
                let content = self.content(disk);
                let start = range(content, place).start / 4096 * 4096;
                let end = content.len().min(start + (place.len as usize).next_multiple_of(4096));
                content[start..end].fill(0);
                if back && start < end {
                    content[(start + end) / 2] = 1;
                }
            }
            Step::Resize { disk, size } => self.content(disk).resize(size as usize, 0),
            Step::Appear { disk } => self.appear(DISKS[disk]),
            Step::Disappear { disk } => {
                if self.world.disks.len() > 1 {
                    self.world.disks.retain(|it| it != DISKS[disk]);
                }
            }
            Step::Backup => self.backup(),
            Step::Replicate { replica } => self.replicate(replica),
            Step::DeletePoint { which } => self.delete_point(which),
            Step::ForeignWrite { replica, disk, at } => self.foreign_write(replica, disk, at),
            Step::DeleteCatalog => self.put_catalog(&[]),
            Step::RebuildCatalog => {
                self.world.rebuild_catalog();
                self.world.check_catalog();
            }
            Step::KeepCatalog => self.kept_catalog = Some(self.catalog_files()),
            Step::OldCatalog => {
                if let Some(files) = self.kept_catalog.clone() {
                    self.put_catalog(&files);
                }
            }
        }
    }

    fn appear(&mut self, disk: &str) {
        if !self.world.disks.iter().any(|it| it == disk) {
            self.world.disks.push(disk.to_owned());
        }
    }

    fn backup(&mut self) {
        self.write_out();
        let id = self.world.backup().unwrap().point.id;
        let saw = self.world.disks.iter().map(|disk| (disk.clone(), self.disks[disk].clone()));
        self.points.insert(id, saw.collect());
        (self.newest, self.order) = (Some(id), self.world.disks.clone());
    }

    fn replicate(&mut self, index: usize) {
        let result = self.world.replicate(REPLICAS[index]);
        let Some(newest) = self.newest else {
            assert!(matches!(result, Err(ReplayError::NoPoint { .. })), "{result:?}");
            return;
        };
        let replica = &mut self.replicas[index];
        let point = &self.points[&newest];
        // A disk that came back: its image is there, but the replica no longer answers for it.
        let returned = point
            .keys()
            .any(|disk| replica.images.contains_key(disk) && !replica.disks.contains(disk));
        let expects_adoption = returned && replica.at.is_some();
        let result = match result {
            Err(ReplayError::Conflict(PlanConflict::Occupied { .. })) if expects_adoption => {
                self.world.replicate_on(&self.world.fs, REPLICAS[index], true)
            }
            other => other,
        };
        let same_disks = self.order == replica.disks;
        let differs = replica.differs_from(point);
        let done = result.unwrap();
        match (&done, replica.at) {
            (Replicated::Seeded { .. }, None) => {}
            (Replicated::Skipped { .. }, Some(at)) => assert!(at == newest && !replica.touched),
            (Replicated::Repaired { differing_bytes, .. }, Some(_)) => {
                assert!(replica.touched || replica.orphaned || !same_disks, "{done:?}");
                assert!((*differing_bytes > 0) == differs, "{done:?}");
            }
            (Replicated::Replayed { from, .. }, Some(at)) => {
                assert!(from.id == at && at != newest && !replica.touched && !replica.orphaned);
            }
            _ => panic!("{done:?} of a replica at {:?}", replica.at),
        }
        replica.images.extend(point.clone());
        replica.disks = self.order.clone();
        (replica.at, replica.orphaned, replica.touched) = (Some(newest), false, false);
    }

    fn delete_point(&mut self, which: u16) {
        let old: Vec<PointId> =
            self.points.keys().copied().filter(|id| Some(*id) != self.newest).collect();
        let Some(id) = old.get(usize::from(which) % old.len().max(1)) else { return };
        self.world.remove_point(*id);
        self.points.remove(id);
        for replica in self.replicas.iter_mut().filter(|replica| replica.at == Some(*id)) {
            replica.orphaned = true;
        }
    }

    fn foreign_write(&mut self, index: usize, disk: usize, at: u16) {
        let replica = &mut self.replicas[index];
        let Some(image) = replica.images.get_mut(DISKS[disk]).filter(|image| !image.is_empty())
        else {
            return;
        };
        if !replica.disks.iter().any(|it| it == DISKS[disk]) {
            return;
        }
        let place = range(image, Place { at, len: 1 }).start;
        image[place] ^= 0x55;
        let path = self.world.path(&format!("{}/{}.raw", REPLICAS[index], DISKS[disk]));
        common::write_noticed(&path, place as u64, &image[place..=place]);
        replica.touched = true;
    }

    fn catalog_files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let Ok(entries) = std::fs::read_dir(self.world.state_dir()) else { return Vec::new() };
        let paths = entries.map(|entry| entry.unwrap().path());
        paths.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
    }

    fn put_catalog(&self, files: &[(PathBuf, Vec<u8>)]) {
        let id = self.world.repository().header().id;
        Catalog::remove(&self.world.state_dir(), id).unwrap();
        for (path, content) in files {
            std::fs::write(path, content).unwrap();
        }
    }

    /// Every replica holds what it must; a touched one that, with the foreign byte.
    fn check_replicas(&self) {
        for (index, replica) in self.replicas.iter().enumerate() {
            let Some(at) = replica.at else { continue };
            for (disk, expected) in &replica.images {
                let found = self.world.replica_disk(REPLICAS[index], disk);
                common::assert_same(&found, expected, &format!("replica {index}, {disk}"));
            }
            let home = self.world.replica_home(REPLICAS[index]);
            let fs = self.world.fs.as_ref();
            let record =
                Superblock::read_only(fs, &home.superblock(), &name(REPLICAS[index])).unwrap();
            assert!(matches!(record.state, State::Clean { point } if point.id == at));
        }
    }

    fn check_point(&self, id: PointId, expected: &Contents) {
        let points = self.world.points();
        let point = points.iter().find(|point| point.id == id).unwrap();
        let folder = self.world.restore(point, "restored").unwrap();
        for (disk, expected) in expected {
            let found = std::fs::read(folder.join(format!("{disk}.raw"))).unwrap();
            common::assert_same(&found, expected, &format!("restored {disk}"));
        }
        std::fs::remove_dir_all(folder).unwrap();
    }

    fn check_a_point(&self, seed: usize) {
        if let Some((id, expected)) = self.points.iter().nth(seed % self.points.len().max(1)) {
            self.check_point(*id, expected);
        }
    }

    fn check_all(&mut self) {
        let listed: Vec<PointId> = self.world.points().iter().map(|point| point.id).collect();
        assert!(listed.len() == self.points.len());
        for (id, expected) in &self.points {
            self.check_point(*id, expected);
        }
        self.world.check_catalog();
        let leftovers = self.world.leftovers();
        assert!(leftovers.is_empty(), "{leftovers:?}");
    }
}

fn config() -> Config {
    // A failing history is printed in full; nothing is written beside the sources.
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok());
    Config { cases: cases.unwrap_or(16), failure_persistence: None, ..Config::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_history_leaves_every_replica_at_its_point_and_every_point_restorable(
        disks in prop::collection::vec((any::<bool>(), size()), DISKS.len()),
        encrypted in any::<bool>(),
        steps in prop::collection::vec(step(), 12..40),
    ) {
        let mut run = Run::new(&disks, encrypted);
        for (number, step) in steps.iter().enumerate() {
            run.step(step);
            run.check_replicas();
            if matches!(step, Step::Backup | Step::DeletePoint { .. } | Step::OldCatalog) {
                run.check_a_point(number);
            }
        }
        run.backup();
        run.replicate(0);
        run.replicate(1);
        run.check_replicas();
        run.check_all();
    }
}

//! What machines and points cost, held against sets that are made without any cleverness.

mod common;

use afterimage::catalog::Catalog;
use afterimage::point::{Point, TreeReader, TreeVisitor};
use afterimage::progress::Progress;
use afterimage::store::{Repository, StoreError};
use afterimage::units::{ChunkName, ObjectName, PointId, TreeName};
use afterimage::usage::{freed_by, measure};
use common::{World, noise, write_sparse};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const MACHINES: [&str; 3] = ["web01", "db01", "db02"];

/// Everything that a point needs, by walking all of it.
#[derive(Default)]
struct Needs {
    objects: BTreeSet<ObjectName>,
    chunks: BTreeSet<ObjectName>,
    data: u64,
}

impl TreeVisitor for Needs {
    type Error = StoreError;

    fn enter(&mut self, name: TreeName) -> Result<bool, StoreError> {
        self.objects.insert(name.into());
        Ok(true)
    }

    fn chunk(&mut self, name: ChunkName, len: u32) -> Result<(), StoreError> {
        self.objects.insert(name.into());
        self.chunks.insert(name.into());
        self.data += u64::from(len);
        Ok(())
    }

    fn leave(&mut self, _: TreeName) -> Result<(), StoreError> {
        Ok(())
    }
}

struct Model {
    /// Stored and plain length of each object, and how many copies there are.
    lens: BTreeMap<ObjectName, (u64, u64, u64)>,
    points: Vec<(Point, Needs)>,
    packs: u64,
}

impl Model {
    fn new(repository: &Repository, catalog: &Catalog) -> Self {
        let mut lens = BTreeMap::new();
        let mut packs = 0;
        for (pack, bytes) in repository.list_packs().unwrap() {
            packs += bytes;
            for entry in repository.read_pack_record(pack).unwrap().entries {
                let new = (u64::from(entry.stored_len), u64::from(entry.plain_len), 0);
                lens.entry(entry.name).or_insert(new).2 += 1;
            }
        }
        let needs = |point: Point| {
            let mut needs = Needs::default();
            let mut objects = repository.reader(catalog).unwrap();
            for tree in point.manifest.trees() {
                TreeReader::new(&mut objects).visit(&tree, &mut needs).unwrap();
            }
            (point, needs)
        };
        let points = catalog.points(None).unwrap().into_iter().map(needs).collect();
        Self { lens, points, packs }
    }

    fn stored<'n>(&self, names: impl IntoIterator<Item = &'n ObjectName>) -> u64 {
        names.into_iter().map(|name| self.lens[name].0).sum()
    }

    fn plain(&self, names: &BTreeSet<ObjectName>) -> u64 {
        names.iter().map(|name| self.lens[name].1).sum()
    }

    /// What those points need that `is_it` picks, and whether others need it too is asked.
    fn needed(&self, is_it: impl Fn(&Point) -> bool) -> (BTreeSet<ObjectName>, u64) {
        let (mut own, mut others) = (BTreeSet::new(), BTreeSet::new());
        for (point, needs) in &self.points {
            let set = if is_it(point) { &mut own } else { &mut others };
            set.extend(needs.objects.iter().copied());
        }
        let unique = self.stored(own.difference(&others));
        (own, unique)
    }
}

fn check(world: &World) {
    let repository = world.repository();
    let catalog = world.catalog(&repository);
    catalog.sync(&repository).unwrap();
    let model = Model::new(&repository, &catalog);
    let progress = Progress::default();
    let usage = measure(&repository, &catalog, &progress).unwrap();
    assert_eq!(progress.position().0, progress.position().1);

    assert_eq!(usage.points.len(), model.points.len());
    for (found, (point, needs)) in usage.points.iter().zip(&model.points) {
        let what = format!("{} #{}", found.machine, found.sequence.0);
        assert_eq!(found.id, point.id, "{what}");
        let (_, unique) = model.needed(|it| it.id == point.id);
        assert_eq!(found.amounts.unique, unique, "{what}");
        assert_eq!(found.amounts.stored(), model.stored(&needs.objects), "{what}");
        assert_eq!(found.amounts.chunks, model.plain(&needs.chunks), "{what}");
        assert_eq!(found.amounts.chunks_stored, model.stored(&needs.chunks), "{what}");
        assert_eq!(found.amounts.data, needs.data, "{what}");
        let freed = freed_by(&repository, &catalog, &[point.id].into()).unwrap();
        assert_eq!(freed, unique, "{what}");
    }
    for found in &usage.machines {
        let is_its = |point: &Point| point.manifest.machine == found.machine;
        let (own, unique) = model.needed(is_its);
        assert_eq!(found.amounts.unique, unique, "{}", found.machine);
        assert_eq!(found.amounts.stored(), model.stored(&own), "{}", found.machine);
        let of = |needs: fn(&Needs) -> u64| -> u64 {
            model.points.iter().filter(|it| is_its(&it.0)).map(|it| needs(&it.1)).sum()
        };
        assert_eq!(found.amounts.data, of(|needs| needs.data), "{}", found.machine);
        assert_eq!(found.points as u64, of(|_| 1));
    }
    let (all, _) = model.needed(|_| true);
    assert_eq!(usage.amounts.stored(), model.stored(&all));
    let whole: u64 = model.lens.values().map(|(stored, _, copies)| stored * copies).sum();
    assert_eq!(usage.garbage, whole - model.stored(&all));
    assert_eq!(usage.packs, model.packs);
    assert_eq!(usage.overhead, model.packs - whole);
    assert_eq!(usage.missing, 0);
    check_freed(&model, &repository, &catalog);
}

/// Sets of points: every other one, all of them, and some that are not there.
fn check_freed(model: &Model, repository: &Repository, catalog: &Catalog) {
    let ids: Vec<PointId> = model.points.iter().map(|(point, _)| point.id).collect();
    let every_other: BTreeSet<PointId> = ids.iter().step_by(2).copied().collect();
    let all: BTreeSet<PointId> = ids.iter().copied().chain([PointId([9; 32])]).collect();
    for removed in [every_other, all, [PointId([9; 32])].into(), BTreeSet::new()] {
        let (_, unique) = model.needed(|point| removed.contains(&point.id));
        assert_eq!(freed_by(repository, catalog, &removed).unwrap(), unique);
    }
}

#[derive(Debug, Clone)]
enum Step {
    Change {
        machine: usize,
        at: usize,
        len: usize,
        byte: u8,
    },
    Resize {
        machine: usize,
        size: usize,
    },
    /// Two machines, or two disks of one, become the same.
    Clone {
        from: usize,
        to: usize,
    },
    Backup {
        machine: usize,
    },
    Remove {
        which: prop::sample::Index,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let machine = 0..MACHINES.len();
    prop_oneof![
        4 => (machine.clone(), 0_usize..400_000, 1_usize..80_000, any::<u8>())
            .prop_map(|(machine, at, len, byte)| Step::Change { machine, at, len, byte }),
        1 => (machine.clone(), 0_usize..500_000)
            .prop_map(|(machine, size)| Step::Resize { machine, size }),
        1 => (machine.clone(), machine.clone()).prop_map(|(from, to)| Step::Clone { from, to }),
        6 => machine.prop_map(|machine| Step::Backup { machine }),
        2 => any::<prop::sample::Index>().prop_map(|which| Step::Remove { which }),
    ]
}

struct Run {
    world: World,
    /// The first disk of each machine; its second one is always that of the first machine.
    disks: [Vec<u8>; 3],
}

impl Run {
    fn new(encrypted: bool) -> Self {
        let disks = [1, 2, 3].map(|seed| noise(seed, 200_000));
        Self { world: World::small(&[], encrypted), disks }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Change { machine, at, len, byte } => {
                let disk = &mut self.disks[machine];
                let (start, end) = (at.min(disk.len()), (at + len).min(disk.len()));
                let bytes = match byte {
                    0..90 => vec![0; end - start],
                    _ => noise(u64::from(byte % 7), end - start),
                };
                disk[start..end].copy_from_slice(&bytes);
            }
            Step::Resize { machine, size } => self.disks[machine].resize(size, 0),
            Step::Clone { from, to } => self.disks[to] = self.disks[from].clone(),
            Step::Backup { machine } => {
                for (disk, content) in [("own", machine), ("common", 0)] {
                    write_sparse(&self.world.disk(disk), &self.disks[content]);
                }
                let disks = ["own", "common"].map(str::to_owned);
                let name = MACHINES[machine];
                let progress = Progress::default();
                self.world.backup_of(&self.world.fs, name, &disks, &progress).unwrap();
            }
            Step::Remove { which } => {
                let repository = self.world.repository();
                let points = repository.list_points().unwrap();
                if !points.is_empty() {
                    let point = repository.layout().point(*which.get(&points));
                    std::fs::remove_file(point).unwrap();
                }
            }
        }
    }
}

fn config() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok());
    let cases = cases.unwrap_or(16);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn costs_of_any_history_are_those_of_the_sets_of_all_objects(
        encrypted in any::<bool>(),
        steps in prop::collection::vec(step(), 1..30),
    ) {
        let mut run = Run::new(encrypted);
        steps.iter().for_each(|step| run.step(step));
        check(&run.world);
    }
}

#[test]
fn further_copies_are_garbage_and_lost_chunks_are_counted() {
    let mut run = Run::new(false);
    run.step(&Step::Backup { machine: 0 });
    let repository = run.world.repository();
    let catalog = run.world.catalog(&repository);
    let before = measure(&repository, &catalog, &Progress::default()).unwrap();
    assert_eq!((before.garbage, before.missing), (0, 0));
    // What was noted as damaged is stored a second time.
    let (pack, _) = repository.list_packs().unwrap()[0];
    let record = repository.read_pack_record(pack).unwrap();
    let copies: Vec<_> = record.entries.iter().map(|entry| (entry.name, pack)).collect();
    catalog.note_damaged(&copies).unwrap();
    drop(catalog);
    run.step(&Step::Backup { machine: 0 });
    check(&run.world);
    let catalog = run.world.catalog(&repository);
    let after = measure(&repository, &catalog, &Progress::default()).unwrap();
    let stored: u64 = record.entries.iter().map(|entry| u64::from(entry.stored_len)).sum();
    assert_eq!(after.garbage, stored);
    assert_eq!(after.amounts.stored(), before.amounts.stored());

    let data = repository
        .list_packs()
        .unwrap()
        .into_iter()
        .map(|(pack, _)| repository.read_pack_record(pack).unwrap())
        .filter(|record| record.kind == afterimage::store::PackKind::Data);
    let lost: Vec<_> = data.collect();
    lost.iter().for_each(|it| std::fs::remove_file(repository.layout().pack(it.name)).unwrap());
    catalog.sync(&repository).unwrap();
    let usage = measure(&repository, &catalog, &Progress::default()).unwrap();
    assert!(usage.missing > 0);
}

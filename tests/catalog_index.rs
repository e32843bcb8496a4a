//! What a catalog finds is what was noted, however its index is laid out and whoever else has it
//! open; and catalogs of the schema before are taken over.

use afterimage::catalog::{Catalog, CatalogError, KnownObject};
use afterimage::store::{
    Encoding, Location, ObjectIndex, ObjectKind, PackEntry, PackKind, PackRecord,
};
use afterimage::units::{ObjectName, PackName, RepositoryId};
use proptest::prelude::*;
use rusqlite::{Connection, params};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

const ID: RepositoryId = RepositoryId([7; 16]);
const OBJECTS: u64 = 60;
const PACKS: u64 = 12;

fn mix(number: u64) -> u64 {
    let mixed = (number ^ (number >> 30)).wrapping_add(1).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 3
}

/// Some names have their first bytes in common.
fn name(object: u64) -> ObjectName {
    let mut name = [0; 32];
    name[..8].copy_from_slice(&mix(object / 3).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    name[24..].copy_from_slice(&object.to_be_bytes());
    ObjectName(name)
}

fn pack_name(pack: u64) -> PackName {
    let mut name = [0x55; 32];
    name[..8].copy_from_slice(&mix(pack).to_be_bytes());
    PackName(name)
}

fn record(pack: u64, objects: impl IntoIterator<Item = u64>) -> PackRecord {
    let entry = |object: u64| PackEntry {
        name: name(object),
        kind: ObjectKind::Chunk,
        encoding: Encoding::Zstd,
        stored_len: (mix(object + pack) % 1000) as u32 + 1,
        plain_len: (mix(object) % 4000) as u32 + 1,
    };
    let entries: Vec<PackEntry> = objects.into_iter().map(entry).collect();
    let bytes = 112 + entries.iter().map(|entry| u64::from(entry.stored_len) + 42).sum::<u64>();
    PackRecord { name: pack_name(pack), kind: PackKind::Data, bytes, entries }
}

/// What a pack of the model has follows from its number.
fn small_record(pack: u64) -> PackRecord {
    record(pack, (0..OBJECTS).filter(|object| mix(pack * 1000 + object).is_multiple_of(3)))
}

#[derive(Debug, Default)]
struct Model {
    packs: BTreeMap<PackName, PackRecord>,
    condemned: BTreeSet<PackName>,
}

impl Model {
    /// The good copies of an object, and the others.
    fn copies(&self, object: ObjectName) -> (Vec<Location>, Vec<Location>) {
        let all = self.packs.values().flat_map(PackRecord::locations);
        let found = all.filter(|location| location.entry.name == object);
        found.partition(|location| !self.condemned.contains(&location.pack))
    }

    fn check(&self, catalog: &Catalog) {
        let mut names: Vec<ObjectName> = (0..OBJECTS + 10).map(name).collect();
        // Asked in the order of a pack, and in another one.
        names.extend(self.packs.values().flat_map(|pack| pack.entries.iter().map(|it| it.name)));
        let contained = catalog.contains(&names).unwrap();
        let located = catalog.locate(&names).unwrap();
        for ((object, contained), located) in names.iter().zip(contained).zip(located) {
            let (good, poor) = self.copies(*object);
            assert_eq!(contained, !good.is_empty());
            let best = if good.is_empty() { &poor } else { &good };
            assert_eq!(located.is_none(), best.is_empty());
            assert!(located.is_none_or(|it| best.contains(&it)));
            let copies = ObjectIndex::copies(catalog, *object).unwrap();
            assert_eq!(sorted(&copies), sorted(&[good.clone(), poor].concat()));
            assert!(good.iter().all(|it| copies[..good.len()].contains(it)));
            assert_eq!(sorted(&catalog.reliable_copies(*object).unwrap()), sorted(&good));
        }
        let packs: Vec<PackName> = self.packs.keys().copied().chain([PackName([9; 32])]).collect();
        let all: Vec<Location> = self.packs.values().flat_map(PackRecord::locations).collect();
        assert_eq!(sorted(&catalog.objects_in(&packs).unwrap()), sorted(&all));
        assert_eq!(catalog.count_objects().unwrap(), all.len());
        let known = |pack: &PackRecord| {
            let objects = pack.locations().map(|it| KnownObject {
                name: it.entry.name,
                offset: it.offset,
                stored_len: it.entry.stored_len,
                plain_len: it.entry.plain_len,
            });
            (pack.bytes, objects.collect())
        };
        let contents: BTreeMap<_, _> =
            self.packs.iter().map(|(name, pack)| (*name, known(pack))).collect();
        assert_eq!(catalog.contents().unwrap().packs, contents);
        self.check_census(catalog);
        assert_eq!(catalog.integrity().unwrap(), Vec::<String>::new());
    }

    fn check_census(&self, catalog: &Catalog) {
        let known = catalog.known_packs().unwrap();
        let mut counted = Vec::new();
        let mut last = None;
        let visit = &mut |object: ObjectName, copies: &[afterimage::catalog::Copy]| {
            assert!(last.replace(object).is_none_or(|last| last < object));
            assert!(copies.is_sorted_by_key(|copy| copy.pack));
            for copy in copies {
                let pack = known.packs[copy.pack].name;
                counted.push((object, pack, copy.stored_len, copy.plain_len));
                assert_eq!(copy.is_good, !self.condemned.contains(&pack));
            }
        };
        catalog.census(&known, visit).unwrap();
        let all = self.packs.values().flat_map(PackRecord::locations);
        let mut expected: Vec<_> = all
            .map(|it| (it.entry.name, it.pack, it.entry.stored_len, it.entry.plain_len))
            .collect();
        expected.sort_unstable();
        counted.sort_unstable();
        assert_eq!(counted, expected);
    }
}

fn sorted(locations: &[Location]) -> Vec<Location> {
    let mut sorted = locations.to_vec();
    sorted.sort_unstable_by_key(|it| (it.entry.name, it.pack));
    sorted
}

#[derive(Debug, Clone)]
enum Step {
    Add(u64),
    Forget(Vec<u64>),
    Condemn(Vec<u64>),
    MergeRecent,
    MergeAll,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let packs = || prop::collection::vec(0..PACKS, 0..4);
    prop_oneof![
        6 => (0..PACKS).prop_map(Step::Add),
        2 => packs().prop_map(Step::Forget),
        1 => packs().prop_map(Step::Condemn),
        3 => Just(Step::MergeRecent),
        1 => Just(Step::MergeAll),
        1 => Just(Step::Reopen),
    ]
}

fn apply(
    model: &mut Model,
    catalogs: &mut [Option<Catalog>; 2],
    at: usize,
    step: Step,
    dir: &Path,
) {
    let [Some(first), Some(second)] = catalogs else { unreachable!() };
    let catalog = if at == 0 { &*first } else { &*second };
    match step {
        Step::Add(pack) => {
            catalog.add_pack(&small_record(pack)).unwrap();
            model.packs.insert(pack_name(pack), small_record(pack));
        }
        Step::Forget(packs) => {
            let names: Vec<PackName> = packs.into_iter().map(pack_name).collect();
            catalog.forget_packs(&names).unwrap();
            model.packs.retain(|name, _| !names.contains(name));
            model.condemned.retain(|name| !names.contains(name));
            // What is condemned each learns when it is told, as every synchronisation does.
            first.set_condemned(&model.condemned).unwrap();
            second.set_condemned(&model.condemned).unwrap();
        }
        Step::Condemn(packs) => {
            let names: BTreeSet<PackName> = packs.into_iter().map(pack_name).collect();
            model.condemned =
                names.into_iter().filter(|name| model.packs.contains_key(name)).collect();
            first.set_condemned(&model.condemned).unwrap();
            second.set_condemned(&model.condemned).unwrap();
        }
        Step::MergeRecent => catalog.merge_recent().unwrap(),
        Step::MergeAll => catalog.merge_all().unwrap(),
        Step::Reopen => {
            catalogs[at] = None;
            catalogs[at] = Some(Catalog::open(dir, ID).unwrap());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn two_that_have_a_catalog_open_both_find_what_was_noted(
        steps in prop::collection::vec((0_usize..2, step()), 1..25),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        let open = || Some(Catalog::open(dir, ID).unwrap());
        let (mut model, mut catalogs) = (Model::default(), [open(), open()]);
        for (at, step) in steps {
            apply(&mut model, &mut catalogs, at, step, dir);
            catalogs.iter().flatten().for_each(|catalog| model.check(catalog));
        }
    }
}

#[test]
fn a_catalog_with_several_large_runs_finds_all_and_shrinks_when_most_is_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(folder.path(), ID).unwrap();
    let objects = |pack: u64| pack * 10_000..(pack + 1) * 10_000;
    let packs: Vec<u64> = (0..45).collect();
    packs.iter().for_each(|pack| catalog.add_pack(&record(*pack, objects(*pack))).unwrap());
    let has_all = |pack: u64, all: bool| {
        let names: Vec<ObjectName> = objects(pack).map(name).collect();
        let contained = catalog.contains(&names).unwrap();
        assert_eq!(contained.iter().filter(|it| **it).count(), if all { names.len() } else { 0 });
        let located = catalog.locate(&names).unwrap();
        assert!(located.iter().all(|it| it.map(|it| it.pack) == all.then(|| pack_name(pack))));
    };
    let runs = || -> (i64, i64) {
        let connection = Connection::open(Catalog::path(folder.path(), ID)).unwrap();
        let sql = "SELECT count(*), coalesce(sum(entries), 0) FROM run";
        connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap()
    };
    assert!(runs().1 > 250_000, "{:?}", runs());
    (0..46).for_each(|pack| has_all(pack, pack < 45));
    assert_eq!(catalog.integrity().unwrap(), Vec::<String>::new());
    let gone: Vec<PackName> = packs.iter().skip(5).map(|pack| pack_name(*pack)).collect();
    catalog.forget_packs(&gone).unwrap();
    (0..46).for_each(|pack| has_all(pack, pack < 5));
    assert_eq!(runs(), (1, 50_000));
    assert_eq!(catalog.integrity().unwrap(), Vec::<String>::new());
}

#[test]
fn what_one_has_noted_another_finds_at_once_while_runs_are_merged() {
    let folder = tempfile::tempdir().unwrap();
    let writer = Catalog::open(folder.path(), ID).unwrap();
    let merger = Catalog::open(folder.path(), ID).unwrap();
    let reader = Catalog::open(folder.path(), ID).unwrap();
    let noted = std::sync::atomic::AtomicU64::new(0);
    let order = std::sync::atomic::Ordering::SeqCst;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for pack in 0..60 {
                writer.add_pack(&record(pack, pack * 50..(pack + 1) * 50)).unwrap();
                noted.store(pack + 1, order);
            }
        });
        scope.spawn(|| {
            while noted.load(order) < 60 {
                merger.merge_recent().unwrap();
                merger.merge_all().unwrap();
            }
        });
        for _ in 0..2 {
            scope.spawn(|| {
                let mut seen = 0;
                while seen < 60 {
                    seen = noted.load(order);
                    let names: Vec<ObjectName> = (0..seen * 50).map(name).collect();
                    assert!(reader.contains(&names).unwrap().into_iter().all(|it| it));
                    assert!(reader.locate(&names).unwrap().iter().all(Option::is_some));
                }
            });
        }
    });
    assert_eq!(reader.integrity().unwrap(), Vec::<String>::new());
}

/// A catalog as schema 5 had it.
const SCHEMA_5: &str = "
    CREATE TABLE repository (id BLOB NOT NULL, generation INTEGER NOT NULL DEFAULT 0) STRICT;
    CREATE TABLE pack (
        no INTEGER PRIMARY KEY, name BLOB NOT NULL UNIQUE,
        kind INTEGER NOT NULL, bytes INTEGER NOT NULL, condemned INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE TABLE object (
        name BLOB NOT NULL, pack INTEGER NOT NULL, offset INTEGER NOT NULL,
        stored INTEGER NOT NULL, plain INTEGER NOT NULL,
        kind INTEGER NOT NULL, encoding INTEGER NOT NULL,
        PRIMARY KEY (name, pack)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE point (
        id BLOB NOT NULL PRIMARY KEY, machine TEXT NOT NULL, sequence INTEGER NOT NULL,
        manifest TEXT NOT NULL, missing INTEGER NOT NULL DEFAULT 0
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX point_by_machine ON point (machine, sequence);
    CREATE TABLE damaged (
        name BLOB NOT NULL, pack INTEGER NOT NULL, PRIMARY KEY (name, pack)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE document (
        folder TEXT NOT NULL, name BLOB NOT NULL, point BLOB, epoch INTEGER,
        PRIMARY KEY (folder, name)
    ) STRICT, WITHOUT ROWID;
    PRAGMA user_version = 5;
";

fn old_catalog(folder: &Path, packs: &[PackRecord]) -> Connection {
    let old = Connection::open(Catalog::path(folder, ID)).unwrap();
    old.pragma_update(None, "page_size", 16 * 1024).unwrap();
    old.execute_batch(SCHEMA_5).unwrap();
    old.execute("INSERT INTO repository VALUES (?1, 41)", [&ID.0[..]]).unwrap();
    for (no, pack) in packs.iter().enumerate() {
        let row = params![no * 2, &pack.name.0[..], pack.kind.to_byte(), pack.bytes, no == 1];
        old.execute("INSERT INTO pack VALUES (?1, ?2, ?3, ?4, ?5)", row).unwrap();
        for Location { offset, entry, .. } in pack.locations() {
            let (kind, encoding) = (entry.kind.to_byte(), entry.encoding.to_byte());
            let (stored, plain) = (entry.stored_len, entry.plain_len);
            let row = params![&entry.name.0[..], no * 2, offset, stored, plain, kind, encoding];
            old.execute("INSERT INTO object VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)", row).unwrap();
        }
    }
    let damaged = "INSERT INTO damaged
                   SELECT name, pack FROM object WHERE pack = 0 ORDER BY name LIMIT 1";
    old.execute(damaged, []).unwrap();
    old
}

#[test]
fn a_catalog_of_the_schema_before_is_taken_over_with_all_that_it_knows() {
    for count in [0_u64, 1, 4] {
        let folder = tempfile::tempdir().unwrap();
        let mut packs: Vec<PackRecord> = (0..count).map(small_record).collect();
        // One without objects, and one with more than a part holds.
        packs.extend([record(100, []), record(101, 1000..2000)].into_iter().take(count as usize));
        drop(old_catalog(folder.path(), &packs));
        let catalog = Catalog::open(folder.path(), ID).unwrap();
        assert_eq!(catalog.generation().unwrap(), 41);
        let condemned: BTreeSet<PackName> =
            packs.iter().skip(1).take(1).map(|it| it.name).collect();
        assert_eq!(catalog.condemned().unwrap(), condemned);
        assert_eq!(catalog.damaged_copies().unwrap().len(), usize::from(count > 0));
        // As if it were good, for what follows.
        packs.iter().for_each(|pack| catalog.clear_damaged(pack.name).unwrap());
        let mut model = Model { condemned, ..Model::default() };
        model.packs.extend(packs.iter().map(|pack| (pack.name, pack.clone())));
        model.check(&catalog);
        let anew = tempfile::tempdir().unwrap();
        let other = Catalog::open(anew.path(), ID).unwrap();
        packs.iter().for_each(|pack| other.add_pack(pack).unwrap());
        let compared = catalog.compare(&other).unwrap();
        assert!(compared.is_equal(), "{compared:?}");
        drop(catalog);
        let catalog = Catalog::open(folder.path(), ID).unwrap();
        catalog.add_pack(&small_record(50)).unwrap();
        model.packs.insert(pack_name(50), small_record(50));
        model.check(&catalog);
    }
}

#[test]
fn an_old_catalog_that_cannot_be_taken_over_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let old = old_catalog(folder.path(), &[small_record(1), small_record(2)]);
    old.execute("UPDATE object SET kind = 77 WHERE pack = 2", []).unwrap();
    let refused = Catalog::open(folder.path(), ID);
    assert!(matches!(refused, Err(CatalogError::Sqlite { .. })), "{refused:?}");
    let schema = || -> i64 { old.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap() };
    assert_eq!(schema(), 5);
    old.execute("UPDATE object SET kind = 1", []).unwrap();
    Catalog::open(folder.path(), ID).unwrap();
    old.execute_batch("PRAGMA user_version = 99").unwrap();
    let newer = Catalog::open(folder.path(), ID);
    assert!(matches!(newer, Err(CatalogError::NewerSchema { found: 99, .. })), "{newer:?}");
}

#[test]
fn an_index_that_lacks_or_turns_over_anything_is_found_out() {
    for sql in [
        "DELETE FROM bucket",
        "DELETE FROM run",
        "UPDATE bucket SET entries = substr(entries, 13)",
        "UPDATE bucket
         SET entries = CAST(substr(entries, 13) || substr(entries, 1, 12) AS BLOB)",
        "UPDATE filter SET bits = zeroblob(8192)",
        "UPDATE part
         SET entries = CAST(zeroblob(32) || substr(entries, 33) AS BLOB) WHERE no = 1",
        "UPDATE repository SET indexed = 0",
        "UPDATE pack SET part = part + 1",
    ] {
        let folder = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(folder.path(), ID).unwrap();
        (0..3).for_each(|pack| catalog.add_pack(&small_record(pack)).unwrap());
        catalog.merge_all().unwrap();
        assert_eq!(catalog.integrity().unwrap(), Vec::<String>::new());
        let connection = Connection::open(Catalog::path(folder.path(), ID)).unwrap();
        connection.execute_batch(sql).unwrap();
        assert_eq!(catalog.integrity().unwrap().len(), 1, "{sql}");
    }
}

//! How time and memory grow with the number of chunks that the catalog knows.

use crate::Options;
use crate::generated::Generated;
use crate::measure::{Cost, measure};
use crate::table::{Row, Table};
use crate::world::World;
use afterimage::catalog::Copy;
use afterimage::progress::Progress;
use afterimage::store::{Encoding, ObjectIndex, ObjectKind, PackEntry, PackKind, PackRecord};
use afterimage::testing::Random;
use afterimage::units::{GIB, MIB, ObjectName, PackName};
use std::fs;

/// Chunks of a full pack of content that compresses to its half.
const PACK_CHUNKS: u64 = 4096;
const STORED_BYTES: u32 = 8 * 1024;
const PLAIN_BYTES: u32 = 16 * 1024;
/// What lies around a pack's objects; nobody reads it.
const AROUND_BYTES: u64 = 64 + 48 + 42 * PACK_CHUNKS;
const DISK_BYTES: u64 = 4 * GIB;
const CHANGED_BLOCKS: u64 = 100;
const LOOK_UPS: usize = 100_000;
const SEED: u64 = 11;

const CASES: [u64; 4] = [0, 1_000_000, 5_000_000, 20_000_000];
const SMOKE_CASES: [u64; 2] = [0, 100_000];

pub fn run(options: &Options) {
    let mut table = Table::new("chunks");
    let all: &[u64] = if options.smoke { &SMOKE_CASES } else { &CASES };
    for chunks in options.cases(all) {
        table.add(measure_case(options, chunks));
    }
    table.finish(options);
}

fn measure_case(options: &Options, chunks: u64) -> Row {
    let world = World::new(options.case_folder(), 2);
    let data_bytes = if options.smoke { 64 * MIB } else { DISK_BYTES };
    let mut disk = Generated::new(data_bytes, data_bytes, 7);
    let mib = |bytes: u64| bytes as f64 / MIB as f64;
    let mut row = Row::about(("chunks", chunks as f64), ("disk_mib", mib(data_bytes)));
    let (filled, cost) = measure(|| fill(&world, chunks));
    row.number("packs", filled as f64);
    row.cost("fill", Some(cost));
    row.number("catalog_mib", mib(catalog_bytes(&world)));
    let (_, first) = measure(|| world.backup(&disk, &Progress::default()));
    row.cost("first", Some(first));
    row.number("first_mib_per_s", mib(data_bytes) / first.seconds());
    disk.change(CHANGED_BLOCKS, 1);
    let (_, cost) = measure(|| world.backup(&disk, &Progress::default()));
    row.cost("incremental", Some(cost));
    look_ups(&world, chunks, &mut row);
    let (_, cost) = measure(|| world.catalog.sync(&world.repository).expect("a catalog"));
    row.cost("sync", Some(cost));
    row.cost("census", Some(census(&world, chunks)));
    row
}

/// The name of a chunk that no backup makes.
fn chunk_name(number: u64) -> ObjectName {
    ObjectName(digest(number))
}

fn digest(number: u64) -> [u8; 32] {
    let mut random = Random::new(SEED << 48 ^ number);
    let mut name = [0; 32];
    for word in name.as_chunks_mut::<8>().0 {
        *word = random.word().to_le_bytes();
    }
    name
}

/// Packs of chunks with random names, as the backups of other machines leave them: the catalog
/// knows what is in them, and files of their lengths are there, with nothing in them.
fn fill(world: &World, chunks: u64) -> u64 {
    let layout = world.repository.layout();
    let packs = chunks.div_ceil(PACK_CHUNKS);
    for pack in 0..packs {
        let last = chunks.min((pack + 1) * PACK_CHUNKS);
        let entry = |number| PackEntry {
            name: chunk_name(number),
            kind: ObjectKind::Chunk,
            encoding: Encoding::Zstd,
            stored_len: STORED_BYTES,
            plain_len: PLAIN_BYTES,
        };
        let entries: Vec<PackEntry> = (pack * PACK_CHUNKS..last).map(entry).collect();
        let name = PackName(digest(1 << 40 ^ pack));
        let bytes = AROUND_BYTES + u64::from(STORED_BYTES) * entries.len() as u64;
        let path = layout.pack(name);
        fs::create_dir_all(layout.pack_folder(name.0[0])).expect("a folder of packs");
        fs::File::create(path)
            .and_then(|file| file.set_len(bytes))
            .expect("a pack without content");
        let record = PackRecord { name, kind: PackKind::Data, bytes, entries };
        world.catalog.add_pack(&record).expect("the catalog takes it");
    }
    packs
}

fn catalog_bytes(world: &World) -> u64 {
    let files = fs::read_dir(world.path("state")).expect("the state's folder");
    files.map(|file| file.expect("a file").metadata().expect("its length").len()).sum()
}

/// One pass over everything that is known, of which each collection makes one.
fn census(world: &World, chunks: u64) -> Cost {
    let known = world.catalog.known_packs().expect("packs");
    let mut objects = 0;
    let visit = &mut |_, _: &[Copy]| objects += 1;
    let (result, cost) = measure(|| world.catalog.census(&known, visit));
    result.expect("a census");
    assert!(objects > chunks, "{objects} objects");
    cost
}

/// Look-ups of chunks that are known, and of others, at random places.
fn look_ups(world: &World, chunks: u64, row: &mut Row) {
    let mut random = Random::new(5);
    let all = chunks.max(1);
    let known: Vec<ObjectName> = (0..LOOK_UPS).map(|_| chunk_name(random.below(all))).collect();
    let unknown: Vec<ObjectName> =
        (0..LOOK_UPS as u64).map(|number| chunk_name(1 << 41 | number)).collect();
    let (found, cost) = measure(|| world.catalog.contains(&known).expect("answers"));
    assert!(chunks == 0 || found.iter().all(|known| *known));
    row.cost("contains_known", Some(cost));
    let (found, cost) = measure(|| world.catalog.contains(&unknown).expect("answers"));
    assert!(!found.contains(&true));
    row.cost("contains_unknown", Some(cost));
    let (found, cost) = measure(|| world.catalog.locate(&known).expect("answers"));
    assert!(chunks == 0 || found.iter().all(Option::is_some));
    row.cost("locate", Some(cost));
}

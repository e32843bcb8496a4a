//! The catalog with many objects in it: what a backup, a replication and a small command ask of it.
//!
//! `cargo bench --bench catalog` measures with 0, 1, 5 and 20 million objects, and takes 2 GB in
//! `AFTERIMAGE_BENCH_DIR` (or the folder for temporary files); `-- --smoke` runs it once, small;
//! `-- 20` measures with 20 million only.

use afterimage::catalog::Catalog;
use afterimage::store::{Encoding, ObjectIndex, ObjectKind, PackEntry, PackKind, PackRecord};
use afterimage::units::{ObjectName, PackName, RepositoryId};
use std::path::Path;
use std::time::{Duration, Instant};

const ID: RepositoryId = RepositoryId([7; 16]);
const PACK_OBJECTS: u64 = 3500;
/// Names that are asked for together: those of a region.
const BATCH: u64 = 900;
/// So much of the disk goes by between two regions of one thread.
const FAR: u64 = 1 << 40;

struct Size {
    objects: u64,
    packs: u64,
    batches: u64,
}

fn main() {
    let given: Vec<String> = std::env::args().skip(1).collect();
    if given.iter().any(|it| it == "--smoke" || it == "--test") {
        return measure(&Size { objects: 20_000, packs: 2, batches: 4 });
    }
    let only: Vec<u64> = given.iter().filter_map(|it| it.parse().ok()).collect();
    let sizes = if only.is_empty() { vec![0, 1, 5, 20] } else { only };
    for millions in sizes {
        measure(&Size { objects: millions * 1_000_000, packs: 100, batches: 200 });
    }
}

fn measure(size: &Size) {
    let place =
        std::env::var_os("AFTERIMAGE_BENCH_DIR").map_or_else(std::env::temp_dir, Into::into);
    let folder = tempfile::tempdir_in(place).unwrap();
    let started = Instant::now();
    let catalog = Catalog::open(folder.path(), ID).unwrap();
    let filled = size.objects / PACK_OBJECTS;
    (0..filled).for_each(|number| catalog.add_pack(&pack(number)).unwrap());
    drop(catalog);
    let bytes = std::fs::metadata(Catalog::path(folder.path(), ID)).unwrap().len();
    println!("{} objects: {} MB, filled in {}", size.objects, bytes / 1_000_000, told(started));
    for (state, forget) in [("cold", true), ("warm", false)] {
        if forget {
            forget_cached(&Catalog::path(folder.path(), ID));
        }
        small(folder.path(), state);
    }
    reset_peak();
    let catalog = Catalog::open(folder.path(), ID).unwrap();
    add(&catalog, filled, size.packs);
    forget_cached(&Catalog::path(folder.path(), ID));
    for (state, threads) in [("cold", 2), ("warm", 2), ("warm", 1)] {
        let misses = |number| (0..BATCH).map(|at| name(FAR + number * BATCH + at)).collect();
        ask(&catalog, size, threads, &format!("misses, {state}"), &misses, &contains);
    }
    let packs = filled + size.packs;
    let objects = packs * PACK_OBJECTS - BATCH;
    let near = |number| {
        let first = mix(number) % objects;
        (first..first + BATCH).map(name).collect()
    };
    let spread = |number| (0..BATCH).map(|at| name(mix(number * BATCH + at) % objects)).collect();
    ask(&catalog, size, 2, "hits side by side, contains", &near, &contains);
    ask(&catalog, size, 2, "hits side by side, locate", &near, &locate);
    ask(&catalog, size, 1, "hits side by side, locate", &near, &locate);
    ask(&catalog, size, 2, "hits all over, locate", &spread, &locate);
    println!("  peak of memory {} MiB", status("VmHWM:") / 1024);
    let started = Instant::now();
    let mut copies = 0;
    let known = catalog.known_packs().unwrap();
    catalog.census(&known, &mut |_, same| copies += same.len()).unwrap();
    println!("  census of {copies} in {}", told(started));
    let started = Instant::now();
    let first: Vec<PackName> = (0..packs.min(50)).map(|number| pack(number).name).collect();
    assert!(!catalog.objects_in(&first).unwrap().is_empty());
    println!("  objects of {} packs in {}", first.len(), told(started));
    let started = Instant::now();
    catalog.forget_packs(&first).unwrap();
    println!("  {} packs forgotten in {}", first.len(), told(started));
    println!("  peak of memory {} MiB, with the census", status("VmHWM:") / 1024);
}

/// A small command: it opens the catalog, asks for three regions and adds a small pack.
fn small(folder: &Path, state: &str) {
    let started = Instant::now();
    let catalog = Catalog::open(folder, ID).unwrap();
    catalog.probe().unwrap();
    let opened = told(started);
    let again = Instant::now();
    for number in 0..3 {
        let names: Vec<_> = (0..BATCH).map(|at| name(FAR * 2 + number * BATCH + at)).collect();
        contains(&catalog, &names);
    }
    let asked = told(again);
    let again = Instant::now();
    let mut small = pack(if state == "cold" { FAR } else { FAR + 1 });
    small.entries.truncate(20);
    catalog.add_pack(&small).unwrap();
    let added = told(again);
    drop(catalog);
    let all = told(started);
    println!(
        "  small command, {state}: open {opened}, 2700 misses {asked}, a pack {added}, all {all}"
    );
}

fn add(catalog: &Catalog, filled: u64, packs: u64) {
    let records: Vec<PackRecord> = (filled..filled + packs).map(pack).collect();
    let (written, started) = (written_bytes(), Instant::now());
    let mut longest = Duration::ZERO;
    for record in &records {
        let one = Instant::now();
        catalog.add_pack(record).unwrap();
        longest = longest.max(one.elapsed());
    }
    let each = started.elapsed() / packs as u32;
    let bytes = (written_bytes() - written) / packs;
    println!("  add a pack: {each:.1?}, longest {longest:.1?}, {} KB written", bytes / 1000);
}

fn contains(catalog: &Catalog, names: &[ObjectName]) -> usize {
    catalog.contains(names).unwrap().into_iter().filter(|it| *it).count()
}

fn locate(catalog: &Catalog, names: &[ObjectName]) -> usize {
    catalog.locate(names).unwrap().into_iter().flatten().count()
}

/// Asks in batches, from some threads, each with every so manyth of them.
fn ask(
    catalog: &Catalog,
    size: &Size,
    threads: u64,
    what: &str,
    names: &(dyn Fn(u64) -> Vec<ObjectName> + Sync),
    ask: &(dyn Fn(&Catalog, &[ObjectName]) -> usize + Sync),
) {
    let batches: Vec<_> = (0..size.batches).map(names).collect();
    let started = Instant::now();
    let found: usize = std::thread::scope(|scope| {
        let one = |thread| {
            let own = batches.iter().skip(thread).step_by(threads as usize);
            own.map(|batch| ask(catalog, batch)).sum::<usize>()
        };
        let running: Vec<_> =
            (0..threads as usize).map(|thread| scope.spawn(move || one(thread))).collect();
        running.into_iter().map(|it| it.join().unwrap()).sum()
    });
    let asked = size.batches * BATCH;
    let each = started.elapsed().as_secs_f64() * 1e6 / asked as f64;
    println!("  {what}, {threads} threads: {each:.2} µs each, {found} of {asked} found");
}

/// Pseudo-random, and the same always: what a digest looks like.
fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn digest(number: u64) -> [u8; 32] {
    let mut digest = [0; 32];
    for (at, word) in digest.chunks_exact_mut(8).enumerate() {
        word.copy_from_slice(&mix(mix(number) ^ (at as u64)).to_be_bytes());
    }
    digest
}

fn name(number: u64) -> ObjectName {
    ObjectName(digest(number))
}

fn pack(number: u64) -> PackRecord {
    let entry = |at: u64| PackEntry {
        name: name(number.wrapping_mul(PACK_OBJECTS).wrapping_add(at)),
        kind: ObjectKind::Chunk,
        encoding: Encoding::Zstd,
        stored_len: 9000,
        plain_len: 18_000,
    };
    let mut name = digest(number);
    name[31] = 0xff;
    PackRecord {
        name: PackName(name),
        kind: PackKind::Data,
        bytes: 64 + 48 + PACK_OBJECTS * 9042,
        entries: (0..PACK_OBJECTS).map(entry).collect(),
    }
}

fn told(since: Instant) -> String {
    format!("{:.1?}", since.elapsed())
}

fn status(key: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// What was filled counts for nothing.
fn reset_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

fn written_bytes() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap();
    let line = io.lines().find_map(|line| line.strip_prefix("wchar:")).unwrap();
    line.trim().parse().unwrap()
}

/// Makes the system forget what it holds of a file.
fn forget_cached(path: &Path) {
    let file = std::fs::File::open(path).unwrap();
    file.sync_all().unwrap();
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
}

//! How time and memory grow with the size of a disk.

use crate::Options;
use crate::generated::Generated;
use crate::measure::{Cost, measure};
use crate::table::{Row, Table};
use crate::world::{World, workers};
use afterimage::destination::Damaged;
use afterimage::fsio::RealFileSystem;
use afterimage::progress::Progress;
use afterimage::recover::{RestoreOptions, plan_restore};
use afterimage::replay::Replicated;
use afterimage::scrub::{Scope, VerifyRequest, verify_repository};
use afterimage::units::{GIB, MIB};
use std::collections::BTreeMap;

/// Blocks of 4 KiB that change between two points.
const CHANGED_BLOCKS: u64 = 100;

#[derive(Clone, Copy)]
struct Case {
    disk_bytes: u64,
    data_bytes: u64,
    /// A replica has all the data once more, on a real disk.
    replicates: bool,
}

const fn case(disk_bytes: u64, data_bytes: u64, replicates: bool) -> Case {
    Case { disk_bytes, data_bytes, replicates }
}

/// A sixteenth of the disk is data; then, the largest disk with as little data as a replica has
/// room for.
const CASES: [Case; 5] = [
    case(8 * GIB, GIB / 2, true),
    case(64 * GIB, 4 * GIB, true),
    case(256 * GIB, 16 * GIB, false),
    case(1024 * GIB, 64 * GIB, false),
    case(1024 * GIB, 4 * GIB, true),
];
const SMOKE_CASES: [Case; 2] = [case(GIB, 64 * MIB, true), case(1024 * GIB, 64 * MIB, true)];

pub fn run(options: &Options) {
    let mut table = Table::new("disk");
    let all: &[Case] = if options.smoke { &SMOKE_CASES } else { &CASES };
    for case in options.cases(all) {
        table.add(measure_case(options, case));
    }
    table.finish(options);
}

fn measure_case(options: &Options, case: Case) -> Row {
    let world = World::new(options.case_folder(), 2);
    let mut disk = Generated::new(case.disk_bytes, case.data_bytes, 7);
    let gib = |bytes: u64| bytes as f64 / GIB as f64;
    let mut row =
        Row::about(("disk_gib", gib(case.disk_bytes)), ("data_gib", gib(case.data_bytes)));
    let (made, first) = measure(|| world.backup(&disk, &Progress::default()));
    row.cost("first", Some(first));
    row.number("first_mib_per_s", disk.data_bytes() as f64 / MIB as f64 / first.seconds());
    let before = world.pack_bytes();
    row.number("repository_mib", before.1 as f64 / MIB as f64);
    let seeded = case.replicates.then(|| measure(|| world.replicate(&Progress::default())));
    row.cost("seed", seeded.map(|(_, cost)| cost));

    let changed = disk.change(CHANGED_BLOCKS, 1);
    let progress = Progress::default();
    let (_, incremental) = measure(|| world.backup_changes(&disk, &made, &changed, &progress));
    row.cost("incremental", Some(incremental));
    row.number("read_mib", progress.counts().read as f64 / MIB as f64);
    let after = world.pack_bytes();
    row.number("trees_mib", (after.0 - before.0) as f64 / MIB as f64);
    row.number("stored_mib", (after.1 - before.1) as f64 / MIB as f64);
    let replayed = case.replicates.then(|| measure(|| world.replicate(&Progress::default())));
    if let Some((outcome, _)) = &replayed {
        assert!(matches!(outcome, Replicated::Replayed { .. }), "{outcome:?}");
    }
    row.cost("replay", replayed.map(|(_, cost)| cost));
    let (_, reread) = measure(|| world.backup(&disk, &Progress::default()));
    row.cost("reread", Some(reread));
    row.cost("verify_sample", Some(verify(&world)));
    row.cost("plan_restore", Some(plan(&world)));
    let (collected, gc) = measure(|| world.collect());
    assert_eq!(collected.removed_packs, 0, "{collected:?}");
    row.cost("gc", Some(gc));
    row
}

/// One percent of the packs, and all trees.
fn verify(world: &World) -> Cost {
    let scope = Scope::Sample { percent: 1, last_read: &BTreeMap::new() };
    let request = VerifyRequest { scope, workers: workers() };
    let progress = Progress::default();
    let (verdict, cost) =
        measure(|| verify_repository(&world.repository, &world.catalog, &request, &progress));
    let verdict = verdict.expect("a verdict");
    assert!(verdict.findings.is_empty(), "{:?}", verdict.findings);
    cost
}

fn plan(world: &World) -> Cost {
    let points = world.catalog.points(None).expect("points");
    let options = RestoreOptions {
        disk: None,
        to: world.path("restored"),
        force: false,
        protected: Vec::new(),
        workers: workers(),
        damaged: Damaged::Fail,
    };
    let (fs, newest) = (&RealFileSystem, points.last().expect("a point"));
    let (planned, cost) =
        measure(|| plan_restore(fs, &world.repository, &world.catalog, newest, &options));
    // There may be no room for a disk of that size; how long it takes to find out is what counts.
    drop(planned);
    cost
}

//! How time and memory grow with the number of points.

use crate::Options;
use crate::generated::Generated;
use crate::measure::{Cost, measure, measure_command};
use crate::table::{Row, Table};
use crate::world::World;
use afterimage::progress::Progress;
use afterimage::units::MIB;
use std::time::Duration;

const DISK_BYTES: u64 = 4 * MIB;
const CASES: [u64; 3] = [100, 1000, 10_000];
const SMOKE_CASES: [u64; 1] = [30];
/// Every so many points, space is collected while they are made, which puts small packs together:
/// it runs far more often than this.
const COLLECTED_EACH: u64 = 1000;
/// Backups whose mean is taken.
const BACKUPS: u32 = 5;

pub fn run(options: &Options) {
    let mut table = Table::new("points");
    let all: &[u64] = if options.smoke { &SMOKE_CASES } else { &CASES };
    for points in options.cases(all) {
        table.add(measure_case(options, points));
    }
    table.finish(options);
}

/// A disk of which each backup makes a point with one block more that was changed.
struct Changing {
    disk: Generated,
    version: u64,
}

impl Changing {
    fn backup(&mut self, world: &World) {
        self.version += 1;
        self.disk.change(1, self.version);
        world.backup(&self.disk, &Progress::default());
    }
}

fn measure_case(options: &Options, points: u64) -> Row {
    let world = World::new(options.case_folder(), points);
    world.write_settings(DISK_BYTES, points / 2);
    let disk = Generated::new(DISK_BYTES, DISK_BYTES, 7);
    let mut changing = Changing { disk, version: 0 };
    let mut row = Row::about(("points", points as f64), ("disk_mib", (DISK_BYTES / MIB) as f64));
    let run = |row: &mut Row, name: &str, args: &[&str]| {
        let (_, cost) = measure_command(&mut world.command(args));
        row.cost(name, Some(cost));
    };
    let ((), made) = measure(|| {
        for point in 1..points {
            changing.backup(&world);
            if point % COLLECTED_EACH == 0 {
                world.collect();
            }
        }
    });
    row.cost("all_backups", Some(made));
    run(&mut row, "seed", &["replicate", "now"]);
    row.cost("backup", Some(mean_backup(&world, &mut changing)));
    run(&mut row, "replay", &["replicate", "now"]);
    run(&mut row, "replicate_nothing", &["replicate", "now"]);
    run(&mut row, "points", &["points"]);
    run(&mut row, "status", &["status"]);
    run(&mut row, "stats", &["stats"]);
    run(&mut row, "verify_sample", &["verify", "--sample"]);
    run(&mut row, "restore_dry_run", &["restore", "web01", "--to", "restored", "--dry-run"]);
    run(&mut row, "gc_all_needed", &["gc"]);
    run(&mut row, "prune_dry_run", &["prune", "--dry-run"]);
    run(&mut row, "prune_half", &["prune", "--yes"]);
    run(&mut row, "gc", &["gc"]);
    let points = world.repository.list_points().expect("points").len();
    row.number("points_left", points as f64);
    row
}

/// What one backup takes, of which several are made.
fn mean_backup(world: &World, changing: &mut Changing) -> Cost {
    let ((), all) = measure(|| (0..BACKUPS).for_each(|_| changing.backup(world)));
    let time: Duration = all.time / BACKUPS;
    Cost { time, ..all }
}

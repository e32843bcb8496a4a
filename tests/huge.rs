//! A disk of a tebibyte that is nearly empty. The only test of its process, because it looks at
//! the most memory that the process ever had.

mod common;

use afterimage::progress::{Counts, Progress};
use afterimage::replay::Replicated;
use common::{World, assert_same, noise};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

const MIB: usize = 1 << 20;

fn counted(world: &World) -> Counts {
    let progress = Progress::default();
    world.backup_of(&world.fs, "web01", &world.disks, &progress).unwrap();
    progress.counts()
}

fn allocated(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().blocks() * 512
}

#[test]
fn a_disk_of_a_tebibyte_with_little_in_it_is_little_work() {
    let world = World::new(&["huge"], false);
    let file = std::fs::File::create(world.disk("huge")).unwrap();
    file.set_len(1 << 40).unwrap();
    let places = [0_u64, (1 << 30) + 5000, (1 << 39) - 70_000, (1 << 40) - 100_000];
    let write = |seed| {
        for at in places {
            file.write_all_at(&noise(seed + at, 100_000), at).unwrap();
        }
    };
    let same = |path: &Path, seed| {
        let copy = std::fs::File::open(path).unwrap();
        assert_eq!(copy.metadata().unwrap().len(), 1 << 40);
        let mut found = vec![0; 100_000];
        for at in places {
            copy.read_exact_at(&mut found, at).unwrap();
            assert_same(&found, &noise(seed + at, 100_000), &format!("at {at}"));
        }
        assert!(allocated(path) < 2 * MIB as u64);
    };
    let image = world.path("standby/huge.raw");
    write(1);
    let first = counted(&world);
    assert!(first.read < MIB as u64 && first.stored < MIB as u64, "{first:?}");
    world.replicate("standby").unwrap();
    same(&image, 1);
    write(2);
    let point = world.backup().unwrap().point;
    assert!(matches!(world.replicate("standby").unwrap(), Replicated::Replayed { .. }));
    same(&image, 2);
    // Comparing all of it reads what is there, and no more.
    common::write_noticed(&image, 1 << 35, b"foreign");
    write(3);
    world.backup().unwrap();
    let done = world.replicate("standby").unwrap();
    assert!(matches!(done, Replicated::Repaired { .. }), "{done:?}");
    same(&image, 3);
    same(&world.restore(&point, "restored").unwrap().join("huge.raw"), 2);
    let peak = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = peak.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak_kib: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak_kib < 400 * 1024, "{peak_kib} KiB at most");
}

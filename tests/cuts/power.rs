//! The power goes while the program runs: the file system is shut down without its log being
//! flushed, then mounted anew.

use super::check::Checked;
use super::ended;
use super::knobs::Knobs;
use super::mount::{Kind, Mount};
use super::task::Task;
use super::world::{State, World};
use afterimage::testing::Random;
use afterimage::units::Breakage;
use std::time::{Duration, Instant};

/// After so many cycles all is made anew.
const CYCLES_OF_A_WORLD: u64 = 50;

/// What cuts have hit.
#[derive(Debug, Default)]
struct Count {
    cycles: u64,
    cuts: u64,
    hits: u64,
    /// Commands that ended well after the cut: nobody was there to be told.
    too_late: u64,
    checked: Checked,
}

struct Lab {
    mount: Mount,
    world: World,
    count: Count,
}

impl Lab {
    fn new(kind: Kind, random: Random) -> Self {
        let mount = Mount::new(kind, &[]);
        let world = World::new(mount.folder(), random, State::MayBeElsewhere);
        Self { mount, world, count: Count::default() }
    }

    /// Runs tasks, the last one until the power goes, and looks at what is there then.
    fn cycle(&mut self) -> Result<(), String> {
        self.count.cycles += 1;
        // An undisturbed task before: what it acknowledged waits to be lost, too.
        if self.world.random.chance(30) {
            let task = self.world.any_task();
            self.undisturbed(task)?;
        }
        let task = self.world.any_task();
        self.cut(task);
        // And again, while the first command after the start puts things right.
        while self.world.random.chance(20) {
            let task = self.world.any_task();
            self.cut(task);
        }
        self.count.checked += self.world.check()?;
        Ok(())
    }

    fn undisturbed(&mut self, task: Task) -> Result<(), String> {
        let begun = self.world.begin(task);
        let started = Instant::now();
        let args: Vec<&str> = begun.args.iter().map(String::as_str).collect();
        let ended = self.world.succeed(&args)?;
        self.world.took(task, started.elapsed());
        self.world.learn(&begun, &ended);
        Ok(())
    }

    /// Lets the power go at any moment of a task, or just after it, and come back.
    fn cut(&mut self, task: Task) {
        let world = &mut self.world;
        let begun = world.begin(task);
        let moment = world.typical(task).mul_f64(world.random.below(125) as f64 / 100.0);
        let started = Instant::now();
        let mut child = ended::start(world.command(&begun.args));
        let mut took = None;
        while started.elapsed() < moment {
            if took.is_none() && child.try_wait().unwrap().is_some() {
                took = Some(started.elapsed());
            }
            let left = moment.saturating_sub(started.elapsed());
            std::thread::sleep(left.min(Duration::from_millis(1)));
        }
        // Only what has ended before has acknowledged anything. Mostly the program goes with the
        // power; now and then only its disk does, and it lives on for a moment.
        let has_ended = child.try_wait().unwrap().is_some();
        if world.random.chance(70) {
            child.kill().unwrap();
        }
        self.mount.cut();
        let ended = ended::finish(child);
        if ended.is_done() {
            world.took(task, took.unwrap_or_else(|| started.elapsed()));
        } else {
            self.count.hits += 1;
        }
        self.count.cuts += 1;
        if has_ended {
            world.learn(&begun, &ended);
        } else {
            self.count.too_late += u64::from(ended.is_done());
            world.learn_nothing(&begun);
        }
        self.mount.remount();
    }
}

/// Cuts until something is found, or all cycles are over.
fn cut_the_power(
    kind: Kind,
    knobs: &Knobs,
    breakage: Option<Breakage>,
) -> (Count, Option<(u64, String, Lab)>) {
    let mut random = Random::new(knobs.seed);
    let mut lab = Lab::new(kind, random.split());
    let mut count = Count::default();
    for cycle in knobs.cycles() {
        if cycle % CYCLES_OF_A_WORLD == 0 && cycle > 0 {
            count.add(&lab.count);
            drop(lab);
            lab = Lab::new(kind, random.split());
        }
        lab.world.breakage = breakage;
        if let Err(error) = lab.cycle() {
            count.add(&lab.count);
            return (count, Some((cycle, error, lab)));
        }
    }
    count.add(&lab.count);
    (count, None)
}

impl Count {
    fn add(&mut self, other: &Self) {
        self.cycles += other.cycles;
        self.cuts += other.cuts;
        self.hits += other.hits;
        self.too_late += other.too_late;
        self.checked += other.checked;
    }
}

fn nothing_is_lost(kind: Kind) {
    let knobs = Knobs::new("AFTERIMAGE_CUTS", 60);
    let (name, started) = (kind.name(), Instant::now());
    let (count, found) = cut_the_power(kind, &knobs, None);
    let Count { cycles, cuts, hits, too_late, checked } = count;
    println!(
        "\ncount: power cuts on {name}: {cycles} cycles, {cuts} cuts, {hits} hit a running command, \
         {too_late} ended well just after it, {checked}; {:.3} s a cycle",
        started.elapsed().as_secs_f64() / cycles.max(1) as f64
    );
    if let Some((cycle, error, mut lab)) = found {
        let kept = (lab.mount.keep(), lab.world.keep());
        panic!("{name}, seed {}, cycle {cycle}: {error}\nkept: {kept:?}", knobs.seed);
    }
    assert!(hits * 5 > cuts, "only {hits} of {cuts} cuts hit a running command");
}

#[test]
fn a_power_cut_on_ext4_at_any_moment_loses_nothing_that_was_acknowledged() {
    nothing_is_lost(Kind::Ext4);
}

#[test]
fn a_power_cut_on_xfs_at_any_moment_loses_nothing_that_was_acknowledged() {
    nothing_is_lost(Kind::Xfs);
}

/// Else nothing here would prove anything.
#[test]
fn a_power_cut_takes_what_was_not_synced_and_leaves_what_was() {
    for kind in [Kind::Ext4, Kind::Xfs] {
        let mut mount = Mount::new(kind, &[]);
        let mut lost = 0;
        for number in 0..10 {
            let path = |name: &str| mount.folder().join(format!("{name}-{number}"));
            let (synced, not_synced) = (path("synced"), path("not-synced"));
            std::fs::write(&synced, [7; 9000]).unwrap();
            std::fs::File::open(&synced).unwrap().sync_all().unwrap();
            std::fs::File::open(mount.folder()).unwrap().sync_all().unwrap();
            std::fs::write(&not_synced, [7; 9000]).unwrap();
            mount.cut();
            mount.remount();
            assert!(std::fs::read(&synced).unwrap() == [7; 9000], "{kind:?}");
            lost += u32::from(std::fs::read(&not_synced).map_or(true, |found| found != [7; 9000]));
        }
        assert!(lost > 0, "{kind:?}: nothing that was not synced was lost in 10 cuts");
        println!("\ncount: power cuts on {}: {lost} of 10 unsynced files lost", kind.name());
    }
}

/// XFS says that a folder is synced when it has shut down meanwhile, and then forgets its names.
#[test]
fn a_backup_whose_disk_fails_while_its_point_gets_its_name_is_not_acknowledged() {
    for kind in [Kind::Ext4, Kind::Xfs] {
        let mut mount = Mount::new(kind, &[]);
        let mut world = World::new(mount.folder(), Random::new(1), State::Elsewhere);
        let points = mount.folder().join("repository/points");
        let count = || std::fs::read_dir(&points).unwrap().count();
        let before = count();
        // The folder is open already when its sync begins, a second late.
        let path = points.to_str().unwrap();
        let late = "inject=fsync:delay_enter=1000000";
        let strace =
            ["strace", "-f", "-qq", "-o", "/dev/null", "-P", path, "-e", "trace=fsync", "-e", late];
        let begun = world.begin(Task::Backup);
        let child = ended::start(world.command_under(&strace.map(str::to_owned), &begun.args));
        let started = Instant::now();
        while count() == before {
            assert!(started.elapsed() < Duration::from_secs(60), "the backup never ended");
            std::thread::sleep(Duration::from_millis(5));
        }
        mount.cut();
        let ended = ended::wait(child);
        assert!(!ended.is_done(), "{kind:?}: {ended:#?}");
        world.learn_nothing(&begun);
        mount.remount();
        world.check().unwrap_or_else(|error| panic!("{kind:?}: {error}"));
    }
}

/// What a machine without power takes away sooner or later.
const BREAKAGES: &str = "NewContentUnsynced,RestoreUnsynced,TargetsUnsynced";

/// Nor would it if the program could do as it likes.
#[test]
fn a_program_that_does_not_sync_what_it_should_is_caught_by_power_cuts() {
    let names = std::env::var("AFTERIMAGE_BREAKAGES").unwrap_or_else(|_| BREAKAGES.to_owned());
    let mut missed = Vec::new();
    for breakage in names.split(',') {
        let breakage: Breakage = breakage.parse().unwrap();
        for kind in [Kind::Ext4, Kind::Xfs] {
            let knobs = Knobs::at_most(400);
            let (count, found) = cut_the_power(kind, &knobs, Some(breakage));
            let (name, cycles) = (kind.name(), count.cycles);
            let Some((_, error, _)) = found else {
                missed.push(format!("{breakage:?} on {name} in {cycles} cycles"));
                continue;
            };
            let first: String =
                error.lines().next().unwrap_or_default().chars().take(160).collect();
            println!("\ncount: {breakage:?} on {name}: caught in cycle {cycles}: {first}");
        }
    }
    assert!(missed.is_empty(), "nothing was found of {missed:?}");
}

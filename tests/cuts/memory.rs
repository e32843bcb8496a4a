//! Memory that is refused: the program runs under a limit of its address space.

use super::check::Checked;
use super::ended;
use super::knobs::Knobs;
use super::place::Place;
use super::task::Task;
use super::world::{State, World};
use afterimage::testing::Random;

const TASKS: [Task; 6] =
    [Task::Backup, Task::Replicate, Task::Restore, Task::Gc, Task::Copy, Task::Rebuild];
const KIB: u64 = 1024;
/// No task needs more than this.
const MOST: u64 = 4 << 30;

#[derive(Default)]
struct Count {
    runs: u64,
    done: u64,
    /// Ended with an error of its own.
    failed: u64,
    /// Ended by a signal, or before it began.
    died: u64,
    panicked: u64,
    checked: Checked,
}

/// Runs a task under a limit. Whether it succeeded.
fn run_under(world: &mut World, task: Task, bytes: u64, count: &mut Count) -> Result<bool, String> {
    let begun = world.begin(task);
    let limit = ["prlimit".to_owned(), format!("--as={bytes}")];
    let ended = ended::run(world.command_under(&limit, &begun.args));
    world.learn(&begun, &ended);
    count.runs += 1;
    match ended.code {
        Some(0) => count.done += 1,
        Some(101) => count.panicked += 1,
        None | Some(127) => count.died += 1,
        Some(_) => count.failed += 1,
    }
    count.checked += world.check().map_err(|e| format!("{task:?} with {bytes} bytes: {e}"))?;
    Ok(ended.is_done())
}

/// Looks for the least that a task needs, then tries limits below it.
fn squeeze(world: &mut World, task: Task, knobs: &Knobs, count: &mut Count) -> Result<(), String> {
    let (mut too_little, mut enough) = (KIB, MOST);
    while enough > too_little + too_little / 16 {
        let between = too_little + (enough - too_little).min(too_little * 4) / 2;
        if run_under(world, task, between, count)? {
            enough = between;
        } else {
            too_little = between;
        }
    }
    for _ in knobs.cycles() {
        let bytes = enough / 3 + world.random.below(enough * 2 / 3);
        run_under(world, task, bytes, count)?;
    }
    Ok(())
}

#[test]
fn memory_that_is_refused_loses_nothing_that_was_acknowledged() {
    let knobs = Knobs::new("AFTERIMAGE_MEMORY", 5);
    let mut random = Random::new(knobs.seed);
    let mut count = Count::default();
    for task in TASKS {
        let place = Place::new();
        let folder = place.path("world");
        std::fs::create_dir(&folder).unwrap();
        let mut world = World::new(folder, random.split(), State::Beside);
        if let Err(error) = squeeze(&mut world, task, &knobs, &mut count) {
            panic!("seed {}: {error}\nkept: {}", knobs.seed, place.keep().display());
        }
    }
    let Count { runs, done, failed, died, panicked, checked } = count;
    println!(
        "\ncount: refused memory: {runs} runs, {done} succeeded, {failed} failed, {died} died, \
         {panicked} panicked, {checked}"
    );
    assert!(failed + died + panicked > 0, "no limit was too low");
}

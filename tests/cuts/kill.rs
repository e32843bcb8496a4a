//! The program is killed at any moment, also while two of it work side by side.

use super::check::Checked;
use super::ended::{self, Ended};
use super::knobs::Knobs;
use super::place::Place;
use super::task::Task;
use super::world::{Begun, State, World};
use afterimage::testing::Random;
use std::process::Child;
use std::time::Instant;

/// After so many cycles all is made anew.
const CYCLES_OF_A_WORLD: u64 = 50;
/// Two that may run side by side.
const PAIRS: [[Task; 2]; 8] = [
    [Task::Backup, Task::Gc],
    [Task::Replicate, Task::Backup],
    [Task::Prune, Task::Backup],
    [Task::Copy, Task::Gc],
    [Task::Prune, Task::Gc],
    [Task::Rotate, Task::Backup],
    [Task::Restore, Task::Backup],
    [Task::Replicate, Task::Prune],
];

#[derive(Default)]
struct Count {
    cycles: u64,
    pairs: u64,
    kills: u64,
    hits: u64,
    checked: Checked,
}

struct Lab {
    world: World,
    // Removed after all that lies in it.
    place: Place,
}

impl Lab {
    fn new(random: Random) -> Self {
        let place = Place::on_disk();
        let folder = place.path("world");
        std::fs::create_dir(&folder).unwrap();
        Self { world: World::new(folder, random, State::Beside), place }
    }

    fn tasks(&mut self) -> Vec<Task> {
        let random = &mut self.world.random;
        if random.chance(60) {
            return vec![self.world.any_task()];
        }
        let mut pair = PAIRS[random.below(PAIRS.len() as u64) as usize].to_vec();
        if random.chance(50) {
            pair.reverse();
        }
        if !self.world.encrypted {
            pair.retain(|task| *task != Task::Rotate);
        }
        pair
    }

    fn cycle(&mut self, count: &mut Count) -> Result<(), String> {
        let tasks = self.tasks();
        count.cycles += 1;
        count.pairs += u64::from(tasks.len() > 1);
        let begun: Vec<Begun> = tasks.iter().map(|task| self.world.begin(*task)).collect();
        let slowest = tasks.iter().map(|task| self.world.typical(*task)).max().unwrap_or_default();
        let started = Instant::now();
        let children: Vec<Child> =
            begun.iter().map(|it| ended::start(self.world.command(&it.args))).collect();
        let spread = 60 + 60 * children.len() as u64;
        std::thread::sleep(slowest.mul_f64(self.world.random.below(spread) as f64 / 100.0));
        // One of two may live on.
        let spared = self.world.random.chance(50).then(|| self.world.random.below(2) as usize);
        let alone = children.len() == 1;
        let mut ended: Vec<Ended> = Vec::new();
        for (number, child) in children.into_iter().enumerate() {
            let is_spared = !alone && spared == Some(number);
            let end = if is_spared { ended::wait(child) } else { ended::kill(child) };
            let task = begun[number].task;
            count.kills += u64::from(!is_spared);
            count.hits += u64::from(end.code.is_none());
            if is_spared && !matches!(end.code, Some(0 | 3 | 11)) {
                return Err(format!("{task:?} failed beside {tasks:?}: {end:#?}"));
            }
            if alone && end.is_done() {
                self.world.took(task, started.elapsed().min(slowest * 2));
            }
            ended.push(end);
        }
        for (begun, ended) in begun.iter().zip(&ended) {
            self.world.learn(begun, ended);
        }
        count.checked += self.world.check().map_err(|e| format!("{tasks:?}, then: {e}"))?;
        Ok(())
    }
}

#[test]
fn a_kill_at_any_moment_loses_nothing_that_was_acknowledged() {
    let knobs = Knobs::new("AFTERIMAGE_KILLS", 40);
    let (mut random, started) = (Random::new(knobs.seed), Instant::now());
    let mut count = Count::default();
    let mut lab = Lab::new(random.split());
    for cycle in knobs.cycles() {
        if cycle % CYCLES_OF_A_WORLD == 0 && cycle > 0 {
            lab = Lab::new(random.split());
        }
        if let Err(error) = lab.cycle(&mut count) {
            let kept = lab.place.keep();
            panic!("seed {}, cycle {cycle}: {error}\nkept: {}", knobs.seed, kept.display());
        }
    }
    let Count { cycles, pairs, kills, hits, checked } = count;
    println!(
        "\ncount: random kills: {cycles} cycles, {pairs} of them with two processes, {kills} kills, \
         {hits} hit a running command, {checked}; {:.3} s a cycle",
        started.elapsed().as_secs_f64() / cycles.max(1) as f64
    );
    assert!(hits * 5 > kills, "only {hits} of {kills} kills hit a running command");
}

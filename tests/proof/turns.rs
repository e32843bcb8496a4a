//! Several processes on one disk, of which one at a time does anything: who goes on after which
//! operation is decided by a seed, and so is what becomes of each operation.
//!
//! Each process is a thread that asks before every operation on files, and does nothing between
//! two operations that others could see. So a seed is one history, which can be had again.

use crate::lab::{Action, Done, Lab};
use afterimage::testing::Random;
use afterimage::testing::disk::{Director, Step, Verdict};
use afterimage::units::{break_here, broken_here, seed_random};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Nothing that is done between two operations takes so long, but for waiting for another one.
const STUCK: Duration = Duration::from_secs(20);

/// How often operations fail, in so many of 100,000.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rates {
    pub read_error: u64,
    pub flipped_bit: u64,
    pub short_read: u64,
    pub write_error: u64,
    pub disk_full: u64,
    pub sync_error: u64,
    pub name_error: u64,
    pub interruption: u64,
}

impl Rates {
    /// Some kinds of failures and not others, each seldom or often: what a mixture of everything
    /// would never reach is reached by some seed.
    pub fn random(random: &mut Random) -> Self {
        let mut rate = || if random.chance(25) { 1 << random.below(11) } else { 0 };
        Self {
            read_error: rate(),
            flipped_bit: rate(),
            short_read: rate() * 20,
            write_error: rate(),
            disk_full: rate(),
            sync_error: rate(),
            name_error: rate(),
            interruption: rate(),
        }
    }

    fn verdict(&self, step: Step, random: &mut Random) -> Verdict {
        let is_name = matches!(step, Step::Create | Step::Rename | Step::Remove);
        let is_sync = matches!(step, Step::Sync | Step::SyncFolder);
        let is_read = step == Step::Read;
        let changes = matches!(step, Step::Write | Step::Zero | Step::Resize);
        let flipped = Verdict::Flipped(random.word());
        let all = [
            (is_read, self.read_error, Verdict::Fail(libc::EIO)),
            (is_read, self.flipped_bit, flipped),
            (is_read, self.short_read, Verdict::Short),
            (changes, self.write_error, Verdict::HalfWay(libc::EIO)),
            (step.needs_room(), self.disk_full, Verdict::HalfWay(libc::ENOSPC)),
            (is_sync, self.sync_error, Verdict::Fail(libc::EIO)),
            (is_name, self.name_error, Verdict::Fail(libc::EIO)),
            (true, self.interruption, Verdict::HalfWay(libc::EINTR)),
        ];
        let mut found = Verdict::Go;
        for (applies, rate, verdict) in all {
            if applies && rate > 0 && random.below(100_000) < rate {
                found = verdict;
            }
        }
        found
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Waits for its turn.
    Waiting,
    /// So many operations are left of its turn.
    Going(u64),
    Ended,
}

#[derive(Debug)]
struct Actor {
    phase: Phase,
    is_dead: bool,
    /// Something was made to fail that may make it fail.
    is_hurt: bool,
    random: Random,
}

#[derive(Debug, Default)]
struct Stage {
    actors: Vec<Actor>,
    trace: DefaultHasher,
    operations: u64,
    faults: u64,
}

/// Where processes wait for their turns.
#[derive(Debug, Default)]
struct Turns {
    stage: Mutex<Stage>,
    changed: Condvar,
    rates: Rates,
}

impl Turns {
    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the turn back when it is over, and waits for the next one.
    fn wait(&self, me: usize) -> MutexGuard<'_, Stage> {
        let mut stage = self.stage();
        if stage.actors[me].phase == Phase::Going(0) {
            stage.actors[me].phase = Phase::Waiting;
            self.changed.notify_all();
        }
        while stage.actors[me].phase == Phase::Waiting {
            stage = self.changed.wait(stage).unwrap_or_else(PoisonError::into_inner);
        }
        stage
    }

    fn end(&self, me: usize) {
        self.stage().actors[me].phase = Phase::Ended;
        self.changed.notify_all();
    }
}

/// One process.
#[derive(Debug)]
struct Process {
    turns: Arc<Turns>,
    me: usize,
}

impl Director for Process {
    fn decide(&self, step: Step, path: &Path) -> Verdict {
        let mut stage = self.turns.wait(self.me);
        if stage.actors[self.me].is_dead {
            return Verdict::Gone;
        }
        (self.me, step, path).hash(&mut stage.trace);
        stage.operations += 1;
        let actor = &mut stage.actors[self.me];
        if let Phase::Going(left) = &mut actor.phase {
            *left -= 1;
        }
        let verdict = self.turns.rates.verdict(step, &mut actor.random);
        if verdict != Verdict::Go {
            actor.is_hurt |= verdict != Verdict::Short;
            stage.faults += 1;
        }
        verdict
    }
}

/// How one process ended.
#[derive(Debug)]
pub struct Ended {
    pub action: Action,
    /// The lab as it was when the process began.
    pub lab: Lab,
    pub done: Result<Done, String>,
    /// It was killed, or an operation failed: then it may fail.
    pub may_fail: bool,
}

type Thread = JoinHandle<Result<Done, String>>;

/// Processes that run at the same time.
pub struct Company {
    turns: Arc<Turns>,
    threads: Vec<(Action, Lab, Thread)>,
}

impl Company {
    pub fn new(rates: Rates) -> Self {
        let turns = Arc::new(Turns { rates, ..Turns::default() });
        Self { turns, threads: Vec::new() }
    }

    /// Another process begins, and waits for its first turn.
    pub fn join(&mut self, lab: Lab, action: Action, random: &mut Random) {
        let me = self.threads.len();
        let (seed, own) = (random.word(), random.split());
        let actor = Actor { phase: Phase::Waiting, is_dead: false, is_hurt: false, random: own };
        self.turns.stage().actors.push(actor);
        let (turns, there) = (Arc::clone(&self.turns), lab.on_host(lab.host));
        let broken = broken_here();
        let thread = std::thread::spawn(move || {
            seed_random(Some(seed));
            break_here(broken);
            drop(turns.wait(me));
            let director = Arc::new(Process { turns: Arc::clone(&turns), me });
            let fs = there.disk.directed(director);
            let act = std::panic::AssertUnwindSafe(|| there.act(&(fs as _), action));
            let done = std::panic::catch_unwind(act);
            let done = match done {
                Ok(done) => done.map_err(|error| error.to_string()),
                Err(_) => Err("it panicked".to_owned()),
            };
            turns.end(me);
            done
        });
        self.threads.push((action, lab, thread));
    }

    /// Who is not at the end.
    fn alive(&self) -> Vec<usize> {
        let stage = self.turns.stage();
        let phases = stage.actors.iter().enumerate();
        phases.filter(|(_, actor)| actor.phase != Phase::Ended).map(|(me, _)| me).collect()
    }

    /// Somebody has a turn of some operations. `false`: nobody is left.
    ///
    /// # Errors
    /// When the turn does not end.
    pub fn turn(&self, random: &mut Random) -> Result<bool, String> {
        let alive = self.alive();
        if alive.is_empty() {
            return Ok(false);
        }
        let me = alive[random.below(alive.len() as u64) as usize];
        let long = 1 << random.below(7);
        self.give(me, 1 + random.below(long))?;
        Ok(true)
    }

    fn give(&self, me: usize, operations: u64) -> Result<(), String> {
        let mut stage = self.turns.stage();
        stage.actors[me].phase = Phase::Going(operations);
        self.turns.changed.notify_all();
        while let Phase::Going(_) = stage.actors[me].phase {
            let (next, late) = self
                .turns
                .changed
                .wait_timeout(stage, STUCK)
                .unwrap_or_else(PoisonError::into_inner);
            stage = next;
            if late.timed_out() && matches!(stage.actors[me].phase, Phase::Going(_)) {
                return Err(format!("{:?} waits for another one, for ever", self.threads[me].0));
            }
        }
        Ok(())
    }

    /// Somebody is killed: the kernel drops its locks at once.
    ///
    /// # Errors
    /// As [`Company::turn`].
    pub fn kill(&self, random: &mut Random) -> Result<(), String> {
        let alive = self.alive();
        match alive.get(random.below(alive.len().max(1) as u64) as usize) {
            Some(&me) => self.kill_one(me),
            None => Ok(()),
        }
    }

    fn kill_one(&self, me: usize) -> Result<(), String> {
        self.turns.stage().actors[me].is_dead = true;
        self.give(me, u64::MAX)
    }

    /// All are killed at once.
    ///
    /// # Errors
    /// As [`Company::turn`].
    pub fn kill_all(&self) -> Result<(), String> {
        self.turns.stage().actors.iter_mut().for_each(|actor| actor.is_dead = true);
        self.alive().into_iter().try_for_each(|me| self.kill_one(me))
    }

    /// Which actions are under way.
    pub fn under_way(&self) -> Vec<Action> {
        self.alive().into_iter().map(|me| self.threads[me].0).collect()
    }

    /// What all of them did, and the operations, failures and trace of it, when nobody is left.
    pub fn end(self) -> (Vec<Ended>, Tally) {
        let mut ended = Vec::new();
        for (me, (action, lab, thread)) in self.threads.into_iter().enumerate() {
            let done = thread.join().unwrap_or_else(|_| Err("it panicked".to_owned()));
            let stage = self.turns.stage();
            let may_fail = stage.actors[me].is_dead || stage.actors[me].is_hurt;
            ended.push(Ended { action, lab, done, may_fail });
        }
        let stage = self.turns.stage();
        let (operations, faults, trace) = (stage.operations, stage.faults, stage.trace.finish());
        (ended, Tally { operations, faults, trace })
    }
}

/// What was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    pub operations: u64,
    pub faults: u64,
    /// The same for the same operations in the same order.
    pub trace: u64,
}

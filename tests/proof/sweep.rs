//! Small histories, cut at every operation: the process killed, and every state that the loss of
//! power may leave, or a sample of them.

use crate::go_on::{go_on, run};
use crate::known::{Finding, Known, check};
use crate::lab::{Action, Lab, name};
use afterimage::testing::disk::{Killed, SimulatedDisk};
use afterimage::testing::{LastOperation, Random};
use afterimage::units::seed_random;
use std::collections::HashSet;
use std::sync::Arc;

/// A history and what is cut at its end.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    pub name: &'static str,
    /// What comes before, each backup of a machine that has changed.
    pub before: &'static [Action],
    /// Someone else writes to the replica then.
    pub foreign: bool,
    pub action: Action,
}

use Action::{Backup, Copy, Gc, Init, Prune, Replicate, Restore, Rotate};

const fn case(name: &'static str, before: &'static [Action], action: Action) -> Case {
    Case { name, before, foreign: false, action }
}

pub const CASES: [Case; 12] = [
    case("init", &[], Init),
    case("first backup", &[Init], Backup(0)),
    case("next backup", &[Init, Backup(0), Backup(1)], Backup(0)),
    case("seed", &[Init, Backup(0)], Replicate(0)),
    case("replay", &[Init, Backup(0), Replicate(0), Backup(0)], Replicate(0)),
    Case {
        foreign: true,
        ..case("repair", &[Init, Backup(0), Replicate(0), Backup(0)], Replicate(0))
    },
    case("prune", &[Init, Backup(0), Replicate(0), Backup(0), Backup(0), Backup(0)], Prune(0, 1)),
    case("collection", &[Init, Backup(0), Backup(1), Backup(0), Backup(0), Prune(0, 0)], Gc),
    case("rotation", &[Init, Backup(0)], Rotate),
    case("first copy", &[Init, Backup(0), Backup(0)], Copy),
    case("next copy", &[Init, Backup(0), Copy, Backup(0), Backup(1)], Copy),
    case("restore", &[Init, Backup(0)], Restore),
];

/// How much is done.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// States after a power cut, for each cut.
    pub states: u64,
    /// History goes on after every so manyeth state.
    pub go_on_every: u64,
}

/// What was done.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    pub cuts: u64,
    /// Different states of the disk after a kill or a power cut, each checked.
    pub states: u64,
    pub gone_on: u64,
}

impl Counts {
    pub fn add(&mut self, other: Self) {
        self.cuts += other.cuts;
        self.states += other.states;
        self.gone_on += other.gone_on;
    }
}

/// The history before the cut.
pub fn prepare(case: &Case, seed: u64) -> Result<(Lab, Known), Finding> {
    seed_random(Some(seed));
    let mut random = Random::new(seed);
    let encrypted = case.action == Rotate || seed % 2 == 1;
    let (mut lab, mut known) = (Lab::new(seed, encrypted), Known::default());
    for action in case.before {
        run(&mut lab, &mut known, *action)?;
        if let Backup(machine) = action {
            lab.change(*machine, &mut random);
        }
    }
    // What was acknowledged long ago is on the medium; of what came last, some may wait.
    if random.chance(70) {
        lab.disk.settle();
    }
    if case.foreign {
        lab.disk.overwrite(&Lab::image(0, &name("root")), 30_000, b"foreign");
        known.replicas[0].foreign = true;
    }
    Ok((lab, known))
}

/// Cuts the last action of a case at each of its operations, and once not at all.
pub fn sweep(case: &Case, seed: u64, effort: Effort) -> Result<Counts, Finding> {
    let (template, known) = prepare(case, seed)?;
    let mut sweep = Sweep { case, seed, effort, counts: Counts::default(), seen: HashSet::new() };
    for cut in 0.. {
        let last = [LastOperation::Torn, LastOperation::Absent][cut as usize % 2];
        let wrong =
            |what: Finding| format!("{}, seed {seed}, cut {cut} {last:?}: {what}", case.name);
        if !sweep.cut(&template, &known, cut, last).map_err(wrong)? {
            break;
        }
    }
    match sweep.counts.cuts > 5 {
        true => Ok(sweep.counts),
        false => Err(format!("{}: so few operations", case.name)),
    }
}

struct Sweep<'a> {
    case: &'a Case,
    seed: u64,
    effort: Effort,
    counts: Counts,
    /// States of the disk that were checked, as long as the same is known.
    seen: HashSet<(u64, bool)>,
}

impl Sweep<'_> {
    /// Whether there was anything left to cut.
    fn cut(
        &mut self,
        template: &Lab,
        known: &Known,
        cut: u64,
        last: LastOperation,
    ) -> Result<bool, Finding> {
        // The same names in each run, so that a state is recognised.
        seed_random(Some(self.seed ^ 0x5eed));
        let mut random = Random::new(self.seed ^ (cut << 20));
        let (mut lab, mut known) = (template.copy(), known.clone());
        let action = self.case.action;
        lab.clock += 1;
        known.begin(&lab, action);
        if let Prune(machine, last) = action {
            let plan = lab.plan_prune(&lab.fs(), machine, last);
            known.doubtful = plan.map_err(|error| error.to_string())?;
        }
        let killed = Arc::new(Killed::after(cut, last));
        let done = lab.act(&(lab.disk.directed(killed.clone()) as _), action);
        let is_dead = killed.is_dead();
        match &done {
            Ok(done) => known.note(&lab, action, done),
            Err(_) if is_dead => {}
            Err(error) => return Err(format!("it failed by itself: {error}")),
        }
        self.counts.cuts += 1;
        let killed = lab.disk.copy();
        let interrupted = done.is_err();
        self.state(&lab, &known, interrupted, killed, &mut random)
            .map_err(|what| format!("killed: {what}"))?;
        let states = lab.disk.crash_states(random.split(), self.effort.states);
        for (number, state) in states.enumerate() {
            self.state(&lab, &known, interrupted, state, &mut random)
                .map_err(|what| format!("power cut {number}: {what}"))?;
        }
        Ok(is_dead)
    }

    fn state(
        &mut self,
        lab: &Lab,
        known: &Known,
        interrupted: bool,
        disk: SimulatedDisk,
        random: &mut Random,
    ) -> Result<(), Finding> {
        if !self.seen.insert((disk.fingerprint(), interrupted)) {
            return Ok(());
        }
        self.counts.states += 1;
        let goes_on = self.counts.states.is_multiple_of(self.effort.go_on_every);
        let mut after = match goes_on {
            true => lab.with_disk(disk, random.chance(70)),
            false => lab.beside(disk),
        };
        let mut known = known.clone();
        check(&after, &mut known)?;
        if goes_on {
            self.counts.gone_on += 1;
            go_on(&mut after, &mut known, random)?;
        }
        Ok(())
    }
}

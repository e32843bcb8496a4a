//! Two accidents in a row: one process is killed, or fails to sync, at any operation; another one
//! goes on from what it finds, which memory may hold and the medium not; then the power goes.

use crate::known::{Finding, Known, check};
use crate::lab::{Action, Lab, SECOND};
use crate::sweep::{Case, Counts, prepare};
use afterimage::fsio::FileSystem;
use afterimage::testing::disk::{Director, Failing, Killed, Span, Step, Verdict};
use afterimage::testing::{LastOperation, Random};
use afterimage::units::seed_random;
use std::path::Path;
use std::sync::Arc;

use Action::{Backup, Copy, Gc, Init, Prune, Replicate, Rotate};

/// A case whose action is interrupted, and who comes next.
pub struct Pair {
    pub case: Case,
    pub next: Action,
}

const fn pair(name: &'static str, before: &'static [Action], action: Action, next: Action) -> Pair {
    Pair { case: Case { name, before, foreign: false, action }, next }
}

pub const PAIRS: [Pair; 10] = [
    pair("init, backup", &[], Init, Backup(0)),
    pair("backup, backup", &[Init, Backup(0)], Backup(0), Backup(0)),
    pair("backup, backup of another", &[Init, Backup(1)], Backup(0), Backup(1)),
    pair("backup, replay", &[Init, Backup(0), Replicate(0)], Backup(0), Replicate(0)),
    pair("seed, seed", &[Init, Backup(0)], Replicate(0), Replicate(0)),
    pair("replay, replay", &[Init, Backup(0), Replicate(0), Backup(0)], Replicate(0), Replicate(0)),
    pair("prune, collection", &[Init, Backup(0), Backup(0), Backup(0)], Prune(0, 1), Gc),
    pair("collection, backup", &[Init, Backup(0), Backup(0), Prune(0, 0)], Gc, Backup(0)),
    pair("rotation, rotation", &[Init, Backup(0)], Rotate, Rotate),
    pair("copy, copy", &[Init, Backup(0), Backup(0)], Copy, Copy),
];

/// How much is done.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Pairs of operations at which the two accidents happen.
    pub pairs: u64,
    /// States after the power cut.
    pub states: u64,
}

/// Some pairs of accidents of a case, chosen by the seed.
pub fn twice(pair: &Pair, seed: u64, effort: Effort) -> Result<Counts, Finding> {
    let (template, known) = prepare(&pair.case, seed)?;
    let mut counts = Counts::default();
    let mut random = Random::new(seed ^ 0x7c1ce);
    let (first_max, next_max) = lengths(pair, &template, &known)?;
    for _ in 0..effort.pairs {
        let (first, next) = (random.below(first_max), random.below(next_max + next_max / 2 + 1));
        let is_kill = random.chance(75);
        let what = format!("{}, seed {seed}, {first} (kill: {is_kill}), {next}", pair.case.name);
        let accidents = Accidents { first, next, is_kill, states: effort.states };
        accidents
            .happen(pair, (&template, &known), &mut random, &mut counts)
            .map_err(|finding| format!("{what}: {finding}"))?;
    }
    Ok(counts)
}

/// How many changes both make when nothing happens: the next one as many as the first at least,
/// whose work it may have to do.
fn lengths(pair: &Pair, template: &Lab, known: &Known) -> Result<(u64, u64), Finding> {
    let (mut lab, mut known) = (template.copy(), known.clone());
    let mut counted = Vec::new();
    for action in [pair.case.action, pair.next] {
        let counter = Arc::new(Killed::after(u64::MAX, LastOperation::Absent));
        act(&mut lab, &mut known, action, counter.clone())
            .map_err(|error| format!("{}: {error}", pair.case.name))?;
        counted.push(counter.changes());
        lab.change(0, &mut Random::new(1));
    }
    let first = counted[0].max(1);
    Ok((first, counted[1].max(first)))
}

/// One action under a director, acknowledged or not.
fn act(
    lab: &mut Lab,
    known: &mut Known,
    action: Action,
    director: Arc<dyn Director>,
) -> Result<(), Finding> {
    lab.clock += 1;
    known.begin(lab, action);
    if let Prune(machine, last) = action {
        let plan = lab.plan_prune(&lab.fs(), machine, last);
        known.doubtful = plan.map_err(|error| error.to_string())?;
    }
    let done = lab.act(&(lab.disk.directed(director) as _), action);
    let done = done.map_err(|error| error.to_string())?;
    known.note(lab, action, &done);
    Ok(())
}

struct Accidents {
    first: u64,
    next: u64,
    is_kill: bool,
    states: u64,
}

impl Accidents {
    fn happen(
        &self,
        pair: &Pair,
        (template, known): (&Lab, &Known),
        random: &mut Random,
        counts: &mut Counts,
    ) -> Result<(), Finding> {
        seed_random(Some(random.word()));
        let (mut lab, mut known) = (template.copy(), known.clone());
        let last = [LastOperation::Torn, LastOperation::Absent][self.first as usize % 2];
        let first: Arc<dyn Director> = match self.is_kill {
            true => Arc::new(Killed::after(self.first, last)),
            false => {
                let is_sync = |step| matches!(step, Step::Sync | Step::SyncFolder);
                let fail = Verdict::Fail(libc::EIO);
                Arc::new(Failing::new(is_sync, self.first % 24, Span::Once, fail))
            }
        };
        // It fails or not: the next one decides what became of it.
        drop(act(&mut lab, &mut known, pair.case.action, first));
        lab.change(0, random);
        if pair.case.action == Init {
            // What is there counts as created; whether it stays is for the next one to see to.
            lab.act(&lab.fs(), Init).map_err(|error| error.to_string())?;
            // Nobody uses the other one.
            lab.disk.sync_dir(Path::new(SECOND)).map_err(|error| error.to_string())?;
        }
        let next = Arc::new(Killed::after(self.next, last));
        let done = act(&mut lab, &mut known, pair.next, next.clone());
        if let (Err(error), false) = (&done, next.is_dead()) {
            return Err(format!("{:?} failed by itself: {error}", pair.next));
        }
        known.initialised |= done.is_ok();
        counts.cuts += 1;
        known.power_cut();
        for state in lab.disk.crash_states(random.split(), self.states) {
            counts.states += 1;
            let after = lab.beside(state);
            check(&after, &mut known.clone())?;
        }
        Ok(())
    }
}

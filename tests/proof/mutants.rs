//! Deliberate breakages: each must be found by the harness that shows the unbroken engine to be
//! right. One that is not found is a hole in the harness.

use crate::errors::{self, FAULTS, fail_everywhere};
use crate::known::Finding;
use crate::rot;
use crate::simulator::{Theme, simulate};
use crate::sweep::{self, CASES};
use crate::twice::{self, PAIRS};
use afterimage::testing::disk::Span;
use afterimage::units::{Breakage, break_here};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Where a breakage is looked for.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// The crash sweep of a case.
    Cut(&'static str),
    /// A kind of failure at each operation of a case.
    Fail(&'static str, &'static str),
    /// Two accidents in a row.
    Twice(&'static str),
    /// A superblock of which any byte is another one.
    Rot,
    /// Many at the same time, from a seed on that is known to find it.
    Simulated(u64),
}

use Place::{Cut, Fail, Rot, Simulated, Twice};

/// Found by tests of their own: on a real device, as images have nothing where they grow
/// (`tests/devices.rs`), and with a reader that comes at the one moment (`tests/gc.rs`).
const ELSEWHERE: [Breakage; 2] = [Breakage::GainKeepsOld, Breakage::Unconfirmed];

/// Where each is found.
const fn place(what: Breakage) -> Place {
    match what {
        Breakage::NewContentUnsynced | Breakage::NewNameUnsynced | Breakage::PointBeforePacks => {
            Cut("first backup")
        }
        Breakage::FoundNamesUnsynced => Twice("backup, backup"),
        Breakage::ManifestsUnsynced => Twice("prune, collection"),
        Breakage::FoundStateUnsynced => Twice("replay, replay"),
        Breakage::CacheBelieved => Twice("seed, seed"),
        Breakage::FoundKeyUnsynced => Twice("rotation, rotation"),
        Breakage::ReplacingContentUnsynced
        | Breakage::OldSlotsFirst
        | Breakage::KeyUnsynced
        | Breakage::KeyNameUnsynced => Cut("rotation"),
        Breakage::SyncFailureIgnored => Fail("sync error", "first backup"),
        Breakage::WrittenBeforeCommit
        | Breakage::SuperblockUnsynced
        | Breakage::SlotsTogether
        | Breakage::CleanBeforeApplied
        | Breakage::TargetsUnsynced
        | Breakage::JournalGoneFirst => Cut("replay"),
        Breakage::SeedUnsynced => Cut("seed"),
        Breakage::ForeignWriteUnseen | Breakage::SeedingUnnoted => Cut("repair"),
        Breakage::RestoreUnsynced => Cut("restore"),
        Breakage::RemovalUnrecorded | Breakage::ReplicaNeedsIgnored => Cut("prune"),
        Breakage::NameUnchecked => Fail("flipped bit", "restore"),
        Breakage::JournalUnchecked => Fail("flipped bit", "replay"),
        Breakage::SlotUnchecked => Rot,
        Breakage::LeasesIgnored => Simulated(0),
        Breakage::CondemnedIsKnown => Simulated(0),
        Breakage::NoSecondMark
        | Breakage::Unconfirmed
        | Breakage::LiveWritersSwept
        | Breakage::GainKeepsOld => Simulated(0),
    }
}

impl Place {
    /// The first thing that is found there with one of many seeds, and how many it took.
    fn look(self, seeds: u64) -> Option<(u64, Finding)> {
        (0..seeds).find_map(|seed| {
            let looked = catch_unwind(AssertUnwindSafe(|| self.look_once(seed)));
            let looked = looked.unwrap_or_else(|_| Err("it panicked".to_owned()));
            looked.err().map(|finding| (seed, finding))
        })
    }

    fn look_once(self, seed: u64) -> Result<(), Finding> {
        match self {
            Cut(name) => {
                let effort = sweep::Effort { states: 40, go_on_every: 3 };
                let case = CASES.iter().find(|case| case.name == name);
                sweep::sweep(case.ok_or("no such case")?, seed, effort).map(drop)
            }
            Fail(fault, name) => {
                let case = CASES.iter().find(|case| case.name == name).ok_or("no such case")?;
                let fault = FAULTS.iter().find(|it| it.name == fault).ok_or("no such fault")?;
                let effort = errors::Effort { stride: 1, states: 8, go_on_every: 4 };
                fail_everywhere(case, fault, Span::Once, seed, effort).map(drop)
            }
            Twice(name) => {
                let pair = PAIRS.iter().find(|pair| pair.case.name == name);
                let effort = twice::Effort { pairs: 100, states: 8 };
                twice::twice(pair.ok_or("no such pair")?, seed, effort).map(drop)
            }
            Rot => rot::superblocks(seed),
            Simulated(first) => simulate(first + seed, 10, Theme::Collections).map(drop),
        }
    }
}

/// Breaks some of all in turn, or only one, and gives back those that were not found.
pub fn survivors(only: Option<&str>, part: usize, parts: usize, seeds: u64) -> Vec<Breakage> {
    let mut survivors = Vec::new();
    for what in Breakage::ALL.iter().skip(part).step_by(parts) {
        let is_meant = only.is_none_or(|name| name == format!("{what:?}"));
        if ELSEWHERE.contains(what) || !is_meant {
            continue;
        }
        break_here(Some(*what));
        let found = place(*what).look(seeds);
        break_here(None);
        match found {
            Some((seed, finding)) => {
                let first = finding.lines().next().unwrap_or_default();
                println!("{what:?}: found with seed {seed}: {first}");
            }
            None => survivors.push(*what),
        }
    }
    survivors
}

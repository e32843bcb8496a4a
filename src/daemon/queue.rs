//! What waits, and what of it may begin: pure, no clock, no threads.
//!
//! Invariants: no two runs that begin need the same thing alone; no limit is exceeded. Whatever
//! waits begins at last, if what is under way ends: the oldest is looked at first, and what it has
//! to wait for is not given to younger ones meanwhile.

use crate::operations::Needs;
use crate::units::{Name, RunId};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

/// By how much a run that somebody asked for counts as older than it is: it begins before what
/// would begin by itself, but not for ever.
const HEAD_START: Duration = Duration::from_secs(600);

/// How many runs there may be at once.
#[derive(Debug, Clone, Default)]
pub struct Limits {
    /// In all, at least 1.
    pub runs: usize,
    /// On one disk of this host.
    pub disk_runs: Option<usize>,
    /// In a repository.
    pub repositories: BTreeMap<Name, usize>,
}

/// What a run uses.
#[derive(Debug, Clone, Default)]
pub struct Demand {
    /// Alone or beside others.
    pub needs: Needs,
    /// Disks of this host, by their device numbers; none twice.
    pub disks: Vec<u64>,
}

/// A place in the queue: the smaller, the earlier.
type Rank = (Duration, u64);

/// Who uses something.
#[derive(Debug, Clone, Copy, Default)]
struct Use {
    alone: usize,
    shared: usize,
}

/// What is in use.
#[derive(Debug, Default)]
struct InUse {
    runs: usize,
    things: HashMap<String, Use>,
    repositories: HashMap<Name, usize>,
    disks: HashMap<u64, usize>,
}

impl InUse {
    fn add(&mut self, demand: &Demand) {
        self.runs += 1;
        for thing in &demand.needs.alone {
            self.things.entry(thing.clone()).or_default().alone += 1;
        }
        for thing in &demand.needs.shared {
            self.things.entry(thing.clone()).or_default().shared += 1;
        }
        for repository in &demand.needs.repositories {
            *self.repositories.entry(repository.clone()).or_default() += 1;
        }
        for disk in &demand.disks {
            *self.disks.entry(*disk).or_default() += 1;
        }
    }

    fn take_away(&mut self, demand: &Demand) {
        self.runs = self.runs.saturating_sub(1);
        for thing in &demand.needs.alone {
            self.release(thing, |it| it.alone = it.alone.saturating_sub(1));
        }
        for thing in &demand.needs.shared {
            self.release(thing, |it| it.shared = it.shared.saturating_sub(1));
        }
        for repository in &demand.needs.repositories {
            count_down(&mut self.repositories, repository);
        }
        for disk in &demand.disks {
            count_down(&mut self.disks, disk);
        }
    }

    fn release(&mut self, thing: &str, change: impl FnOnce(&mut Use)) {
        if let Some(usage) = self.things.get_mut(thing) {
            change(usage);
            if usage.alone + usage.shared == 0 {
                self.things.remove(thing);
            }
        }
    }

    /// Things that are in use in a way that excludes `demand`.
    fn in_the_way<'d>(&self, demand: &'d Demand) -> (Vec<&'d String>, Vec<&'d String>) {
        let usage = |thing: &String| self.things.get(thing).copied().unwrap_or_default();
        let alone = demand.needs.alone.iter();
        let alone = alone.filter(|it| usage(it).alone + usage(it).shared > 0).collect();
        let shared = demand.needs.shared.iter().filter(|it| usage(it).alone > 0).collect();
        (alone, shared)
    }

    /// The limit that is reached, in words. What is `kept` for others counts too.
    fn reached(&self, demand: &Demand, limits: &Limits, kept: &Self) -> Option<String> {
        for name in &demand.needs.repositories {
            let count = |of: &Self| of.repositories.get(name).copied().unwrap_or(0);
            if let Some(limit) = limits.repositories.get(name)
                && count(self) + count(kept) >= (*limit).max(1)
            {
                return Some(format!("a run in repository {name} to end, {limit} may be at once"));
            }
        }
        let limit = limits.disk_runs?;
        let count = |of: &Self, disk: &u64| of.disks.get(disk).copied().unwrap_or(0);
        let full = |disk: &&u64| count(self, disk) + count(kept, disk) >= limit.max(1);
        demand.disks.iter().find(full)?;
        Some(format!("a run on the same disk to end, {limit} may be at once"))
    }
}

fn count_down<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(key);
        }
    }
}

/// Runs that wait, and those that are under way.
#[derive(Debug, Default)]
pub struct Queue {
    waiting: BTreeMap<Rank, (RunId, Demand)>,
    ranks: HashMap<RunId, Rank>,
    running: HashMap<RunId, (Rank, Demand)>,
    in_use: InUse,
    next: u64,
}

impl Queue {
    /// Adds a run at `now`, any clock that never goes back. One that is `asked_for` goes before
    /// those that begin by themselves, unless they have waited for long.
    pub fn push(&mut self, run: RunId, now: Duration, asked_for: bool, demand: Demand) {
        // The others are late, instead of these early: a clock begins at 0.
        let late = if asked_for { Duration::ZERO } else { HEAD_START };
        let rank = (now + late, self.next);
        self.next += 1;
        self.insert(run, rank, demand);
    }

    fn insert(&mut self, run: RunId, rank: Rank, demand: Demand) {
        self.waiting.insert(rank, (run, demand));
        self.ranks.insert(run, rank);
    }

    /// Runs that begin now: from here on they are under way. Those that `may_begin` refuses go on
    /// waiting, and nobody waits for them.
    pub fn take(&mut self, limits: &Limits, may_begin: impl Fn(RunId) -> bool) -> Vec<RunId> {
        let mut kept = InUse::default();
        let mut taken = Vec::new();
        for (rank, (run, demand)) in &self.waiting {
            if self.in_use.runs >= limits.runs.max(1) {
                break;
            }
            if !may_begin(*run) {
                continue;
            }
            let (alone, shared) = self.in_use.in_the_way(demand);
            if !alone.is_empty() || !shared.is_empty() {
                // Only what it waits for: the rest would lie idle.
                alone
                    .iter()
                    .for_each(|it| kept.things.entry((*it).clone()).or_default().alone += 1);
                let shares =
                    |it: &&String| kept.things.entry((*it).clone()).or_default().shared += 1;
                shared.iter().for_each(shares);
                continue;
            }
            let (alone, shared) = kept.in_the_way(demand);
            if !alone.is_empty() || !shared.is_empty() {
                continue;
            }
            if self.in_use.reached(demand, limits, &kept).is_some() {
                kept.add(demand);
                continue;
            }
            self.in_use.add(demand);
            taken.push(*rank);
        }
        let taken = taken.into_iter().filter_map(|rank| {
            let (run, demand) = self.waiting.remove(&rank)?;
            self.ranks.remove(&run);
            self.running.insert(run, (rank, demand));
            Some(run)
        });
        taken.collect()
    }

    /// A run that was taken could not begin: it waits again, where it was.
    pub fn put_back(&mut self, run: RunId) {
        if let Some((rank, demand)) = self.running.remove(&run) {
            self.in_use.take_away(&demand);
            self.insert(run, rank, demand);
        }
    }

    /// A run that was under way ended.
    pub fn ended(&mut self, run: RunId) {
        if let Some((_, demand)) = self.running.remove(&run) {
            self.in_use.take_away(&demand);
        }
    }

    /// A run does not wait any more. Returns whether it did.
    pub fn remove(&mut self, run: RunId) -> bool {
        let Some(rank) = self.ranks.remove(&run) else { return false };
        self.waiting.remove(&rank).is_some()
    }

    /// Other settings: a run that waits uses something else.
    pub fn change(&mut self, run: RunId, demand: Demand) {
        if let Some(place) = self.ranks.get(&run).and_then(|rank| self.waiting.get_mut(rank)) {
            place.1 = demand;
        }
    }

    /// What a run waits for, in words; `None` when it is next or does not wait.
    pub fn waits_for(&self, run: RunId, limits: &Limits) -> Option<String> {
        let (_, demand) = self.waiting.get(self.ranks.get(&run)?)?;
        let (alone, shared) = self.in_use.in_the_way(demand);
        if let Some(thing) = alone.into_iter().chain(shared).next() {
            return Some(format!("another run of {thing} to end"));
        }
        if self.in_use.runs >= limits.runs.max(1) {
            return Some(format!("a run to end, {} may be at once", limits.runs));
        }
        self.in_use.reached(demand, limits, &InUse::default())
    }

    /// Runs that wait, in their order.
    pub fn waiting(&self) -> impl Iterator<Item = RunId> + '_ {
        self.waiting.values().map(|(run, _)| *run)
    }

    /// How many runs wait.
    pub fn waiting_count(&self) -> usize {
        self.waiting.len()
    }

    /// How many runs are under way.
    pub fn running_count(&self) -> usize {
        self.running.len()
    }
}

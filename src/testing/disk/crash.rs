//! The states that a power cut may leave.

use super::SimulatedDisk;
use super::state::{Change, NameChange, State};
use crate::testing::Random;
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// So many changes that wait are tried in every combination.
const EXHAUSTIVE_MAX: usize = 6;
/// After so many states in a row that were there before, there are no more worth looking for.
const REPEATS_MAX: usize = 24;

/// A change that a power cut may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// A name that was created, renamed or removed.
    Name,
    /// The file of a lock, which nothing depends on.
    Lock,
    /// A file's length.
    Length,
    /// Content.
    Data,
}

/// What a power cut does to one change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// It is gone.
    All,
    /// It is there.
    Nothing,
    /// Of content, each sector of the file of so many bytes is there or not, as the seed says.
    Sectors {
        /// 512 or 4096.
        bytes: u64,
        /// Of the decision for each sector.
        seed: u64,
    },
}

impl State {
    /// What is left after a power cut for which `loss` decides on each change that waits.
    fn after_power_cut(&self, loss: &mut dyn FnMut(Waiting) -> Loss) -> Self {
        let mut left = self.clone();
        left.waiting_names.clear();
        for change in &self.waiting_names {
            let what = match change {
                NameChange::Set { is_lock: true, .. } => Waiting::Lock,
                _ => Waiting::Name,
            };
            if loss(what) != Loss::All {
                change.apply(&mut left.safe_names);
            }
        }
        left.names = left.safe_names.clone();
        left.drop_nameless();
        for (inode, file) in &mut left.nodes {
            let waiting = std::mem::take(&mut file.waiting);
            for change in &waiting {
                let content = Arc::make_mut(&mut file.safe);
                let what = match change {
                    Change::Length(_) => Waiting::Length,
                    Change::Data { .. } => Waiting::Data,
                };
                let kept = apply_part(change, loss(what), content, *inode);
                // Times are written with whatever of the file is.
                file.safe_mtime_ns = if kept { file.mtime_ns } else { file.safe_mtime_ns };
            }
            file.seen = Arc::clone(&file.safe);
            file.mtime_ns = file.safe_mtime_ns;
        }
        left
    }

    /// Changes that are tried in every combination when they are few.
    fn combined(&self) -> usize {
        let locks = |it: &&NameChange| matches!(it, NameChange::Set { is_lock: true, .. });
        self.waiting() - self.waiting_names.iter().filter(locks).count()
    }

    pub fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.names.hash(&mut hasher);
        self.nodes.iter().for_each(|(inode, file)| (inode, &file.seen).hash(&mut hasher));
        hasher.finish()
    }
}

/// Whether anything of the change is there.
fn apply_part(change: &Change, loss: Loss, content: &mut Vec<u8>, inode: u64) -> bool {
    match (loss, change) {
        (Loss::All, _) => false,
        (Loss::Sectors { bytes: sector, seed }, Change::Data { offset, bytes }) => {
            let mut at = 0;
            let mut kept = false;
            while at < bytes.len() {
                let number = (offset + at as u64) / sector;
                let end = ((number + 1) * sector - offset).min(bytes.len() as u64) as usize;
                let mut random = Random::new(seed ^ inode.rotate_left(32) ^ number);
                if random.chance(50) {
                    let piece = bytes[at..end].to_vec();
                    Change::Data { offset: offset + at as u64, bytes: piece }.apply(content);
                    kept = true;
                }
                at = end;
            }
            kept
        }
        _ => {
            change.apply(content);
            true
        }
    }
}

/// States of a disk after a power cut, each another one: all combinations of what waits when that
/// is little, else the extremes and a sample; torn writes besides.
#[derive(Debug)]
pub struct CrashStates {
    state: State,
    random: Random,
    /// Number of the next one.
    next: u64,
    given: u64,
    max: u64,
    seen: HashSet<u64>,
}

impl SimulatedDisk {
    /// At most `max` different states that a power cut right now may leave.
    pub fn crash_states(&self, random: Random, max: u64) -> CrashStates {
        let state = self.state().clone();
        CrashStates { state, random, next: 0, given: 0, max, seen: HashSet::new() }
    }
}

impl CrashStates {
    /// The next combination of losses.
    fn make(&mut self) -> State {
        let number = self.next;
        self.next += 1;
        let few = self.state.combined() <= EXHAUSTIVE_MAX;
        let combinations = if few { 1 << self.state.combined() } else { 0 };
        let random = &mut self.random;
        if number < combinations {
            let mut bits = number;
            return self.state.after_power_cut(&mut |what| {
                if what == Waiting::Lock {
                    return if random.chance(50) { Loss::Nothing } else { Loss::All };
                }
                let kept = bits & 1 == 1;
                bits >>= 1;
                if kept { Loss::Nothing } else { Loss::All }
            });
        }
        let whole = |kept: bool| if kept { Loss::Nothing } else { Loss::All };
        match number - combinations {
            0 => self.state.after_power_cut(&mut |_| Loss::All),
            1 => self.state.after_power_cut(&mut |_| Loss::Nothing),
            2 => self.state.after_power_cut(&mut |what| whole(what == Waiting::Name)),
            3 => self.state.after_power_cut(&mut |what| whole(what != Waiting::Name)),
            4 => self.state.after_power_cut(&mut |what| whole(what != Waiting::Data)),
            _ => {
                let (percent, sector) =
                    (10 + 20 * random.below(5), [512, 4096][random.below(2) as usize]);
                let torn = random.chance(70);
                self.state.after_power_cut(&mut |what| match what {
                    Waiting::Data if torn && random.chance(60) => {
                        Loss::Sectors { bytes: sector, seed: random.word() }
                    }
                    _ => whole(random.chance(percent)),
                })
            }
        }
    }
}

impl Iterator for CrashStates {
    type Item = SimulatedDisk;

    fn next(&mut self) -> Option<Self::Item> {
        if self.given == self.max {
            return None;
        }
        let mut repeats = 0;
        // All combinations are looked at, however many of them come to the same.
        while repeats < REPEATS_MAX || self.next < 1 << EXHAUSTIVE_MAX {
            let state = self.make();
            if self.seen.insert(state.fingerprint()) {
                self.given += 1;
                return Some(SimulatedDisk::over(state));
            }
            repeats += 1;
        }
        None
    }
}

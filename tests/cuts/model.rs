//! What was acknowledged, and what may be there besides.

use super::ended::Ended;
use afterimage::testing::{Random, noise};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::rc::Rc;

pub const DISKS: [&str; 2] = ["root", "data"];
/// How many points the rules keep.
pub const KEEP: usize = 5;
/// Sizes of the two disks, in bytes.
const BYTES: [u64; 2] = [250_000, 40_000];

/// Content of the machine's disks.
pub type Disks = Rc<[Vec<u8>; 2]>;

pub fn first_disks(random: &mut Random) -> Disks {
    Rc::new(BYTES.map(|bytes| noise(random.word(), (bytes + random.below(bytes)) as usize)))
}

/// The same with a few changes.
pub fn changed(disks: &Disks, random: &mut Random) -> Disks {
    let mut disks = disks.as_ref().clone();
    for _ in 0..=random.below(3) {
        let which = usize::from(random.chance(30));
        let disk = &mut disks[which];
        if random.chance(15) {
            disk.resize((BYTES[which] + random.below(BYTES[which])) as usize, 0);
        }
        let begin = random.below(disk.len() as u64) as usize;
        let end = disk.len().min(begin + 1 + random.below(BYTES[which] / 4) as usize);
        if random.chance(25) {
            disk[begin..end].fill(0);
        } else {
            disk[begin..end].copy_from_slice(&noise(random.word(), end - begin));
        }
    }
    Rc::new(disks)
}

/// A point that must be there.
#[derive(Debug, Clone)]
pub struct Known {
    pub id: String,
    pub sequence: u64,
    pub disks: Disks,
}

/// What must be found.
#[derive(Default)]
pub struct Model {
    /// By their numbers.
    pub points: Vec<Known>,
    /// What backups were about to store when they ended.
    pub in_flight: Vec<Disks>,
    /// Points that a prune may have removed.
    pub may_go: BTreeSet<String>,
    /// Points that a prune has removed.
    pub gone: BTreeSet<String>,
    /// Content of all points that ever were.
    pub contents: BTreeMap<String, Disks>,
    /// The point that the replica is at.
    pub standby: Option<String>,
    /// A folder that a restore has filled, and the point.
    pub restored: Option<(PathBuf, String)>,
    /// Points that the second repository has, by their numbers: a copy has an id of its own.
    pub copied: BTreeMap<u64, Disks>,
    /// Runs that the history has as completed or skipped.
    pub runs: BTreeSet<String>,
}

impl Model {
    pub fn add_point(&mut self, id: &str, sequence: u64, disks: &Disks) {
        let known = Known { id: id.to_owned(), sequence, disks: Rc::clone(disks) };
        self.contents.insert(id.to_owned(), Rc::clone(disks));
        self.points.push(known);
        self.points.sort_by_key(|point| point.sequence);
    }

    pub fn newest(&self) -> &Known {
        self.points.last().expect("there is a point")
    }

    /// A prune begins: all but the last ones may go. Backups that were cut off, and one that runs
    /// beside it, may have added points that are not known here.
    pub fn expect_prune(&mut self) {
        let kept = KEEP.saturating_sub(self.in_flight.len() + 1).max(1);
        let going = self.points.len().saturating_sub(kept);
        self.may_go.extend(self.points[..going].iter().map(|point| point.id.clone()));
    }

    /// A prune has ended well.
    pub fn pruned(&mut self, ended: &Ended) {
        let decisions = ended.lines("prune_decision");
        let going = decisions.iter().filter(|decision| decision["keep"] == false);
        let going: Vec<String> = going.map(|it| it["point"].as_str().unwrap().to_owned()).collect();
        let removed = ended.summary()["points_removed"].as_u64().unwrap_or(0);
        // Some may have been spared in the last moment; which ones is not told.
        if removed == going.len() as u64 {
            self.gone.extend(going);
        }
    }

    /// The runs that a command has completed, with a record of each.
    pub fn note_runs(&mut self, ended: &Ended) {
        for summary in ended.lines("summary") {
            let is_done = summary["status"] == "completed" || summary["status"] == "skipped";
            let incomplete = "there is no complete record";
            if is_done && !summary["warnings"].to_string().contains(incomplete) {
                self.runs.extend(summary["run"].as_str().map(str::to_owned));
            }
        }
    }
}

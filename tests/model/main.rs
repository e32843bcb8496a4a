//! Random interleavings of all that goes on in a repository, against a model of a few lines: every
//! point that is kept restores to what its machine held, and nothing that is not needed stays.
//!
//! Each seed is one history. At any operation on files of one action another one may happen, as
//! another process would do it, or the action is killed. More seeds, or others:
//! `AFTERIMAGE_MODEL_SEEDS=200000 AFTERIMAGE_MODEL_FIRST=50000 bash tests/run model`

#[path = "../common/mod.rs"]
mod common;
mod lab;

use afterimage::fsio::{FileSystem, RealFileSystem};
use afterimage::point::{Manifest, Reach, commit_point, load_point};
use afterimage::store::Lease;
use afterimage::testing::{BetweenFileSystem, CutFileSystem, LastOperation, Random};
use afterimage::units::{PointId, RunId, Sequence};
use common::noise;
use lab::{Lab, MACHINES, is_beginning};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

/// Histories of one run of the tests, in two halves.
const SEEDS: u64 = 10_000;

/// What can be done.
#[derive(Debug, Clone)]
enum Action {
    Backup(usize),
    /// Points with the numbers of their machines.
    Remove(Vec<(usize, PointId)>),
    /// By the rules, but for this many of the newest points.
    Prune(u32),
    Gc,
    Replicate,
    Restore(PointId),
    Verify,
}

/// What was done, and how it ended.
#[derive(Debug)]
enum Done {
    Made(usize, PointId),
    Removed(Vec<PointId>),
    /// Perhaps: it was killed, or another one was in the way.
    Failed(Action, String),
    Restored(PointId, Vec<u8>),
    Nothing,
}

fn act(lab: &Lab, fs: &Arc<dyn FileSystem>, action: &Action, clock: i64) -> Done {
    let done = match action {
        Action::Backup(machine) => {
            lab.backup(fs, *machine, clock).map(|point| Done::Made(*machine, point.id))
        }
        Action::Remove(points) => lab
            .remove(fs, points)
            .map(|()| Done::Removed(points.iter().map(|(_, id)| *id).collect())),
        Action::Prune(last) => {
            lab.prune(fs, *last, clock).map(|gone| Done::Removed(gone.into_iter().collect()))
        }
        Action::Verify => lab.verify(fs).map(|()| Done::Nothing),
        Action::Gc => lab.gc(fs, clock).map(|_| Done::Nothing),
        Action::Replicate => lab.replicate(fs).map(|()| Done::Nothing),
        Action::Restore(id) => restore(lab, fs, *id).map(|found| Done::Restored(*id, found)),
    };
    done.unwrap_or_else(|error| Done::Failed(action.clone(), error.to_string()))
}

fn restore(lab: &Lab, fs: &Arc<dyn FileSystem>, id: PointId) -> lab::Result<Vec<u8>> {
    let (repository, _) = lab.open(fs)?;
    lab.restored(fs, &load_point(&repository, id)?)
}

/// A writer that found everything it needs, and has not committed yet.
struct SlowWriter {
    _lease: Lease,
    manifest: Manifest,
    machine: usize,
    content: Vec<u8>,
}

struct History {
    seed: u64,
    random: Random,
    lab: Lab,
    _folder: tempfile::TempDir,
    real: Arc<dyn FileSystem>,
    clock: i64,
    disks: [Vec<u8>; 2],
    /// What must be there, and what it holds.
    points: BTreeMap<PointId, (usize, Vec<u8>)>,
    /// All points that there ever were, in the order in which they were made.
    made: Vec<PointId>,
    /// The newest point of each machine when the last step ended.
    newest: BTreeSet<PointId>,
    /// What was being removed when the removal was killed.
    doubtful: BTreeSet<PointId>,
    readers: Vec<Lease>,
    writer: Option<SlowWriter>,
    log: Vec<String>,
}

impl History {
    fn new(seed: u64) -> Self {
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let history = Self {
            seed,
            random: Random::new(seed),
            lab: Lab::new(folder.path()),
            _folder: folder,
            real: RealFileSystem::shared(),
            clock: 0,
            disks: [noise(seed, 20_000), noise(seed + 1, 9000)],
            points: BTreeMap::new(),
            made: Vec::new(),
            newest: BTreeSet::new(),
            doubtful: BTreeSet::new(),
            readers: Vec::new(),
            writer: None,
            log: Vec::new(),
        };
        (0..2).for_each(|machine| history.write_disk(machine));
        history
    }

    fn write_disk(&self, machine: usize) {
        std::fs::write(self.lab.disk(machine), &self.disks[machine]).unwrap();
    }

    fn fail(&self, what: &str) -> ! {
        panic!("seed {}: {what}\n{}", self.seed, self.log.join("\n"))
    }

    /// The disk changes: new content, content of the other machine, or zeros.
    fn change(&mut self) {
        let machine = self.random.below(2) as usize;
        let len = self.disks[machine].len() as u64;
        let at = self.random.below(len) as usize;
        let count = (self.random.below(6000) as usize).min(len as usize - at);
        let bytes = match self.random.below(4) {
            0 => vec![0; count],
            1 => {
                let other = &self.disks[1 - machine];
                let from = self.random.below(other.len() as u64) as usize;
                other[from..].iter().copied().cycle().take(count).collect()
            }
            _ => noise(self.random.below(50), count),
        };
        self.disks[machine][at..at + count].copy_from_slice(&bytes);
        self.write_disk(machine);
    }

    fn action(&mut self) -> Action {
        match self.random.below(10) {
            0..=3 => Action::Backup(self.random.below(2) as usize),
            4 => Action::Remove(self.removable()),
            5 => match self.random.below(3) {
                0 => Action::Verify,
                _ => Action::Prune(self.random.below(3) as u32),
            },
            6..=7 => Action::Gc,
            8 if self.points.values().any(|(machine, _)| *machine == 0) => Action::Replicate,
            _ => match self.some_point() {
                Some(id) => Action::Restore(id),
                None => Action::Gc,
            },
        }
    }

    fn add(&mut self, id: PointId, what: (usize, Vec<u8>)) {
        self.made.push(id);
        self.points.insert(id, what);
    }

    fn some_point(&mut self) -> Option<PointId> {
        // In the order in which they were made: their names are random.
        let there = self.made.iter().filter(|id| self.points.contains_key(id));
        let there: Vec<PointId> = there.copied().collect();
        let index = self.random.below(there.len().max(1) as u64) as usize;
        there.get(index).copied()
    }

    /// Some points, but for the newest of each machine.
    fn removable(&mut self) -> Vec<(usize, PointId)> {
        let (repository, catalog) = self.lab.open(&self.real).unwrap();
        catalog.sync(&repository).unwrap();
        let mut some = Vec::new();
        for (index, machine) in MACHINES.iter().enumerate() {
            let mut points = catalog.points(Some(&lab::name(machine))).unwrap();
            points.pop();
            points.retain(|_| self.random.below(2) == 0);
            some.extend(points.iter().map(|point| (index, point.id)));
        }
        some
    }

    /// One action, alone, killed, or with another one in the middle of it.
    fn step(&mut self) {
        self.clock += 1;
        match self.random.below(12) {
            0 => return self.take_reader(),
            1 => return self.readers.clear(),
            2 => return self.begin_writer(),
            3 => return self.end_writer(),
            4..=6 => self.change(),
            _ => {}
        }
        let outer = self.action();
        let done = match self.random.below(4) {
            0 => vec![act(&self.lab, &self.real, &outer, self.clock)],
            1 => self.killed(&outer),
            _ => self.interleaved(&outer),
        };
        // Once there is a newer one, what was the newest may go.
        for made in &done {
            if let Done::Made(machine, _) = made {
                let points = &self.points;
                self.newest.retain(|id| points.get(id).is_none_or(|(of, _)| of != machine));
            }
        }
        for done in done {
            self.log.push(format!("{done:?}").chars().take(300).collect());
            self.note(done);
        }
        self.check();
    }

    fn killed(&mut self, action: &Action) -> Vec<Done> {
        let cut = self.random.below(60);
        let fs = CutFileSystem::new(Arc::clone(&self.real), cut, LastOperation::Torn);
        let done = act(&self.lab, &(Arc::clone(&fs) as _), action, self.clock);
        if !fs.is_cut() && matches!(done, Done::Failed(..)) {
            self.judge_failure(&done);
        }
        vec![done]
    }

    fn interleaved(&mut self, outer: &Action) -> Vec<Done> {
        let (inner, count, clock) = (self.action(), self.random.below(150), self.clock);
        let (lab, real, between) = (self.lab.clone(), Arc::clone(&self.real), Arc::default());
        let note: Arc<Mutex<Option<Done>>> = Arc::clone(&between);
        let other = inner.clone();
        let act_between = Box::new(move || {
            if !is_beginning(&lab) {
                *note.lock().unwrap() = Some(act(&lab, &real, &other, clock));
            }
        });
        let fs = BetweenFileSystem::new(Arc::clone(&self.real), count, act_between);
        self.log.push(format!("{outer:?}, and at operation {count} of it {inner:?}"));
        let outer = act(&self.lab, &(fs as _), outer, self.clock);
        let inner = between.lock().unwrap().take();
        let done: Vec<Done> = inner.into_iter().chain([outer]).collect();
        done.iter().for_each(|done| self.judge_failure(done));
        done
    }

    /// Nobody was killed: only somebody in the way is a reason to fail, or a point that was removed
    /// in the middle of it.
    fn judge_failure(&self, done: &Done) {
        let Done::Failed(action, error) = done else { return };
        let busy = error.contains("is held by");
        let missing = matches!(action, Action::Restore(_) | Action::Replicate)
            && (error.contains("missing") || error.contains("No such file"));
        if !busy && !missing {
            self.fail(&format!("{action:?} failed: {error}"));
        }
    }

    fn note(&mut self, done: Done) {
        match done {
            Done::Made(machine, id) => {
                self.add(id, (machine, self.disks[machine].clone()));
            }
            Done::Removed(ids) => {
                if ids.iter().any(|id| self.newest.contains(id)) {
                    self.fail("the newest point of a machine was removed");
                }
                ids.iter().for_each(|id| drop(self.points.remove(id)));
            }
            // Its plan is not known here, but what it must not touch is.
            Done::Failed(Action::Prune(_), _) => {
                let of_machine = self.points.iter().filter(|(_, (machine, _))| *machine == 0);
                let ids = of_machine.map(|(id, _)| *id).filter(|id| !self.newest.contains(id));
                self.doubtful.extend(ids);
            }
            Done::Failed(Action::Remove(ids), _) => {
                self.doubtful.extend(ids.iter().map(|(_, id)| *id));
            }
            Done::Restored(id, found) => {
                if let Some((_, expected)) = self.points.get(&id)
                    && *expected != found
                {
                    self.fail(&format!("point {} restores to something else", id.short()));
                }
            }
            Done::Failed(..) | Done::Nothing => {}
        }
    }

    fn take_reader(&mut self) {
        let (repository, _) = self.lab.open(&self.real).unwrap();
        self.readers.push(repository.lock_shared("reading slowly").unwrap());
    }

    /// A writer looks for all that a point holds, finds it, and takes its time.
    fn begin_writer(&mut self) {
        let Some(id) = self.some_point() else { return };
        let (repository, catalog) = self.lab.open(&self.real).unwrap();
        let lease = repository.lock_shared("writing slowly").unwrap();
        catalog.sync(&repository).unwrap();
        let point = load_point(&repository, id).unwrap();
        let mut names = Vec::new();
        let mut reach = Reach::new(&repository, &catalog).unwrap();
        reach.visit(&point, &mut |name| names.push(name)).unwrap();
        if catalog.contains(&names).unwrap().into_iter().all(|known| known) {
            let (machine, content) = self.points[&id].clone();
            let manifest = point.manifest;
            self.writer = Some(SlowWriter { _lease: lease, manifest, machine, content });
        }
    }

    fn end_writer(&mut self) {
        let Some(writer) = self.writer.take() else { return };
        let (repository, catalog) = self.lab.open(&self.real).unwrap();
        catalog.sync(&repository).unwrap();
        let last = catalog.last_sequence(&writer.manifest.machine).unwrap();
        let sequence = Sequence(last.map_or(0, |last| last.0) + 1);
        let session = repository.begin_writing(RunId::random().unwrap()).unwrap();
        let manifest = Manifest { sequence, ..writer.manifest };
        let point = commit_point(&repository, &session, manifest).unwrap();
        self.log.push(format!("a slow writer made {}", point.id.short()));
        self.add(point.id, (writer.machine, writer.content));
        self.check();
    }

    /// The points are those of the model, and one of them restores.
    fn check(&mut self) {
        let (repository, _) = self.lab.open(&self.real).unwrap();
        let listed: BTreeSet<PointId> = repository.list_points().unwrap().into_iter().collect();
        for id in std::mem::take(&mut self.doubtful) {
            if !listed.contains(&id) {
                self.points.remove(&id);
            }
        }
        for id in &listed {
            if !self.points.contains_key(id) {
                // A backup that was killed in its very last step.
                let manifest = load_point(&repository, *id).unwrap().manifest;
                let machine = usize::from(manifest.machine.as_str() == MACHINES[1]);
                self.add(*id, (machine, self.disks[machine].clone()));
                self.check_point(*id);
            }
        }
        let (repository, catalog) = self.lab.open(&self.real).unwrap();
        catalog.sync(&repository).unwrap();
        let newest = MACHINES.map(|it| catalog.newest_point(&lab::name(it)).unwrap());
        self.newest = newest.into_iter().flatten().map(|point| point.id).collect();
        if let Some(lost) = self.points.keys().find(|id| !listed.contains(id)) {
            self.fail(&format!("point {} is lost", lost.short()));
        }
        if let Some(id) = self.some_point() {
            self.check_point(id);
        }
    }

    fn check_point(&self, id: PointId) {
        match restore(&self.lab, &self.real, id) {
            Ok(found) if found == self.points[&id].1 => {}
            Ok(_) => self.fail(&format!("point {} restores to something else", id.short())),
            Err(error) => self.fail(&format!("point {}: {error}", id.short())),
        }
    }

    /// When all is quiet, everything that is kept restores, and little else is there.
    fn end(&mut self) {
        self.readers.clear();
        self.writer = None;
        self.judge_failure(&act(&self.lab, &self.real, &Action::Verify, self.clock));
        self.points.keys().for_each(|id| self.check_point(*id));
        let outcome = match self.lab.gc(&self.real, self.clock) {
            Ok(outcome) => outcome,
            Err(error) => self.fail(&format!("the last collection: {error}")),
        };
        let all = outcome.live_bytes + outcome.dead_bytes;
        if outcome.pending_packs > 0 || outcome.dead_bytes * 4 > all {
            self.fail(&format!("after the last collection: {outcome:?}"));
        }
        self.points.keys().for_each(|id| self.check_point(*id));
        if self.points.values().any(|(machine, _)| *machine == 0) {
            self.check_replica();
        }
    }

    /// A replica that follows is at the newest point.
    fn check_replica(&self) {
        if let Err(error) = self.lab.replicate(&self.real) {
            self.fail(&format!("the last replication: {error}"));
        }
        let (repository, catalog) = self.lab.open(&self.real).unwrap();
        catalog.sync(&repository).unwrap();
        let newest = catalog.newest_point(&lab::name(MACHINES[0])).unwrap().unwrap();
        if std::fs::read(self.lab.image()).unwrap() != self.points[&newest.id].1 {
            self.fail("the replica is not what its point says");
        }
    }
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Every second seed.
fn run(half: u64) {
    let first = number("AFTERIMAGE_MODEL_FIRST", 0);
    for seed in (first..first + number("AFTERIMAGE_MODEL_SEEDS", SEEDS)).filter(|it| it % 2 == half)
    {
        let mut history = History::new(seed);
        for _ in 0..5 + history.random.below(8) {
            history.step();
        }
        history.end();
    }
}

#[test]
fn whatever_happens_in_whatever_order_kept_points_restore_even_seeds() {
    run(0);
}

#[test]
fn whatever_happens_in_whatever_order_kept_points_restore_odd_seeds() {
    run(1);
}

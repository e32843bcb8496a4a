//! What must be there, and whether it is.

use crate::lab::{Action, Contents, Done, FIRST, Lab, MACHINES, REPLICAS, RESTORED_DISK, SECOND};
use afterimage::destination::State;
use afterimage::fsio::FileSystem;
use afterimage::point::{ContentReader, Manifest, load_point};
use afterimage::store::{PackSink, Repository};
use afterimage::testing::MemoryIndex;
use afterimage::units::{Epoch, PointId};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

/// What is wrong.
pub type Finding = String;

/// A point, and what its machine held.
#[derive(Debug, Clone)]
pub struct Held {
    pub machine: usize,
    pub contents: Arc<Contents>,
}

/// A replica, as far as it was acknowledged.
#[derive(Debug, Clone, Copy, Default)]
pub struct Follower {
    /// Where it is.
    pub synced: Option<PointId>,
    /// Someone else wrote to it since.
    pub foreign: bool,
    /// It is being brought to a newer point, or was when that was interrupted.
    pub running: bool,
    /// Its repair was interrupted.
    repairing: bool,
    /// The highest epoch that was seen.
    epoch: Option<Epoch>,
}

/// What was acknowledged, as a model of a few lines.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// Both repositories are there.
    pub initialised: bool,
    pub points: BTreeMap<PointId, Held>,
    /// Points of the second repository.
    pub copies: BTreeMap<PointId, Held>,
    /// Points that are being removed: they may be there or not.
    pub doubtful: BTreeSet<PointId>,
    pub replicas: [Follower; REPLICAS.len()],
    /// What backups that were interrupted may have made.
    maybe: Vec<Held>,
    /// Whether copies were interrupted, and what they may have made.
    copying: bool,
    /// Points that nobody acknowledged and that were seen: without power they may go.
    unsure: BTreeSet<PointId>,
    /// Points that a removal that was interrupted made invisible: without power they may come back.
    hidden: BTreeMap<PointId, Held>,
    /// Points that were removed, of which a copy may have been made before.
    removed: Vec<Held>,
}

impl Known {
    /// Something begins: from now on it may have been done.
    pub fn begin(&mut self, lab: &Lab, action: Action) {
        match action {
            Action::Backup(machine) => {
                let contents = Arc::new(lab.machines[machine].clone());
                self.maybe.push(Held { machine, contents });
            }
            Action::Copy => self.copying = true,
            Action::Replicate(replica) => self.replicas[replica].running = true,
            _ => {}
        }
    }

    /// Something was acknowledged.
    pub fn note(&mut self, lab: &Lab, action: Action, done: &Done) {
        match done {
            Done::Made(machine, id) => {
                let contents = Arc::new(lab.machines[*machine].clone());
                let is_it = |held: &Held| held.machine == *machine && held.contents == contents;
                self.maybe.iter().position(is_it).map(|at| self.maybe.swap_remove(at));
                self.points.insert(*id, Held { machine: *machine, contents });
                // They are in the same folder.
                self.unsure.clear();
            }
            Done::Removed(ids) => {
                for id in ids {
                    self.removed.extend(self.points.remove(id));
                    self.doubtful.remove(id);
                    self.hidden.remove(id);
                }
            }
            Done::Copied(pairs) => {
                for (ours, theirs) in pairs {
                    if let Some(held) = self.points.get(theirs) {
                        self.copies.insert(*ours, held.clone());
                    }
                }
            }
            Done::Synced(replica, id) => {
                let follower = &mut self.replicas[*replica];
                (follower.synced, follower.foreign) = (Some(*id), false);
                (follower.running, follower.repairing) = (false, false);
                self.unsure.remove(id);
            }
            Done::Nothing => self.initialised |= action == Action::Init,
        }
    }

    /// The power went: what was seen and not acknowledged may be gone, and the other way round.
    pub fn power_cut(&mut self) {
        self.doubtful.append(&mut self.unsure.clone());
    }

    /// All that was seen is on the medium.
    pub fn settled(&mut self) {
        self.unsure.clear();
        let hidden = std::mem::take(&mut self.hidden);
        self.removed.extend(hidden.into_values());
    }

    /// Every prune told what it removed.
    pub fn nothing_more_goes(&mut self) {
        self.doubtful.clear();
    }

    /// Whoever prunes a machine may remove any of its points.
    pub fn may_go(&mut self, machine: usize) {
        let points = self.points.iter().filter(|(_, held)| held.machine == machine);
        self.doubtful.extend(points.map(|(id, _)| *id));
    }

    /// Whether a machine has any.
    pub fn has_points_of(&self, machine: usize) -> bool {
        self.points.values().any(|held| held.machine == machine)
    }

    fn find(&mut self, machine: &str, found: &Contents) -> Option<Held> {
        let is_it = |held: &Held| MACHINES[held.machine] == machine && *held.contents == *found;
        self.maybe.iter().position(is_it).map(|at| self.maybe.swap_remove(at))
    }
}

/// Everything that must hold at any moment, whoever was at what. What turns out to be there is
/// known from then on. Nobody is at work now.
pub fn check(lab: &Lab, known: &mut Known) -> Result<(), Finding> {
    let fs = lab.fs();
    let has_header =
        |root: &str| fs.stat(&Path::new(root).join("repository.json")).is_ok_and(|it| it.is_some());
    if !has_header(FIRST) || !has_header(SECOND) {
        return match known.initialised {
            false => Ok(()),
            true => Err("the repository's header is gone".to_owned()),
        };
    }
    let repository = lab.repository(&fs).map_err(|error| format!("not opened: {error}"))?;
    check_points(known, &repository)?;
    let second = lab.second(&fs).map_err(|error| format!("second not opened: {error}"))?;
    check_copies(known, &second)?;
    check_restored(lab, known)?;
    (0..REPLICAS.len()).try_for_each(|replica| check_replica(lab, known, &fs, replica))
}

fn check_points(known: &mut Known, repository: &Repository) -> Result<(), Finding> {
    let listed = list(repository)?;
    for (machine, name) in MACHINES.iter().enumerate() {
        let mut points = known.points.iter().filter(|(_, held)| held.machine == machine).peekable();
        if points.peek().is_some() && !points.any(|(id, _)| listed.contains(id)) {
            return Err(format!("no point of {name} is left"));
        }
    }
    for id in std::mem::take(&mut known.doubtful).difference(&listed) {
        if let Some(held) = known.points.remove(id) {
            known.unsure.remove(id);
            known.hidden.insert(*id, held);
        }
    }
    if let Some(lost) = known.points.keys().find(|id| !listed.contains(id)) {
        return Err(format!("point {} is lost", lost.short()));
    }
    let index = index_of(repository)?;
    for id in listed {
        let (manifest, found) = contents(repository, &index, id)?;
        let machine = manifest.machine.as_str();
        if let Some(held) = known.hidden.remove(&id) {
            known.points.insert(id, held);
        }
        if let Some(held) = known.points.get(&id) {
            if machine != MACHINES[held.machine] || found != *held.contents {
                return Err(format!("point {} holds something else", id.short()));
            }
            continue;
        }
        let held = known.find(machine, &found);
        let held = held.ok_or_else(|| format!("point {} was made by nobody", id.short()))?;
        known.points.insert(id, held);
        known.unsure.insert(id);
    }
    Ok(())
}

fn check_copies(known: &mut Known, second: &Repository) -> Result<(), Finding> {
    let listed = list(second)?;
    if let Some(lost) = known.copies.keys().find(|id| !listed.contains(id)) {
        return Err(format!("the copied point {} is lost", lost.short()));
    }
    let index = index_of(second)?;
    for id in listed {
        let found = contents(second, &index, id)?.1;
        match known.copies.get(&id) {
            Some(held) if *held.contents == found => {}
            Some(_) => return Err(format!("the copied point {} holds something else", id.short())),
            None if !known.copying => {
                return Err(format!("the copied point {} was made by nobody", id.short()));
            }
            None => {
                // Which one it is a copy of is not known here: of one of them all. It may go again.
                let (mut all, hidden) = (known.points.values(), known.hidden.values());
                let is_it = |held: &&Held| *held.contents == found;
                if all.find(is_it).or_else(|| hidden.chain(&known.removed).find(is_it)).is_none() {
                    return Err(format!("{} is a copy of nothing", id.short()));
                }
            }
        }
    }
    Ok(())
}

fn list(repository: &Repository) -> Result<BTreeSet<PointId>, Finding> {
    let listed = repository.list_points().map_err(|error| format!("points: {error}"))?;
    Ok(listed.into_iter().collect())
}

/// All packs must be whole: they get their names last.
fn index_of(repository: &Repository) -> Result<MemoryIndex, Finding> {
    let index = MemoryIndex::default();
    for (pack, _) in repository.list_packs().map_err(|error| format!("packs: {error}"))? {
        let record = repository.read_pack_record(pack).map_err(|error| format!("pack: {error}"))?;
        index.pack_written(&record).map_err(|error| format!("index: {error}"))?;
    }
    Ok(index)
}

fn contents(
    repository: &Repository,
    index: &MemoryIndex,
    id: PointId,
) -> Result<(Manifest, Contents), Finding> {
    let wrong = |error| format!("point {}: {error}", id.short());
    let manifest = load_point(repository, id).map_err(wrong)?.manifest;
    let mut reader = ContentReader::new(repository, index).map_err(wrong)?;
    let mut contents = Contents::new();
    for disk in &manifest.disks {
        let mut content = vec![0; disk.size_bytes as usize];
        reader.read_range(&disk.tree(), 0, &mut content).map_err(wrong)?;
        contents.insert(disk.name.clone(), content);
    }
    Ok((manifest, contents))
}

/// No file has a restored disk's name before it is complete.
fn check_restored(lab: &Lab, known: &Known) -> Result<(), Finding> {
    let Some(found) = lab.disk.content(Path::new(RESTORED_DISK)) else { return Ok(()) };
    let root = crate::lab::name("root");
    let is_it = |held: &Held| held.contents.get(&root) == Some(&found);
    let gone = known.hidden.values().chain(&known.removed);
    match known.points.values().chain(gone).any(is_it) {
        true => Ok(()),
        false => Err("what was restored has its name and is no point's disk".to_owned()),
    }
}

/// The replica becomes whole without the repository, and is what it says.
fn check_replica(
    lab: &Lab,
    known: &mut Known,
    fs: &Arc<dyn FileSystem>,
    replica: usize,
) -> Result<(), Finding> {
    let name = REPLICAS[replica].0;
    let follower = known.replicas[replica];
    let was_running = std::mem::take(&mut known.replicas[replica].running);
    if lab.disk.content(&Lab::home(replica).superblock()).is_none() {
        return match follower.synced {
            None => Ok(()),
            Some(_) => Err(format!("the superblock of {name} is gone")),
        };
    }
    let session = lab.open_replica(fs, replica).map_err(|error| format!("{name}: {error}"))?;
    if let Some(reason) = &session.unfinished {
        return Err(format!("the update of {name} cannot be finished: {reason}"));
    }
    let record = session.record().ok_or("the replica has no record")?;
    if follower.epoch.is_some_and(|epoch| record.epoch < epoch) {
        return Err(format!("the epoch of {name} fell"));
    }
    known.replicas[replica].epoch = Some(record.epoch);
    match &record.state {
        State::Clean { point } => {
            let is_where_it_was = follower.synced == Some(point.id);
            if !is_where_it_was && !was_running {
                let at = point.id.short();
                return Err(format!("{name} is at {at}, which is not its point"));
            }
            let held = known.points.get(&point.id).cloned();
            let held = held.ok_or_else(|| format!("the point of {name} is gone"))?;
            // What somebody wrote is found by the next run.
            let foreign = follower.foreign && is_where_it_was;
            let seen = &mut known.replicas[replica];
            (seen.synced, seen.foreign) = (Some(point.id), foreign);
            if foreign { Ok(()) } else { compare_images(lab, replica, &held.contents) }
        }
        State::Seeding { .. } if follower.synced.is_none() => Ok(()),
        State::Seeding { .. } if follower.repairing || (was_running && follower.foreign) => {
            known.replicas[replica].repairing = true;
            Ok(())
        }
        other => Err(format!("{name} is {other:?}")),
    }
}

/// Whether the replica holds these disks.
pub fn compare_images(lab: &Lab, replica: usize, contents: &Contents) -> Result<(), Finding> {
    for (disk, content) in contents {
        if lab.disk.content(&Lab::image(replica, disk)).as_ref() != Some(content) {
            return Err(format!("{disk} of {} is not that of its point", REPLICAS[replica].0));
        }
    }
    Ok(())
}

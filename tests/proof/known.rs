//! What must be there, and whether it is.

use crate::lab::{Action, Contents, Done, FIRST, Lab, MACHINES, RESTORED_DISK, SECOND};
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

/// What was acknowledged, as a model of a few lines.
#[derive(Debug, Clone, Default)]
pub struct Known {
    pub points: BTreeMap<PointId, Held>,
    /// Points of the second repository.
    pub copies: BTreeMap<PointId, Held>,
    /// Points that are being removed: they may be there or not.
    pub doubtful: BTreeSet<PointId>,
    /// Where the replica is.
    pub synced: Option<PointId>,
    /// Someone else wrote to the replica since.
    pub foreign: bool,
    /// The highest epoch of the replica that was seen.
    pub epoch: Option<Epoch>,
}

impl Known {
    /// Something was acknowledged.
    pub fn note(&mut self, lab: &Lab, action: Action, done: &Done) {
        match done {
            Done::Made(machine, id) => {
                let contents = Arc::new(lab.machines[*machine].clone());
                self.points.insert(*id, Held { machine: *machine, contents });
            }
            Done::Removed(ids) => self.points.retain(|id, _| !ids.contains(id)),
            Done::Copied(pairs) => {
                for (ours, theirs) in pairs {
                    if let Some(held) = self.points.get(theirs) {
                        self.copies.insert(*ours, held.clone());
                    }
                }
            }
            Done::Nothing if action == Action::Replicate => {
                (self.synced, self.foreign) = (self.newest(lab), false);
            }
            Done::Nothing => {}
        }
    }

    /// The newest point of the first machine.
    fn newest(&self, lab: &Lab) -> Option<PointId> {
        let repository = lab.repository(&lab.fs()).ok()?;
        let of_first = self.points.iter().filter(|(_, held)| held.machine == 0);
        let sequence = |id| load_point(&repository, id).map(|it| it.manifest.sequence).ok();
        of_first.map(|(id, _)| *id).max_by_key(|id| sequence(*id))
    }
}

/// Everything that must hold at any moment, whoever was at what. `running` was interrupted. What
/// turns out to be there is known from then on.
pub fn check(lab: &Lab, known: &mut Known, running: Option<Action>) -> Result<(), Finding> {
    let fs = lab.fs();
    let header = Path::new(FIRST).join("repository.json");
    let has_header = fs.stat(&header).is_ok_and(|it| it.is_some());
    if !has_header || lab.disk.content(&Path::new(SECOND).join("repository.json")).is_none() {
        return match running {
            Some(Action::Init) => Ok(()),
            _ => Err("the repository's header is gone".to_owned()),
        };
    }
    let repository = lab.repository(&fs).map_err(|error| format!("not opened: {error}"))?;
    check_points(lab, known, &repository, running)?;
    let second = lab.second(&fs).map_err(|error| format!("second not opened: {error}"))?;
    check_copies(known, &second, running)?;
    check_restored(lab, known)?;
    check_replica(lab, known, &fs, running)
}

fn check_points(
    lab: &Lab,
    known: &mut Known,
    repository: &Repository,
    running: Option<Action>,
) -> Result<(), Finding> {
    let listed = list(repository)?;
    for id in std::mem::take(&mut known.doubtful) {
        if !listed.contains(&id) {
            known.points.remove(&id);
        }
    }
    if let Some(lost) = known.points.keys().find(|id| !listed.contains(id)) {
        return Err(format!("point {} is lost", lost.short()));
    }
    let more: Vec<PointId> =
        listed.iter().copied().filter(|id| !known.points.contains_key(id)).collect();
    match (running, &more[..]) {
        (_, []) => {}
        (Some(Action::Backup(machine)), [id]) => {
            let contents = Arc::new(lab.machines[machine].clone());
            known.points.insert(*id, Held { machine, contents });
        }
        _ => return Err(format!("points are there that nobody made: {more:?}")),
    }
    check_contents(repository, &known.points)
}

fn check_copies(
    known: &mut Known,
    second: &Repository,
    running: Option<Action>,
) -> Result<(), Finding> {
    let listed = list(second)?;
    if let Some(lost) = known.copies.keys().find(|id| !listed.contains(id)) {
        return Err(format!("the copied point {} is lost", lost.short()));
    }
    for id in listed.iter().filter(|id| !known.copies.contains_key(id)).copied().collect::<Vec<_>>()
    {
        if running != Some(Action::Copy) {
            return Err(format!("the copied point {} was made by nobody", id.short()));
        }
        // Which one it is a copy of is not known here: one of them all.
        let index = index_of(second)?;
        let found = contents(second, &index, id)?;
        let original = known.points.values().find(|held| *held.contents == found.1);
        let held = original.ok_or_else(|| format!("{} is a copy of nothing", id.short()))?;
        known.copies.insert(id, held.clone());
    }
    check_contents(second, &known.copies)
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

fn check_contents(
    repository: &Repository,
    points: &BTreeMap<PointId, Held>,
) -> Result<(), Finding> {
    let index = index_of(repository)?;
    for (id, held) in points {
        let (manifest, found) = contents(repository, &index, *id)?;
        if manifest.machine.as_str() != MACHINES[held.machine] {
            return Err(format!("point {} is of {}", id.short(), manifest.machine));
        }
        if found != *held.contents {
            return Err(format!("point {} holds something else", id.short()));
        }
    }
    Ok(())
}

/// No file has a restored disk's name before it is complete.
fn check_restored(lab: &Lab, known: &Known) -> Result<(), Finding> {
    let Some(found) = lab.disk.content(Path::new(RESTORED_DISK)) else { return Ok(()) };
    let root = crate::lab::name("root");
    match known.points.values().any(|held| held.contents.get(&root) == Some(&found)) {
        true => Ok(()),
        false => Err("what was restored has its name and is no point's disk".to_owned()),
    }
}

/// The replica becomes whole without the repository, and is what it says.
fn check_replica(
    lab: &Lab,
    known: &mut Known,
    fs: &Arc<dyn FileSystem>,
    running: Option<Action>,
) -> Result<(), Finding> {
    let is_running = running == Some(Action::Replicate);
    if lab.disk.content(&Lab::home().superblock()).is_none() {
        return match known.synced {
            None => Ok(()),
            Some(_) => Err("the replica's superblock is gone".to_owned()),
        };
    }
    let session = lab.open_replica(fs).map_err(|error| format!("replica: {error}"))?;
    if let Some(reason) = &session.unfinished {
        return Err(format!("the replica's update cannot be finished: {reason}"));
    }
    let record = session.record().ok_or("the replica has no record")?;
    if known.epoch.is_some_and(|epoch| record.epoch < epoch) {
        return Err("the replica's epoch fell".to_owned());
    }
    known.epoch = Some(record.epoch);
    match &record.state {
        State::Clean { point } => {
            let newest = known.newest(lab);
            let is_right =
                known.synced == Some(point.id) || (is_running && newest == Some(point.id));
            if !is_right {
                return Err(format!(
                    "the replica is at {}, which is not its point",
                    point.id.short()
                ));
            }
            // What somebody wrote is found by the next run.
            known.foreign &= known.synced == Some(point.id);
            known.synced = Some(point.id);
            match known.points.get(&point.id) {
                Some(held) if !known.foreign => compare_images(lab, &held.contents),
                Some(_) => Ok(()),
                None => Err("the replica's point is gone".to_owned()),
            }
        }
        State::Seeding { .. } if known.synced.is_none() || (is_running && known.foreign) => Ok(()),
        other => Err(format!("the replica is {other:?}")),
    }
}

/// Whether the replica holds these disks.
pub fn compare_images(lab: &Lab, contents: &Contents) -> Result<(), Finding> {
    for (disk, content) in contents {
        if lab.disk.content(&Lab::image(disk)).as_ref() != Some(content) {
            return Err(format!("the replica's {disk} is not that of its point"));
        }
    }
    Ok(())
}

//! One replication: look, plan, do.

use super::delta::{Delta, Needs, Planned};
use super::ownership::{first_foreign, is_blank};
use super::plan::{Observed, Plan, PlanConflict, plan};
use super::room::Room;
use super::session::{ReplicaSession, TargetSpec, open_configured};
use super::stage::Stage;
use super::{ReplayError, seed};
use crate::catalog::Catalog;
use crate::destination::{
    DirectFeed, IdentityChange, JournalReader, JournalRef, PointRef, ReplicaRecord, State, Target,
    TargetAccess, TargetKind, apply,
};
use crate::fsio::{FileStat, existing_folder, is_same_file, parent_dir};
use crate::point::{Point, load_point};
use crate::progress::Progress;
use crate::store::{Repository, StoreError};
use crate::units::{Breakage, Name, is_broken};
use std::path::PathBuf;

/// What to replicate, and where to.
#[derive(Debug)]
pub struct ReplicateRequest<'a> {
    /// The machine.
    pub machine: &'a Name,
    /// The replica's disks.
    pub targets: Vec<TargetSpec>,
    /// Files and devices that any disk is read from: never written to.
    pub sources: Vec<FileStat>,
    /// What is in occupied targets may be overwritten.
    pub adopt: bool,
    /// Threads that fetch, compare and write.
    pub workers: usize,
}

/// What a replication did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replicated {
    /// There is no newer point.
    Skipped {
        /// Where the replica is.
        at: PointRef,
    },
    /// The first copy was made.
    Seeded {
        /// The point.
        to: PointRef,
    },
    /// Everything was compared, and what differed was repaired.
    Repaired {
        /// The point.
        to: PointRef,
        /// Why that was needed.
        reason: String,
        /// How many bytes differed.
        differing_bytes: u64,
    },
    /// The difference was replayed.
    Replayed {
        /// The sync point before.
        from: PointRef,
        /// The sync point now.
        to: PointRef,
    },
}

/// Brings a replica to the newest point of its machine.
///
/// # Errors
/// The replica stays at exactly one point, or `seeding`, and the next replication goes on.
pub fn replicate(
    session: &mut ReplicaSession,
    repository: &Repository,
    catalog: &Catalog,
    request: &ReplicateRequest<'_>,
    progress: &Progress,
) -> Result<Replicated, ReplayError> {
    let _shared = repository.lock_for_reading(&format!("replication to {}", session.replica))?;
    progress.step("look into the repository");
    session.damages = catalog.sync(repository)?.damages;
    let newest = catalog
        .newest_point(request.machine)?
        .ok_or_else(|| ReplayError::NoPoint { machine: request.machine.clone() })?;
    // What the catalog says of it is a copy: only the manifest itself is authenticated.
    let newest = load_point(repository, newest.id)?;
    check_not_promoted(session)?;
    check_targets(session, repository, request)?;
    let (mut targets, changed) = open_unchanged(session, &request.targets)?;
    let repair = |session: &mut ReplicaSession, reason: String| {
        let done = seed::seed(session, repository, catalog, request, &newest, progress)?;
        let differing_bytes = done.differing_bytes;
        Ok(Replicated::Repaired { to: point_ref(&newest), reason, differing_bytes })
    };
    let sync_point = sync_point(session, repository)?;
    let as_it_was = !targets.is_empty() && changed.is_none();
    if !as_it_was {
        // They are opened anew, as what they are now.
        targets.clear();
    }
    let needed: Vec<&Name> = newest.manifest.disks.iter().map(|disk| &disk.name).collect();
    let occupied = occupied_targets(session, &request.targets, &needed)?;
    let foreign = match as_it_was {
        true => None,
        false => {
            let expected = sync_point.as_ref().unwrap_or(&newest);
            first_foreign(session, repository, catalog, request, expected)?
        }
    };
    let disks: Vec<(Name, PathBuf)> =
        request.targets.iter().map(|spec| (spec.disk.clone(), spec.path.clone())).collect();
    let observed = Observed {
        record: session.record(),
        disks: &disks,
        occupied: &occupied,
        unfinished: session.unfinished.as_deref(),
        changed: changed.as_ref(),
        foreign: foreign.as_deref(),
        adopt: request.adopt,
    };
    let id = repository.header().id;
    let to = point_ref(&newest);
    match plan(&observed, request.machine, id, sync_point.as_ref(), &newest)? {
        Plan::Skip { at } => Ok(Replicated::Skipped { at }),
        Plan::Replay { from } => {
            let workers = request.workers;
            let delta = Delta { repository, index: catalog, from: &from, to: &newest, workers };
            progress.step("compare the points");
            let planned = match delta.plan(progress) {
                Err(error) if error.is_damage() && delta.is_target_readable()? => {
                    drop(targets);
                    let at = from.id.short();
                    return repair(session, format!("its sync point {at} is damaged: {error}"));
                }
                other => other?,
            };
            replay(session, &delta, planned, &targets, progress)?;
            Ok(Replicated::Replayed { from: point_ref(&from), to })
        }
        Plan::Seed => {
            seed::seed(session, repository, catalog, request, &newest, progress)?;
            Ok(Replicated::Seeded { to })
        }
        Plan::Repair { reason } => {
            drop(targets);
            repair(session, reason)
        }
    }
}

/// Before its targets are touched: a guest may have them open.
pub(super) fn check_not_promoted(session: &ReplicaSession) -> Result<(), ReplayError> {
    match session.record().map(|record| &record.state) {
        Some(State::Promoted { point }) => Err(PlanConflict::Promoted { point: *point }.into()),
        _ => Ok(()),
    }
}

pub(super) fn point_ref(point: &Point) -> PointRef {
    PointRef { id: point.id, sequence: point.manifest.sequence, time: point.manifest.time }
}

fn replay(
    session: &mut ReplicaSession,
    delta: &Delta<'_>,
    planned: Planned,
    targets: &[Target],
    progress: &Progress,
) -> Result<(), ReplayError> {
    let Some(record) = session.record().cloned() else { return Ok(()) };
    let Planned { needs, regions } = planned;
    check_room(session, targets, &needs)?;
    for (target, disk) in targets.iter().zip(&delta.to.manifest.disks) {
        target.check_room(disk.size_bytes).map_err(|e| ReplayError::target(&disk.name, e))?;
    }
    progress.add_total(needs.data_bytes);
    progress.add_changed(needs.data_bytes);
    let (path, id) = (session.home.journal(), record.replica_id);
    let stage = Stage { fs: &session.fs, path: &path, replica_id: id, targets };
    progress.step("write the journal");
    let journal = stage.run(delta, regions, progress)?;
    let (from, to) = (point_ref(delta.from), point_ref(delta.to));
    commit(session, record, targets, Commit { from, to, journal, direct: None }, progress)
}

/// A staged journal, and what it leads to.
pub(super) struct Commit {
    pub from: PointRef,
    pub to: PointRef,
    pub journal: JournalRef,
    /// Of a replica that is fed straight from its machine.
    pub direct: Option<DirectFeed>,
}

/// Makes the superblock name the journal, which is the commit, and redoes it.
pub(super) fn commit(
    session: &mut ReplicaSession,
    record: ReplicaRecord,
    targets: &[Target],
    commit: Commit,
    progress: &Progress,
) -> Result<(), ReplayError> {
    let Commit { from, to, journal, direct } = commit;
    // The last look before the commit: staging takes long, and not everyone asks for locks.
    if let Some(change) = first_change(&record, targets)? {
        session.home.discard_journal(session.fs.as_ref())?;
        return Err(ReplayError::ChangedMeanwhile { change });
    }
    if is_broken(Breakage::WrittenBeforeCommit) {
        let reader = JournalReader::open(session.fs.as_ref(), &session.home.journal())?;
        apply(&reader.verify(&journal)?, targets)?;
    }
    if let Some(superblock) = &mut session.superblock {
        let state = State::Applying { from, to, journal };
        superblock.store(ReplicaRecord { state, direct, ..record })?;
    }
    progress.step("write the standby");
    let written = session.redo(targets)?;
    progress.add_written(written);
    Ok(())
}

/// A target that is, or lies in, what must not be written to.
fn check_targets(
    session: &ReplicaSession,
    repository: &Repository,
    request: &ReplicateRequest<'_>,
) -> Result<(), ReplayError> {
    let root = repository.layout().root();
    let real_root = root.canonicalize().unwrap_or_else(|_| root.to_owned());
    for TargetSpec { disk, path, kind } in &request.targets {
        if *kind == TargetKind::Export {
            // Where its server keeps it is not known here.
            continue;
        }
        let folder = existing_folder(path);
        if folder.canonicalize().unwrap_or(folder).starts_with(&real_root) {
            let (disk, path, repository) = (disk.clone(), path.clone(), real_root);
            return Err(ReplayError::TargetInRepository { disk, path, repository });
        }
    }
    check_sources(session, &request.targets, &request.sources)
}

/// A target that any disk is read from.
pub(super) fn check_sources(
    session: &ReplicaSession,
    targets: &[TargetSpec],
    sources: &[FileStat],
) -> Result<(), ReplayError> {
    for TargetSpec { disk, path, .. } in targets {
        let Some(stat) = session.fs.stat(path)? else { continue };
        if sources.iter().any(|source| is_same_file(source, &stat)) {
            return Err(ReplayError::TargetIsSource { disk: disk.clone(), path: path.clone() });
        }
    }
    Ok(())
}

/// The targets of a clean replica, claimed, and the first that is not as it was left.
pub(super) fn open_unchanged(
    session: &ReplicaSession,
    specs: &[TargetSpec],
) -> Result<(Vec<Target>, Option<IdentityChange>), ReplayError> {
    let Some(record) = session.record() else { return Ok((Vec::new(), None)) };
    if !matches!(record.state, State::Clean { .. }) {
        return Ok((Vec::new(), None));
    }
    let mut targets = Vec::with_capacity(record.disks.len());
    for disk in &record.disks {
        match open_configured(session.fs.as_ref(), disk, specs)? {
            Some((target, _)) => targets.push(target),
            // Gone, or something else now: the comparison makes it anew.
            None => return Ok((Vec::new(), Some(IdentityChange::missing(disk.path.clone())))),
        }
    }
    let change = first_change(record, &targets)?;
    Ok((targets, change))
}

pub(super) fn first_change(
    record: &ReplicaRecord,
    targets: &[Target],
) -> Result<Option<IdentityChange>, ReplayError> {
    for (disk, target) in record.disks.iter().zip(targets) {
        if target.kind() == TargetKind::Device {
            // What others wrote may still wait in memory: it must count before our own writes do.
            target.sync().map_err(|error| ReplayError::target(&disk.name, error))?;
        }
        let now = target.identity().map_err(|error| ReplayError::target(&disk.name, error))?;
        if is_broken(Breakage::ForeignWriteUnseen) {
            continue;
        }
        if let Some(Err(change)) = disk.identity.as_ref().map(|identity| identity.matches(&now)) {
            return Ok(Some(change));
        }
    }
    Ok(None)
}

/// Targets that the `needed` disks would be written to, that hold something, and that the
/// superblock does not know.
pub(super) fn occupied_targets(
    session: &ReplicaSession,
    targets: &[TargetSpec],
    needed: &[&Name],
) -> Result<Vec<PathBuf>, ReplayError> {
    let known = session.record().map_or(&[][..], |record| &record.disks);
    let mut occupied = Vec::new();
    for spec in targets {
        let is_needed = needed.contains(&&spec.disk);
        // Of a path that is known, `first_foreign` looks at what is there.
        if !is_needed || known.iter().any(|disk| disk.path == spec.path) {
            continue;
        }
        let error = |error| ReplayError::target(&spec.disk, error);
        let (fs, kind) = (session.fs.as_ref(), Some(spec.kind));
        if !Target::may_exist(fs, &spec.path, spec.kind).map_err(error)? {
            continue;
        }
        let target = Target::open(fs, &spec.path, kind, TargetAccess::Write).map_err(error)?;
        let now = target.identity().map_err(error)?;
        if !known.iter().any(|disk| disk.is_at(&now)) && !is_blank(&target, &spec.disk)? {
            occupied.push(spec.path.clone());
        }
    }
    Ok(occupied)
}

/// The point that the replica is, or was last, at, if the repository still has it whole.
fn sync_point(
    session: &ReplicaSession,
    repository: &Repository,
) -> Result<Option<Point>, ReplayError> {
    let point = match session.record().map(|record| &record.state) {
        Some(State::Clean { point } | State::Applying { from: point, .. }) => point,
        _ => return Ok(None),
    };
    match load_point(repository, point.id) {
        Ok(found) => Ok(Some(found)),
        // Pruned or damaged: then everything is compared.
        Err(StoreError::Damaged(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn check_room(
    session: &ReplicaSession,
    targets: &[Target],
    needs: &Needs,
) -> Result<(), ReplayError> {
    let fs = session.fs.as_ref();
    let mut room = Room::default();
    room.add(fs, session.home.folder(), needs.journal_bytes)?;
    for (target, growth_bytes) in targets.iter().zip(&needs.growth_bytes) {
        if target.kind() == TargetKind::Image {
            room.add(fs, &parent_dir(target.path()), *growth_bytes)?;
        }
    }
    room.check(fs, "the journal and what the images gain")
}

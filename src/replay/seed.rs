//! The first copy, and comparing a replica with its point and repairing it.

use super::room::Room;
use super::session::{ReplicaSession, TargetSpec, disk_records};
use super::update::ReplicateRequest;
use super::{ReplayError, update};
use crate::destination::{
    CopyMode, CopyOptions, Damaged, DiskRecord, ReplicaRecord, State, Superblock, Target,
    TargetAccess, TargetKind, copy_tree,
};
use crate::fsio::{existing_folder, parent_dir};
use crate::point::{Point, thin_bytes};
use crate::progress::Progress;
use crate::store::{ObjectIndex, Repository};
use crate::units::{Breakage, Epoch, ReplicaId, is_broken};

/// What a seed or a repair did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Seeded {
    /// Bytes that were found to differ, where anything was compared.
    pub differing_bytes: u64,
}

/// Brings all disks to `point`, whatever their targets hold. The replica is `seeding` meanwhile.
pub(super) fn seed(
    session: &mut ReplicaSession,
    repository: &Repository,
    index: &dyn ObjectIndex,
    request: &ReplicateRequest<'_>,
    point: &Point,
    progress: &Progress,
) -> Result<Seeded, ReplayError> {
    let specs = specs_of(request, point);
    check_room(session, repository, index, &specs, point)?;
    let existing =
        specs.iter().map(|spec| open_existing(session, spec)).collect::<Result<Vec<_>, _>>()?;
    let places = specs.iter().zip(&existing);
    let places = places.map(|(spec, target)| place(spec, target.as_ref()));
    let record = begin(session, repository, request, point, places.collect::<Result<_, _>>()?)?;
    let mut outcome = Seeded::default();
    let mut targets = Vec::with_capacity(specs.len());
    for disk in &point.manifest.disks {
        progress.add_total(disk.size_bytes);
    }
    for ((spec, disk), existing) in specs.iter().zip(&point.manifest.disks).zip(existing) {
        let (target, mode) = match existing {
            Some(target) => {
                distrust(session, &target)?;
                (target, CopyMode::Repair)
            }
            None => (create(session, spec)?, CopyMode::Fresh),
        };
        target.resize(disk.size_bytes).map_err(|e| ReplayError::target(&spec.disk, e))?;
        let options = CopyOptions { mode, workers: request.workers, damaged: Damaged::Fail };
        let copied = copy_tree(repository, index, &disk.tree(), &target, options, progress)
            .map_err(|error| ReplayError::copy(&spec.disk, error))?;
        if !is_broken(Breakage::SeedUnsynced) {
            target.sync().map_err(|e| ReplayError::target(&spec.disk, e))?;
        }
        outcome.differing_bytes += copied.differing_bytes;
        targets.push(target);
    }
    let sizes: Vec<u64> = point.manifest.disks.iter().map(|disk| disk.size_bytes).collect();
    let disks = disk_records(&record, &targets, &sizes)?;
    let state = State::Clean { point: update::point_ref(point) };
    if let Some(superblock) = &mut session.superblock {
        superblock.store(ReplicaRecord { state, disks, ..record })?;
    }
    Ok(outcome)
}

/// An earlier copy may have ended with a sync that failed, or before the image's name was durable.
fn distrust(session: &ReplicaSession, target: &Target) -> Result<(), ReplayError> {
    target.forget_cache();
    if target.kind() == TargetKind::Image && !is_broken(Breakage::FoundNamesUnsynced) {
        session.fs.sync_dir(&parent_dir(target.path()))?;
    }
    Ok(())
}

fn specs_of(request: &ReplicateRequest<'_>, point: &Point) -> Vec<TargetSpec> {
    let of = |name| request.targets.iter().find(|spec| &spec.disk == name).cloned();
    point.manifest.disks.iter().filter_map(|disk| of(&disk.name)).collect()
}

/// The target of a disk, if there is one already.
fn open_existing(
    session: &ReplicaSession,
    spec: &TargetSpec,
) -> Result<Option<Target>, ReplayError> {
    let fs = session.fs.as_ref();
    if spec.kind == TargetKind::Image && fs.stat(&spec.path)?.is_none() {
        return Ok(None);
    }
    Target::open(fs, &spec.path, Some(spec.kind), TargetAccess::Write)
        .map(Some)
        .map_err(|error| ReplayError::target(&spec.disk, error))
}

/// What the superblock says of a target before it is copied to.
fn place(spec: &TargetSpec, target: Option<&Target>) -> Result<DiskRecord, ReplayError> {
    let identity = target.map(Target::identity).transpose();
    Ok(DiskRecord {
        name: spec.disk.clone(),
        size_bytes: target.map_or(0, Target::size),
        path: spec.path.clone(),
        identity: identity.map_err(|error| ReplayError::target(&spec.disk, error))?,
    })
}

/// Makes the superblock say `seeding`, and to which files and devices, before any of them is
/// touched: targets without a superblock are never ours, and a copy that is interrupted may only
/// go on where it was.
fn begin(
    session: &mut ReplicaSession,
    repository: &Repository,
    request: &ReplicateRequest<'_>,
    point: &Point,
    disks: Vec<DiskRecord>,
) -> Result<ReplicaRecord, ReplayError> {
    let state = State::Seeding { to: update::point_ref(point) };
    let record = match session.record() {
        Some(current) => ReplicaRecord { state, disks, ..current.clone() },
        None => ReplicaRecord {
            replica: session.replica.clone(),
            replica_id: ReplicaId::random().map_err(crate::store::StoreError::Random)?,
            repository: repository.header().id,
            machine: request.machine.clone(),
            epoch: Epoch(0),
            state,
            disks,
        },
    };
    match &mut session.superblock {
        Some(_) if is_broken(Breakage::SeedingUnnoted) => {}
        Some(superblock) => superblock.store(record.clone())?,
        none => {
            let path = session.home.superblock();
            *none = Some(Superblock::create(&session.fs, &path, record.clone())?);
        }
    }
    // One that could not be redone is void from now on.
    session.home.discard_journal(session.fs.as_ref())?;
    Ok(record)
}

/// Creates an image and notes it in the superblock before anything is in it.
fn create(session: &mut ReplicaSession, spec: &TargetSpec) -> Result<Target, ReplayError> {
    session.fs.create_dir_all(&parent_dir(&spec.path))?;
    let error = |error| ReplayError::target(&spec.disk, error);
    let target = Target::create(session.fs.as_ref(), &spec.path).map_err(error)?;
    let Some(superblock) = &mut session.superblock else { return Ok(target) };
    let mut record = superblock.current().clone();
    if let Some(disk) = record.disks.iter_mut().find(|disk| disk.name == spec.disk) {
        disk.identity = Some(target.identity().map_err(error)?);
    }
    superblock.store(record)?;
    Ok(target)
}

/// Refuses a copy that cannot fit, before anything is touched.
fn check_room(
    session: &ReplicaSession,
    repository: &Repository,
    index: &dyn ObjectIndex,
    specs: &[TargetSpec],
    point: &Point,
) -> Result<(), ReplayError> {
    let mut room = Room::default();
    for (spec, disk) in specs.iter().zip(&point.manifest.disks) {
        if spec.kind != TargetKind::Image {
            continue;
        }
        let has = session.fs.stat(&spec.path)?.map_or(0, |stat| stat.allocated_bytes);
        let needed_bytes = thin_bytes(repository, index, &disk.tree())?.saturating_sub(has);
        room.add(session.fs.as_ref(), &existing_folder(&spec.path), needed_bytes)?;
    }
    room.check(session.fs.as_ref(), "the first copy")
}

//! The first copy, and comparing a replica with its point and repairing it.

use super::room::Room;
use super::session::{ReplicaSession, TargetSpec, disk_records};
use super::update::ReplicateRequest;
use super::{ReplayError, update};
use crate::destination::{
    CopyMode, CopyOptions, Damaged, DirectFeed, DiskRecord, PointRef, ReplicaRecord, State,
    Superblock, Target, TargetAccess, TargetKind, copy_tree,
};
use crate::fsio::{existing_folder, parent_dir};
use crate::point::{Point, thin_bytes};
use crate::progress::Progress;
use crate::store::{ObjectIndex, Repository};
use crate::units::{Breakage, Epoch, Name, ReplicaId, RepositoryId, is_broken};

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
    let beginning = Beginning {
        repository: repository.header().id,
        machine: request.machine,
        to: update::point_ref(point),
        direct: None,
        disks: places.collect::<Result<_, _>>()?,
    };
    let record = begin(session, beginning)?;
    let mut outcome = Seeded::default();
    let mut targets = Vec::with_capacity(specs.len());
    for disk in &point.manifest.disks {
        progress.add_total(disk.size_bytes);
    }
    for ((spec, disk), existing) in specs.iter().zip(&point.manifest.disks).zip(existing) {
        progress.step(format!("copy disk {}", disk.name));
        let (target, is_fresh) = ready(session, spec, existing, disk.size_bytes)?;
        let mode = if is_fresh { CopyMode::Fresh } else { CopyMode::Repair };
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

/// A target that can hold `size_bytes`, and whether all of it reads as zeros.
pub(super) fn ready(
    session: &mut ReplicaSession,
    spec: &TargetSpec,
    existing: Option<Target>,
    size_bytes: u64,
) -> Result<(Target, bool), ReplayError> {
    let (target, is_fresh) = match existing {
        Some(target) => {
            distrust(session, &target)?;
            (target, false)
        }
        None => (create(session, spec)?, true),
    };
    target.resize(size_bytes).map_err(|e| ReplayError::target(&spec.disk, e))?;
    Ok((target, is_fresh))
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
pub(super) fn open_existing(
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
pub(super) fn place(spec: &TargetSpec, target: Option<&Target>) -> Result<DiskRecord, ReplayError> {
    let identity = target.map(Target::identity).transpose();
    Ok(DiskRecord {
        name: spec.disk.clone(),
        size_bytes: target.map_or(0, Target::size),
        path: spec.path.clone(),
        identity: identity.map_err(|error| ReplayError::target(&spec.disk, error))?,
    })
}

/// What a replica comes to by a copy.
pub(super) struct Beginning<'a> {
    pub repository: RepositoryId,
    pub machine: &'a Name,
    pub to: PointRef,
    /// Of one that is fed straight from its machine.
    pub direct: Option<DirectFeed>,
    pub disks: Vec<DiskRecord>,
}

/// Makes the superblock say `seeding`, and to which files and devices, before any of them is
/// touched: targets without a superblock are never ours, and a copy that is interrupted may only
/// go on where it was.
pub(super) fn begin(
    session: &mut ReplicaSession,
    beginning: Beginning<'_>,
) -> Result<ReplicaRecord, ReplayError> {
    let Beginning { repository, machine, to, direct, disks } = beginning;
    let state = State::Seeding { to };
    let record = match session.record() {
        Some(current) => ReplicaRecord { state, disks, repository, direct, ..current.clone() },
        None => ReplicaRecord {
            replica: session.replica.clone(),
            replica_id: ReplicaId::random().map_err(crate::store::StoreError::Random)?,
            repository,
            machine: machine.clone(),
            epoch: Epoch(0),
            state,
            disks,
            direct,
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

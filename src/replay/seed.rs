//! The first copy, and comparing a replica with its point and repairing it.

use super::room::Room;
use super::session::{ReplicaSession, TargetSpec, disk_records};
use super::update::ReplicateRequest;
use super::{ReplayError, update};
use crate::destination::{
    CopyMode, CopyOptions, DiskRecord, ReplicaRecord, State, Superblock, Target, TargetAccess,
    TargetKind, copy_tree,
};
use crate::fsio::existing_folder;
use crate::point::{Point, data_bytes};
use crate::progress::Progress;
use crate::store::{ObjectIndex, Repository};
use crate::units::{Epoch, Name, ReplicaId};

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
    let record = begin(session, repository, request, point)?;
    let mut outcome = Seeded::default();
    let mut targets = Vec::with_capacity(specs.len());
    for disk in &point.manifest.disks {
        progress.add_total(disk.size_bytes);
    }
    for (spec, disk) in specs.iter().zip(&point.manifest.disks) {
        let (target, mode) = open_target(session, spec)?;
        note_place(session, &spec.disk, &target)?;
        target.resize(disk.size_bytes).map_err(|e| ReplayError::target(&spec.disk, e))?;
        let options = CopyOptions { mode, workers: request.workers };
        let copied = copy_tree(repository, index, &disk.tree(), &target, options, progress)
            .map_err(|error| ReplayError::copy(&spec.disk, error))?;
        target.sync().map_err(|e| ReplayError::target(&spec.disk, e))?;
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

fn specs_of(request: &ReplicateRequest<'_>, point: &Point) -> Vec<TargetSpec> {
    let of = |name| request.targets.iter().find(|spec| &spec.disk == name).cloned();
    point.manifest.disks.iter().filter_map(|disk| of(&disk.name)).collect()
}

/// Makes the superblock say `seeding`, before any target is touched: targets without a
/// superblock are never ours.
fn begin(
    session: &mut ReplicaSession,
    repository: &Repository,
    request: &ReplicateRequest<'_>,
    point: &Point,
) -> Result<ReplicaRecord, ReplayError> {
    let state = State::Seeding { to: update::point_ref(point) };
    let path_of = |name| {
        let spec = request.targets.iter().find(|spec| &spec.disk == name);
        spec.map(|spec| spec.path.clone()).unwrap_or_default()
    };
    let disks = point.manifest.disks.iter().map(|disk| DiskRecord {
        name: disk.name.clone(),
        size_bytes: disk.size_bytes,
        path: path_of(&disk.name),
        identity: None,
    });
    let disks: Vec<DiskRecord> = disks.collect();
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

/// Notes in the superblock which file or device the copy goes to: were it interrupted, it may only
/// go on there.
fn note_place(
    session: &mut ReplicaSession,
    name: &Name,
    target: &Target,
) -> Result<(), ReplayError> {
    let Some(superblock) = &mut session.superblock else { return Ok(()) };
    let mut record = superblock.current().clone();
    let identity = target.identity().map_err(|error| ReplayError::target(name, error))?;
    if let Some(disk) = record.disks.iter_mut().find(|disk| &disk.name == name) {
        disk.identity = Some(identity);
    }
    Ok(superblock.store(record)?)
}

fn open_target(
    session: &ReplicaSession,
    spec: &TargetSpec,
) -> Result<(Target, CopyMode), ReplayError> {
    let fs = session.fs.as_ref();
    let error = |error| ReplayError::target(&spec.disk, error);
    if spec.kind == TargetKind::Image && fs.stat(&spec.path)?.is_none() {
        fs.create_dir_all(&crate::fsio::parent_dir(&spec.path))?;
        return Ok((Target::create(fs, &spec.path).map_err(error)?, CopyMode::Fresh));
    }
    let target = Target::open(fs, &spec.path, Some(spec.kind), TargetAccess::Write);
    Ok((target.map_err(error)?, CopyMode::Repair))
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
        if spec.kind == TargetKind::Device {
            continue;
        }
        let has = session.fs.stat(&spec.path)?.map_or(0, |stat| stat.allocated_bytes);
        // Zero blocks within chunks take no space: one part in sixteen allows for them.
        let data = data_bytes(repository, index, &disk.tree())?;
        let needed_bytes = (data - data / 16).saturating_sub(has);
        room.add(session.fs.as_ref(), &existing_folder(&spec.path), needed_bytes)?;
    }
    room.check(session.fs.as_ref(), "the first copy")
}

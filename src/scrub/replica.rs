//! Comparing a replica, every byte, with the point that it says it is at.

use crate::capture::CaptureError;
use crate::catalog::{Catalog, CatalogError};
use crate::destination::{
    CopyError, CopyMode, CopyOptions, CopyOutcome, Damaged, DiskRecord, PointRef, ReplicaHome,
    ReplicaRecord, State, Superblock, SuperblockError, Target, TargetAccess, TargetError,
    TargetKind, copy_tree,
};
use crate::extent::Extent;
use crate::fsio::{FileError, FileLock, FileSystem, LockError, LockHolder, LockMode};
use crate::point::{Point, load_point};
use crate::progress::{Cancelled, Progress};
use crate::source::SourceError;
use crate::store::{Repository, StoreError};
use crate::units::Name;
use crate::workers::WorkerLost;
use std::sync::Arc;

/// Which replica to verify.
#[derive(Debug)]
pub struct VerifyReplicaRequest<'a> {
    /// The replica.
    pub replica: &'a Name,
    /// Where its own files are.
    pub home: ReplicaHome,
    /// Threads that read and compare.
    pub workers: usize,
}

/// How one disk compares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskVerdict {
    /// The disk.
    pub disk: Name,
    /// Ranges that differ, in bytes of the disk.
    pub differing: Vec<Extent>,
    /// How many bytes they hold.
    pub differing_bytes: u64,
}

/// Why a replica could not be verified.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// It was never seeded.
    #[error("replica {replica} was never seeded; run `afterimage replicate now {replica}`")]
    NeverSeeded {
        /// The replica.
        replica: Name,
    },
    /// It is at no point that it could be compared with.
    #[error(
        "replica {replica} is {state}, at no point that it could be compared with; run \
         `afterimage replicate now {replica}`"
    )]
    NotAtAPoint {
        /// The replica.
        replica: Name,
        /// Its state.
        state: &'static str,
    },
    /// The point is not of this repository.
    #[error(
        "replica {replica} is at point {}, which the repository no longer has; run `afterimage \
         replicate now {replica}` to compare it with the newest one", point.id.short()
    )]
    PointGone {
        /// The replica.
        replica: Name,
        /// The point.
        point: PointRef,
    },
    /// Of a replica that is fed straight from its machine.
    #[error(
        "disk {disk}: what changed in the machine since it was replicated is not known ({why}), so \
         there is nothing that the replica could be compared with; run `afterimage replicate now` \
         for it, which then compares everything"
    )]
    ChangesUnknown {
        /// The disk.
        disk: Name,
        /// Why not.
        why: String,
    },
    /// The machine could not be captured.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// The machine could not be read.
    #[error("disk {disk}: {error}")]
    Source {
        /// The disk.
        disk: Name,
        /// The reason.
        #[source]
        error: Box<SourceError>,
    },
    /// A disk failed.
    #[error("disk {disk}: {error}")]
    Target {
        /// The disk.
        disk: Name,
        /// The reason.
        #[source]
        error: Box<TargetError>,
    },
    /// Reading or comparing failed.
    #[error("disk {disk}: {error}")]
    Copy {
        /// The disk.
        disk: Name,
        /// The reason.
        #[source]
        error: Box<CopyError>,
    },
    /// The superblock failed.
    #[error(transparent)]
    Superblock(#[from] SuperblockError),
    /// The repository failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// A file failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// Another process works on the replica.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The user stopped it.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
    /// A worker ended without a result.
    #[error(transparent)]
    WorkerLost(#[from] WorkerLost),
}

impl VerifyError {
    pub(super) fn source(disk: &Name, error: SourceError) -> Self {
        Self::Source { disk: disk.clone(), error: Box::new(error) }
    }

    pub(super) fn target(disk: &Name, error: TargetError) -> Self {
        Self::Target { disk: disk.clone(), error: Box::new(error) }
    }
}

/// Compares a replica with its point and says what differs. Nothing is written.
///
/// # Errors
/// When it could not be compared to the end. A difference is no error.
pub fn verify_replica(
    fs: &Arc<dyn FileSystem>,
    repository: &Repository,
    catalog: &Catalog,
    request: &VerifyReplicaRequest<'_>,
    progress: &Progress,
) -> Result<(PointRef, Vec<DiskVerdict>), VerifyError> {
    let replica = request.replica;
    let _shared = repository.lock_for_reading(&format!("verification of {replica}"))?;
    let (home, never_seeded) =
        (&request.home, || VerifyError::NeverSeeded { replica: replica.clone() });
    if fs.stat(&home.superblock())?.is_none() {
        return Err(never_seeded());
    }
    let holder = LockHolder::this_process(format!("verification of replica {replica}"));
    let _lock = FileLock::try_take(fs.as_ref(), &home.lock(), LockMode::Exclusive, &holder)?;
    let record = Superblock::read_only(fs.as_ref(), &home.superblock(), replica)?;
    let (at, point) = sync_point(&record, repository)?;
    catalog.sync(repository)?;
    for disk in &record.disks {
        progress.add_total(disk.size_bytes);
    }
    let mut verdicts = Vec::with_capacity(record.disks.len());
    for disk in &record.disks {
        let target = open(fs.as_ref(), disk)?;
        // What counts is the medium.
        target.forget_cache();
        let outcome = compare(repository, catalog, request, disk, &target, &point, progress)?;
        verdicts.push(DiskVerdict {
            disk: disk.name.clone(),
            differing: outcome.differing,
            differing_bytes: outcome.differing_bytes,
        });
    }
    Ok((at, verdicts))
}

fn sync_point(
    record: &ReplicaRecord,
    repository: &Repository,
) -> Result<(PointRef, Point), VerifyError> {
    let replica = record.replica.clone();
    let State::Clean { point: at } = record.state else {
        return Err(VerifyError::NotAtAPoint { replica, state: record.state.word() });
    };
    match load_point(repository, at.id) {
        Ok(point) => Ok((at, point)),
        Err(StoreError::Damaged(_)) => Err(VerifyError::PointGone { replica, point: at }),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn open(fs: &dyn FileSystem, disk: &DiskRecord) -> Result<Target, VerifyError> {
    let error = |error| VerifyError::target(&disk.name, error);
    let path = disk.identity.as_ref().map(|identity| (&identity.path, identity.kind));
    let Some((path, kind)) = path else {
        let path = std::path::PathBuf::from(disk.name.as_str());
        return Err(error(TargetError::Missing { path }));
    };
    Target::open(fs, path, Some(kind), TargetAccess::Read).map_err(error)
}

fn compare(
    repository: &Repository,
    catalog: &Catalog,
    request: &VerifyReplicaRequest<'_>,
    disk: &DiskRecord,
    target: &Target,
    point: &Point,
    progress: &Progress,
) -> Result<CopyOutcome, VerifyError> {
    let Some(tree) = point.manifest.disk(&disk.name).map(|entry| entry.tree()) else {
        return Ok(CopyOutcome::default());
    };
    // A target that is shorter cannot be read to the end: all of it counts as different.
    if target.size() < tree.size_bytes {
        let missing = Extent::between(target.size(), tree.size_bytes);
        return Ok(CopyOutcome {
            differing: vec![missing],
            differing_bytes: missing.len(),
            missing: Vec::new(),
        });
    }
    let options =
        CopyOptions { mode: CopyMode::Compare, workers: request.workers, damaged: Damaged::Fail };
    let compared = copy_tree(repository, catalog, &tree, target, options, progress);
    let mut outcome = compared.map_err(|error| match error {
        CopyError::Cancelled(cancelled) => cancelled.into(),
        error => VerifyError::Copy { disk: disk.name.clone(), error: Box::new(error) },
    })?;
    // An image has exactly the disk's size; a device may have more.
    if target.kind() == TargetKind::Image && target.size() > tree.size_bytes {
        let surplus = Extent::between(tree.size_bytes, target.size());
        outcome.differing_bytes += surplus.len();
        outcome.differing.push(surplus);
    }
    Ok(outcome)
}

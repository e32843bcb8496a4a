//! Whether a target that is not known to be the recorded one holds this replica all the same:
//! names of devices wander from one start of the system to the next, and files are copied.
//!
//! Chunks spread over the whole disk are compared with the point. A disk of somebody else's has
//! next to none of them; a copy of the replica, even one that was in use, has most.

use super::ReplayError;
use super::session::ReplicaSession;
use super::update::ReplicateRequest;
use crate::destination::{DiskRecord, Target, TargetAccess, TargetKind};
use crate::point::{DiskEntry, Point, Span, TreeReader, TreeRef};
use crate::store::{ObjectIndex, Repository};
use crate::units::{MIB, Name, RegionIndex, TreeName};
use std::path::PathBuf;

/// Chunks that are looked at on each disk.
const SAMPLES: usize = 64;

/// The first existing target that may be somebody else's.
pub(super) fn first_foreign(
    session: &ReplicaSession,
    repository: &Repository,
    index: &dyn ObjectIndex,
    request: &ReplicateRequest<'_>,
    expected: &Point,
) -> Result<Option<PathBuf>, ReplayError> {
    let Some(record) = session.record() else { return Ok(None) };
    for spec in &request.targets {
        let Some(entry) = expected.manifest.disk(&spec.disk) else { continue };
        let error = |error| ReplayError::target(&spec.disk, error);
        let (fs, kind) = (session.fs.as_ref(), Some(spec.kind));
        if !Target::may_exist(fs, &spec.path, spec.kind).map_err(error)? {
            continue;
        }
        let target = Target::open(fs, &spec.path, kind, TargetAccess::Write).map_err(error)?;
        let now = target.identity().map_err(error)?;
        let recorded: Option<&DiskRecord> = record.disks.iter().find(|d| d.path == spec.path);
        // A path that the superblock does not know is looked at as an occupied one.
        let known = recorded.is_none_or(|disk| disk.is_at(&now));
        if known || is_blank(&target, &spec.disk)? {
            continue;
        }
        match resembles(repository, index, entry, &target) {
            Ok(true) => {}
            Ok(false) => return Ok(Some(spec.path.clone())),
            // What cannot be compared cannot be taken for ours.
            Err(error) if error.is_damage() => return Ok(Some(spec.path.clone())),
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Whether at least half of the chunks that are looked at are where the point has them.
fn resembles(
    repository: &Repository,
    index: &dyn ObjectIndex,
    disk: &DiskEntry,
    target: &Target,
) -> Result<bool, ReplayError> {
    let cut = repository.header().cut;
    let namer = repository.keys().namer();
    let mut objects = repository.reader(index)?;
    let (mut looked_at, mut found) = (0, 0);
    for (region, name) in sample_regions(repository, index, &disk.tree())? {
        let len = cut.region_len(region, disk.size_bytes);
        let leaf = TreeReader::new(&mut objects).leaf(name, len)?;
        let mut at = cut.region_start(region);
        let mut chunks = Vec::new();
        for span in &leaf.spans {
            if let Span::Chunk { name, len } = *span {
                chunks.push((at, name, len));
            }
            at += u64::from(span.len());
        }
        let Some(&(start, name, len)) = chunks.get(chunks.len() / 2) else { continue };
        looked_at += 1;
        if start + u64::from(len) <= target.size() {
            let mut content = vec![0; len as usize];
            target
                .read_exact_at(&mut content, start)
                .map_err(|error| ReplayError::target(&disk.name, error))?;
            found += usize::from(namer.chunk(&content) == name);
        }
    }
    Ok(looked_at > 0 && found * 2 >= looked_at)
}

/// Regions with data, evenly spread: whenever there are too many, every second one goes.
fn sample_regions(
    repository: &Repository,
    index: &dyn ObjectIndex,
    tree: &TreeRef,
) -> Result<Vec<(RegionIndex, TreeName)>, ReplayError> {
    let mut objects = repository.reader(index)?;
    let mut kept: Vec<(RegionIndex, TreeName)> = Vec::new();
    let (mut seen, mut stride) = (0_u64, 1_u64);
    TreeReader::new(&mut objects).differing::<ReplayError>(
        &TreeRef::EMPTY,
        tree,
        &mut |change| {
            if let Some(name) = change.new.filter(|_| seen.is_multiple_of(stride)) {
                kept.push((change.region, name));
            }
            seen += 1;
            if kept.len() >= SAMPLES * 2 {
                let mut number = 0;
                kept.retain(|_| {
                    number += 1;
                    number % 2 == 1
                });
                stride *= 2;
            }
            Ok(())
        },
    )?;
    Ok(kept)
}

/// An image is blank when it is empty. A device is when it begins and ends with zeros, where
/// partition tables, file systems and volume managers put their marks.
pub(super) fn is_blank(target: &Target, disk: &Name) -> Result<bool, ReplayError> {
    if target.kind() == TargetKind::Image {
        return Ok(target.size() == 0);
    }
    let mut piece = vec![0; target.size().min(MIB) as usize];
    for offset in [0, target.size() - piece.len() as u64] {
        target
            .read_exact_at(&mut piece, offset)
            .map_err(|error| ReplayError::target(disk, error))?;
        if !crate::chunk::is_zero(&piece) {
            return Ok(false);
        }
    }
    Ok(true)
}

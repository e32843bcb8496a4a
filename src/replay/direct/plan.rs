//! What to do with a replica that is fed straight from its machine: a pure function of what is
//! known of it; and whether a target may be somebody else's.

use crate::destination::{DiskRecord, PointRef, ReplicaRecord, Target, TargetAccess};
use crate::replay::ReplayError;
use crate::replay::ownership::is_blank;
use crate::replay::plan::{Observed, PlanConflict, Standing, standing};
use crate::replay::session::{ReplicaSession, TargetSpec};
use crate::source::Source;
use crate::units::Name;
use std::path::PathBuf;

/// A disk of a capture with its size in bytes.
pub type CapturedSize<'a> = (&'a Name, u64);

/// What will be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DirectPlan {
    /// The first copy.
    Seed,
    /// Compare everything with the capture, and write what differs.
    Repair {
        /// Why, in words for people.
        reason: String,
    },
    /// Replay what changed since an older capture.
    Replay {
        /// That one.
        from: PointRef,
    },
}

/// Decides what a capture of these disks is used for.
///
/// # Errors
/// [`PlanConflict`], with the evidence.
pub fn plan_direct(
    observed: &Observed<'_>,
    machine: &Name,
    captured: &[CapturedSize<'_>],
) -> Result<DirectPlan, PlanConflict> {
    let is_ours = |record: &ReplicaRecord| match &record.machine == machine {
        true => Ok(()),
        false => Err(PlanConflict::OtherOwner {
            was: format!("machine {}", record.machine),
            is: format!("machine {machine}"),
        }),
    };
    let disks = captured.iter().map(|(name, _)| *name);
    let (record, from) = match standing(observed, is_ours, disks, || "the machine".to_owned())? {
        Standing::New => return Ok(DirectPlan::Seed),
        Standing::Unsure { reason } => return Ok(DirectPlan::Repair { reason }),
        Standing::At { record, at } => (record, at),
    };
    let repair = |reason: String| Ok(DirectPlan::Repair { reason });
    if record.direct.is_none() {
        return repair("it was fed from backups before".to_owned());
    }
    let recorded = record.disks.iter().map(|disk| (&disk.name, disk.size_bytes));
    if recorded.eq(captured.iter().copied()) {
        Ok(DirectPlan::Replay { from })
    } else {
        repair("the machine's disks are others, or of another size, now".to_owned())
    }
}

/// Places that are looked at on each disk.
const SAMPLES: u64 = 64;
/// Bytes that are looked at in each.
const SAMPLE_BYTES: usize = 4096;

/// The first existing target that may be somebody else's: it is not known to be the one that was
/// recorded, and does not hold most of what the machine's disk holds.
pub(super) fn first_foreign(
    session: &ReplicaSession,
    specs: &[TargetSpec],
    disks: &[(&Name, &dyn Source)],
) -> Result<Option<PathBuf>, ReplayError> {
    let Some(record) = session.record() else { return Ok(None) };
    for spec in specs {
        let Some((_, source)) = disks.iter().find(|(name, _)| *name == &spec.disk) else {
            continue;
        };
        if session.fs.stat(&spec.path)?.is_none() {
            continue;
        }
        let error = |error| ReplayError::target(&spec.disk, error);
        let (fs, kind) = (session.fs.as_ref(), Some(spec.kind));
        let target = Target::open(fs, &spec.path, kind, TargetAccess::Write).map_err(error)?;
        let now = target.identity().map_err(error)?;
        let recorded: Option<&DiskRecord> = record.disks.iter().find(|d| d.path == spec.path);
        // A path that the superblock does not know is looked at as an occupied one.
        let known = recorded.is_none_or(|disk| disk.is_at(&now));
        if !known && !is_blank(&target, &spec.disk)? && !resembles(*source, &target, &spec.disk)? {
            return Ok(Some(spec.path.clone()));
        }
    }
    Ok(None)
}

/// Whether at least half of the places that are looked at hold the same.
fn resembles(source: &dyn Source, target: &Target, disk: &Name) -> Result<bool, ReplayError> {
    let (mut looked_at, mut found) = (0, 0);
    let size_bytes = source.size_bytes();
    let (mut here, mut there) = (vec![0; SAMPLE_BYTES], vec![0; SAMPLE_BYTES]);
    for number in 0..SAMPLES {
        let at = size_bytes / SAMPLES * number;
        let data = source.next_data(at).map_err(|error| ReplayError::source(disk, error))?;
        let Some(start) = data.map(|data| data / SAMPLE_BYTES as u64 * SAMPLE_BYTES as u64) else {
            break;
        };
        let end = start.saturating_add(SAMPLE_BYTES as u64);
        if end > size_bytes {
            continue;
        }
        source.read_exact_at(&mut there, start).map_err(|e| ReplayError::source(disk, e))?;
        // Zeros are on every disk.
        if crate::chunk::is_zero(&there) {
            continue;
        }
        looked_at += 1;
        if end <= target.size() {
            target.read_exact_at(&mut here, start).map_err(|e| ReplayError::target(disk, e))?;
            found += usize::from(here == there);
        }
    }
    Ok(looked_at > 0 && found * 2 >= looked_at)
}

//! What direct replication did, and whether what it left is still so, for people.

use super::open::workers;
use super::run::Done;
use super::{OperationError, backup, capture};
use crate::catalog::{Distrust, History, RunStatus};
use crate::destination::{PointRef, ReplicaHome};
use crate::fsio::RealFileSystem;
use crate::progress::Progress;
use crate::replay::{DirectlyReplicated, Replicated};
use crate::scrub::{self, DirectVerdict, VerifyDirectRequest};
use crate::settings::{MachineSettings, Settings};
use crate::source::Untold;
use crate::units::{Name, RunId, format_bytes};
use jiff::Timestamp;

/// The instant of a capture, as a run tells it.
pub(super) fn label(at: &PointRef) -> String {
    format!("captured at {}", at.time)
}

/// What a direct replication did. A capture is no point of a repository: the run names none.
pub(super) fn describe(done: DirectlyReplicated, redone: bool) -> Done {
    let detail = match &done.replicated {
        Replicated::Skipped { .. } if redone => None,
        Replicated::Skipped { at } => {
            let mut skipped = Done::skipped(&format!("nothing changed since it was {}", label(at)));
            skipped.warnings = done.notes;
            return skipped;
        }
        Replicated::Seeded { to } => Some(format!("first copy, {}", label(to))),
        Replicated::Repaired { to, reason, differing_bytes } => {
            let (differing, at) = (format_bytes(*differing_bytes), label(to));
            Some(format!("{at}; all was compared, {differing} differed and were written: {reason}"))
        }
        Replicated::Replayed { from, to } => {
            Some(format!("{}, from what was {}", label(to), label(from)))
        }
    };
    let finished = redone.then(|| "an interrupted update was finished first".to_owned());
    let details: Vec<String> = finished.into_iter().chain(detail).collect();
    let mut completed = Done::new(RunStatus::Completed);
    completed.detail = Some(details.join("; "));
    completed.warnings = done.notes;
    completed
}

/// Notes the disks of which too few changes were told, and says so.
pub(super) fn note_distrust(
    settings: &Settings,
    machine: &Name,
    found: &[(Name, Untold)],
) -> Vec<String> {
    let mut told = Vec::new();
    for (disk, untold) in found {
        told.push(backup::untold(machine, disk, untold));
        let noted = History::open(&settings.state_dir).and_then(|history| {
            let mut tracking = history.tracking(machine)?.remove(disk).unwrap_or_default();
            tracking.distrust = Some(Distrust::new(Timestamp::now(), untold));
            history.note_tracking(machine, disk, &tracking)
        });
        told.extend(
            noted.err().map(|error| format!("disk {disk}: this could not be noted: {error}")),
        );
    }
    told
}

/// Compares a replica that is fed straight from its machine with the machine, where that did not
/// change since.
pub(super) fn verify(
    settings: &Settings,
    (machine, run): (&MachineSettings, RunId),
    (replica, home): (&Name, ReplicaHome),
    progress: &Progress,
) -> Result<DirectVerdict, OperationError> {
    let capturer = capture::capturer(settings, machine, Some(replica), run)?;
    let request = VerifyDirectRequest {
        replica,
        home,
        capturer: capturer.as_ref(),
        workers: workers(settings),
    };
    Ok(scrub::verify_direct(&RealFileSystem::shared(), &request, progress)?)
}

/// What a verification compared.
pub(super) fn compared(verdict: &DirectVerdict) -> String {
    match verdict.changed_bytes {
        0 => "all was compared with the machine".to_owned(),
        bytes => format!(
            "all was compared with the machine, except for {} that changed there since",
            format_bytes(bytes)
        ),
    }
}

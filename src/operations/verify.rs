//! Comparing a replica with its point.

use super::error::known;
use super::run::{About, Done, RunResult, execute};
use super::{OperationError, damage, direct, open, replicate, status};
use crate::catalog::{RunKind, RunStatus};
use crate::fsio::RealFileSystem;
use crate::progress::Progress;
use crate::report::DifferingDisk;
use crate::scrub::{self, DiskVerdict, VerifyReplicaRequest};
use crate::settings::{ReplicaMode, Settings};
use crate::units::{Name, RunId, format_bytes, format_count};

/// Ranges that a message lists one by one.
const RANGES_LISTED_MAX: usize = 10;
/// Ranges that a report holds one by one.
const RANGES_REPORTED_MAX: usize = 1000;

/// Compares a replica, every byte, with the point that it says it is at.
///
/// # Errors
/// [`OperationError::Differs`] when it is not what its point says; the summary names the ranges.
pub fn verify_replica(settings: &Settings, replica: &Name, progress: &Progress) -> RunResult {
    let machine = settings.replicas.get(replica).map(|replica| replica.machine.clone());
    let about = About::replica(RunKind::Verify, replica, machine);
    execute(settings, about, progress, |run| run_verify(settings, (replica, run), progress))
}

fn run_verify(
    settings: &Settings,
    (replica, run): (&Name, RunId),
    progress: &Progress,
) -> Result<Done, OperationError> {
    let (replica, place) = known(settings, "replica", &settings.replicas, replica.as_str())?;
    let (_, machine) = known(settings, "machine", &settings.machines, place.machine.as_str())?;
    let home = replicate::home(settings, place);
    let record = status::record(settings, place)?;
    let is_direct =
        record.map_or(place.mode == ReplicaMode::Direct, |record| record.direct.is_some());
    if is_direct {
        let verdict = direct::verify(settings, (machine, run), (replica, home), progress)?;
        let mut done =
            judge(replica, format!("what was {}", direct::label(&verdict.at)), &verdict.disks);
        done.detail = Some(direct::compared(&verdict));
        done.warnings = verdict.notes;
        return Ok(done);
    }
    let open = open::open_repository(settings, &machine.repository)?;
    let request = VerifyReplicaRequest { replica, home, workers: open::workers(settings) };
    let fs = RealFileSystem::shared();
    let (at, verdicts) =
        scrub::verify_replica(&fs, &open.repository, &open.catalog, &request, progress)
            .map_err(|error| damage::with_points(&open, error.into()))?;
    let label = format!("point #{} {}", at.sequence.0, at.id.short());
    let judged = judge(replica, label, &verdicts);
    Ok(Done { point: Some(at.into()), ..judged })
}

fn judge(replica: &Name, at: String, verdicts: &[DiskVerdict]) -> Done {
    let mut done = Done::new(RunStatus::Completed);
    let differing: Vec<&DiskVerdict> = verdicts.iter().filter(|v| v.differing_bytes > 0).collect();
    if differing.is_empty() {
        return done;
    }
    let error = OperationError::Differs {
        replica: replica.clone(),
        at,
        ranges: differing.iter().map(|v| describe(v)).collect::<Vec<_>>().join("; "),
    };
    done.status = RunStatus::Failed;
    done.reason = Some(error.to_string());
    done.error = Some(error);
    let disks = differing.iter().map(|verdict| DifferingDisk {
        disk: verdict.disk.clone(),
        differing_bytes: verdict.differing_bytes,
        ranges: verdict.differing.iter().take(RANGES_REPORTED_MAX).map(|&e| e.into()).collect(),
    });
    done.differing = disks.collect();
    done
}

/// `disk root: 4.00 KiB in bytes 100-4196`.
fn describe(verdict: &DiskVerdict) -> String {
    let ranges = &verdict.differing;
    let listed: Vec<String> = ranges
        .iter()
        .take(RANGES_LISTED_MAX)
        .map(|range| format!("{}-{}", range.start(), range.end()))
        .collect();
    let more = match ranges.len().saturating_sub(RANGES_LISTED_MAX) {
        0 => String::new(),
        more => format!(" and {}", format_count(more as u64, "more range")),
    };
    let bytes = format_bytes(verdict.differing_bytes);
    format!("disk {}: {bytes} in bytes {}{more}", verdict.disk, listed.join(", "))
}

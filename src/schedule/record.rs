//! Writes decisions to the ledger.

use jiff::Timestamp;

use super::task::{Decision, Start};
use crate::catalog::{
    CatalogError, History, RunRecord, ScheduledSince, SlotBatch, SlotClaim, SlotSkip,
};

/// What became of the runs that were to begin.
#[derive(Debug, Default)]
pub struct Recorded {
    /// Their slots are theirs: they are to be run.
    pub granted: Vec<(Start, RunRecord)>,
    /// Their slots were taken before: they must not be run.
    pub refused: Vec<Start>,
}

/// Writes decisions, in one transaction: after it, each slot is claimed and its run is in the
/// history as `queued` makes it, or is not. Without decisions nothing is written.
///
/// # Errors
/// When the database fails; then nothing is written, and the decisions are to be undone.
pub fn record(
    history: &History,
    noted: Timestamp,
    decisions: &[Decision],
    mut queued: impl FnMut(&Start) -> RunRecord,
) -> Result<Recorded, CatalogError> {
    if decisions.is_empty() {
        return Ok(Recorded::default());
    }
    let mut batch = SlotBatch { noted, ..SlotBatch::default() };
    let mut starts = Vec::new();
    for decision in decisions {
        match decision {
            Decision::Start(start) => {
                starts.push(start.clone());
                batch.claims.push(SlotClaim {
                    task: start.key.clone(),
                    due: start.due,
                    attempt: start.attempt,
                    record: queued(start),
                });
            }
            Decision::Skip(skip) => batch.skips.push(SlotSkip {
                task: skip.key.clone(),
                first: skip.first,
                last: skip.last,
                count: skip.count,
                reason: skip.reason.to_string(),
            }),
            Decision::Since { key, schedule, since } => batch.scheduled.push(ScheduledSince {
                task: key.clone(),
                schedule: schedule.clone(),
                since: *since,
            }),
            Decision::Gone { key } => batch.gone.push(key.clone()),
            Decision::SetAside { after } => {
                batch.aside_after = Some(batch.aside_after.map_or(*after, |it| it.min(*after)));
            }
            Decision::NoteClock(mark) => batch.clock = serde_json::to_string(mark).ok(),
        }
    }
    let granted = history.write_slots(&batch)?;
    let mut recorded = Recorded::default();
    for ((start, claim), is_granted) in starts.into_iter().zip(batch.claims).zip(granted) {
        match is_granted {
            true => recorded.granted.push((start, claim.record)),
            false => recorded.refused.push(start),
        }
    }
    Ok(recorded)
}

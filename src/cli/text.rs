//! Sentences for people. Times are in the zone of the system.

use crate::catalog::RunStatus;
use crate::report::{Action, RecoveryKeyText, Summary};
use crate::units::{PointId, Sequence, format_bytes, format_duration};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::time::Duration;
use zeroize::Zeroizing;

/// `2026-11-22 10:30:00`, in the zone of the system; what may be typed to choose a point.
pub(super) fn time(time: Timestamp) -> String {
    time.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// `2h 05m`.
pub(super) fn age(seconds: u64) -> String {
    format_duration(Duration::from_secs(seconds))
}

/// `#2 ab12cd34ef56`.
pub(super) fn point(sequence: Sequence, id: PointId) -> String {
    format!("#{} {}", sequence.0, id.short())
}

/// How a run ended, in one sentence.
pub(super) fn summary(summary: &Summary) -> String {
    let subject = [&summary.replica, &summary.machine, &summary.repository];
    let subject = subject.into_iter().flatten().next().map_or("afterimage", |name| name.as_str());
    if summary.status == RunStatus::Skipped {
        return format!("{subject}: skipped, {}", summary.reason.as_deref().unwrap_or_default());
    }
    let point = match (summary.sequence, summary.point) {
        (Some(sequence), Some(id)) => format!("point {}", point(sequence, id)),
        _ => String::new(),
    };
    let detail = summary.detail.as_deref().unwrap_or_default();
    let took = format_duration(Duration::try_from_secs_f64(summary.duration_s).unwrap_or_default());
    let counts = &summary.counts;
    let (read, written) = (format_bytes(counts.read), format_bytes(counts.written));
    match summary.kind {
        Action::Backup => {
            let changed = format_bytes(counts.changed);
            let (new, stored) = (format_bytes(counts.new), format_bytes(counts.stored));
            format!(
                "{subject}: {point}, read {read}, changed {changed}, new {new}, stored {stored} \
                 in {took}"
            )
        }
        Action::Replicate => {
            format!("{subject}: now at {point} ({detail}), wrote {written} in {took}")
        }
        Action::Restore => format!("{subject}: {point} restored in {took}: {detail}"),
        Action::Verify => format!("{subject}: equals {point}, read {read} in {took}"),
        Action::Init => format!("{subject}: created the repository {detail}"),
        Action::CatalogRebuild => {
            let how = match summary.status {
                RunStatus::Incomplete => "rebuilt as far as it can be read",
                _ => "rebuilt",
            };
            format!("{subject}: catalog {how}: {detail} in {took}")
        }
        Action::Prune | Action::Gc | Action::Repair | Action::Copy | Action::CatalogCheck => {
            format!("{subject}: {detail} in {took}")
        }
        Action::ConfigCheck
        | Action::Points
        | Action::Status
        | Action::Stats
        | Action::Key
        | Action::Pin
        | Action::Generate
        | Action::Demo => format!("{subject}: {detail}"),
    }
}

/// A new recovery key, which is shown only this once.
pub(super) fn recovery_key(key: &RecoveryKeyText) -> Zeroizing<String> {
    Zeroizing::new(format!(
        "\nrecovery key:\n\n    {}\n\nIt is shown only now. Write it down or print it, and keep it \
         where this machine and the\nrepository are not: with it the repository opens even when \
         its other keys are lost\n(`afterimage key recover`), to anybody who has both.\n",
        *key.0
    ))
}

/// How several runs ended.
pub(super) fn tally(summary: &Summary) -> String {
    let Some(tally) = summary.runs else { return String::new() };
    let counts = [
        (tally.completed, "completed"),
        (tally.skipped, "skipped"),
        (tally.incomplete, "incomplete"),
        (tally.failed, "failed"),
    ];
    let parts: Vec<String> = counts
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| format!("{count} {word}"))
        .collect();
    let parts = if parts.is_empty() { "nothing was done".to_owned() } else { parts.join(", ") };
    format!("all: {parts}")
}

//! Sentences for people. Times are in the zone of the system.

use crate::catalog::RunStatus;
use crate::report::{Action, DamageLine, DamagedPointLine, MissingDisk, RecoveryKeyText, Summary};
use crate::units::{PointId, Sequence, format_bytes, format_count, format_duration};
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

/// `2h 05m`, of seconds as they are told to programs.
pub(super) fn seconds(seconds: f64) -> String {
    format_duration(Duration::try_from_secs_f64(seconds).unwrap_or_default())
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
        Action::Restore => {
            let how = if summary.missing.is_empty() { "" } else { " as far as it can be read" };
            format!("{subject}: {point} restored{how} in {took}: {detail}")
        }
        Action::Verify if summary.replica.is_some() => {
            format!("{subject}: equals {point}, read {read} in {took}")
        }
        Action::Verify => {
            let what = if point.is_empty() { "nothing is damaged" } else { point.as_str() };
            let good = if point.is_empty() { "" } else { " is good" };
            format!("{subject}: {what}{good}; {detail}, in {took}")
        }
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
        | Action::Metrics
        | Action::Stats
        | Action::Key
        | Action::Pin
        | Action::Generate
        | Action::Demo
        | Action::Runs
        | Action::Run
        | Action::Schedule
        | Action::Pause
        | Action::Resume
        | Action::Daemon
        | Action::Token
        | Action::Audit
        | Action::NotifyTest => format!("{subject}: {detail}"),
    }
}

fn list<T: ToString>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Something that is damaged, and what depends on it.
pub(super) fn damage(line: &DamageLine) -> String {
    let mut text = match &line.file {
        Some(file) => format!("{} {file}: {}", line.kind, line.reason),
        None => line.reason.clone(),
    };
    if line.object_count > 0 {
        text += &format!("; {} damaged", format_count(line.object_count as u64, "object"));
    }
    text += &match line.points.is_empty() {
        true if line.points_unknown => String::new(),
        true => "; points affected: none".to_owned(),
        false => format!("; points affected: {}", list(&line.points)),
    };
    if !line.replicas.is_empty() {
        text += &format!("; replicas at such a point: {}", list(&line.replicas));
    }
    text
}

/// A point that cannot be restored in full.
pub(super) fn damaged_point(line: &DamagedPointLine) -> String {
    let bytes = format_bytes(line.damaged_bytes);
    if let Some(reason) = &line.unreadable {
        return format!("point {}: its manifest cannot be read: {reason}", line.label);
    }
    let disk = |it: &MissingDisk| {
        let ranges: Vec<String> = it
            .ranges
            .iter()
            .take(5)
            .map(|range| format!("{}-{}", range.start, range.end))
            .collect();
        let more = it.ranges.len().saturating_sub(5);
        let more = match more {
            0 => String::new(),
            _ => format!(" and {}", format_count(more as u64, "more range")),
        };
        format!("{} in bytes {}{more}", it.disk, ranges.join(", "))
    };
    let disks: Vec<String> = line.disks.iter().map(disk).collect();
    format!("point {}: {bytes} cannot be read: {}", line.label, disks.join("; "))
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

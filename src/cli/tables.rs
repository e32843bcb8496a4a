//! Tables for people.

use super::text;
use crate::catalog::RunStatus;
use crate::point::Consistency;
use crate::report::{
    KeySlotLine, LastRun, MachineStatus, ObjectiveLine, ObjectiveState, PacksUsage, PointAt,
    PointLine, PruneDecision, ReplicaStatus, RepositoryStatus, UsageLine, VerifiedLine,
};
use crate::units::format_bytes;
use comfy_table::{CellAlignment, Table, presets};

const NONE: &str = "-";

/// A table without lines; the columns in `right` hold numbers.
pub(super) fn render(header: &[&str], right: &[usize], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header.iter().copied()).add_rows(rows);
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if right.contains(&index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n")
}

pub(super) fn or_none(text: Option<String>) -> String {
    text.unwrap_or_else(|| NONE.to_owned())
}

fn consistency(consistency: Consistency) -> &'static str {
    match consistency {
        Consistency::CrashConsistent => "crash-consistent",
        Consistency::ApplicationConsistent => "application-consistent",
        Consistency::Offline => "offline",
    }
}

fn verified(verified: Option<&VerifiedLine>) -> String {
    let Some(verified) = verified else { return "never".to_owned() };
    let word = match (verified.good, verified.how.as_str()) {
        (false, _) => "damaged",
        (true, "sample") => "sampled",
        (true, _) => "good",
    };
    format!("{word}, {}", text::time(verified.time))
}

pub(super) fn points(points: &[PointLine]) -> String {
    // Where all are in one repository, there is nothing to tell apart.
    let several =
        points.iter().zip(points.iter().skip(1)).any(|(a, b)| a.repository != b.repository);
    let rows = points.iter().map(|point| {
        let mut row = Vec::new();
        row.extend(several.then(|| point.repository.to_string()));
        row.extend([
            point.machine.to_string(),
            format!("#{}", point.sequence.0),
            point.point.short(),
            text::time(point.time),
            format_bytes(point.size_bytes()),
            point.disks.len().to_string(),
            consistency(point.consistency).to_owned(),
            kept_by(point),
            verified(point.verified.as_ref()),
        ]);
        row
    });
    let header =
        ["MACHINE", "POINT", "ID", "TIME", "SIZE", "DISKS", "CONSISTENCY", "KEPT BY", "VERIFIED"];
    let right = [1, 4, 5];
    match several {
        false => render(&header, &right, rows.collect()),
        true => {
            let header: Vec<&str> = ["REPOSITORY"].into_iter().chain(header).collect();
            render(&header, &right.map(|column| column + 1), rows.collect())
        }
    }
}

/// What keeps a point whatever the rules say.
fn kept_by(point: &PointLine) -> String {
    let pins = point.pins.iter().map(|pin| match &pin.note {
        Some(note) => format!("pinned: {note}"),
        None => "pinned".to_owned(),
    });
    let lock = point.locked_until.map(|until| format!("locked until {}", text::time(until)));
    let all: Vec<String> = pins.chain(lock).collect();
    or_none((!all.is_empty()).then(|| all.join("; ")))
}

pub(super) fn prune(decisions: &[PruneDecision]) -> String {
    let rows = decisions.iter().map(|decision| {
        let (what, why) = match decision.keep {
            true => ("stays", decision.reasons.join("; ")),
            false => ("goes", "no rule keeps it".to_owned()),
        };
        vec![
            decision.machine.to_string(),
            format!("#{}", decision.sequence.0),
            decision.point.short(),
            text::time(decision.time),
            what.to_owned(),
            why,
        ]
    });
    render(&["MACHINE", "POINT", "ID", "TIME", "", "WHY"], &[1], rows.collect())
}

pub(super) fn key_slots(slots: &[KeySlotLine]) -> String {
    let rows = slots.iter().map(|line| {
        let opens = match line.opens {
            Some(true) => "yes",
            Some(false) => "no",
            None => NONE,
        };
        let state = if line.problem.is_some() { "see below" } else { "good" };
        vec![
            line.slot.short(),
            line.kind.describe().to_owned(),
            text::time(line.created),
            opens.to_owned(),
            state.to_owned(),
            or_none(line.label.as_ref().map(ToString::to_string)),
        ]
    });
    let header = ["SLOT", "OPENED BY", "CREATED", "KEY OF THE SETTINGS", "STATE", "LABEL"];
    render(&header, &[], rows.collect())
}

pub(super) fn repositories(repositories: &[RepositoryStatus]) -> String {
    let rows = repositories.iter().map(|status| {
        let state = match (status.reachable, status.damages.len()) {
            (false, _) => "unusable".to_owned(),
            (true, 0) => "usable".to_owned(),
            (true, count) => format!("{count} damaged"),
        };
        vec![
            status.repository.to_string(),
            state,
            or_none(status.points.map(|count| count.to_string())),
            or_none(status.packs_bytes.map(format_bytes)),
            or_none(status.free_bytes.map(format_bytes)),
            status.path.clone(),
        ]
    });
    let header = ["REPOSITORY", "STATE", "POINTS", "PACKS", "FREE", "PATH"];
    render(&header, &[2, 3, 4], rows.collect())
}

pub(super) fn machines(machines: &[MachineStatus]) -> String {
    let rows = machines.iter().map(|status| {
        vec![
            status.machine.to_string(),
            or_none(status.points.map(|count| count.to_string())),
            or_none(status.newest.as_ref().map(point_at)),
            or_none(status.newest.map(|newest| text::time(newest.time))),
            or_none(status.age_s.map(text::age)),
            objective(status.objective.as_ref()),
            last_run(status.last_run.as_ref()),
        ]
    });
    let header = ["MACHINE", "POINTS", "NEWEST", "TIME", "AGE", "RPO", "LAST BACKUP"];
    render(&header, &[1], rows.collect())
}

pub(super) fn replicas(replicas: &[ReplicaStatus]) -> String {
    let rows = replicas.iter().map(|status| {
        let lag = match (status.lag_points, status.lag_s) {
            (Some(0), _) => "none".to_owned(),
            (Some(1), Some(seconds)) => format!("1 point, {}", text::age(seconds)),
            (Some(count), Some(seconds)) => format!("{count} points, {}", text::age(seconds)),
            _ => NONE.to_owned(),
        };
        vec![
            status.replica.to_string(),
            status.machine.to_string(),
            status.state.clone(),
            or_none(status.at.as_ref().map(point_at)),
            lag,
            objective(status.objective.as_ref()),
            last_run(status.last_run.as_ref()),
        ]
    });
    let header = ["REPLICA", "MACHINE", "STATE", "POINT", "LAG", "RPO", "LAST REPLICATION"];
    render(&header, &[], rows.collect())
}

/// Headings of the columns of [`amounts`].
const AMOUNTS: [&str; 7] = ["SIZE", "DATA", "NEEDED", "SHARED", "FREES", "DEDUP", "COMPRESSION"];

/// The columns that all of them have.
fn amounts(line: &UsageLine) -> [String; 7] {
    // Of nothing there is no ratio.
    let ratio = |ratio: f64| or_none((line.stored_bytes > 0).then(|| format!("{ratio:.2}")));
    [
        format_bytes(line.logical_bytes),
        format_bytes(line.data_bytes),
        format_bytes(line.stored_bytes),
        format_bytes(line.shared_bytes),
        format_bytes(line.unique_bytes),
        ratio(line.dedup_ratio),
        ratio(line.compression_ratio),
    ]
}

pub(super) fn usage_of_repositories(lines: &[UsageLine]) -> String {
    let rows = lines.iter().map(|line| {
        let [logical, data, stored, _, _, dedup, compression] = amounts(line);
        let of_packs = |pick: fn(&PacksUsage) -> u64| {
            or_none(line.packs.as_ref().map(|packs| format_bytes(pick(packs))))
        };
        vec![
            line.repository.to_string(),
            line.points.to_string(),
            logical,
            data,
            stored,
            format_bytes(line.tree_bytes),
            of_packs(|packs| packs.garbage_bytes),
            of_packs(|packs| packs.packs_bytes),
            dedup,
            compression,
        ]
    });
    let header = [
        "REPOSITORY",
        "POINTS",
        "SIZE",
        "DATA",
        "NEEDED",
        "TREES",
        "GARBAGE",
        "PACKS",
        "DEDUP",
        "COMPRESSION",
    ];
    render(&header, &[1, 2, 3, 4, 5, 6, 7, 8, 9], rows.collect())
}

pub(super) fn usage_of_machines(lines: &[UsageLine]) -> String {
    let rows = lines.iter().map(|line| {
        let machine = or_none(line.machine.as_ref().map(ToString::to_string));
        let mut row = vec![machine, line.repository.to_string(), line.points.to_string()];
        row.extend(amounts(line));
        row
    });
    let header = [&["MACHINE", "REPOSITORY", "POINTS"][..], &AMOUNTS].concat();
    render(&header, &[2, 3, 4, 5, 6, 7, 8, 9], rows.collect())
}

pub(super) fn usage_of_points(lines: &[UsageLine]) -> String {
    let rows = lines.iter().map(|line| {
        let at = line.sequence.zip(line.point);
        let mut row = vec![
            or_none(line.machine.as_ref().map(ToString::to_string)),
            or_none(at.map(|(sequence, id)| text::point(sequence, id))),
            or_none(line.time.map(text::time)),
        ];
        row.extend(amounts(line));
        row
    });
    let header = [&["MACHINE", "POINT", "TIME"][..], &AMOUNTS].concat();
    render(&header, &[3, 4, 5, 6, 7, 8, 9], rows.collect())
}

/// `met, 12m 04s of 1h 00m`.
fn objective(line: Option<&ObjectiveLine>) -> String {
    let Some(line) = line else { return NONE.to_owned() };
    let word = match line.state {
        ObjectiveState::Met => "met",
        ObjectiveState::AtRisk => "at risk",
        ObjectiveState::Missed => "missed",
        ObjectiveState::Unknown => "unknown",
    };
    match line.lag_s {
        Some(lag) => format!("{word}, {} of {}", text::age(lag), text::age(line.rpo_s)),
        None => word.to_owned(),
    }
}

fn point_at(at: &PointAt) -> String {
    text::point(at.sequence, at.point)
}

fn last_run(run: Option<&LastRun>) -> String {
    let Some(run) = run else { return NONE.to_owned() };
    let word = match run.status {
        RunStatus::Queued => "waiting",
        RunStatus::Running if run.cut_off => "cut off",
        RunStatus::Running => "running",
        RunStatus::Completed => "completed",
        RunStatus::Skipped => "skipped",
        RunStatus::Failed => "failed",
        RunStatus::Incomplete => "incomplete",
    };
    format!("{word}, {}", text::time(run.started))
}

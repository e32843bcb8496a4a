//! Sentences about runs and the daemon.

use super::daemon_tables::{status, subject, trigger};
use super::text;
use crate::report::{DaemonStatus, PauseLine, ReloadReport, RunDetail};
use crate::units::{format_bytes, format_count};

/// Wide enough for the longest name of a line.
const NAME_CHARS: usize = 12;

/// Lines of a name and what belongs to it.
#[derive(Default)]
struct Lines(Vec<String>);

impl Lines {
    fn add(&mut self, name: &str, value: impl Into<String>) {
        self.0.push(format!("{name:<NAME_CHARS$}{}", value.into()));
    }

    fn add_some(&mut self, name: &str, value: Option<String>) {
        if let Some(value) = value {
            self.add(name, value);
        }
    }
}

/// All that is known of a run.
pub(super) fn run(detail: &RunDetail) -> String {
    let line = &detail.line;
    let mut lines = Lines::default();
    lines.add("run", line.run.to_string());
    lines.add("what", format!("{} of {}", line.kind.word(), subject(line)));
    lines.add("status", status(line));
    let due = line.due.map(|due| format!(", due {}", text::time(due))).unwrap_or_default();
    let attempt = match line.attempt {
        0 | 1 => String::new(),
        attempt => format!(", try {attempt}"),
    };
    lines.add("begun by", format!("{}{due}{attempt}", trigger(line.trigger)));
    lines.add_some("asked by", line.by.clone());
    lines.add(if line.status.is_open() { "since" } else { "began" }, text::time(line.started));
    let took = line.duration_s.map(|took| format!(" ({})", text::seconds(took)));
    let ended = line.ended.map(text::time);
    lines.add_some("ended", ended.map(|ended| format!("{ended}{}", took.unwrap_or_default())));
    lines.add_some("point", line.point.map(|point| point.short()));
    moved(detail, &mut lines);
    if let Some(live) = &detail.live {
        let (done, total) = (format_bytes(live.bytes_done), format_bytes(live.bytes_total));
        lines.add("done", format!("{done} of {total}, {}", text::seconds(live.elapsed_s)));
        lines.add_some("waits for", live.waits_for.clone());
        lines.add_some("stopping", live.stopping.then(|| "it was asked to stop".to_owned()));
    }
    lines.add_some("how", line.detail.clone());
    lines.add_some("reason", line.reason.clone());
    lines.add_some("exit code", line.exit.map(|exit| exit.to_string()));
    for (index, step) in detail.steps.iter().enumerate() {
        let took = step.duration_s.map(|took| format!(" ({})", text::seconds(took)));
        let name = if index == 0 { "steps" } else { "" };
        let (time, took) = (text::time(step.started), took.unwrap_or_default());
        lines.add(name, format!("{time}  {}{took}", step.name));
    }
    for warning in &line.warnings {
        lines.add("warning", warning.clone());
    }
    if line.cut_off {
        lines.add("", "its process died before it ended; run the same command again to go on");
    }
    lines.0.join("\n")
}

fn moved(detail: &RunDetail, lines: &mut Lines) {
    let counts = &detail.line.counts;
    let parts = [
        ("read", counts.read),
        ("changed", counts.changed),
        ("new", counts.new),
        ("stored", counts.stored),
        ("wrote", counts.written),
    ];
    let parts: Vec<String> = parts
        .into_iter()
        .filter(|(_, bytes)| *bytes > 0)
        .map(|(name, bytes)| format!("{name} {}", format_bytes(bytes)))
        .collect();
    lines.add_some("moved", (!parts.is_empty()).then(|| parts.join(", ")));
    let rate = detail.bytes_per_s.filter(|rate| *rate > 0);
    lines.add_some("rate", rate.map(|rate| format!("{}/s", format_bytes(rate))));
}

/// Something that is paused.
pub(super) fn pause(line: &PauseLine) -> String {
    let until = line.until.map(|until| format!(" until {}", text::time(until)));
    let note = line.note.as_ref().map(|note| format!(": {note}"));
    format!(
        "{} (since {}{}, by {}){}",
        line.subject,
        text::time(line.since),
        until.unwrap_or_default(),
        line.by,
        note.unwrap_or_default()
    )
}

/// What a reload did.
pub(super) fn reload(report: &ReloadReport) -> String {
    match report.changes.is_empty() {
        true => "the daemon read the settings again; nothing is different".to_owned(),
        false => format!("the daemon read the settings again: {}", report.changes.join("; ")),
    }
}

/// The daemon, in a line, and one for each pause.
pub(super) fn daemon(status: &DaemonStatus) -> String {
    let runs = match (status.running, status.queued) {
        (0, 0) => "nothing is under way".to_owned(),
        (running, 0) => format!("{} under way", format_count(running as u64, "run")),
        (running, queued) => {
            format!("{} under way, {queued} waiting", format_count(running as u64, "run"))
        }
    };
    let mut lines = vec![format!(
        "daemon {}: runs since {} as process {}; {runs}",
        status.version,
        text::time(status.started),
        status.pid
    )];
    lines.extend(status.pauses.iter().map(|line| format!("paused: {}", pause(line))));
    lines.join("\n")
}

//! The daily report: when it is due, what it holds, and how it reads.

use super::NotifyError;
use crate::catalog::{CatalogError, ChannelRecord, History, RunCount, RunRecord, RunStatus};
use crate::settings::{ReportSettings, TIMEZONE_LOCAL};
use crate::units::{DAY_MINUTES, format_bytes, format_count, readable};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use std::fmt::Write;

/// Most lines of one part of a report.
pub const REPORT_LINES_MAX: usize = 50;
/// Most days that one report covers: after a longer downtime, what is older is left to the history.
const REPORT_DAYS_MAX: i64 = 7;

/// The time that a report covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ReportSpan {
    /// From this instant on.
    pub from: Timestamp,
    /// To before this one.
    pub to: Timestamp,
}

/// Whether a report is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// No.
    No,
    /// No; and this day counts as reported: nobody waits for its report.
    Mark(Date),
    /// The report of this day, which covers this time.
    Report(Date, ReportSpan),
}

/// Whether a report is due, where `last` is the day of the last one. A day has one report at most,
/// whatever the clock does.
///
/// # Errors
/// When the zone is not known.
pub fn due(
    settings: &ReportSettings,
    last: Option<Date>,
    now: Timestamp,
) -> Result<Due, NotifyError> {
    let zone = zone(&settings.timezone)?;
    let today = now.to_zoned(zone.clone()).date();
    let passed = slot(settings, &zone, today)? <= now;
    let newest = if passed { today } else { today.saturating_sub(1.day()) };
    Ok(match last {
        // The first start: there is nothing to report yet.
        None => Due::Mark(newest),
        // The clock was far ahead, and a report may have been made today before that.
        Some(last) if last > today.saturating_add(1.day()) => Due::Mark(today),
        Some(last) if last >= newest => Due::No,
        Some(last) => {
            let before = last.max(newest.saturating_sub(REPORT_DAYS_MAX.days()));
            let (from, to) = (slot(settings, &zone, before)?, slot(settings, &zone, newest)?);
            let span = ReportSpan { from, to };
            Due::Report(newest, span)
        }
    })
}

fn zone(name: &str) -> Result<TimeZone, NotifyError> {
    if name == TIMEZONE_LOCAL {
        return Ok(TimeZone::system());
    }
    TimeZone::get(name).map_err(|source| NotifyError::Zone { name: name.to_owned(), source })
}

/// The instant of a day at which its report is made. A time that the clock skips is the one after
/// the gap; of one that comes twice it is the first.
fn slot(settings: &ReportSettings, zone: &TimeZone, day: Date) -> Result<Timestamp, NotifyError> {
    let minute = settings.minute.min(DAY_MINUTES - 1);
    let (hour, minute) = ((minute / 60) as i8, (minute % 60) as i8);
    let zoned = day.at(hour, minute, 0, 0).to_zoned(zone.clone());
    let error = |source| NotifyError::Zone { name: settings.timezone.clone(), source };
    zoned.map(|zoned| zoned.timestamp()).map_err(error)
}

/// Runs of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RunTally {
    /// Which: `backup`.
    pub kind: String,
    /// Those that did all.
    pub completed: u64,
    /// Those that had nothing to do.
    pub skipped: u64,
    /// Those that did a part.
    pub incomplete: u64,
    /// Those that failed.
    pub failed: u64,
    /// Bytes that they read.
    pub bytes_read: u64,
    /// Bytes that they added to repositories.
    pub bytes_stored: u64,
    /// Bytes that they wrote to destinations.
    pub bytes_written: u64,
}

/// A thing to look at, in a line.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ReportLine {
    /// What it is about.
    pub subject: String,
    /// Since when, or when.
    pub time: Timestamp,
    /// What there is to say.
    pub text: String,
}

/// What a repository costs.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct StoreLine {
    /// Its name.
    pub repository: String,
    /// Its points.
    pub points: u64,
    /// What it takes, in bytes.
    pub stored_bytes: u64,
    /// What the disks in all points hold, in bytes.
    pub data_bytes: u64,
}

/// The daily report.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct DailyReport {
    /// The time that it covers.
    #[serde(flatten)]
    pub span: ReportSpan,
    /// The runs that ended, by kind.
    pub runs: Vec<RunTally>,
    /// The runs that failed or did only a part.
    pub failures: Vec<ReportLine>,
    /// What is wrong now.
    pub open: Vec<ReportLine>,
    /// What the repositories cost.
    pub stores: Vec<StoreLine>,
    /// What was verified, with its result.
    pub verified: Vec<ReportLine>,
    /// Channels that do not take what they are to be told.
    pub channels: Vec<ReportLine>,
    /// Whether lines were left out: each list has fifty at most.
    pub left_out: bool,
}

impl DailyReport {
    /// A report of the runs that ended in its time. What is wrong now and the channels are added
    /// when it is sent.
    ///
    /// # Errors
    /// When the history fails.
    pub(super) fn gather(
        history: &History,
        span: ReportSpan,
        stores: Vec<StoreLine>,
    ) -> Result<Self, CatalogError> {
        let mut runs: Vec<RunTally> = Vec::new();
        for count in history.count_ended(span.from, span.to)? {
            let kind = count.kind.word();
            let at = runs.iter().position(|tally| tally.kind == kind).unwrap_or_else(|| {
                runs.push(RunTally { kind, ..RunTally::default() });
                runs.len() - 1
            });
            runs[at].add(&count);
        }
        // One more than is shown, so that it is known that there are more.
        let limit = REPORT_LINES_MAX as u32 + 1;
        let failures = history.failed_between(span.from, span.to, limit)?;
        let verified = history.verified_between(span.from, span.to, limit)?;
        Ok(Self {
            span,
            runs,
            failures: failures.iter().map(|run| ReportLine::of_run(run, "")).collect(),
            open: Vec::new(),
            stores,
            verified: verified.iter().map(|run| ReportLine::of_run(run, "all is well")).collect(),
            channels: Vec::new(),
            left_out: false,
        })
    }

    /// Leaves out what is too much for one report.
    pub(super) fn bounded(mut self) -> Self {
        let mut left_out = self.stores.len() > REPORT_LINES_MAX;
        let Self { failures, open, verified, channels, .. } = &mut self;
        for lines in [failures, open, verified, channels] {
            left_out |= lines.len() > REPORT_LINES_MAX;
            lines.truncate(REPORT_LINES_MAX);
        }
        self.stores.truncate(REPORT_LINES_MAX);
        self.left_out = left_out;
        self
    }

    /// It, in one line.
    pub fn title(&self) -> String {
        let failed: u64 = self.runs.iter().map(|tally| tally.failed + tally.incomplete).sum();
        let all: u64 =
            self.runs.iter().map(|tally| tally.completed + tally.skipped).sum::<u64>() + failed;
        let wrong = match self.open.len() {
            0 => "nothing is wrong".to_owned(),
            1 => "1 thing is wrong".to_owned(),
            several => format!("{several} things are wrong"),
        };
        format!("daily report: {}, {failed} failed; {wrong}", format_count(all, "run"))
    }

    /// It, in words.
    pub fn text(&self) -> String {
        let mut text = format!("From {:.0} to {:.0}.\n", self.span.from, self.span.to);
        lines(&mut text, "Wrong now", "Nothing is wrong now.", &self.open);
        text += "\nRuns:\n";
        if self.runs.is_empty() {
            text += "  none\n";
        }
        for tally in &self.runs {
            text += &tally.text();
        }
        lines(&mut text, "Failed", "No run failed.", &self.failures);
        lines(&mut text, "Verified", "Nothing was verified.", &self.verified);
        text += "\nRepositories:\n";
        for store in &self.stores {
            text += &store.text();
        }
        if !self.channels.is_empty() {
            lines(&mut text, "Notifications that do not arrive", "", &self.channels);
        }
        if self.left_out {
            text += "\nThere is more than stands here; `afterimage runs` lists all runs.\n";
        }
        text
    }
}

impl ReportLine {
    /// How a run ended; `fine` where there is nothing to say.
    fn of_run(run: &RunRecord, fine: &str) -> Self {
        let names = [&run.replica, &run.machine, &run.repository];
        let name = names.into_iter().flatten().next();
        let (kind, outcome) = (run.kind.word(), &run.outcome);
        let subject = name.map_or(kind.clone(), |name| format!("{kind} of {name}"));
        let is_fine = matches!(outcome.status, RunStatus::Completed | RunStatus::Skipped);
        let text = match &outcome.reason {
            Some(reason) => readable(reason),
            None if is_fine => fine.to_owned(),
            None => outcome.status.word().to_owned(),
        };
        Self { subject, time: outcome.ended.unwrap_or(run.started), text }
    }
}

impl RunTally {
    fn add(&mut self, count: &RunCount) {
        let place = match count.status {
            RunStatus::Completed => &mut self.completed,
            RunStatus::Skipped => &mut self.skipped,
            RunStatus::Incomplete => &mut self.incomplete,
            RunStatus::Failed => &mut self.failed,
            RunStatus::Queued | RunStatus::Running => return,
        };
        *place = place.saturating_add(count.runs);
        let counts = &count.counts;
        self.bytes_read = self.bytes_read.saturating_add(counts.read);
        self.bytes_stored = self.bytes_stored.saturating_add(counts.stored);
        self.bytes_written = self.bytes_written.saturating_add(counts.written);
    }

    fn text(&self) -> String {
        let Self { kind, completed, skipped, incomplete, failed, .. } = self;
        let (read, stored) = (format_bytes(self.bytes_read), format_bytes(self.bytes_stored));
        let written = format_bytes(self.bytes_written);
        format!(
            "  {kind}: {completed} completed, {skipped} skipped, {incomplete} incomplete, {failed} \
             failed; {read} read, {stored} stored, {written} written\n"
        )
    }
}

impl StoreLine {
    fn text(&self) -> String {
        let Self { repository, points, stored_bytes, data_bytes } = self;
        let (stored, data) = (format_bytes(*stored_bytes), format_bytes(*data_bytes));
        format!("  {repository}: {}, {stored} for {data}\n", format_count(*points, "point"))
    }
}

/// Of a channel that does not take all that it is to be told, what there is to say.
pub(super) fn channel_line(
    name: &str,
    record: &ChannelRecord,
    now: Timestamp,
) -> Option<ReportLine> {
    let ChannelRecord { waiting, dropped, given_up, failures, .. } = record;
    if *failures == 0 && *dropped == 0 && *given_up == 0 {
        return None;
    }
    let reason = record.last_error.as_deref().map_or_else(String::new, |e| format!(": {e}"));
    let text = format!(
        "{waiting} waiting, {dropped} displaced, {given_up} given up since it is there{reason}"
    );
    let time = record.last_delivered.unwrap_or(now);
    Some(ReportLine { subject: name.to_owned(), time, text: readable(text) })
}

fn lines(text: &mut String, title: &str, none: &str, lines: &[ReportLine]) {
    if lines.is_empty() {
        *text += &format!("\n{none}\n");
        return;
    }
    *text += &format!("\n{title}:\n");
    for ReportLine { subject, time, text: words } in lines {
        let (subject, words) = (readable(subject), readable(words));
        // A string takes whatever is written to it.
        let _ = writeln!(text, "  {time:.0}  {subject}: {words}");
    }
}

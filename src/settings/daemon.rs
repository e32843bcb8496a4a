//! Reads `[daemon]`.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use super::findings::Findings;
use super::page::{NOWHERE, Span};
use super::reader::{Field, Located, TableReader};
use super::timing::{self, MissedPolicy, RetrySettings};
use super::{STATE_DIR_DEFAULT, named, values};

/// Name of the daemon's socket in the state folder, when the file names none.
pub const SOCKET_NAME: &str = "afterimage.sock";
/// How many runs there may be at once when the file does not say.
pub const RUNS_DEFAULT: u32 = 4;
/// How long what happened is remembered when the file does not say, in days.
pub const HISTORY_DAYS_DEFAULT: u32 = 400;

/// How the daemon works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DaemonSettings {
    /// Its socket: short enough for a socket's address.
    pub socket: PathBuf,
    /// How many runs there may be at once, at least 1.
    pub runs: u32,
    /// How many of them may use the same disk of this host, at least 1; `None`: all.
    pub disk_runs: Option<u32>,
    /// What becomes of times that passed, where a part of the file does not say.
    pub missed: MissedPolicy,
    /// What follows when a run fails, where a part of the file does not say.
    pub retry: RetrySettings,
    /// Where its messages go.
    pub log: LogTarget,
    /// How far it stands back from others when the processor is busy, 0 to 19.
    pub nice: u8,
    /// How far it stands back from others when disks are busy.
    pub io: IoPriority,
    /// How many threads a run uses, at least 1; `None` leaves the choice to afterimage.
    pub workers: Option<u32>,
    /// How long what happened is remembered, in days, at least 1.
    pub history_days: u32,
    /// The file that its metrics are written to from time to time.
    pub metrics_file: Option<PathBuf>,
}

impl DaemonSettings {
    /// What holds when the file says nothing, with the socket at `socket`.
    pub fn with_socket(socket: PathBuf) -> Self {
        Self {
            socket,
            runs: RUNS_DEFAULT,
            disk_runs: None,
            missed: MissedPolicy::default(),
            retry: RetrySettings::default(),
            log: LogTarget::default(),
            nice: 0,
            io: IoPriority::default(),
            workers: None,
            history_days: HISTORY_DAYS_DEFAULT,
            metrics_file: None,
        }
    }
}

/// Where messages go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogTarget {
    /// To the journal of systemd when it started the daemon, else as plain text.
    #[default]
    Auto,
    /// To the journal of systemd.
    Journal,
    /// As plain text to the standard error output.
    Plain,
}

/// How far runs stand back from others when disks are busy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IoPriority {
    /// As the daemon was started.
    #[default]
    Normal,
    /// Only when nobody else wants the disk.
    Idle,
    /// A level of the best-effort class, 0 (first) to 7 (last).
    BestEffort(u8),
}

/// Most runs, and most threads of one.
pub(super) const PARALLEL_MAX: u32 = 256;
/// Longest time that what happened is remembered, in days.
const HISTORY_DAYS_MAX: u32 = 36_500;
/// What fits into the address of a socket, in bytes, without the byte that ends it.
const SOCKET_BYTES_MAX: usize = 107;
/// Levels of the best-effort class.
const IO_LEVELS: RangeInclusive<u8> = 0..=7;

/// `[daemon]` as far as it could be read.
#[derive(Debug)]
pub(super) struct DaemonDraft {
    pub(super) settings: DaemonSettings,
    /// Where `socket` stands; nowhere when it is the default.
    pub(super) socket_at: Span,
    /// Where `metrics_file` stands.
    pub(super) metrics_file_at: Option<Span>,
}

/// Reads `[daemon]`. Where something is wrong there are findings, and what stands in for it is
/// never used.
pub(super) fn read(
    root: &mut TableReader<'_>,
    state_dir: Option<&Located<PathBuf>>,
    folder: &Path,
    findings: &mut Findings<'_>,
) -> DaemonDraft {
    let state = state_dir.map_or(Path::new(STATE_DIR_DEFAULT), |dir| dir.value.as_path());
    let mut settings = DaemonSettings::with_socket(state.join(SOCKET_NAME));
    let mut draft_at = (NOWHERE, None);
    if let Some(mut reader) = named::section(root, "daemon", findings) {
        draft_at = fill(&mut settings, &mut reader, folder, findings);
        reader.finish(findings);
    }
    let (socket_at, metrics_file_at) = draft_at;
    check_socket(&settings.socket, &socket_at, state_dir, findings);
    DaemonDraft { settings, socket_at, metrics_file_at }
}

/// Returns where the paths stand.
fn fill(
    settings: &mut DaemonSettings,
    reader: &mut TableReader<'_>,
    folder: &Path,
    findings: &mut Findings<'_>,
) -> (Span, Option<Span>) {
    let mut path = |key: &'static str, findings: &mut Findings<'_>| {
        reader.field(key).and_then(|field| values::path(&field, folder, findings))
    };
    let socket = path("socket", findings);
    let metrics_file = path("metrics_file", findings);
    let mut count = |key: &'static str, most: u32, findings: &mut Findings<'_>| {
        reader.field(key).and_then(|field| field.whole_number(1..=most, findings))
    };
    settings.runs = count("runs", PARALLEL_MAX, findings).unwrap_or(settings.runs);
    settings.disk_runs = count("disk_runs", PARALLEL_MAX, findings);
    settings.workers = count("workers", PARALLEL_MAX, findings);
    settings.history_days =
        count("history_days", HISTORY_DAYS_MAX, findings).unwrap_or(settings.history_days);
    if let Some(field) = reader.field("nice") {
        settings.nice = field.whole_number(0..=19, findings).unwrap_or_default();
    }
    if let Some(field) = reader.field("io") {
        settings.io = io(&field, findings).unwrap_or_default();
    }
    if let Some(field) = reader.field("log") {
        let words = [
            ("auto", LogTarget::Auto),
            ("journal", LogTarget::Journal),
            ("plain", LogTarget::Plain),
        ];
        settings.log = values::choice(&field, &words, findings).unwrap_or_default();
    }
    if let Some(field) = reader.field("missed") {
        settings.missed = timing::missed_policy(&field, findings).unwrap_or_default();
    }
    if let Some(field) = reader.field("retry") {
        let retry = timing::retry(&field, RetrySettings::default(), findings);
        settings.retry = retry.unwrap_or_default();
    }
    let socket_at = socket.as_ref().map_or(NOWHERE, |socket| socket.at.clone());
    if let Some(socket) = socket {
        settings.socket = socket.value;
    }
    let metrics_at = metrics_file.as_ref().map(|file| file.at.clone());
    settings.metrics_file = metrics_file.map(|file| file.value);
    (socket_at, metrics_at)
}

fn io(field: &Field<'_>, findings: &mut Findings<'_>) -> Option<IoPriority> {
    if field.as_integer().is_some() {
        return field.whole_number(IO_LEVELS, findings).map(IoPriority::BestEffort);
    }
    if field.as_str().is_none() {
        let expected = "\"normal\", \"idle\" or a level from 0 to 7";
        field.wrong_type(expected, "io = \"idle\"", findings);
        return None;
    }
    let words = [("normal", IoPriority::Normal), ("idle", IoPriority::Idle)];
    values::choice(field, &words, findings)
}

fn check_socket(
    socket: &Path,
    at: &Span,
    state_dir: Option<&Located<PathBuf>>,
    findings: &mut Findings<'_>,
) {
    let bytes = socket.as_os_str().len();
    if bytes <= SOCKET_BYTES_MAX {
        return;
    }
    let is_default = *at == NOWHERE;
    let at = if is_default { state_dir.map_or(NOWHERE, |dir| dir.at.clone()) } else { at.clone() };
    let what = if is_default { "the daemon's socket in `state_dir`" } else { "`socket`" };
    let message = format!(
        "the path of {what} has {bytes} bytes; the system allows {SOCKET_BYTES_MAX} for a socket"
    );
    let hint = "name a shorter one: in [daemon], socket = \"/run/afterimage/afterimage.sock\"";
    findings.wrong_hint(&at, message, hint);
}

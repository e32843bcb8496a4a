//! Reads `[daemon]`.

use std::path::PathBuf;

use super::timing::{MissedPolicy, RetrySettings};

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

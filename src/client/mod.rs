//! Asking a running daemon, over its socket, for what the command line is asked for.
//!
//! Invariant: no answer, however long, slow or senseless, keeps the caller for longer than a time
//! limit or fills its memory; only a run that is watched may take as long as it takes.

mod answer;
mod error;
mod follow;
mod stream;
mod wire;

pub use answer::{AnswerError, AnswerReader};
pub use error::ClientError;
pub use follow::{Followed, Watcher, Wish};
pub use stream::{RawEvent, StreamError, StreamReader};

use crate::api::StateLines;
use crate::operations::Task;
use crate::report::{
    DaemonStatus, DueLine, ErrorReport, ExitCode, ObjectiveLine, PauseLine, ReloadReport,
    RepositoryStatus, RunDetail, SettingsLine,
};
use crate::units::RunId;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};
use std::time::Duration;
use wire::{Request, Wire};

/// Longest answer, in bytes.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// How long a daemon is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// How long an answer may take.
    pub answer: Duration,
    /// A stream of events without a sign of life is given up.
    pub silence: Duration,
    /// How long a daemon that went away may take to come back.
    pub gone: Duration,
    /// How long a run may be cut off before it is taken to stay so.
    pub cut_off: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        let answer = Duration::from_secs(30);
        let (silence, gone) = (Duration::from_secs(60), Duration::from_secs(120));
        Self { answer, silence, gone, cut_off: Duration::from_secs(15) }
    }
}

/// A daemon, at its socket.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
    patience: Patience,
}

/// A run that was taken on.
#[derive(Debug, serde::Deserialize)]
struct Submitted {
    run: RunId,
}

/// Why something was not done, as far as it is of use here (RFC 9457).
#[derive(Debug, serde::Deserialize)]
struct Problem {
    detail: String,
    #[serde(default)]
    exit: Option<ExitCode>,
    #[serde(default)]
    problems: Vec<SettingsLine>,
}

/// What is to be paused.
#[derive(Debug, serde::Serialize)]
struct Pause<'a> {
    subject: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<Timestamp>,
}

/// Whether it was paused.
#[derive(Debug, serde::Deserialize)]
struct Resumed {
    was_paused: bool,
}

impl Client {
    /// The daemon that listens at `socket`, if one does.
    pub fn new(socket: PathBuf) -> Self {
        Self { socket, patience: Patience::default() }
    }

    /// Waits for it as long as `patience` says.
    #[must_use]
    pub fn with_patience(self, patience: Patience) -> Self {
        Self { patience, ..self }
    }

    /// Its socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The daemon itself.
    ///
    /// # Errors
    /// As [`ClientError`] says; so do all of these.
    pub fn status(&self) -> Result<DaemonStatus, ClientError> {
        self.get("/v1/status")
    }

    /// Asks for a run. When this returns, its record is durable.
    ///
    /// # Errors
    /// [`ClientError::Refused`] when the daemon does not take it on.
    pub fn submit(&self, task: &Task) -> Result<RunId, ClientError> {
        let submitted: Submitted = self.post("/v1/runs", task)?;
        Ok(submitted.run)
    }

    /// Asks a run to stop at the next safe place.
    ///
    /// # Errors
    /// [`ClientError::Refused`] when it ended.
    pub fn cancel(&self, run: RunId) -> Result<(), ClientError> {
        self.done("POST", &format!("/v1/runs/{run}/cancel"), None)
    }

    /// A run; `None` when the daemon knows none of that identity.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn run(&self, run: RunId) -> Result<Option<RunDetail>, ClientError> {
        match self.get(&format!("/v1/runs/{run}")) {
            Ok(detail) => Ok(Some(detail)),
            Err(ClientError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What runs next by itself.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn schedule(&self) -> Result<Vec<DueLine>, ClientError> {
        self.get("/v1/schedule")
    }

    /// How well the objectives are met.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn objectives(&self) -> Result<Vec<ObjectiveLine>, ClientError> {
        self.get("/v1/objectives")
    }

    /// The repositories, as the daemon saw them last: at most a minute ago.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn repositories_seen(&self) -> Result<Vec<RepositoryStatus>, ClientError> {
        let lines: StateLines<RepositoryStatus> = self.get("/v1/repositories?recent=true")?;
        Ok(lines.lines)
    }

    /// Pauses `subject`: `all`, `machine NAME`, `replica NAME` or `repository NAME`.
    ///
    /// # Errors
    /// [`ClientError::NotFound`] when there is nothing of that name.
    pub fn pause(
        &self,
        subject: &str,
        note: Option<&str>,
        until: Option<Timestamp>,
    ) -> Result<(), ClientError> {
        let body = self.encode(&Pause { subject, note, until })?;
        self.done("POST", "/v1/pause", Some(body))
    }

    /// Lets it go on. Returns whether it was paused.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn resume(&self, subject: &str) -> Result<bool, ClientError> {
        let resumed: Resumed =
            self.post("/v1/resume", &Pause { subject, note: None, until: None })?;
        Ok(resumed.was_paused)
    }

    /// All that is paused.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn pauses(&self) -> Result<Vec<PauseLine>, ClientError> {
        self.get("/v1/pauses")
    }

    /// Has the settings file read again.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with all that is wrong in it; the old settings stay in force.
    pub fn reload(&self) -> Result<ReloadReport, ClientError> {
        self.decode(&self.ask("POST", "/v1/reload", None)?)
    }

    /// Has the clock believed.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn trust_clock(&self) -> Result<(), ClientError> {
        self.done("POST", "/v1/clock/trust", None)
    }

    fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.decode(&self.ask("GET", path, None)?)
    }

    fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl serde::Serialize,
    ) -> Result<T, ClientError> {
        self.decode(&self.ask("POST", path, Some(self.encode(body)?))?)
    }

    /// Asks for something to be done of which there is nothing to tell.
    fn done(
        &self,
        method: &'static str,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Result<(), ClientError> {
        self.ask(method, path, body).map(|_| ())
    }

    fn ask(
        &self,
        method: &'static str,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Result<Vec<u8>, ClientError> {
        let mut wire = Wire::send(&self.socket, &Request { method, path, body, after: None })?;
        wire.read_until(Wire::is_complete, self.patience.answer, ANSWER_BYTES_MAX)?;
        self.accept(&wire)?;
        Ok(std::mem::take(&mut wire.body))
    }

    /// Errors unless the status says that it was done.
    fn accept(&self, wire: &Wire) -> Result<(), ClientError> {
        let status = wire.status().unwrap_or_default();
        if (200..300).contains(&status) {
            return Ok(());
        }
        if matches!(status, 401 | 403) {
            return Err(ClientError::Forbidden { socket: self.socket.clone() });
        }
        let Ok(problem) = serde_json::from_slice::<Problem>(&wire.body) else {
            return Err(wire.not_understood(format!("status {status}")));
        };
        let code = problem.exit.filter(|code| *code != ExitCode::Done);
        let report = Box::new(ErrorReport {
            code: code.unwrap_or(ExitCode::Failed),
            message: problem.detail,
            problems: problem.problems,
        });
        Err(if status == 404 {
            ClientError::NotFound(report)
        } else {
            ClientError::Refused(report)
        })
    }

    fn encode(&self, body: &impl serde::Serialize) -> Result<Vec<u8>, ClientError> {
        serde_json::to_vec(body).map_err(|error| self.not_understood(&error))
    }

    fn decode<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, ClientError> {
        serde_json::from_slice(body).map_err(|error| self.not_understood(&error))
    }

    fn not_understood(&self, error: &serde_json::Error) -> ClientError {
        ClientError::NotUnderstood { socket: self.socket.clone(), reason: error.to_string() }
    }
}

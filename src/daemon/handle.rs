//! What the faces of a running daemon ask of it.

use crate::catalog::{CatalogError, History, RunFilter};
use crate::operations::{OperationError, Task};
use crate::report::{
    DaemonStatus, DueLine, Event, LiveRun, NotifyTestLine, ObjectiveLine, PauseLine, ReloadReport,
    RepositoryStatus, RunDetail, RunLine, SettingsLine,
};
use crate::settings::Settings;
use crate::units::RunId;
use jiff::Timestamp;
use std::sync::Arc;
use tokio::sync::watch;

/// Why the daemon did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// There is nothing of that name.
    #[error("{0}")]
    NotFound(String),
    /// It cannot be now.
    #[error("{0}")]
    Conflict(String),
    /// What is asked for makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// The settings are wrong; the old ones are still in force.
    #[error("{message}")]
    Settings {
        /// The message for people.
        message: String,
        /// All that is wrong.
        problems: Vec<SettingsLine>,
    },
    /// It stops, or has too much to do.
    #[error("{0}; try again later")]
    Unavailable(String),
    /// An operation failed.
    #[error(transparent)]
    Operation(OperationError),
    /// A local database failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

/// Runs, the newest first.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct RunPage {
    /// The runs.
    pub runs: Vec<RunLine>,
    /// Ask for those before this instant to go on; `None`: that was all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Timestamp>,
}

/// Events, the oldest first.
#[derive(Debug, Clone)]
pub struct EventPage {
    /// Which start of the daemon they are of.
    pub instance: String,
    /// The events.
    pub events: Vec<Arc<Event>>,
    /// The first number that is still kept.
    pub oldest: u64,
    /// The last number that was given.
    pub newest: u64,
}

/// A running daemon. Nothing here takes longer than a database query, if it does not say so.
pub trait DaemonHandle: Send + Sync + 'static {
    /// The settings in force. A reload puts others in their place, whole.
    fn settings(&self) -> Arc<Settings>;

    /// The history of runs.
    fn history(&self) -> &History;

    /// The daemon itself.
    fn status(&self) -> DaemonStatus;

    /// Runs that wait or are under way, the oldest first.
    fn live(&self) -> Vec<LiveRun>;

    /// Takes a task on. When this returns, its record is durable.
    ///
    /// # Errors
    /// Unknown names, a full queue, or that the daemon stops.
    fn submit(&self, task: Task, by: &str) -> Result<RunId, DaemonError>;

    /// Runs of the history, at most `limit`.
    ///
    /// # Errors
    /// When the history fails.
    fn runs(&self, filter: &RunFilter, limit: usize) -> Result<RunPage, DaemonError>;

    /// One run, also one that waits or is under way.
    ///
    /// # Errors
    /// When the history fails.
    fn run(&self, id: RunId) -> Result<Option<RunDetail>, DaemonError>;

    /// Asks a run to stop at the next safe place. One that waits ends at once.
    ///
    /// # Errors
    /// When there is no such run, or it ended.
    fn cancel(&self, id: RunId, by: &str) -> Result<(), DaemonError>;

    /// Events after the number `after`, at most `max`.
    fn events(&self, after: u64, max: usize) -> EventPage;

    /// Sees the number of the newest event.
    fn newest_event(&self) -> watch::Receiver<u64>;

    /// How well the objectives are met.
    ///
    /// # Errors
    /// When the history fails.
    fn objectives(&self) -> Result<Vec<ObjectiveLine>, DaemonError>;

    /// The repositories as they were seen last: at most a minute ago, and some seconds after a run
    /// ended. `None`: they were not looked at yet.
    fn repositories_seen(&self) -> Option<Vec<RepositoryStatus>>;

    /// What runs next by itself.
    fn schedule(&self) -> Vec<DueLine>;

    /// All that is paused.
    fn pauses(&self) -> Vec<PauseLine>;

    /// Pauses `subject`: `all`, `machine NAME`, `replica NAME` or `repository NAME`.
    ///
    /// # Errors
    /// Unknown names; when the history fails.
    fn pause(
        &self,
        subject: &str,
        note: Option<String>,
        until: Option<Timestamp>,
        by: &str,
    ) -> Result<(), DaemonError>;

    /// Lets it go on. Returns whether it was paused.
    ///
    /// # Errors
    /// When the history fails.
    fn resume(&self, subject: &str, by: &str) -> Result<bool, DaemonError>;

    /// Reads the settings file again: all of it counts then, or nothing.
    ///
    /// # Errors
    /// [`DaemonError::Settings`] when it is wrong.
    fn reload(&self, by: &str) -> Result<ReloadReport, DaemonError>;

    /// Believes the clock from now on.
    ///
    /// # Errors
    /// When the history fails.
    fn trust_clock(&self, by: &str) -> Result<(), DaemonError>;

    /// Sends a test message over each channel, or one of them. Takes up to a minute.
    ///
    /// # Errors
    /// When there is no such channel.
    fn notify_test(&self, channel: Option<&str>) -> Result<Vec<NotifyTestLine>, DaemonError>;

    /// All metrics, as text of Prometheus.
    ///
    /// # Errors
    /// When they cannot be gathered.
    fn metrics(&self) -> Result<String, DaemonError>;
}

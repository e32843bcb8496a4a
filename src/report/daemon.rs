//! What is told of a daemon and of runs: records, live runs, events, pauses, objectives.

use super::{ExitCode, Message, Summary};
use crate::catalog::{ObjectiveState, ObjectiveSubject, RunKind, RunRecord, RunStatus, RunTrigger};
use crate::progress::Counts;
use crate::units::{Name, PointId, RunId};
use jiff::Timestamp;
use utoipa::ToSchema;

/// A run, in short.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, ToSchema)]
pub struct RunLine {
    /// Its identity.
    #[schema(value_type = String)]
    pub run: RunId,
    /// What it did.
    pub kind: RunKind,
    /// How it ended, or how far it is.
    pub status: RunStatus,
    /// Whether its process died before it ended.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut_off: bool,
    /// The repository, of what is done to a whole one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<Name>,
    /// The machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<Name>,
    /// The replica.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica: Option<Name>,
    /// What made it begin.
    pub trigger: RunTrigger,
    /// The instant that it was due at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<Timestamp>,
    /// Which try it is of what was due; 0 where nothing counts them.
    #[serde(default)]
    pub attempt: u32,
    /// Who asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// When it began; of one that waits, since when.
    pub started: Timestamp,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    /// How long it took, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_s: Option<f64>,
    /// The point that it made or used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub point: Option<PointId>,
    /// What it moved.
    #[serde(flatten)]
    pub counts: Counts,
    /// Why it failed or was skipped, and what to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How it was done, where there is more than one way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// What a command that is this run exits with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<u8>,
    /// What the user should know although it did not stop the run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

impl RunLine {
    /// What is told of a record. `is_running` says whether a run's process lives.
    pub fn new(record: &RunRecord, is_running: impl FnOnce(RunId) -> bool) -> Self {
        let (origin, outcome) = (&record.origin, &record.outcome);
        let took = outcome.ended.map(|ended| ended.duration_since(record.started).as_secs_f64());
        Self {
            run: record.id,
            kind: record.kind,
            status: outcome.status,
            cut_off: outcome.status == RunStatus::Running && !is_running(record.id),
            repository: record.repository.clone(),
            machine: record.machine.clone(),
            replica: record.replica.clone(),
            trigger: origin.trigger,
            due: origin.due,
            attempt: origin.attempt,
            by: origin.by.clone(),
            started: record.started,
            ended: outcome.ended,
            // A clock that was set back meanwhile gives no negative duration.
            duration_s: took.map(|seconds| seconds.max(0.0)),
            point: outcome.point,
            counts: outcome.counts,
            reason: outcome.reason.clone(),
            detail: outcome.detail.clone(),
            exit: outcome.exit,
            warnings: outcome.warnings.clone(),
        }
    }
}

/// A step of a run.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, ToSchema)]
pub struct RunStep {
    /// What was done: `read disk root`.
    pub name: String,
    /// When it began.
    pub started: Timestamp,
    /// How long it took, in seconds; `None` while it lasts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_s: Option<f64>,
}

/// A run, with all that is known of it.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, ToSchema)]
pub struct RunDetail {
    /// In short.
    #[serde(flatten)]
    pub line: RunLine,
    /// What it did, one after the other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<RunStep>,
    /// What was asked for, as it can be asked for again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub task: Option<serde_json::Value>,
    /// Bytes read or written a second, on average.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_s: Option<u64>,
    /// How far it is, while it is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live: Option<LiveRun>,
}

impl RunDetail {
    /// What is told of a record in full.
    pub fn new(record: &RunRecord, is_running: impl FnOnce(RunId) -> bool) -> Self {
        let line = RunLine::new(record, is_running);
        let steps = &record.outcome.steps;
        let next = steps.iter().skip(1).map(|step| Some(step.started));
        let ends = next.chain([record.outcome.ended]);
        let steps = steps.iter().zip(ends).map(|(step, end)| RunStep {
            name: step.name.clone(),
            started: step.started,
            duration_s: end.map(|end| end.duration_since(step.started).as_secs_f64().max(0.0)),
        });
        let moved = line.counts.read.max(line.counts.written);
        let rate = line.duration_s.filter(|seconds| *seconds > 0.0);
        Self {
            steps: steps.collect(),
            task: record.origin.task.clone(),
            bytes_per_s: rate.map(|seconds| (moved as f64 / seconds) as u64),
            live: None,
            line,
        }
    }
}

/// A run that waits or is under way.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, ToSchema)]
pub struct LiveRun {
    /// Its identity.
    #[schema(value_type = String)]
    pub run: RunId,
    /// What is done: `backup of web01`.
    pub work: String,
    /// What it does.
    pub kind: RunKind,
    /// `queued` or `running`.
    pub status: RunStatus,
    /// The machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<Name>,
    /// The replica.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica: Option<Name>,
    /// The repository, of what is done to a whole one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<Name>,
    /// What made it begin.
    pub trigger: RunTrigger,
    /// Since when it waits or is under way.
    pub since: Timestamp,
    /// Why it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
    /// The step that it is at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// Bytes done of those known so far.
    pub bytes_done: u64,
    /// Bytes to do that are known so far.
    pub bytes_total: u64,
    /// What it moved.
    #[serde(flatten)]
    pub counts: Counts,
    /// How long it has been under way, in seconds.
    pub elapsed_s: f64,
    /// Whether it was asked to stop.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stopping: bool,
}

/// Something that happened in the daemon. Numbers begin at 1 with each start of it.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, ToSchema)]
pub struct Event {
    /// Its number.
    pub id: u64,
    /// When it was.
    pub time: Timestamp,
    /// The run that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub run: Option<RunId>,
    /// The machine that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<Name>,
    /// The replica that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica: Option<Name>,
    /// What happened. Not among the fields above: what is told of a run has the same ones.
    pub what: EventKind,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, ToSchema)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum EventKind {
    /// A run waits for its turn.
    Queued(LiveRun),
    /// A run began.
    Started(LiveRun),
    /// How far a run is; once a second at most.
    Progress(LiveRun),
    /// What a run tells meanwhile, such as damage that it found.
    Told {
        /// As a line of `--json`.
        #[schema(value_type = Object)]
        message: Box<Message>,
    },
    /// A run ended.
    Ended(RunEnd),
    /// Runs by themselves were paused or resumed.
    Paused {
        /// All that is paused now.
        pauses: Vec<PauseLine>,
    },
    /// Other settings are in force.
    Reloaded,
    /// An objective is met, at risk or missed now.
    Objective(ObjectiveLine),
    /// The daemon stops.
    Stopping,
}

/// How a run ended, as whoever asked for it is told.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, ToSchema)]
pub struct RunEnd {
    /// Its summary.
    #[schema(value_type = Object)]
    pub summary: Box<Summary>,
    /// What a command that is this run exits with.
    #[schema(value_type = u8)]
    pub exit: ExitCode,
    /// Why it failed, with the next command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Something that is paused: nothing of it begins by itself.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, ToSchema)]
pub struct PauseLine {
    /// What: `all`, `machine web01`, `replica web01-standby`, `repository main`.
    pub subject: String,
    /// Why, in the user's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Since when.
    pub since: Timestamp,
    /// Until when; `None`: until it is resumed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Who paused it.
    pub by: String,
}

/// When something runs next by itself.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, ToSchema)]
pub struct DueLine {
    /// What is done: `backup of web01`.
    pub work: String,
    /// What it does.
    pub kind: RunKind,
    /// The machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<Name>,
    /// The replica.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica: Option<Name>,
    /// The repository, of what is done to a whole one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<Name>,
    /// The schedule; `None`: it follows the backups of its machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
    /// When; `None`: never, or not known yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Timestamp>,
    /// Why it will not run then: a pause, a doubtful clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<String>,
}

/// How well the recovery point objective of a machine or replica is met.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, ToSchema)]
pub struct ObjectiveLine {
    /// The machine.
    pub machine: Name,
    /// The replica, where it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica: Option<Name>,
    /// The objective, in seconds.
    pub rpo_s: u64,
    /// How well it is met.
    pub state: ObjectiveState,
    /// Since when.
    pub since: Timestamp,
    /// How old what could be brought back now is, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag_s: Option<u64>,
    /// Bytes that changed in points that a replica does not have yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag_bytes: Option<u64>,
    /// Why, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// For how much of the last thirty days it was met, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compliance_percent: Option<f64>,
}

impl ObjectiveLine {
    /// What has the objective.
    pub fn subject(&self) -> ObjectiveSubject {
        ObjectiveSubject { machine: self.machine.clone(), replica: self.replica.clone() }
    }
}

/// The daemon itself.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, ToSchema)]
pub struct DaemonStatus {
    /// Its version.
    pub version: String,
    /// Which start of it this is: hexadecimal.
    pub instance: String,
    /// Its process.
    pub pid: u32,
    /// When it started.
    pub started: Timestamp,
    /// The settings file.
    pub settings_file: String,
    /// SHA-256 of the settings that are in force, hexadecimal.
    pub settings_fingerprint: String,
    /// When they were read.
    pub settings_loaded: Timestamp,
    /// Why the last reload kept the old ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reload_error: Option<String>,
    /// Runs under way.
    pub running: usize,
    /// Runs that wait.
    pub queued: usize,
    /// All that is paused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pauses: Vec<PauseLine>,
    /// Why the clock is not believed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_doubt: Option<String>,
    /// What could not be done, such as writing the history.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}

/// What a reload did.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, ToSchema)]
pub struct ReloadReport {
    /// SHA-256 of the settings that are in force now, hexadecimal.
    pub settings_fingerprint: String,
    /// What is different, in words.
    pub changes: Vec<String>,
    /// What only counts after the daemon was started anew.
    pub needs_restart: Vec<String>,
}

/// Whether a test message went.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, ToSchema)]
pub struct NotifyTestLine {
    /// The channel: `webhook ops`.
    pub channel: String,
    /// Why it did not go; `None`: it went.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

//! What is told of runs and states: plain data, the same for people, programs and pages.
//!
//! Each line of `--json` is one [`Message`].

mod daemon;
mod damage;
mod exit;
mod lines;
mod summary;
mod token;
mod usage;

pub use crate::catalog::ObjectiveState;
pub use daemon::{
    DaemonStatus, DueLine, Event, EventKind, LiveRun, NotifyTestLine, ObjectiveLine, PauseLine,
    ReloadReport, RunDetail, RunEnd, RunLine, RunStep,
};
pub use damage::{DamageLine, DamagedPointLine, MissingDisk, PointLabel, VerifiedLine};
pub use exit::ExitCode;
pub use lines::{
    Activity, DiskLine, KeySlotLine, LastRun, MachineStatus, PinLine, PlanLine, PointAt, PointLine,
    PruneDecision, ReplicaStatus, RepositoryStatus, SettingsLine, StepLine,
};
pub use summary::{Action, DifferingDisk, Range, RecoveryKeyText, Summary, Tally};
pub use token::{NewToken, TokenLine};
pub use usage::{PacksUsage, UsageLine, UsageScope};

use crate::audit::{AuditLine, AuditVerdict};

/// A line of JSON; `message_type` says which.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "message_type", rename_all = "snake_case")]
pub enum Message {
    /// How a run ended. The last line of every command is one.
    Summary(Summary),
    /// How far a run is.
    Status(Activity),
    /// A recovery point.
    Point(PointLine),
    /// The state of a machine.
    Machine(MachineStatus),
    /// The state of a replica.
    Replica(ReplicaStatus),
    /// The state of a repository.
    Repository(RepositoryStatus),
    /// What a repository, a machine or a point costs.
    Usage(UsageLine),
    /// A key slot.
    KeySlot(KeySlotLine),
    /// What a restore will write.
    Plan(PlanLine),
    /// What becomes of a point when its machine is pruned.
    PruneDecision(PruneDecision),
    /// Something of a repository that is damaged.
    Damage(DamageLine),
    /// A point that cannot be restored in full.
    DamagedPoint(DamagedPointLine),
    /// A step of the demonstration.
    Step(StepLine),
    /// A run of the history.
    Run(RunLine),
    /// A run of the history, in full.
    RunDetail(Box<RunDetail>),
    /// When something runs next by itself.
    Due(DueLine),
    /// Something that is paused.
    Pause(PauseLine),
    /// How well an objective is met.
    Objective(ObjectiveLine),
    /// The daemon.
    Daemon(DaemonStatus),
    /// Whether a test message went.
    NotifyTest(NotifyTestLine),
    /// A token of the API.
    Token(TokenLine),
    /// A token that was made, with its secret.
    NewToken(NewToken),
    /// A line of the audit log.
    Audit(AuditLine),
    /// What a verification of the audit log found.
    AuditVerdict(AuditVerdict),
    /// Something that is right in the settings, but does less than may be expected.
    Notice(SettingsLine),
    /// Something that the user should know.
    Warning {
        /// In words.
        message: String,
    },
    /// An error; on standard error.
    ExitError(ErrorReport),
}

/// An error, for programs.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ErrorReport {
    /// What the process exits with, if this is its only error.
    pub code: ExitCode,
    /// The message for people.
    pub message: String,
    /// All that is wrong in the settings, where that is the error.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<SettingsLine>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_survives_json() {
        let error = ErrorReport { code: ExitCode::Busy, message: "no".into(), problems: vec![] };
        let message = Message::ExitError(error);
        let text = serde_json::to_string(&message).unwrap();
        assert_eq!(text, r#"{"message_type":"exit_error","code":11,"message":"no"}"#);
        assert_eq!(serde_json::from_str::<Message>(&text).unwrap(), message);
    }
}

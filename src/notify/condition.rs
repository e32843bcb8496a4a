//! What is wrong now: each condition is told when it begins, when it becomes worse, and when it
//! ends; not again while it lasts.
//!
//! Invariant: of one condition, what is told alternates: begun (then perhaps worse), ended, begun …
//! One that comes and goes too often is told of once as unsteady, and then only when it stayed the
//! same for [`STEADY`].

use crate::settings::NotifyKind;
use crate::units::{Name, NotificationId};
use jiff::{SignedDuration, Timestamp};

/// Begins of one condition within [`UNSTEADY_WINDOW`] from which on it is unsteady.
pub const BEGINS_MAX: usize = 4;
/// The time in which they are counted.
pub const UNSTEADY_WINDOW: SignedDuration = SignedDuration::from_hours(6);
/// How long an unsteady condition must stay the same before it is told of again.
pub const STEADY: SignedDuration = SignedDuration::from_hours(1);

/// What can be wrong.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum ConditionKey {
    /// The last run of a task failed, and is not tried again by itself.
    RunFailed {
        /// The task in words: `backup of web01`.
        task: String,
    },
    /// A machine or replica is later than its objective, or will be.
    Late {
        /// Which one, in words: `replica web01-standby`.
        subject: String,
    },
    /// A repository holds damage.
    Damage {
        /// Its name.
        repository: Name,
    },
    /// A replica is not what its point says.
    Differs {
        /// Its name.
        replica: Name,
    },
    /// The clock is not believed.
    Clock,
    /// A file system is nearly full.
    Space {
        /// A path on it.
        path: String,
    },
}

impl ConditionKey {
    /// Who wants to be told.
    pub fn kind(&self) -> NotifyKind {
        match self {
            Self::RunFailed { .. } | Self::Clock | Self::Space { .. } => NotifyKind::Failure,
            Self::Late { .. } => NotifyKind::Late,
            Self::Damage { .. } | Self::Differs { .. } => NotifyKind::Damage,
        }
    }

    /// That it is so, in a few words.
    pub fn title(&self, severity: Severity) -> String {
        match (self, severity) {
            (Self::RunFailed { task }, _) => format!("{task} failed"),
            (Self::Late { subject }, Severity::Warning) => {
                format!("{subject} is about to miss its objective")
            }
            (Self::Late { subject }, Severity::Error) => format!("{subject} misses its objective"),
            (Self::Damage { repository }, _) => format!("repository {repository} is damaged"),
            (Self::Differs { replica }, _) => format!("replica {replica} differs from its point"),
            (Self::Clock, _) => "the clock is in doubt".to_owned(),
            (Self::Space { path }, _) => format!("{path} is nearly full"),
        }
    }

    /// That it is over, in a few words.
    pub fn title_ended(&self) -> String {
        match self {
            Self::RunFailed { task } => format!("{task} succeeds again"),
            Self::Late { subject } => format!("{subject} meets its objective again"),
            Self::Damage { repository } => format!("repository {repository} is whole again"),
            Self::Differs { replica } => format!("replica {replica} agrees with its point again"),
            Self::Clock => "the clock is believed again".to_owned(),
            Self::Space { path } => format!("{path} has room again"),
        }
    }

    /// Under which it is kept.
    pub(super) fn stored(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }
}

/// How bad it is.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It will be bad if nothing changes.
    Warning,
    /// It is bad.
    Error,
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Wrong {
    /// How bad it is.
    pub severity: Severity,
    /// Why, for people.
    pub text: String,
    /// The command to run next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// What was found of one thing that can be wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// What it is about.
    pub key: ConditionKey,
    /// What is wrong; `None`: all is well.
    pub wrong: Option<Wrong>,
}

/// What was told of a condition that has not ended for those who were told.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ToldOf {
    /// The worst that was told.
    pub severity: Severity,
    /// The notification that told of its beginning.
    pub id: NotificationId,
}

/// A thing that is wrong, or was not long ago.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Condition {
    /// What it is about.
    pub key: ConditionKey,
    /// What is wrong; `None`: it is well again.
    pub wrong: Option<Wrong>,
    /// When it last began.
    pub since: Timestamp,
    /// When it last changed.
    pub changed: Timestamp,
    /// What was told.
    pub told: Option<ToldOf>,
    /// When its last beginnings were told.
    pub begins: Vec<Timestamp>,
    /// It came and went too often: nothing is told until it stays the same.
    pub unsteady: bool,
}

/// What is to be told of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// It began.
    Began,
    /// It became worse.
    Worse,
    /// It ended.
    Ended,
}

/// A condition after something happened, and what is to be told of that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The condition now.
    pub condition: Condition,
    /// What is to be told, and the notification that told of the beginning.
    pub telling: Option<(Step, NotificationId)>,
}

/// What an observation changes. `before` is the condition as it was known; `id` names the
/// notification, if there is one. `None`: nothing.
pub fn observe(
    before: Option<&Condition>,
    observation: &Observation,
    now: Timestamp,
    id: NotificationId,
) -> Option<Change> {
    let severity = |wrong: &Option<Wrong>| wrong.as_ref().map(|wrong| wrong.severity);
    let known = before.and_then(|condition| severity(&condition.wrong));
    if known == severity(&observation.wrong) {
        return None;
    }
    let mut condition = before.cloned().unwrap_or_else(|| Condition {
        key: observation.key.clone(),
        wrong: None,
        since: now,
        changed: now,
        told: None,
        begins: Vec::new(),
        unsteady: false,
    });
    if condition.wrong.is_none() {
        condition.since = now;
    }
    condition.wrong.clone_from(&observation.wrong);
    condition.changed = now;
    let telling = condition.tell(now, id);
    Some(Change { condition, telling })
}

/// What the passing of time changes. `None`: nothing.
pub fn pass(before: &Condition, now: Timestamp, id: NotificationId) -> Option<Change> {
    if !before.unsteady {
        return None;
    }
    let mut condition = before.clone();
    // The clock was set back: what it says of the past is worth nothing.
    condition.changed = condition.changed.min(now);
    let telling = condition.tell(now, id);
    (condition != *before).then_some(Change { condition, telling })
}

impl Condition {
    /// Whether nothing of it need be known any more.
    pub fn is_over(&self, now: Timestamp) -> bool {
        let counts = |begin: &Timestamp| now.duration_since(*begin).abs() < UNSTEADY_WINDOW;
        self.wrong.is_none() && self.told.is_none() && !self.begins.iter().any(counts)
    }

    fn tell(&mut self, now: Timestamp, id: NotificationId) -> Option<(Step, NotificationId)> {
        if self.unsteady && now.duration_since(self.changed) < STEADY {
            return None;
        }
        self.unsteady = false;
        match (&self.wrong, &mut self.told) {
            (Some(wrong), None) => {
                let severity = wrong.severity;
                let counts = |begin: &Timestamp| {
                    let age = now.duration_since(*begin);
                    !age.is_negative() && age < UNSTEADY_WINDOW
                };
                self.begins.retain(counts);
                self.begins.push(now);
                self.unsteady = self.begins.len() >= BEGINS_MAX;
                self.told = Some(ToldOf { severity, id });
                Some((Step::Began, id))
            }
            (Some(wrong), Some(told)) if wrong.severity > told.severity => {
                told.severity = wrong.severity;
                Some((Step::Worse, told.id))
            }
            (None, Some(_)) => self.told.take().map(|told| (Step::Ended, told.id)),
            _ => None,
        }
    }
}

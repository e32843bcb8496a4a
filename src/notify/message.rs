//! What is sent: one notification, as a program reads it and as people do.

use super::condition::{Change, Condition, ConditionKey, Severity, Step};
use super::report::DailyReport;
use crate::units::{NotificationId, printable, readable};
use jiff::Timestamp;

/// The version of the schema that [`Notification`] has as JSON.
pub const SCHEMA_VERSION: u32 = 1;

/// Longest text of a condition, in characters.
const TEXT_CHARS_MAX: usize = 2000;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A condition began.
    Began,
    /// A condition became worse.
    Worse,
    /// A condition ended.
    Ended,
    /// The daily report.
    Report,
    /// A test.
    Test,
}

/// How much it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Weight {
    /// Good to know.
    Info,
    /// It will be bad if nothing changes.
    Warning,
    /// It is bad.
    Error,
}

impl From<Severity> for Weight {
    fn from(severity: Severity) -> Self {
        match severity {
            Severity::Warning => Self::Warning,
            Severity::Error => Self::Error,
        }
    }
}

/// The condition that a notification tells of.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ConditionBody {
    /// What it is about.
    #[serde(flatten)]
    pub key: ConditionKey,
    /// When it began.
    pub since: Timestamp,
    /// The notification that told of its beginning.
    pub began: NotificationId,
    /// It comes and goes: nothing more is told until it stays the same for an hour.
    pub unsteady: bool,
}

/// One notification. Its JSON is what webhooks get; `docs/notifications.md` describes it.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Notification {
    /// [`SCHEMA_VERSION`].
    pub version: u32,
    /// Its identity: the same for all attempts, so that a receiver can drop doubles.
    pub id: NotificationId,
    /// What happened.
    pub kind: Kind,
    /// What it belongs to: `failure`, `late`, `damage`, `report` or `test`.
    pub category: String,
    /// How much it matters.
    pub severity: Weight,
    /// When it happened.
    pub time: Timestamp,
    /// The host that tells it.
    pub host: String,
    /// It, in one line.
    pub title: String,
    /// It, in words.
    pub text: String,
    /// The command to run next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// The condition, where it tells of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<ConditionBody>,
    /// The daily report, where it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<DailyReport>,
}

impl Notification {
    /// What is to be told of a change; `None`: nothing.
    pub fn of_change(
        change: &Change,
        id: NotificationId,
        host: &str,
        now: Timestamp,
    ) -> Option<Self> {
        let (step, began) = change.telling?;
        let Condition { key, wrong, since, unsteady, .. } = &change.condition;
        let (title, kind) = match (wrong, step) {
            (Some(wrong), Step::Began) => (key.title(wrong.severity), Kind::Began),
            (Some(wrong), _) => (key.title(wrong.severity), Kind::Worse),
            (None, _) => (key.title_ended(), Kind::Ended),
        };
        let mut text = match wrong {
            Some(wrong) => words(&wrong.text),
            None => format!("It was so since {since:.0}."),
        };
        if *unsteady {
            text += "\nIt comes and goes. Nothing more is told of it until it stays the same for \
                     an hour.";
        }
        Some(Self {
            version: SCHEMA_VERSION,
            id,
            kind,
            category: key.kind().word().to_owned(),
            severity: wrong.as_ref().map_or(Weight::Info, |wrong| wrong.severity.into()),
            time: now,
            host: host.to_owned(),
            title: readable(title),
            text,
            next: wrong.as_ref().and_then(|wrong| wrong.next.as_ref()).map(readable),
            condition: Some(ConditionBody {
                key: key.clone(),
                since: *since,
                began,
                unsteady: *unsteady,
            }),
            report: None,
        })
    }

    /// The daily report.
    pub fn of_report(report: &DailyReport, id: NotificationId, host: &str, now: Timestamp) -> Self {
        Self {
            version: SCHEMA_VERSION,
            id,
            kind: Kind::Report,
            category: "report".to_owned(),
            severity: Weight::Info,
            time: now,
            host: host.to_owned(),
            title: report.title(),
            text: report.text(),
            next: None,
            condition: None,
            report: Some(report.clone()),
        }
    }

    /// A test.
    pub fn of_test(id: NotificationId, host: &str, now: Timestamp) -> Self {
        Self {
            version: SCHEMA_VERSION,
            id,
            kind: Kind::Test,
            category: "test".to_owned(),
            severity: Weight::Info,
            time: now,
            host: host.to_owned(),
            title: "a test".to_owned(),
            text: "This is a test of afterimage's notifications. There is nothing to do."
                .to_owned(),
            next: None,
            condition: None,
            report: None,
        }
    }

    /// The subject of its mail.
    pub fn subject(&self) -> String {
        let ended = if self.kind == Kind::Ended { "over: " } else { "" };
        readable(format_args!("[afterimage {}] {ended}{}", self.host, self.title))
    }

    /// The text of its mail.
    pub fn mail_text(&self) -> String {
        let mut text = format!("{}\n\n{}\n", self.title, self.text);
        if let Some(next) = &self.next {
            text += &format!("\nNext: {next}\n");
        }
        text + &format!("\nHost: {}\nTime: {:.0}\nId: {}\n", self.host, self.time, self.id)
    }
}

/// A text that may come from outside: it keeps its lines and ends.
fn words(text: &str) -> String {
    let text = printable(text);
    let mut words: String = text.chars().take(TEXT_CHARS_MAX).collect();
    if words.len() < text.len() {
        words.push('…');
    }
    words
}

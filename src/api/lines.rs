//! What only the API tells and takes.

use crate::audit::AuditLine;
use crate::catalog::Scope;
use crate::report::{PointLine, UsageLine};
use crate::units::{Name, RunId};
use jiff::Timestamp;
use std::collections::BTreeSet;
use utoipa::ToSchema;

/// That the daemon answers. Everybody may see this, so it tells nothing else.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, ToSchema)]
pub struct Health {
    /// `ok`, or `stopping`.
    pub status: String,
}

/// A run that was taken on.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, ToSchema)]
pub struct Started {
    /// The run.
    pub run: RunId,
}

/// Lines on the state of things, and what could not be found out.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, ToSchema)]
pub struct StateLines<T> {
    /// The lines.
    pub lines: Vec<T>,
    /// What could not be found out, or is damaged.
    pub warnings: Vec<String>,
}

/// Recovery points, the newest first.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, ToSchema)]
pub struct PointsPage {
    /// The points.
    pub points: Vec<PointLine>,
    /// How many there are in all.
    pub total: usize,
    /// What is damaged, or could not be read.
    pub warnings: Vec<String>,
}

/// What repositories, machines and points cost.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, ToSchema)]
pub struct UsageLines {
    /// The whole repository, then its machines, then the points that were asked for.
    pub usage: Vec<UsageLine>,
    /// What is damaged, or could not be read.
    pub warnings: Vec<String>,
}

/// A token that is asked for.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewTokenOrder {
    /// Its name.
    pub name: Name,
    /// What it may be used for.
    pub scopes: BTreeSet<Scope>,
    /// The machines that it is for; not there: all, and the whole site.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machines: Option<BTreeSet<Name>>,
    /// When it ends; not there: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
}

/// What to pause or resume.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PauseOrder {
    /// `all`, `machine NAME`, `replica NAME` or `repository NAME`.
    pub subject: String,
    /// Why; not for a resumption.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Until when; not there: until it is resumed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// What became of a resumption.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, ToSchema)]
pub struct Resumed {
    /// Whether it was paused.
    pub was_paused: bool,
}

/// A point to pin or unpin.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PinOrder {
    /// The machine; it need not be in the settings any more.
    pub machine: String,
    /// `latest`, the first digits of its id, `#12`, or a time.
    pub point: String,
    /// Why it is kept; not for an unpin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// IANA name of the zone of a time that names none; the daemon's own, if it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
}

/// Which channel to test.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NotifyOrder {
    /// `webhook NAME` or `mail NAME`; not there: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
}

/// Lines of the audit log, the oldest first.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, ToSchema)]
pub struct AuditPage {
    /// The lines.
    pub lines: Vec<AuditLine>,
    /// Ask for those before this number to go on; not there: that was all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

/// What the settings name, without anything that may be secret.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, ToSchema)]
pub struct ConfigLine {
    /// The settings file.
    pub file: String,
    /// SHA-256 of the settings that are in force, hexadecimal.
    pub fingerprint: String,
    /// Repositories.
    pub repositories: Vec<Name>,
    /// Machines.
    pub machines: Vec<Name>,
    /// Replicas.
    pub replicas: Vec<Name>,
}

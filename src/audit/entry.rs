//! Lines of the log.

use crate::units::{Hex, readable};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

/// SHA-256 of a line's bytes, without its newline.
pub type LineDigest = Hex<32>;

/// What comes before the first line.
pub(super) const NO_LINE: LineDigest = Hex([0; 32]);
/// Longest line, in bytes. The texts of an entry are cut so that it is never reached.
pub(super) const LINE_BYTES_MAX: usize = 16 * 1024;
/// Longest text of an entry, in characters.
const TEXT_CHARS_MAX: usize = 400;

/// How it ended.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum AuditOutcome {
    /// It is allowed, and will be done now.
    Asked,
    /// It was done.
    Done,
    /// It was not allowed.
    Refused,
    /// It was allowed, and failed.
    Failed,
}

/// What is recorded.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct AuditEntry {
    /// Who asked: `token:NAME`, `uid:N`, `signal`, or `nobody` without a token that is known.
    pub who: String,
    /// From where: an address, or `socket`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// What was asked for: `POST /v1/runs`, `token add`.
    pub what: String,
    /// What it is about: `backup of web01`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// How it ended.
    pub outcome: AuditOutcome,
    /// Why, or what came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// How many times, where more than one is told of in one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
}

impl AuditEntry {
    /// Somebody asked for something, and it ended so.
    pub fn new(who: impl Into<String>, what: impl Into<String>, outcome: AuditOutcome) -> Self {
        let (who, what) = (who.into(), what.into());
        Self { who, peer: None, what, subject: None, outcome, detail: None, count: None }
    }

    /// With texts of a bounded length and without control characters: they may come from a peer.
    pub(super) fn bounded(&self) -> Self {
        let cut = |text: &str| readable(text).chars().take(TEXT_CHARS_MAX).collect::<String>();
        Self {
            who: cut(&self.who),
            peer: self.peer.as_deref().map(cut),
            what: cut(&self.what),
            subject: self.subject.as_deref().map(cut),
            outcome: self.outcome,
            detail: self.detail.as_deref().map(cut),
            count: self.count,
        }
    }
}

/// What a crash left of a line, right before the line that tells of it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema,
)]
pub struct Torn {
    /// Its length, with all that is between the two lines.
    pub bytes: u64,
    /// SHA-256 of that.
    pub sha256: LineDigest,
}

/// Old lines that were removed, with the file that they were in.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema,
)]
pub struct Removed {
    /// The last of them.
    pub through: u64,
    /// SHA-256 of that line.
    pub sha256: LineDigest,
}

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct AuditLine {
    /// Its number; the first is 1.
    pub sequence: u64,
    /// When it was written.
    pub time: Timestamp,
    /// What is recorded.
    #[serde(flatten)]
    pub entry: AuditEntry,
    /// What a crash left before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub torn: Option<Torn>,
    /// What was removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed: Option<Removed>,
    /// SHA-256 of the line before it.
    pub before: LineDigest,
}

impl AuditLine {
    /// Reads a line, without its newline. `None` when it is none.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > LINE_BYTES_MAX {
            return None;
        }
        serde_json::from_slice(bytes).ok()
    }
}

/// The digest of a line, without its newline.
pub(super) fn digest(line: &[u8]) -> LineDigest {
    Hex(Sha256::digest(line).into())
}

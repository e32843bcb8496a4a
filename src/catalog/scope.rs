//! What a token of the API may be used for.

use std::fmt;
use std::str::FromStr;

/// What a token may be used for. None of them includes another one, but `admin` all of them.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Look at everything.
    Read,
    /// Back machines up.
    Backup,
    /// Bring replicas to newer points and compare them with these.
    Replicate,
    /// Restore points.
    Recover,
    /// Remove points that nothing keeps, and the space that they took.
    Prune,
    /// Everything, with tokens, settings and repairs.
    Admin,
}

impl Scope {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Read, Self::Backup, Self::Replicate, Self::Recover, Self::Prune, Self::Admin];

    /// As it is written.
    pub fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Backup => "backup",
            Self::Replicate => "replicate",
            Self::Recover => "recover",
            Self::Prune => "prune",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A word that is no scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("that is no scope; there are read, backup, replicate, recover, prune and admin")]
pub struct UnknownScope;

impl FromStr for Scope {
    type Err = UnknownScope;

    fn from_str(text: &str) -> Result<Self, UnknownScope> {
        Self::ALL.into_iter().find(|scope| scope.word() == text).ok_or(UnknownScope)
    }
}

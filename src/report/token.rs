//! What is told of tokens of the API.

use crate::catalog::{Scope, Token};
use crate::units::Name;
use jiff::Timestamp;
use std::collections::BTreeSet;
use utoipa::ToSchema;

/// A token, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, ToSchema)]
pub struct TokenLine {
    /// Its name.
    pub name: Name,
    /// What it may be used for.
    pub scopes: BTreeSet<Scope>,
    /// The machines that it is for; not there: all, and the whole site.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machines: Option<BTreeSet<Name>>,
    /// When it was made.
    pub created: Timestamp,
    /// When it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// When it was last used, to a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<Timestamp>,
    /// When it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<Timestamp>,
    /// Whether it counts now.
    pub valid: bool,
}

impl TokenLine {
    /// What is told of a token at `now`.
    pub fn new(token: Token, now: Timestamp) -> Self {
        let valid = token.is_valid(now);
        let Token { name, grant, used, revoked } = token;
        Self {
            name,
            scopes: grant.scopes,
            machines: grant.machines,
            created: grant.created,
            expires: grant.expires,
            used,
            revoked,
            valid,
        }
    }
}

/// A token that was made. `Debug` hides it.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, ToSchema)]
pub struct NewToken {
    /// Its name.
    pub name: Name,
    /// The token itself. It is told here and nowhere else, once.
    pub token: String,
}

impl std::fmt::Debug for NewToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewToken").field("name", &self.name).finish_non_exhaustive()
    }
}

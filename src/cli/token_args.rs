//! What is typed to work with tokens, the audit log and notifications.

use crate::catalog::Scope;
use crate::units::Name;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};

/// A scope by its word.
fn scope() -> impl TypedValueParser<Value = Scope> {
    PossibleValuesParser::new(Scope::ALL.map(Scope::word))
        .try_map(|word| serde_json::from_value::<Scope>(serde_json::Value::String(word)))
}

#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Make a token for the API, and show it: once.
    Add(TokenAddArgs),
    /// List tokens, without their secrets.
    List,
    /// Revoke a token.
    Remove {
        /// The token.
        name: Name,
    },
}

#[derive(Debug, Args)]
pub(super) struct TokenAddArgs {
    /// What it is called.
    pub name: Name,
    /// What it may be used for; may be repeated.
    #[arg(long = "scope", value_name = "SCOPE", required = true, value_parser = scope())]
    pub scopes: Vec<Scope>,
    /// Only for this machine of the settings and its replicas; may be repeated.
    #[arg(long = "machine", value_name = "MACHINE")]
    pub machines: Vec<String>,
    /// When it ends: a time such as `2027-01-31`, or how long from now, as `90 days`.
    #[arg(long, value_name = "TIME")]
    pub expires: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct AuditArgs {
    /// Check the chain of all lines, and tell the first one that breaks it.
    #[arg(long)]
    pub verify: bool,
    /// At most so many lines, the newest ones.
    #[arg(short = 'n', long = "limit", value_name = "COUNT", default_value_t = 20,
        value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub limit: u32,
}

#[derive(Debug, Subcommand)]
pub(super) enum NotifyCommand {
    /// Send a test message over each channel, and tell whether it went.
    Test {
        /// Only this channel, such as `ops` or `webhook ops`.
        #[arg(value_name = "CHANNEL")]
        channel: Option<String>,
    },
}

//! Reads `[notify]`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::units::Name;

/// Who is told what.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NotifySettings {
    /// When the daily report is made; `None`: never.
    pub report: Option<ReportSettings>,
    /// Servers that are called.
    pub webhooks: BTreeMap<Name, WebhookSettings>,
    /// People who get mail.
    pub mails: BTreeMap<Name, MailSettings>,
}

/// When the daily report is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportSettings {
    /// Minute of the day, less than [`crate::units::DAY_MINUTES`].
    pub minute: u16,
    /// IANA name of its zone; [`super::TIMEZONE_LOCAL`] is the host's.
    pub timezone: String,
}

/// What can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NotifyKind {
    /// A run failed.
    Failure,
    /// A machine or replica is later than its `rpo`, or will be.
    Late,
    /// What was told of is over.
    Recovery,
    /// A backup or replica is damaged.
    Damage,
    /// The daily report.
    Report,
}

impl NotifyKind {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Failure, Self::Late, Self::Recovery, Self::Damage, Self::Report];

    /// The word for it in the file.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Failure => "failure",
            Self::Late => "late",
            Self::Recovery => "recovery",
            Self::Damage => "damage",
            Self::Report => "report",
        }
    }
}

/// A server that is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookSettings {
    /// Its name in this file.
    pub name: Name,
    /// Its address: https, or http to a loopback address or with `allow_private`; it names no user.
    pub url: String,
    /// File with the secret that signs what is sent; `None`: it is not signed.
    pub secret_file: Option<PathBuf>,
    /// The address may be one of a private network.
    pub allow_private: bool,
    /// PEM file: certificates of more authorities that may have signed the server's.
    pub authority: Option<PathBuf>,
    /// What it is told; never empty.
    pub on: BTreeSet<NotifyKind>,
}

/// People who get mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailSettings {
    /// Its name in this file.
    pub name: Name,
    /// Host name or address of the mail server.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is secured.
    pub security: MailSecurity,
    /// Who logs in, and the file with the password; `None`: nobody does.
    pub login: Option<(String, PathBuf)>,
    /// PEM file: certificates of more authorities that may have signed the server's.
    pub authority: Option<PathBuf>,
    /// Who it is from.
    pub from: String,
    /// Who gets it; never empty.
    pub to: Vec<String>,
    /// What they are told; never empty.
    pub on: BTreeSet<NotifyKind>,
}

/// How a connection to a mail server is secured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailSecurity {
    /// By TLS from its first byte.
    Tls,
    /// By STARTTLS, without which nothing is sent.
    StartTls,
    /// Not at all: the server is on this host.
    None,
}

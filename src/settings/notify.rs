//! Reads `[notify]`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Deref;
use std::path::PathBuf;

use super::findings::Findings;
use super::mail::{self, MailDraft};
use super::named::{self, Context};
use super::page::{NOWHERE, Span};
use super::reader::{Located, TableReader};
use super::webhook::{self, WebhookDraft};
use super::{times, values};
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

/// The address of a server that is called. What follows the host may be a secret: it is shown neither
/// by `Display` nor by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookUrl(String);

impl From<String> for WebhookUrl {
    fn from(url: String) -> Self {
        Self(url)
    }
}

/// All of it.
impl Deref for WebhookUrl {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host_from = self.0.find("://").map_or(0, |at| at + "://".len());
        let host_to = self.0[host_from..].find(['/', '?', '#']).map(|at| host_from + at);
        write!(f, "{}/…", &self.0[..host_to.unwrap_or(self.0.len())])
    }
}

impl fmt::Debug for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A server that is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookSettings {
    /// Its name in this file.
    pub name: Name,
    /// Its address: https, or http to a loopback address or with `allow_private`; it names no user.
    pub url: WebhookUrl,
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

/// `[notify]` as far as it could be read.
#[derive(Debug, Default)]
pub(super) struct NotifyDraft {
    /// Where `report` stands, and when that is.
    pub(super) report: Option<Located<ReportSettings>>,
    pub(super) webhooks: Vec<WebhookDraft>,
    pub(super) mails: Vec<MailDraft>,
}

impl NotifyDraft {
    /// The settings; `None` when something is wrong.
    pub(super) fn into_settings(self) -> Option<NotifySettings> {
        let webhooks = self.webhooks.into_iter().map(|draft| {
            let settings = draft.settings?;
            Some((settings.name.clone(), settings))
        });
        let mails = self.mails.into_iter().map(|draft| {
            let settings = draft.settings?;
            Some((settings.name.clone(), settings))
        });
        Some(NotifySettings {
            report: self.report.map(|report| report.value),
            webhooks: webhooks.collect::<Option<_>>()?,
            mails: mails.collect::<Option<_>>()?,
        })
    }

    /// What each webhook and mail is for, with where that stands.
    pub(super) fn receivers(&self) -> impl Iterator<Item = &OnDraft> {
        let webhooks = self.webhooks.iter().map(|draft| &draft.on);
        webhooks.chain(self.mails.iter().map(|draft| &draft.on))
    }
}

/// Reads `[notify]` and what is below it.
pub(super) fn read(
    root: &mut TableReader<'_>,
    context: &Context<'_>,
    findings: &mut Findings<'_>,
) -> NotifyDraft {
    let Some(mut reader) = named::section(root, "notify", findings) else {
        return NotifyDraft::default();
    };
    let report = reader.field("report").and_then(|field| {
        let minute = times::minute_of_day(&field, findings)?;
        let value = ReportSettings { minute, timezone: context.timezone.clone() };
        Some(Located { value, at: field.key_at })
    });
    let webhooks = named::tables(&mut reader, "webhook", findings);
    let mails = named::tables(&mut reader, "mail", findings);
    reader.finish(findings);
    NotifyDraft {
        report,
        webhooks: webhooks
            .into_iter()
            .map(|(name, reader)| webhook::read(name.value, reader, context, findings))
            .collect(),
        mails: mails
            .into_iter()
            .map(|(name, reader)| mail::read(name.value, reader, context, findings))
            .collect(),
    }
}

/// What somebody is told, and where that stands; nowhere when the file does not say.
#[derive(Debug)]
pub(super) struct OnDraft {
    pub(super) kinds: BTreeSet<NotifyKind>,
    pub(super) at: Span,
}

/// Reads what somebody is told: everything, if the file does not say.
pub(super) fn on(reader: &mut TableReader<'_>, findings: &mut Findings<'_>) -> OnDraft {
    let all = || NotifyKind::ALL.into_iter().collect();
    let Some(field) = reader.field("on") else { return OnDraft { kinds: all(), at: NOWHERE } };
    let words = NotifyKind::ALL.map(|kind| (kind.word(), kind));
    let at = field.key_at.clone();
    let kinds = match (field.as_str(), times::elements(&field, "kind of message", findings)) {
        (Some(_), _) => values::choice(&field, &words, findings).into_iter().collect(),
        (None, Some(elements)) => elements
            .iter()
            .filter_map(|element| values::choice(element, &words, findings))
            .collect(),
        (None, None) => all(),
    };
    OnDraft { kinds, at }
}

/// A file that must be readable when something is told.
pub(super) fn file(
    reader: &mut TableReader<'_>,
    key: &'static str,
    context: &Context<'_>,
    findings: &mut Findings<'_>,
) -> Option<Located<PathBuf>> {
    reader.field(key).and_then(|field| values::path(&field, context.folder, findings))
}

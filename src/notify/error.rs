//! Why a notification does not arrive. No message of these holds a secret or the path of an address.

use crate::catalog::CatalogError;
use std::path::PathBuf;

/// Notifications cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum NotifyError {
    /// The history failed.
    #[error(transparent)]
    History(#[from] CatalogError),
    /// No thread could be started.
    #[error(
        "cannot start the thread that sends notifications: {0}; the system has too many threads or too little memory"
    )]
    Thread(#[source] std::io::Error),
    /// The system gives no random bytes.
    #[error("cannot name a notification: the system gives no random bytes: {0}")]
    Random(#[source] std::io::Error),
    /// Something could not be written as JSON.
    #[error("cannot write a notification: {0}")]
    Json(#[from] serde_json::Error),
    /// No channel has that name.
    #[error(
        "the settings name no channel {name}; `[notify.webhook.NAME]` and `[notify.mail.NAME]` do"
    )]
    NoChannel {
        /// The name.
        name: String,
    },
    /// The zone of the daily report is not known.
    #[error(
        "the daily report cannot be made in the time zone {name:?}: {source}; correct `timezone` in the settings"
    )]
    Zone {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: jiff::Error,
    },
}

/// An attempt to deliver a notification failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeliveryError {
    /// A file of a secret or of certificates cannot be used.
    #[error("cannot use {}: {why}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The host has no address that may be connected to.
    #[error(
        "{host} has only addresses of private networks; set `allow_private = true` if that is meant"
    )]
    Private {
        /// The host.
        host: String,
    },
    /// Without TLS only private addresses are connected to.
    #[error(
        "{host} is not on this host or in a private network, and nothing is sent there without TLS; use https, smtps or STARTTLS"
    )]
    Unprotected {
        /// The host.
        host: String,
    },
    /// What the settings say cannot be used.
    #[error("{what}; correct it in the settings")]
    Settings {
        /// What is wrong.
        what: String,
    },
    /// There is no answer.
    #[error("{host} cannot be reached: {why}")]
    Unreachable {
        /// The host.
        host: String,
        /// Why.
        why: String,
    },
    /// It took too long.
    #[error("{host} did not take it within {seconds} s")]
    Late {
        /// The host.
        host: String,
        /// How long that is.
        seconds: u64,
    },
    /// The server does not take it.
    #[error("{host} refused it: {why}")]
    Refused {
        /// The host.
        host: String,
        /// What it said.
        why: String,
    },
}

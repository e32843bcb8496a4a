//! Webhooks: an HTTP request with the notification as JSON, signed, to one address.

use super::address::Reach;
use super::message::Notification;
use super::{DeliveryError, secret};
use crate::settings::WebhookSettings;
use crate::units::readable;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::CONTENT_TYPE;
use sha2::Sha256;
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;

/// Header with the identity of the notification.
pub const HEADER_ID: &str = "Afterimage-Id";
/// Header with the time of the attempt, in seconds since 1970.
pub const HEADER_TIMESTAMP: &str = "Afterimage-Timestamp";
/// Header with the signature: `t=SECONDS,v1=HEX`, where HEX is HMAC-SHA-256 of `SECONDS.BODY`.
pub const HEADER_SIGNATURE: &str = "Afterimage-Signature";

/// The signature of a body, as the header has it.
pub fn signature(secret: &[u8], seconds: i64, body: &[u8]) -> String {
    let mut text = format!("t={seconds},v1=");
    // A key of any length fits.
    if let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) {
        mac.update(format!("{seconds}.").as_bytes());
        mac.update(body);
        for byte in mac.finalize().into_bytes() {
            // A string takes whatever is written to it.
            let _ = write!(text, "{byte:02x}");
        }
    }
    text
}

/// Where a webhook's address leads.
struct Place {
    url: Url,
    host: String,
    port: u16,
    reach: Reach,
}

impl Place {
    /// No message of its errors holds the address: a part of it may be secret.
    fn new(settings: &WebhookSettings) -> Result<Self, DeliveryError> {
        let wrong = |what: &str| DeliveryError::Settings {
            what: format!("the url of the webhook {} {what}", settings.name),
        };
        let url = Url::parse(&settings.url).map_err(|_| wrong("is no address"))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong("names a user"));
        }
        let reach = match (url.scheme(), settings.allow_private) {
            ("https", false) => Reach::Public,
            ("https", true) => Reach::Anywhere,
            ("http", false) => Reach::ThisHost,
            ("http", true) => Reach::Private,
            _ => return Err(wrong("does not begin with https://")),
        };
        let host = url.host_str().ok_or_else(|| wrong("names no host"))?;
        // Brackets are only the notation of an address.
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = url.port_or_known_default().ok_or_else(|| wrong("has no port"))?;
        Ok(Self { url, host, port, reach })
    }
}

/// Resolves every name to the addresses that were checked.
struct Checked(Vec<SocketAddr>);

impl Resolve for Checked {
    fn resolve(&self, _: Name) -> Resolving {
        let addresses: Addrs = Box::new(self.0.clone().into_iter());
        Box::pin(std::future::ready(Ok(addresses)))
    }
}

/// Hands a notification over. It may take forever.
///
/// # Errors
/// When the server does not answer with a status of success.
pub(super) async fn send(
    settings: &WebhookSettings,
    notification: &Notification,
    now: Timestamp,
) -> Result<(), DeliveryError> {
    let Place { url, host, port, reach } = Place::new(settings)?;
    let secret = settings.secret_file.as_deref().map(secret::secret).transpose()?;
    let tls = secret::tls(settings.authority.as_deref())?;
    let addresses = reach.resolve(&host, port).await?;
    let unreachable = |error: reqwest::Error| DeliveryError::Unreachable {
        host: host.clone(),
        why: reasons(&error.without_url()),
    };
    let client = reqwest::Client::builder()
        .user_agent(concat!("afterimage/", env!("CARGO_PKG_VERSION")))
        .tls_backend_preconfigured(tls)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy()
        .http1_only()
        .referer(false)
        .dns_resolver(Arc::new(Checked(addresses)))
        .build()
        .map_err(unreachable)?;
    let body = serde_json::to_vec(notification)
        .map_err(|error| DeliveryError::Settings { what: error.to_string() })?;
    let seconds = now.as_second();
    let mut request = client
        .post(url)
        .header(CONTENT_TYPE, "application/json")
        .header(HEADER_ID, notification.id.to_string())
        .header(HEADER_TIMESTAMP, seconds);
    if let Some(secret) = secret {
        request = request.header(HEADER_SIGNATURE, signature(secret.as_bytes(), seconds, &body));
    }
    let answer = request.body(body).send().await.map_err(unreachable)?;
    // What else it says is not read: it may be endless, and may hold what it was sent.
    let status = answer.status();
    if status.is_success() {
        Ok(())
    } else if status.is_redirection() {
        let why = format!("it answers {status}, and redirects are not followed");
        Err(DeliveryError::Refused { host, why })
    } else {
        Err(DeliveryError::Refused { host, why: format!("it answers {status}") })
    }
}

/// An error with what caused it.
pub(super) fn reasons(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Many errors tell of their cause already.
        if !text.ends_with(&cause_text) {
            text += &format!(": {cause_text}");
        }
        source = cause.source();
    }
    readable(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_what_openssl_makes_of_the_same() {
        // printf '1795854000.{"a":1}' | openssl dgst -sha256 -hmac s3cret
        let expected = "t=1795854000,v1=\
                        6e5bf276e04da0a90fc94a266892fa67fe2c84af6d301b83d3cccd6e14bac261";
        assert_eq!(signature(b"s3cret", 1_795_854_000, br#"{"a":1}"#), expected);
    }
}

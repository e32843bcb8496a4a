//! Reads `[notify.webhook.NAME]`.

use std::net::IpAddr;
use std::path::PathBuf;

use reqwest::Url;

use super::api::is_loopback;
use super::findings::{Findings, quoted};
use super::named::Context;
use super::notify::{self, OnDraft, WebhookSettings, WebhookUrl};
use super::reader::{Field, Located, TableReader};
use crate::units::Name;

/// Longest URL, in bytes.
const URL_BYTES_MAX: usize = 2048;

const URL_HINT: &str = "say who is called, such as url = \"https://hooks.example.org/afterimage\"";

/// A webhook as far as it could be read.
#[derive(Debug)]
pub(super) struct WebhookDraft {
    pub(super) on: OnDraft,
    pub(super) secret: Option<Located<PathBuf>>,
    /// `None` when something is wrong.
    pub(super) settings: Option<WebhookSettings>,
}

pub(super) fn read(
    name: Name,
    mut reader: TableReader<'_>,
    context: &Context<'_>,
    findings: &mut Findings<'_>,
) -> WebhookDraft {
    let url = reader.required("url", URL_HINT);
    let allow_private = reader.field("allow_private");
    let allow_private = allow_private.and_then(|field| field.boolean(findings)).unwrap_or(false);
    let url = url.and_then(|field| webhook_url(&field, allow_private, findings));
    let secret = notify::file(&mut reader, "secret_file", context, findings);
    let authority = notify::file(&mut reader, "authority", context, findings);
    let on = notify::on(&mut reader, findings);
    reader.finish(findings);
    let settings = url.map(|url| WebhookSettings {
        name,
        url,
        secret_file: secret.as_ref().map(|file| file.value.clone()),
        allow_private,
        authority: authority.map(|file| file.value),
        on: on.kinds.clone(),
    });
    WebhookDraft { on, secret, settings }
}

/// The host in a URL.
pub(super) enum Host {
    /// A name that is looked up.
    Name(String),
    /// An address.
    Address(IpAddr),
}

impl Host {
    /// The host of `url`; `None` when it has none, or one that cannot be.
    pub(super) fn of(url: &Url) -> Option<Self> {
        let text = url.host_str()?;
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        if let Ok(address) = bare.parse() {
            return Some(Self::Address(address));
        }
        let is_name =
            text.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b'_'));
        (is_name && !text.is_empty()).then(|| Self::Name(text.to_ascii_lowercase()))
    }

    /// Whether it is this host itself.
    pub(super) fn is_loopback(&self) -> bool {
        match self {
            Self::Name(name) => name == "localhost",
            Self::Address(address) => is_loopback(*address),
        }
    }
}

/// Reports a URL that names a user; the text is kept out of what is shown.
pub(super) fn refuse_user(
    url: &Url,
    field: &Field<'_>,
    hint: &str,
    findings: &mut Findings<'_>,
) -> Option<()> {
    if url.username().is_empty() && url.password().is_none() {
        return Some(());
    }
    findings.hide(&field.at);
    let message = format!("`{}` holds a user or a password", field.key);
    findings.wrong_hint(&field.at, message, hint);
    None
}

fn webhook_url(
    field: &Field<'_>,
    allow_private: bool,
    findings: &mut Findings<'_>,
) -> Option<WebhookUrl> {
    let text = field.text("url = \"https://hooks.example.org/afterimage\"", findings)?.trim();
    let parsed = Url::parse(text).ok().filter(|_| text.len() <= URL_BYTES_MAX);
    let Some((url, host)) = parsed.and_then(|url| Host::of(&url).map(|host| (url, host))) else {
        // It may be a mistyped one with a password in it.
        findings.hide(&field.at);
        findings.wrong_hint(&field.at, "`url` is not a URL", URL_HINT);
        return None;
    };
    let hint = "leave it out: what is sent is signed with the secret in `secret_file`";
    refuse_user(&url, field, hint, findings)?;
    // The rest may be a secret, too.
    findings.hide(&field.at);
    let is_local = host.is_loopback();
    match url.scheme() {
        "https" => {}
        "http" if is_local || allow_private => {}
        "http" => {
            let message = "`url` would be called without encryption";
            let hint = "begin it with https; http can be used to this host, and, with \
                        allow_private = true, within a private network";
            findings.wrong_hint(&field.at, message, hint);
            return None;
        }
        other => {
            let message = format!("{} is not how a webhook is called", quoted(other));
            findings.wrong_hint(&field.at, message, "begin the `url` with https");
            return None;
        }
    }
    match host {
        Host::Address(address) if is_private(address) && !allow_private => {
            let message = format!("{address} is an address of a private network");
            findings.wrong_hint(&field.at, message, "if that is meant, add allow_private = true");
            None
        }
        _ => Some(WebhookUrl::from(String::from(url))),
    }
}

/// Whether an address is one that has a meaning only within a network.
fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [first, second, ..] = address.octets();
            let is_shared = first == 100 && (64..128).contains(&second);
            address.is_private() || address.is_link_local() || first == 0 || is_shared
        }
        IpAddr::V6(address) => {
            let is_local = address.is_unique_local() || address.is_unicast_link_local();
            is_local || address.is_unspecified()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_addresses_are_known_in_every_form() {
        let private = |text: &str| is_private(text.parse().expect("an address"));
        for text in ["10.1.2.3", "192.168.0.1", "169.254.1.1", "100.64.0.1", "0.0.0.0"] {
            assert!(private(text), "{text}");
            assert!(private(&format!("::ffff:{text}")), "{text}");
        }
        assert!(private("fd00::1") && private("fe80::1") && private("::"));
        for text in ["8.8.8.8", "100.128.0.1", "172.32.0.1", "2001:db8::1"] {
            assert!(!private(text), "{text}");
        }
    }
}

//! Reads `[notify.mail.NAME]`.

use std::path::PathBuf;

use lettre::message::Mailbox;
use reqwest::Url;

use super::findings::{Findings, quoted};
use super::named::Context;
use super::notify::{self, MailSecurity, MailSettings, OnDraft};
use super::reader::{Field, Located, TableReader};
use super::source;
use super::times;
use super::webhook::{Host, refuse_user};
use crate::units::Name;

/// Longest address of a server or a person, in bytes.
const ADDRESS_BYTES_MAX: usize = 512;
/// Port of a server that is spoken to by TLS from the first byte.
const PORT_TLS: u16 = 465;
/// Port of a server that takes messages of those who log in, and has STARTTLS.
const PORT_SUBMISSION: u16 = 587;
/// Port of a server on this host.
const PORT_LOCAL: u16 = 25;

const SERVER_HINT: &str = "name a server, such as server = \"smtps://mail.example.org\", or smtp://… \
                           for one that has STARTTLS";

/// Mail as far as it could be read.
#[derive(Debug)]
pub(super) struct MailDraft {
    pub(super) on: OnDraft,
    pub(super) secret: Option<Located<PathBuf>>,
    /// `None` when something is wrong.
    pub(super) settings: Option<MailSettings>,
}

pub(super) fn read(
    name: Name,
    mut reader: TableReader<'_>,
    context: &Context<'_>,
    findings: &mut Findings<'_>,
) -> MailDraft {
    let server = reader.required("server", SERVER_HINT);
    let server = server.and_then(|field| server_of(&field, findings));
    let (user, password) = (reader.field("user"), reader.has("password_file"));
    let user_at = user.as_ref().map(|field| field.key_at.clone());
    if let (Some(at), None, key) | (None, Some(at), key) =
        (&user_at, &password, if user.is_some() { "user" } else { "password_file" })
    {
        let message = format!("`{key}` is of no use alone");
        findings.wrong_hint(at, message, "give both `user` and `password_file`, or none");
    }
    let user = user.and_then(|field| source::text(&field, "user = \"afterimage\"", findings));
    let secret = notify::file(&mut reader, "password_file", context, findings);
    let authority = notify::file(&mut reader, "authority", context, findings);
    let from = reader.required("from", "say who it is from: from = \"afterimage@example.org\"");
    let from = from.and_then(|field| address(&field, findings));
    let to = reader.required("to", "say who gets it: to = [\"ops@example.org\"]");
    let to = to.map(|field| addresses(&field, findings)).unwrap_or_default();
    let on = notify::on(&mut reader, findings);
    reader.finish(findings);
    let settings = server.zip(from).map(|(server, from)| MailSettings {
        name,
        host: server.host,
        port: server.port,
        security: server.security,
        login: user.zip(secret.as_ref().map(|file| file.value.clone())),
        authority: authority.map(|file| file.value),
        from,
        to,
        on: on.kinds.clone(),
    });
    MailDraft { on, secret, settings }
}

struct Server {
    host: String,
    port: u16,
    security: MailSecurity,
}

fn server_of(field: &Field<'_>, findings: &mut Findings<'_>) -> Option<Server> {
    let text = field.text("server = \"smtps://mail.example.org\"", findings)?.trim();
    let parsed = Url::parse(text).ok().filter(|_| text.len() <= ADDRESS_BYTES_MAX);
    let Some(url) = parsed else {
        // It may be a mistyped one with a password in it.
        findings.hide(&field.at);
        findings.wrong_hint(&field.at, "`server` is not the address of a server", SERVER_HINT);
        return None;
    };
    let hint = "leave them out: give `user` and `password_file`";
    refuse_user(&url, field, hint, findings)?;
    let is_mail = matches!(url.scheme(), "smtp" | "smtps");
    let is_bare =
        matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
    let (Some(host), true, true) = (Host::of(&url), is_mail, is_bare) else {
        let message = format!("{} is not the address of a mail server", quoted(text));
        findings.wrong_hint(&field.at, message, SERVER_HINT);
        return None;
    };
    let (port, security) = match (url.scheme(), host.is_loopback()) {
        ("smtps", _) => (PORT_TLS, MailSecurity::Tls),
        (_, true) => (PORT_LOCAL, MailSecurity::None),
        (_, false) => (PORT_SUBMISSION, MailSecurity::StartTls),
    };
    let host = match host {
        Host::Name(name) => name,
        Host::Address(address) => address.to_string(),
    };
    match url.port() {
        Some(0) => {
            findings.wrong_hint(&field.at, "port 0 is not a port", SERVER_HINT);
            None
        }
        given => Some(Server { host, port: given.unwrap_or(port), security }),
    }
}

fn addresses(field: &Field<'_>, findings: &mut Findings<'_>) -> Vec<String> {
    match (field.as_str(), times::elements(field, "mail address", findings)) {
        (Some(_), _) => address(field, findings).into_iter().collect(),
        (None, Some(elements)) => {
            elements.iter().filter_map(|element| address(element, findings)).collect()
        }
        (None, None) => Vec::new(),
    }
}

/// A mail address, with or without the name of who has it.
fn address(field: &Field<'_>, findings: &mut Findings<'_>) -> Option<String> {
    let text = field.text(&format!("{} = \"ops@example.org\"", field.key), findings)?.trim();
    let is_plain = text.len() <= ADDRESS_BYTES_MAX && !text.chars().any(char::is_control);
    if is_plain && text.parse::<Mailbox>().is_ok() {
        return Some(text.to_owned());
    }
    let message = format!("{} is not a mail address", quoted(text));
    let hint = "for example: \"ops@example.org\", or \"Operations <ops@example.org>\"";
    findings.wrong_hint(&field.at, message, hint);
    None
}

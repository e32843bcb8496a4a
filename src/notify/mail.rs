//! Mail: one message in plain text to all recipients, over SMTP that is encrypted unless the server
//! is on this host.

use super::address::Reach;
use super::message::{Kind, Notification};
use super::webhook::reasons;
use super::wire::{Bounded, Encrypted};
use super::{DeliveryError, secret};
use crate::settings::{MailSecurity, MailSettings};
use crate::units::{NotificationId, readable};
use jiff::Timestamp;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message};
use lettre::transport::smtp::Error as SmtpError;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{
    AsyncSmtpConnection, AsyncTokioStream, Certificate, TlsParameters,
};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::ClientId;
use rustls::pki_types::ServerName;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Hands a notification over. It may take forever. Returns whom the server does not take mail for,
/// where it took it for others.
///
/// # Errors
/// When the server takes it for nobody.
pub(super) async fn send(
    settings: &MailSettings,
    notification: &Notification,
    now: Timestamp,
) -> Result<Option<String>, DeliveryError> {
    let message = compose(settings, notification, now)?;
    // Read before anything is said: without it the server would only be bothered.
    let password = settings.login.as_ref().map(|(_, file)| secret::secret(file)).transpose()?;
    let unreachable = |error: SmtpError| unreachable(settings, &error);
    let mut connection = connect(settings).await?;
    if let (Some((user, _)), Some(password)) = (&settings.login, password) {
        let credentials = Credentials::new(user.clone(), password.to_string());
        connection
            .auth(&[Mechanism::Plain, Mechanism::Login], &credentials)
            .await
            // What the server says to that may hold what it was sent.
            .map_err(|error| refused_login(settings, user, &error))?;
    }
    let from = message.envelope().from().cloned();
    connection.command(Mail::new(from, Vec::new())).await.map_err(unreachable)?;
    let mut refused = Vec::new();
    for to in message.envelope().to() {
        match connection.command(Rcpt::new(to.clone(), Vec::new())).await {
            Ok(_) => {}
            Err(error) if error.is_permanent() => {
                refused.push(format!("{to}: {}", reasons(&error)));
            }
            Err(error) => return Err(unreachable(error)),
        }
    }
    let note = readable(refused.join("; "));
    if refused.len() == message.envelope().to().len() {
        return Err(DeliveryError::Refused { host: settings.host.clone(), why: note });
    }
    connection.command(Data).await.map_err(unreachable)?;
    connection.message(&message.formatted()).await.map_err(unreachable)?;
    // The server has it. That it also says goodbye is a courtesy.
    let goodbye = connection.quit().await;
    drop(goodbye);
    Ok((!refused.is_empty()).then(|| format!("not taken for {note}")))
}

fn unreachable(settings: &MailSettings, error: &SmtpError) -> DeliveryError {
    let (host, why) = (settings.host.clone(), reasons(error));
    if error.is_permanent() {
        DeliveryError::Refused { host, why }
    } else {
        DeliveryError::Unreachable { host, why }
    }
}

fn refused_login(settings: &MailSettings, user: &str, error: &SmtpError) -> DeliveryError {
    let host = settings.host.clone();
    match error.status() {
        Some(code) => {
            let why = format!("it does not let {} log in (code {code})", readable(user));
            DeliveryError::Refused { host, why }
        }
        None => DeliveryError::Unreachable { host, why: reasons(error) },
    }
}

async fn connect(settings: &MailSettings) -> Result<AsyncSmtpConnection, DeliveryError> {
    let (host, port) = (&settings.host, settings.port);
    let reach = match settings.security {
        MailSecurity::Tls | MailSecurity::StartTls => Reach::Anywhere,
        MailSecurity::None => Reach::ThisHost,
    };
    let lost = |why: String| DeliveryError::Unreachable { host: host.clone(), why };
    let addresses = reach.resolve(host, port).await?;
    let tcp = TcpStream::connect(&addresses[..]).await.map_err(|error| lost(error.to_string()))?;
    let stream: Box<dyn AsyncTokioStream> = match settings.security {
        MailSecurity::None => Box::new(Bounded::new(tcp)),
        MailSecurity::StartTls => Box::new(Bounded::by_bytes(tcp)),
        MailSecurity::Tls => {
            let tls = TlsConnector::from(Arc::new(secret::tls(settings.authority.as_deref())?));
            let name =
                ServerName::try_from(host.clone()).map_err(|error| lost(error.to_string()))?;
            let encrypted = tls.connect(name, Bounded::new(tcp)).await;
            Box::new(Encrypted(encrypted.map_err(|error| lost(reasons(&error)))?))
        }
    };
    let hello = ClientId::default();
    let error = |error: SmtpError| unreachable(settings, &error);
    let mut connection =
        AsyncSmtpConnection::connect_with_transport(stream, &hello).await.map_err(error)?;
    if settings.security == MailSecurity::StartTls {
        connection.starttls(start_tls(settings)?, &hello).await.map_err(error)?;
    }
    Ok(connection)
}

fn start_tls(settings: &MailSettings) -> Result<TlsParameters, DeliveryError> {
    let wrong = |error: SmtpError| DeliveryError::Settings { what: reasons(&error) };
    let mut tls = TlsParameters::builder(settings.host.clone());
    if let Some(path) = &settings.authority {
        let authority = Certificate::from_pem(&secret::authority(path)?).map_err(wrong)?;
        tls = tls.add_root_certificate(authority);
    }
    tls.build_rustls().map_err(wrong)
}

fn compose(
    settings: &MailSettings,
    notification: &Notification,
    now: Timestamp,
) -> Result<Message, DeliveryError> {
    let wrong = |what: String| DeliveryError::Settings {
        what: format!("the mail {}: {what}", settings.name),
    };
    let mailbox = |text: &str| {
        let parsed: Result<Mailbox, _> = text.parse();
        match parsed {
            // Others would need a server that can do SMTPUTF8.
            Ok(mailbox) if mailbox.email.to_string().is_ascii() => Ok(mailbox),
            _ => Err(wrong(format!("{} is no address for mail", readable(text)))),
        }
    };
    let mut builder = Message::builder()
        .from(mailbox(&settings.from)?)
        .subject(notification.subject())
        .date(now.into())
        .message_id(Some(message_id(settings, notification.id)))
        .user_agent(concat!("afterimage/", env!("CARGO_PKG_VERSION")).to_owned())
        .header(ContentType::TEXT_PLAIN);
    for to in &settings.to {
        builder = builder.to(mailbox(to)?);
    }
    let first = notification.condition.as_ref().map(|condition| condition.began);
    if let Some(first) = first.filter(|_| notification.kind != Kind::Began) {
        let first = message_id(settings, first);
        builder = builder.in_reply_to(first.clone()).references(first);
    }
    // Machines do not answer it (RFC 3834).
    let automatic = HeaderName::new_from_ascii_str("Auto-Submitted");
    let automatic = HeaderValue::new(automatic, "auto-generated".to_owned());
    builder
        .raw_header(automatic)
        .body(notification.mail_text())
        .map_err(|error| wrong(error.to_string()))
}

/// The same for each attempt, so that a double shows.
fn message_id(settings: &MailSettings, id: NotificationId) -> String {
    let domain = settings.from.rsplit_once('@').map_or("", |(_, domain)| domain);
    let allowed = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
    let domain: String = domain.chars().filter(allowed).collect();
    format!("<{id}.{}@{}>", settings.name, if domain.is_empty() { "afterimage" } else { &domain })
}

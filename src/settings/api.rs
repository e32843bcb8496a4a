//! Reads `[api]`.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use super::findings::{Findings, quoted};
use super::reader::{Field, Located, TableReader};
use super::{named, values};

/// Where the daemon answers, apart from its socket. Invariant: an address that is not a loopback one
/// has `tls`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiSettings {
    /// Its address and port.
    pub listen: SocketAddr,
    /// How connections are secured.
    pub tls: Option<ApiTlsSettings>,
}

/// What the daemon shows to who connects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiTlsSettings {
    /// PEM file: its certificate, and those that lead from it to an authority.
    pub certificate: PathBuf,
    /// PEM file: the key of the certificate.
    pub key: PathBuf,
}

const LISTEN_HINT: &str = "say where to listen, such as listen = \"127.0.0.1:9441\"";

/// `[api]` as far as it could be read.
#[derive(Debug)]
pub(super) struct ApiDraft {
    /// `None` when something is wrong.
    pub(super) settings: Option<ApiSettings>,
    /// The file with the key.
    pub(super) key: Option<Located<PathBuf>>,
}

/// Reads `[api]`; `None` when it is not there.
pub(super) fn read(
    root: &mut TableReader<'_>,
    folder: &Path,
    findings: &mut Findings<'_>,
) -> Option<ApiDraft> {
    let is_there = root.has("api").is_some();
    let Some(mut reader) = named::section(root, "api", findings) else {
        return is_there.then_some(ApiDraft { settings: None, key: None });
    };
    let listen_field = reader.required("listen", LISTEN_HINT);
    let listen_at = listen_field.as_ref().map(|field| field.at.clone());
    let listen = listen_field.and_then(|field| listen(&field, findings));
    let certificate = reader.field("certificate");
    let key = reader.field("key");
    let is_secured = certificate.is_some() || key.is_some();
    if let (Some(alone), None) | (None, Some(alone)) = (&certificate, &key) {
        let message = format!("`{}` is of no use alone", alone.key);
        findings.wrong_hint(&alone.key_at, message, "give both `certificate` and `key`");
    }
    if let (Some(address), Some(at), false) = (listen, listen_at, is_secured)
        && !is_loopback(address.ip())
    {
        let message = format!("{address} is reached by others: it needs a certificate");
        let hint = "add `certificate` and `key`, or listen at 127.0.0.1";
        findings.wrong_hint(&at, message, hint);
    }
    let mut path =
        |field: Option<Field<'_>>| field.and_then(|field| values::path(&field, folder, findings));
    let (certificate, key) = (path(certificate), path(key));
    reader.finish(findings);
    let tls = certificate.zip(key.clone()).map(|(certificate, key)| ApiTlsSettings {
        certificate: certificate.value,
        key: key.value,
    });
    Some(ApiDraft { settings: listen.map(|listen| ApiSettings { listen, tls }), key })
}

fn listen(field: &Field<'_>, findings: &mut Findings<'_>) -> Option<SocketAddr> {
    let text = field.text("listen = \"127.0.0.1:9441\"", findings)?;
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() != 0 => Some(address),
        Ok(_) => {
            findings.wrong_hint(&field.at, "port 0 is not a port", LISTEN_HINT);
            None
        }
        Err(_) => {
            let message = format!("{} is not an address with a port", quoted(text));
            let hint = "for example: \"127.0.0.1:9441\", \"[::1]:9441\", or \"0.0.0.0:9441\" for \
                        all addresses of this host; names are not looked up";
            findings.wrong_hint(&field.at, message, hint);
            None
        }
    }
}

/// Whether only this host can reach an address.
pub(super) fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

//! Reads `[api]`.

use std::net::SocketAddr;
use std::path::PathBuf;

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

//! TLS, with certificates on both sides (X.509).

use super::error::Fault;
use super::stream::Stream;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    ClientConfig, ClientConnection, ConfigBuilder, ConfigSide, ConnectionCommon, RootCertStore,
    ServerConfig, ServerConnection, SideData, StreamOwned, WantsVerifier,
};
use std::io::{self, Read, Write};
use std::ops::DerefMut;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// Longest file of certificates or of a key, in bytes.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// The certificates with which one side proves who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// PEM file: its certificate first, then those between it and the authority's.
    pub certificates: PathBuf,
    /// PEM file: the private key.
    pub key: PathBuf,
}

/// TLS as a client wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsOptions {
    /// PEM file: certificates of the authorities that may have signed the server's.
    pub authority: PathBuf,
    /// Who the client is, where the server asks.
    pub identity: Option<Identity>,
    /// The name or IP address that the server's certificate must hold; `None`: the host of the
    /// address, or `localhost` of a unix socket.
    pub server_name: Option<String>,
}

/// TLS as a server gives it. It insists on it then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerTls {
    /// Who the server is.
    pub identity: Identity,
    /// PEM file: certificates of the authorities that must have signed the client's; `None`: any
    /// client may connect.
    pub client_authority: Option<PathBuf>,
}

/// What a client needs to begin TLS.
#[derive(Debug, Clone)]
pub(super) struct ClientTls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl ClientTls {
    /// Reads the files. `host` is the one of the address.
    pub(super) fn new(options: &TlsOptions, host: &str) -> Result<Self, Fault> {
        let roots = authorities(&options.authority)?;
        let builder = safe(ClientConfig::builder_with_provider)?.with_root_certificates(roots);
        let config = match &options.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let (chain, key) = read_identity(identity)?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|e| bad_file(&identity.key, e.to_string()))?
            }
        };
        let name = options.server_name.as_deref().unwrap_or(host);
        let name = ServerName::try_from(name.to_owned())
            .map_err(|_| Fault::Tls(format!("{name:?} is no name that a certificate can hold")))?;
        Ok(Self { config: Arc::new(config), name })
    }

    /// Begins TLS over `stream`, and waits until both sides know each other.
    pub(super) fn begin(&self, stream: Box<dyn Stream>) -> io::Result<Box<dyn Stream>> {
        let connection = ClientConnection::new(Arc::clone(&self.config), self.name.clone())
            .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
        greet(connection, stream)
    }
}

/// What a server needs to begin TLS.
#[derive(Debug, Clone)]
pub(super) struct TlsAcceptor {
    config: Arc<ServerConfig>,
}

impl TlsAcceptor {
    /// Reads the files.
    pub(super) fn new(options: &ServerTls) -> Result<Self, Fault> {
        let builder = safe(ServerConfig::builder_with_provider)?;
        let builder = match &options.client_authority {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let roots = Arc::new(authorities(path)?);
                let provider = Arc::new(rustls::crypto::ring::default_provider());
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider)
                    .build()
                    .map_err(|e| bad_file(path, e.to_string()))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let (chain, key) = read_identity(&options.identity)?;
        let config = builder
            .with_single_cert(chain, key)
            .map_err(|e| bad_file(&options.identity.key, e.to_string()))?;
        Ok(Self { config: Arc::new(config) })
    }

    /// Begins TLS over `stream`, and waits until both sides know each other.
    pub(super) fn begin(&self, stream: Box<dyn Stream>) -> io::Result<Box<dyn Stream>> {
        let connection = ServerConnection::new(Arc::clone(&self.config))
            .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
        greet(connection, stream)
    }
}

fn safe<S: ConfigSide>(
    builder: impl FnOnce(Arc<rustls::crypto::CryptoProvider>) -> ConfigBuilder<S, rustls::WantsVersions>,
) -> Result<ConfigBuilder<S, WantsVerifier>, Fault> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    builder(provider).with_safe_default_protocol_versions().map_err(|e| Fault::Tls(e.to_string()))
}

/// TLS over a stream.
struct TlsStream<C>(StreamOwned<C, Box<dyn Stream>>);

fn greet<C, S>(mut connection: C, mut stream: Box<dyn Stream>) -> io::Result<Box<dyn Stream>>
where
    C: DerefMut<Target = ConnectionCommon<S>> + Send + 'static,
    S: SideData + 'static,
{
    while connection.is_handshaking() {
        connection.complete_io(&mut stream)?;
    }
    Ok(Box::new(TlsStream(StreamOwned::new(connection, stream))))
}

impl<C, S> Stream for TlsStream<C>
where
    C: DerefMut<Target = ConnectionCommon<S>> + Send,
    S: SideData,
{
    fn set_deadline(&mut self, deadline: Option<Instant>) {
        self.0.sock.set_deadline(deadline);
    }
}

impl<C, S> Read for TlsStream<C>
where
    C: DerefMut<Target = ConnectionCommon<S>> + Send,
    S: SideData,
{
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl<C, S> Write for TlsStream<C>
where
    C: DerefMut<Target = ConnectionCommon<S>> + Send,
    S: SideData,
{
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn bad_file(path: &Path, why: impl Into<String>) -> Fault {
    Fault::TlsFile { path: path.to_owned(), why: why.into() }
}

fn read_file(path: &Path) -> Result<Vec<u8>, Fault> {
    let read = || {
        let mut bytes = Vec::new();
        std::fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        Ok::<_, io::Error>(bytes)
    };
    let bytes = read().map_err(|e| bad_file(path, e.to_string()))?;
    if bytes.len() as u64 <= FILE_BYTES_MAX {
        Ok(bytes)
    } else {
        Err(bad_file(path, format!("it has more than {FILE_BYTES_MAX} bytes")))
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let bytes = read_file(path)?;
    let found: Result<Vec<_>, PemError> = CertificateDer::pem_slice_iter(&bytes).collect();
    match found {
        Ok(list) if list.is_empty() => Err(bad_file(path, "no certificate stands in it")),
        Ok(list) => Ok(list),
        Err(error) => Err(bad_file(path, error.to_string())),
    }
}

fn authorities(path: &Path) -> Result<RootCertStore, Fault> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|e| bad_file(path, e.to_string()))?;
    }
    Ok(roots)
}

fn read_identity(
    identity: &Identity,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Fault> {
    let chain = certificates(&identity.certificates)?;
    let bytes = zeroize::Zeroizing::new(read_file(&identity.key)?);
    let key = PrivateKeyDer::from_pem_slice(&bytes)
        .map_err(|e| bad_file(&identity.key, e.to_string()))?;
    Ok((chain, key))
}

//! The server's certificate, which can be exchanged while it runs.

use super::ApiError;
use crate::settings::ApiTlsSettings;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use zeroize::Zeroizing;

/// Longest file of a certificate or key, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// TLS as new connections get it.
#[derive(Debug)]
pub(super) struct Tls {
    config: RwLock<Arc<ServerConfig>>,
}

impl Tls {
    pub fn load(settings: &ApiTlsSettings) -> Result<Self, ApiError> {
        Ok(Self { config: RwLock::new(read(settings)?) })
    }

    /// Reads the files again. When they cannot be used, those of before stay.
    pub fn reload(&self, settings: &ApiTlsSettings) -> Result<(), ApiError> {
        let config = read(settings)?;
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner))
    }
}

fn read(settings: &ApiTlsSettings) -> Result<Arc<ServerConfig>, ApiError> {
    let bad = |path: &Path, reason: &dyn std::fmt::Display| ApiError::Certificate {
        path: path.to_owned(),
        reason: reason.to_string(),
    };
    let (certificate, key) = (&settings.certificate, &settings.key);
    let text = read_file(certificate).map_err(|error| bad(certificate, &error))?;
    let chain = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| bad(certificate, &"it is no PEM file"))?;
    if chain.is_empty() {
        return Err(bad(certificate, &"it holds no certificate"));
    }
    let text = read_file(key).map_err(|error| bad(key, &error))?;
    // The parser's own message may quote the file.
    let private = PrivateKeyDer::from_pem_slice(&text)
        .map_err(|_| bad(key, &"it holds no private key in PEM"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| bad(certificate, &error))?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|error| bad(certificate, &error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn read_file(path: &Path) -> std::io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::new());
    std::fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(std::io::Error::from(std::io::ErrorKind::FileTooLarge));
    }
    Ok(bytes)
}

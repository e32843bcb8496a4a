//! What channels need from files: secrets, and the certificates of authorities. They are read for
//! each attempt: a file that is replaced counts at once, and no secret is kept.

use super::DeliveryError;
use crate::fsio::{RealFileSystem, read_whole};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use std::path::Path;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Longest secret, in bytes.
const SECRET_BYTES_MAX: u64 = 4096;
/// Longest file of certificates, in bytes.
const AUTHORITY_BYTES_MAX: u64 = 4 << 20;

fn unusable(path: &Path, why: impl Into<String>) -> DeliveryError {
    DeliveryError::File { path: path.to_owned(), why: why.into() }
}

fn read(path: &Path, bytes_max: u64) -> Result<Vec<u8>, DeliveryError> {
    read_whole(&RealFileSystem, path, bytes_max).map_err(|error| unusable(path, error.to_string()))
}

/// Reads a secret; a newline at its end does not count.
///
/// # Errors
/// When it cannot be read, is empty or not text.
pub(super) fn secret(path: &Path) -> Result<Zeroizing<String>, DeliveryError> {
    let bytes = Zeroizing::new(read(path, SECRET_BYTES_MAX)?);
    let text = std::str::from_utf8(&bytes).map_err(|_| unusable(path, "it is not text"))?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() {
        Err(unusable(path, "it is empty"))
    } else {
        Ok(Zeroizing::new(text.to_owned()))
    }
}

/// Reads the certificates of more authorities, as PEM.
///
/// # Errors
/// When the file cannot be read, or holds none.
pub(super) fn authority(path: &Path) -> Result<Vec<u8>, DeliveryError> {
    let bytes = read(path, AUTHORITY_BYTES_MAX)?;
    certificates(path, &bytes).map(|_| bytes)
}

fn certificates(path: &Path, bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, DeliveryError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    match found {
        Ok(list) if list.is_empty() => Err(unusable(path, "no certificate stands in it")),
        Ok(list) => Ok(list),
        Err(error) => Err(unusable(path, error.to_string())),
    }
}

/// TLS that believes the system's authorities and those of the file.
///
/// # Errors
/// When the file cannot be used.
pub(super) fn tls(more: Option<&Path>) -> Result<ClientConfig, DeliveryError> {
    let mut roots = RootCertStore::empty();
    // A system without any, or with some that cannot be read, may still have those that count: what
    // is missing shows when a server's certificate is checked.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = more {
        for certificate in certificates(path, &read(path, AUTHORITY_BYTES_MAX)?)? {
            roots.add(certificate).map_err(|error| unusable(path, error.to_string()))?;
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| DeliveryError::Settings { what: format!("TLS: {error}") })?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

//! Why the server cannot be started or told something new.

use std::net::SocketAddr;
use std::path::PathBuf;

/// The API cannot be served as the settings say.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The unix socket cannot be waited for.
    #[error("cannot serve the daemon's socket: {source}")]
    Socket {
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// The address could not be had.
    #[error(
        "cannot listen at {address}: {source}; see who uses it, or set `listen` of [api] to \
         another address"
    )]
    Address {
        /// The address.
        address: SocketAddr,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// An address that others reach, without TLS.
    #[error(
        "{address} is no loopback address, and [api] has no certificate; set `certificate` and \
         `key`"
    )]
    Bare {
        /// The address.
        address: SocketAddr,
    },
    /// A certificate or key cannot be used.
    #[error("cannot use {}: {reason}; set `certificate` and `key` of [api]", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

//! The unix socket and the TCP address that the server listens at.

use super::ApiError;
use super::peer::Peer;
use super::tls::Tls;
use crate::settings::Settings;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::{TcpListener, UnixListener, UnixStream};

/// The unix socket. Dropped, it removes its file if that is still its own.
#[derive(Debug)]
pub(super) struct Socket {
    pub listener: UnixListener,
    path: PathBuf,
    file: (u64, u64),
}

impl Socket {
    /// Makes the socket, in place of one at which nobody answers.
    pub fn bind(path: &Path) -> Result<Self, ApiError> {
        let failed = |source| ApiError::Socket { path: path.to_owned(), source };
        match std::os::unix::net::UnixStream::connect(path) {
            Ok(_) => return Err(ApiError::SocketTaken { path: path.to_owned() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(_) => {
                // Only a socket is replaced: the settings may name something else by mistake.
                let metadata = std::fs::symlink_metadata(path).map_err(failed)?;
                if !metadata.file_type().is_socket() {
                    return Err(failed(io::Error::other("it is there, and is no socket")));
                }
            }
        }
        // Made beside it and renamed: with its mode from the first moment on.
        let mut beside = path.as_os_str().to_owned();
        beside.push(".new");
        let beside = PathBuf::from(beside);
        match std::fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let listener = UnixListener::bind(&beside).map_err(failed)?;
        let mode = std::fs::Permissions::from_mode(0o660);
        std::fs::set_permissions(&beside, mode).map_err(failed)?;
        let metadata = std::fs::symlink_metadata(&beside).map_err(failed)?;
        std::fs::rename(&beside, path).map_err(failed)?;
        Ok(Self { listener, path: path.to_owned(), file: (metadata.dev(), metadata.ino()) })
    }

    /// Who connected.
    pub fn peer(stream: &UnixStream) -> io::Result<Peer> {
        let uid = stream.peer_cred()?.uid();
        let is_trusted = uid == 0 || uid == rustix::process::geteuid().as_raw();
        Ok(Peer::Socket { uid, is_trusted })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let is_own = std::fs::symlink_metadata(&self.path)
            .is_ok_and(|found| (found.dev(), found.ino()) == self.file);
        if is_own {
            // Best effort: one that is left behind is replaced at the next start.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// The TCP address, with TLS if it has any.
#[derive(Debug)]
pub(super) struct Tcp {
    pub listener: TcpListener,
    pub tls: Option<Arc<Tls>>,
    pub address: SocketAddr,
}

impl Tcp {
    /// What `[api]` says; `None`: nothing.
    pub async fn bind(settings: &Settings) -> Result<Option<Self>, ApiError> {
        let Some(api) = &settings.api else { return Ok(None) };
        let address = api.listen;
        // The settings refuse this too.
        if api.tls.is_none() && !address.ip().is_loopback() {
            return Err(ApiError::Bare { address });
        }
        let tls = api.tls.as_ref().map(Tls::load).transpose()?.map(Arc::new);
        let failed = |source| ApiError::Address { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Some(Self { listener, tls, address }))
    }
}

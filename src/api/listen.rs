//! The TCP address that the server listens at, and who comes by the unix socket.

use super::ApiError;
use super::peer::Peer;
use super::tls::Tls;
use crate::settings::Settings;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::{TcpListener, UnixStream};

/// Who connected to the unix socket.
pub(super) fn local_peer(stream: &UnixStream) -> io::Result<Peer> {
    let uid = stream.peer_cred()?.uid();
    let is_trusted = uid == 0 || uid == rustix::process::geteuid().as_raw();
    Ok(Peer::Socket { uid, is_trusted })
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

//! The server: it listens, lets connections in, and stops.

use super::access::Rule;
use super::connections::{Connections, Place};
use super::listen::{Tcp, local_peer};
use super::peer::Peer;
use super::refusals::WINDOW;
use super::state::{Api, Work};
use super::tls::Tls;
use super::{ApiError, Limits, connection, routes};
use crate::audit::AuditLog;
use crate::daemon::DaemonHandle;
use crate::settings::Settings;
use axum::Router;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// After a connection could not be accepted: the process may have too many files open.
const PAUSE: Duration = Duration::from_millis(100);

/// The running server.
pub struct ApiServer {
    api: Api,
    stop: watch::Sender<bool>,
    listeners: Vec<JoinHandle<()>>,
    connections: Vec<Arc<Connections>>,
    tls: Option<Arc<Tls>>,
    address: Option<SocketAddr>,
    listen: Option<SocketAddr>,
}

/// What listeners and their connections share.
#[derive(Clone)]
struct Service {
    router: Router,
    limits: Limits,
    stop: watch::Receiver<bool>,
}

impl ApiServer {
    /// Serves who connects to `socket`, and listens at the address that the settings name, if they
    /// name one. Must be called within a runtime of tokio, which then also serves.
    ///
    /// # Errors
    /// When the address cannot be had, or the certificate cannot be used.
    pub async fn start(
        socket: std::os::unix::net::UnixListener,
        daemon: Arc<dyn DaemonHandle>,
        audit: Arc<AuditLog>,
        limits: Limits,
    ) -> Result<Self, ApiError> {
        let settings = daemon.settings();
        let tcp = Tcp::bind(&settings).await?;
        let failed = |source| ApiError::Socket { source };
        socket.set_nonblocking(true).map_err(failed)?;
        let socket = UnixListener::from_std(socket).map_err(failed)?;
        let (stop, stopped) = watch::channel(false);
        let api = Api::new(daemon, audit, &limits, stopped.clone());
        let router = routes::router(&api);
        let service = Service { router, limits, stop: stopped };
        let of_socket = Connections::new(limits.socket_connections, limits.socket_connections);
        let of_tcp = Connections::new(limits.connections, limits.per_address);
        let mut server = Self {
            api: api.clone(),
            stop,
            listeners: vec![tokio::spawn(tell_of_refusals(api))],
            connections: vec![Arc::clone(&of_socket), Arc::clone(&of_tcp)],
            tls: tcp.as_ref().and_then(|tcp| tcp.tls.clone()),
            address: tcp.as_ref().map(|tcp| tcp.address),
            listen: settings.api.as_ref().map(|api| api.listen),
        };
        server.listeners.push(tokio::spawn(service.clone().accept_local(socket, of_socket)));
        if let Some(tcp) = tcp {
            server.listeners.push(tokio::spawn(service.accept_tcp(tcp, of_tcp)));
        }
        Ok(server)
    }

    /// The TCP address, where there is one.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// What holds for each route.
    pub fn rules() -> Vec<Rule> {
        routes::rules()
    }

    /// Reads the certificate again. Returns what other settings of `[api]` only count after the
    /// daemon was started anew.
    ///
    /// # Errors
    /// When the certificate cannot be used: the one of before stays.
    pub fn reload(&self, settings: &Settings) -> Result<Vec<String>, ApiError> {
        let api = settings.api.as_ref();
        let mut later = Vec::new();
        if api.map(|api| api.listen) != self.listen {
            later.push("`listen` of [api]".to_owned());
        }
        match (&self.tls, api.and_then(|api| api.tls.as_ref())) {
            (Some(tls), Some(files)) => tls.reload(files)?,
            (None, None) => {}
            _ => later.push("`certificate` of [api]".to_owned()),
        }
        Ok(later)
    }

    /// Lets no more connections in, waits until requests are answered, at most for `grace`, and
    /// ends the rest.
    pub async fn stop(self, grace: Duration) {
        // Nobody is left to tell only if nothing is left to stop.
        let _ = self.stop.send(true);
        for listener in self.listeners {
            listener.abort();
            // Ended here or before: both is the end.
            let _ = listener.await;
        }
        let all_ended = async {
            for connections in &self.connections {
                connections.all_ended().await;
            }
        };
        if tokio::time::timeout(grace, all_ended).await.is_err() {
            self.connections.iter().for_each(|connections| connections.cut_all());
        }
        let flush = |shared: &super::state::Shared| {
            shared.flush_refusals(true);
            Ok(())
        };
        // What is not written is in the log of the daemon.
        let _ = self.api.work(Work::Light, flush).await;
    }
}

impl std::fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiServer").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Service {
    async fn accept_local(self, socket: UnixListener, connections: Arc<Connections>) {
        loop {
            let Some((stream, _)) = accepted(socket.accept().await).await else {
                continue;
            };
            let Ok(peer) = local_peer(&stream) else { continue };
            // All are at work: whoever is one too many is not answered.
            let Some(place) = connections.admit(peer.key()) else { continue };
            tokio::spawn(self.clone().serve_local(stream, peer, place));
        }
    }

    async fn serve_local(self, stream: UnixStream, peer: Peer, place: Place) {
        connection::serve(stream, self.router, peer, place, self.limits, self.stop).await;
    }

    async fn accept_tcp(self, tcp: Tcp, connections: Arc<Connections>) {
        let is_loopback = tcp.address.ip().is_loopback();
        loop {
            let Some((stream, address)) = accepted(tcp.listener.accept().await).await else {
                continue;
            };
            let peer = Peer::Tcp { address, is_loopback };
            let Some(place) = connections.admit(peer.key()) else { continue };
            tokio::spawn(self.clone().serve_tcp(stream, tcp.tls.clone(), peer, place));
        }
    }

    async fn serve_tcp(self, stream: TcpStream, tls: Option<Arc<Tls>>, peer: Peer, place: Place) {
        let Self { router, limits, stop } = self;
        let Some(tls) = tls else {
            return connection::serve(stream, router, peer, place, limits, stop).await;
        };
        let acceptor = tokio_rustls::TlsAcceptor::from(tls.config());
        let line = Arc::clone(&place.line);
        let begun = tokio::select! {
            begun = tokio::time::timeout(limits.handshake, acceptor.accept(stream)) => begun,
            () = line.cut() => return,
        };
        if let Ok(Ok(stream)) = begun {
            connection::serve(stream, router, peer, place, limits, stop).await;
        }
    }
}

async fn accepted<T>(result: io::Result<T>) -> Option<T> {
    match result {
        Ok(accepted) => Some(accepted),
        Err(error) => {
            tracing::warn!("a connection to the API could not be accepted: {error}");
            tokio::time::sleep(PAUSE).await;
            None
        }
    }
}

/// Writes what was counted of refusals, once a minute.
async fn tell_of_refusals(api: Api) {
    loop {
        tokio::time::sleep(WINDOW / 4).await;
        let flush = |shared: &super::state::Shared| {
            shared.flush_refusals(false);
            Ok(())
        };
        // What is not written is in the log of the daemon.
        let _ = api.work(Work::Light, flush).await;
    }
}

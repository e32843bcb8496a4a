//! Disks for other programs and hosts: exports by their names, over unix sockets and TCP.
//!
//! Invariants: a client takes one thread and about a mebibyte, whatever it sends; there are never
//! more clients than the limit; when the server has stopped, no thread and no socket of it is left.

mod export;
mod handshake;
mod listen;
mod transmission;

pub use export::{Export, ExportError};

use super::address::{Address, AddressError, Transport};
use super::error::Fault;
use super::numbers as n;
use super::stream::{Socket, Stream};
use super::tls::{ServerTls, TlsAcceptor};
use handshake::Handshake;
use listen::Listener;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use transmission::Transmission;

/// What clients may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The most clients at once. Further ones are sent away.
    pub connections_max: usize,
    /// How long a client may take to choose an export.
    pub handshake_time_max: Duration,
    /// How long a client may take to send a request and to take its answer.
    pub request_time_max: Duration,
    /// How long a client may say nothing.
    pub idle_time_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 16,
            handshake_time_max: Duration::from_secs(15),
            request_time_max: Duration::from_secs(120),
            idle_time_max: Duration::from_secs(24 * 3600),
        }
    }
}

/// Exports by their names.
#[derive(Clone, Default)]
pub struct Exports(BTreeMap<String, Arc<dyn Export>>);

impl Exports {
    /// Adds an export; gives back the one that had the name.
    ///
    /// # Errors
    /// When no client could ask for such a name.
    pub fn insert(
        &mut self,
        name: &str,
        export: Arc<dyn Export>,
    ) -> Result<Option<Arc<dyn Export>>, ServerError> {
        if name.len() > n::STRING_BYTES_MAX || name.contains('\0') {
            return Err(ServerError::Name { name: name.to_owned() });
        }
        Ok(self.0.insert(name.to_owned(), export))
    }

    fn get(&self, name: &str) -> Option<&Arc<dyn Export>> {
        self.0.get(name)
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The system refuses.
    #[error("cannot listen on {place}: {source}; choose another place, or end what uses it")]
    Listen {
        /// The socket's path, or host and port.
        place: String,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// Another host could read the disks.
    #[error(
        "{place} can be reached from other hosts, so it needs TLS and an authority that signs \
        the clients' certificates; give both, or listen on a unix socket or on localhost"
    )]
    Unprotected {
        /// Host and port.
        place: String,
    },
    /// A file for TLS cannot be used.
    #[error(transparent)]
    Tls(Fault),
    /// A name that no client could ask for.
    #[error(
        "{name:?} is no name for an export: at most {} bytes, none of them zero; choose another",
        n::STRING_BYTES_MAX
    )]
    Name {
        /// The name.
        name: String,
    },
    /// The address of an export cannot be written.
    #[error(transparent)]
    Address(#[from] AddressError),
}

/// Exports that clients can use until it is stopped, or dropped.
pub struct Server {
    shared: Arc<Shared>,
    listener: Arc<Listener>,
    acceptor: Option<JoinHandle<()>>,
}

struct Shared {
    exports: Exports,
    tls: Option<TlsAcceptor>,
    limits: Limits,
    clients: Mutex<Clients>,
}

/// Clients at work. Invariant: none is added once it is stopping.
#[derive(Default)]
struct Clients {
    is_stopping: bool,
    next: u64,
    at_work: HashMap<u64, (Socket, Option<JoinHandle<()>>)>,
}

impl Server {
    /// Serves `exports` on `place`. The port 0 stands for any. A unix socket is its owner's alone,
    /// and takes the place of one that nobody listens on any more.
    ///
    /// # Errors
    /// When the place is taken or could be reached from other hosts without TLS on both sides, or
    /// a file for TLS cannot be used.
    pub fn start(
        exports: Exports,
        place: &Transport,
        tls: Option<&ServerTls>,
        limits: Limits,
    ) -> Result<Self, ServerError> {
        let is_protected = tls.is_some_and(|tls| tls.client_authority.is_some());
        if !place.is_local() && !is_protected {
            return Err(ServerError::Unprotected { place: listen::shown(place) });
        }
        let tls = tls.map(TlsAcceptor::new).transpose().map_err(ServerError::Tls)?;
        let listener = Listener::new(place)
            .map_err(|source| ServerError::Listen { place: listen::shown(place), source })?;
        let listener = Arc::new(listener);
        let clients = Mutex::new(Clients::default());
        let shared = Arc::new(Shared { exports, tls, limits, clients });
        let acceptor = {
            let (listener, shared) = (Arc::clone(&listener), Arc::clone(&shared));
            std::thread::Builder::new()
                .name("nbd-accept".into())
                .spawn(move || accept(&listener, &shared))
                .map_err(|source| ServerError::Listen { place: listen::shown(place), source })?
        };
        Ok(Self { shared, listener, acceptor: Some(acceptor) })
    }

    /// Where the export of this name is.
    ///
    /// # Errors
    /// When the name, or the socket's path, cannot stand in an address.
    pub fn address(&self, name: &str) -> Result<Address, ServerError> {
        let transport = self.listener.transport().clone();
        Ok(Address::new(transport, self.shared.tls.is_some(), name)?)
    }

    /// How many clients there are.
    pub fn clients(&self) -> usize {
        self.shared.clients().at_work.len()
    }

    /// Sends all clients away and waits until what they asked for last is done.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let Some(acceptor) = self.acceptor.take() else { return };
        {
            let mut clients = self.shared.clients();
            clients.is_stopping = true;
            clients.at_work.values().for_each(|(socket, _)| socket.shut_down());
        }
        self.listener.close();
        // A thread that panicked has ended as well.
        let _ = acceptor.join();
        let mut clients = self.shared.clients();
        let at_work = clients.at_work.values_mut();
        let threads: Vec<_> = at_work.filter_map(|(_, thread)| thread.take()).collect();
        drop(clients);
        threads.into_iter().for_each(|thread| drop(thread.join()));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

impl Shared {
    fn clients(&self) -> MutexGuard<'_, Clients> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a client in; `None`: there are too many, or the server is stopping.
    fn admit(&self, socket: &Socket) -> Option<u64> {
        let mut clients = self.clients();
        if clients.is_stopping || clients.at_work.len() >= self.limits.connections_max {
            return None;
        }
        let handle = socket.try_clone().ok()?;
        let id = clients.next;
        clients.next += 1;
        clients.at_work.insert(id, (handle, None));
        Some(id)
    }
}

/// Takes a client out when its thread ends, however it ends.
struct Admitted<'a> {
    shared: &'a Shared,
    id: u64,
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        self.shared.clients().at_work.remove(&self.id);
    }
}

fn accept(listener: &Listener, shared: &Arc<Shared>) {
    while let Some(accepted) = listener.accept() {
        let Ok(socket) = accepted else {
            // Without descriptors or memory, for example: others end, and then it goes on.
            std::thread::sleep(Duration::from_millis(50));
            continue;
        };
        let Some(id) = shared.admit(&socket) else { continue };
        let theirs = Arc::clone(shared);
        let spawned = std::thread::Builder::new().name("nbd-client".into()).spawn(move || {
            let admitted = Admitted { shared: &theirs, id };
            // What a client does wrong ends its own connection, and is nobody else's concern.
            let _ = serve(&theirs.exports, theirs.tls.as_ref(), &theirs.limits, Box::new(socket));
            drop(admitted);
        });
        let mut clients = shared.clients();
        match spawned {
            Err(_) => drop(clients.at_work.remove(&id)),
            // It may have ended already.
            Ok(thread) => {
                if let Some((_, place)) = clients.at_work.get_mut(&id) {
                    *place = Some(thread);
                }
            }
        }
    }
}

fn serve(
    exports: &Exports,
    tls: Option<&TlsAcceptor>,
    limits: &Limits,
    stream: Box<dyn Stream>,
) -> io::Result<()> {
    match Handshake::new(exports, tls, limits).run(stream)? {
        Some(session) => Transmission::new(session, limits).run(),
        None => Ok(()),
    }
}

/// Serves one client over a stream that is connected already, without TLS, until it says goodbye.
///
/// # Errors
/// When the client takes too long, breaks the protocol or is gone.
pub fn serve_stream(exports: &Exports, limits: &Limits, stream: Box<dyn Stream>) -> io::Result<()> {
    serve(exports, None, limits, stream)
}

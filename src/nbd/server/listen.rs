//! Where a server listens.

use crate::nbd::address::Transport;
use crate::nbd::stream::Socket;
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::io;
use std::net::{TcpListener, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 64;

/// A socket that clients connect to.
#[derive(Debug)]
pub(super) struct Listener {
    kind: ListenerKind,
    transport: Transport,
    is_closed: AtomicBool,
}

#[derive(Debug)]
enum ListenerKind {
    Tcp(TcpListener),
    Unix { listener: UnixListener, _file: SocketFile },
}

/// The name of a unix socket; removed when dropped, if it still is the same socket.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity_of(&self.path).is_ok_and(|now| now == self.identity) {
            // Nothing can be done where the folder refuses; the next server replaces the file.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn identity_of(path: &Path) -> io::Result<(u64, u64)> {
    std::fs::symlink_metadata(path).map(|it| (it.dev(), it.ino()))
}

impl Listener {
    pub(super) fn new(place: &Transport) -> io::Result<Self> {
        let is_closed = AtomicBool::new(false);
        match place {
            Transport::Unix { path } => {
                let kind = listen_unix(path)?;
                Ok(Self { kind, transport: place.clone(), is_closed })
            }
            Transport::Tcp { host, port } => {
                let is_local = place.is_local();
                let found = (host.as_str(), *port).to_socket_addrs()?;
                let usable: Vec<_> =
                    found.filter(|it| !is_local || it.ip().is_loopback()).collect();
                let listener = TcpListener::bind(usable.as_slice())?;
                let port = listener.local_addr()?.port();
                let transport = Transport::Tcp { host: host.clone(), port };
                Ok(Self { kind: ListenerKind::Tcp(listener), transport, is_closed })
            }
        }
    }

    /// Where it really listens: with the port that the system chose.
    pub(super) fn transport(&self) -> &Transport {
        &self.transport
    }

    /// Waits for the next client; `None`: it was closed.
    pub(super) fn accept(&self) -> Option<io::Result<Socket>> {
        let accepted = match &self.kind {
            ListenerKind::Tcp(listener) => {
                listener.accept().and_then(|(stream, _)| Socket::tcp(stream))
            }
            ListenerKind::Unix { listener, .. } => {
                listener.accept().map(|(stream, _)| Socket::unix(stream))
            }
        };
        if self.is_closed.load(Ordering::Acquire) { None } else { Some(accepted) }
    }

    /// Wakes whoever waits for clients; nobody can connect any more.
    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        // Linux lets `accept` return when the socket is shut down.
        let _ = net::shutdown(self.as_fd(), net::Shutdown::Both);
    }

    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.kind {
            ListenerKind::Tcp(listener) => listener.as_fd(),
            ListenerKind::Unix { listener, .. } => listener.as_fd(),
        }
    }
}

fn listen_unix(path: &Path) -> io::Result<ListenerKind> {
    let flags = SocketFlags::CLOEXEC;
    let socket = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let name = SocketAddrUnix::new(path)?;
    match net::bind(&socket, &name) {
        Err(rustix::io::Errno::ADDRINUSE) if is_left_behind(path) => {
            std::fs::remove_file(path)?;
            net::bind(&socket, &name)?;
        }
        other => other?,
    }
    let file = SocketFile { path: path.to_owned(), identity: identity_of(path)? };
    // Before it listens, so that nobody else gets in meanwhile.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    net::listen(&socket, BACKLOG)?;
    Ok(ListenerKind::Unix { listener: UnixListener::from(socket), _file: file })
}

/// Whether a socket is there, and nobody listens on it: its server was killed.
fn is_left_behind(path: &Path) -> bool {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|it| it.file_type().is_socket());
    let refused = |e: io::Error| e.kind() == io::ErrorKind::ConnectionRefused;
    is_socket && UnixStream::connect(path).err().is_some_and(refused)
}

/// A place, for errors.
pub(super) fn shown(place: &Transport) -> String {
    match place {
        Transport::Unix { path } => path.display().to_string(),
        Transport::Tcp { host, port } => format!("{host}, port {port}"),
    }
}

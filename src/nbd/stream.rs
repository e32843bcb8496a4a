//! What the protocol is spoken over: a socket, or TLS over one, with a time by which it all must
//! be done.

use super::address::Transport;
use crate::throttle;
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// A connection to a peer.
pub trait Stream: Read + Write + Send {
    /// From now on reads and writes fail with [`io::ErrorKind::TimedOut`] when `deadline` has
    /// passed, however slowly bytes trickle; `None`: they wait for ever.
    fn set_deadline(&mut self, deadline: Option<Instant>);
}

/// A connected socket.
#[derive(Debug)]
pub(super) struct Socket {
    kind: SocketKind,
    deadline: Option<Instant>,
}

#[derive(Debug)]
enum SocketKind {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    pub(super) fn tcp(stream: TcpStream) -> io::Result<Self> {
        // Every request waits for its answer: nothing gains from waiting for more to send.
        stream.set_nodelay(true)?;
        Ok(Self { kind: SocketKind::Tcp(stream), deadline: None })
    }

    pub(super) fn unix(stream: UnixStream) -> Self {
        Self { kind: SocketKind::Unix(stream), deadline: None }
    }

    /// Connects within `limit`.
    pub(super) fn connect(transport: &Transport, limit: Duration) -> io::Result<Self> {
        match transport {
            Transport::Unix { path } => Ok(Self::unix(connect_unix(path, limit)?)),
            Transport::Tcp { host, port } => {
                let found = (host.as_str(), *port).to_socket_addrs()?;
                let is_local = transport.is_local();
                // A resolver may say anything of `localhost`.
                let usable = found.filter(|it| !is_local || it.ip().is_loopback());
                Self::tcp(connect_tcp(usable, Instant::now() + limit)?)
            }
        }
    }

    /// The same socket, by which another thread can end it.
    pub(super) fn try_clone(&self) -> io::Result<Self> {
        let kind = match &self.kind {
            SocketKind::Tcp(stream) => SocketKind::Tcp(stream.try_clone()?),
            SocketKind::Unix(stream) => SocketKind::Unix(stream.try_clone()?),
        };
        Ok(Self { kind, deadline: None })
    }

    /// Ends it: whoever reads from it or writes to it is told.
    pub(super) fn shut_down(&self) {
        // A socket that is shut down already says so, which changes nothing.
        let _ = match &self.kind {
            SocketKind::Tcp(stream) => stream.shutdown(Shutdown::Both),
            SocketKind::Unix(stream) => stream.shutdown(Shutdown::Both),
        };
    }

    /// Waits for the network's limit. A unix socket is no network; a TCP connection to this host may
    /// be a tunnel's end.
    fn pace(&mut self, bytes: usize) {
        if let SocketKind::Tcp(_) = self.kind {
            let waited = throttle::network().pay(bytes as u64, &|| false);
            // The peer is not the one that is slow.
            self.deadline = self.deadline.map(|deadline| deadline + waited);
        }
    }

    fn time_left(&self) -> io::Result<Option<Duration>> {
        let Some(deadline) = self.deadline else { return Ok(None) };
        let left = deadline.saturating_duration_since(Instant::now());
        // The system takes zero for no limit at all, and counts in microseconds.
        if left < Duration::from_micros(1) { Err(timed_out()) } else { Ok(Some(left)) }
    }
}

impl Stream for Socket {
    fn set_deadline(&mut self, deadline: Option<Instant>) {
        self.deadline = deadline;
    }
}

impl Stream for Box<dyn Stream> {
    fn set_deadline(&mut self, deadline: Option<Instant>) {
        (**self).set_deadline(deadline);
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.time_left()?;
        let result = match &mut self.kind {
            SocketKind::Tcp(stream) => {
                stream.set_read_timeout(left).and_then(|()| stream.read(buffer))
            }
            SocketKind::Unix(stream) => {
                stream.set_read_timeout(left).and_then(|()| stream.read(buffer))
            }
        };
        let bytes = result.map_err(told_plainly)?;
        self.pace(bytes);
        Ok(bytes)
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let left = self.time_left()?;
        let result = match &mut self.kind {
            SocketKind::Tcp(stream) => {
                stream.set_write_timeout(left).and_then(|()| stream.write(bytes))
            }
            SocketKind::Unix(stream) => {
                stream.set_write_timeout(left).and_then(|()| stream.write(bytes))
            }
        };
        let bytes = result.map_err(told_plainly)?;
        self.pace(bytes);
        Ok(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn timed_out() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "no answer in time")
}

// A socket whose time is up says that it would block.
fn told_plainly(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::WouldBlock { timed_out() } else { error }
}

fn connect_tcp(
    addresses: impl Iterator<Item = SocketAddr>,
    deadline: Instant,
) -> io::Result<TcpStream> {
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name leads to no address");
    for address in addresses {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(timed_out());
        }
        match TcpStream::connect_timeout(&address, left) {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

// A server that does not accept makes the kernel wait, for ever where nothing limits it.
fn connect_unix(path: &Path, limit: Duration) -> io::Result<UnixStream> {
    let flags = SocketFlags::CLOEXEC;
    let socket = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(limit))?;
    net::connect(&socket, &SocketAddrUnix::new(path)?)
        .map_err(|errno| told_plainly(io::Error::from(errno)))?;
    Ok(UnixStream::from(socket))
}

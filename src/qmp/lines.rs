//! Lines over a unix socket, each with a greatest length and a time limit.

use super::QmpError;
use crate::units::MIB;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType,
};
use std::io::{self, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Longest line that is read. The list of all nodes of a machine with hundreds of disks and
/// bitmaps has a few MiB.
pub(super) const LINE_BYTES_MAX: usize = 16 * MIB as usize;
/// Read at once, in bytes.
const PIECE_BYTES: usize = 16 * 1024;
/// How often a socket whose queue is full is tried again.
const TRY_AGAIN: Duration = Duration::from_millis(50);

/// A connection that carries lines.
#[derive(Debug)]
pub(super) struct Lines {
    stream: UnixStream,
    path: PathBuf,
    /// Read, but not handed out yet.
    buffer: Vec<u8>,
    /// Bytes of `buffer` that are known to hold no line feed.
    searched: usize,
}

/// When an answer must be there, and what it is an answer to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wait<'a> {
    what: &'a str,
    limit: Duration,
    until: Instant,
}

impl<'a> Wait<'a> {
    pub fn new(what: &'a str, limit: Duration) -> Self {
        Self { what, limit, until: Instant::now() + limit }
    }

    fn left(&self) -> Option<Duration> {
        let left = self.until.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }

    fn timed_out(&self, path: &Path) -> QmpError {
        let (path, what) = (path.to_owned(), self.what.to_owned());
        QmpError::TimedOut { path, what, limit: self.limit }
    }
}

impl Lines {
    /// Connects. A socket that serves another client queues this one, or has no room for it: that
    /// takes until the limit, never longer.
    pub fn connect(path: &Path, limit: Duration) -> Result<Self, QmpError> {
        let wait = Wait::new("the connection", limit);
        let io = |source: io::Error| QmpError::Io { path: path.to_owned(), source };
        let address = SocketAddrUnix::new(path).map_err(|errno| io(errno.into()))?;
        // A connect that blocks would do so for as long as the queue is full.
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
            .map_err(|errno| io(errno.into()))?;
        while let Err(errno) = rustix::net::connect(&socket, &address) {
            match io::Error::from(errno) {
                error if error.kind() == io::ErrorKind::WouldBlock => match wait.left() {
                    Some(left) => std::thread::sleep(left.min(TRY_AGAIN)),
                    None => return Err(QmpError::Busy { path: path.to_owned() }),
                },
                error if is_nobody(&error) => {
                    return Err(QmpError::NotRunning { path: path.to_owned() });
                }
                error => return Err(io(error)),
            }
        }
        let stream = UnixStream::from(socket);
        stream.set_nonblocking(false).map_err(io)?;
        Ok(Self { stream, path: path.to_owned(), buffer: Vec::new(), searched: 0 })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The connection itself, for whoever takes over when this process dies.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// Sends `bytes`, and `descriptor` with them.
    pub fn send(
        &mut self,
        bytes: &[u8],
        descriptor: Option<BorrowedFd<'_>>,
        wait: &Wait<'_>,
    ) -> Result<(), QmpError> {
        let Some(left) = wait.left() else { return Err(wait.timed_out(&self.path)) };
        self.stream.set_write_timeout(Some(left)).map_err(|error| self.failed(error, wait))?;
        let sent = match descriptor {
            Some(descriptor) => self.send_descriptor(bytes, descriptor),
            None => Ok(0),
        };
        let sent = sent.and_then(|sent| self.stream.write_all(bytes.get(sent..).unwrap_or(&[])));
        sent.map_err(|error| self.failed(error, wait))
    }

    fn send_descriptor(&self, bytes: &[u8], descriptor: BorrowedFd<'_>) -> io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let descriptors = [descriptor];
        if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let pieces = [IoSlice::new(bytes)];
        Ok(rustix::net::sendmsg(&self.stream, &pieces, &mut control, SendFlags::NOSIGNAL)?)
    }

    /// The next line, without its end.
    pub fn next(&mut self, wait: &Wait<'_>) -> Result<Vec<u8>, QmpError> {
        loop {
            let unsearched = self.buffer.get(self.searched..).unwrap_or(&[]);
            if let Some(at) = unsearched.iter().position(|byte| *byte == b'\n') {
                let rest = self.buffer.split_off(self.searched + at + 1);
                let mut line = std::mem::replace(&mut self.buffer, rest);
                self.searched = 0;
                line.pop();
                return Ok(line);
            }
            self.searched = self.buffer.len();
            if self.buffer.len() > LINE_BYTES_MAX {
                return Err(self.garbage(format!("a line of more than {LINE_BYTES_MAX} bytes")));
            }
            self.fill(wait)?;
        }
    }

    fn fill(&mut self, wait: &Wait<'_>) -> Result<(), QmpError> {
        let Some(left) = wait.left() else { return Err(wait.timed_out(&self.path)) };
        let mut piece = [0; PIECE_BYTES];
        let timeout = self.stream.set_read_timeout(Some(left));
        match timeout.and_then(|()| self.stream.read(&mut piece)) {
            Ok(0) => {
                let (path, what) = (self.path.clone(), wait.what.to_owned());
                Err(QmpError::Closed { path, what })
            }
            Ok(read) => {
                self.buffer.extend_from_slice(piece.get(..read).unwrap_or(&[]));
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(self.failed(error, wait)),
        }
    }

    fn failed(&self, error: io::Error, wait: &Wait<'_>) -> QmpError {
        let (path, what) = (self.path.clone(), wait.what.to_owned());
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => wait.timed_out(&self.path),
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
                QmpError::Closed { path, what }
            }
            _ => QmpError::Io { path, source: error },
        }
    }

    fn garbage(&self, found: String) -> QmpError {
        QmpError::Garbage { path: self.path.clone(), expected: "QEMU or its agent", found }
    }
}

/// Whether an error of a connect means that no program is there.
fn is_nobody(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound)
}

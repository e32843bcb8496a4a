//! One request over the daemon's socket, and its answer, each with a time limit.

use super::ClientError;
use super::answer::AnswerReader;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a daemon may take to accept a connection.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// How often a socket whose queue is full is tried again.
const TRY_AGAIN: Duration = Duration::from_millis(50);
/// Read at once, in bytes.
const PIECE_BYTES: usize = 16 * 1024;

/// What is asked for.
#[derive(Debug)]
pub(super) struct Request<'a> {
    pub method: &'static str,
    /// With the query.
    pub path: &'a str,
    /// JSON.
    pub body: Option<Vec<u8>>,
    /// The last event that was seen.
    pub after: Option<&'a str>,
}

impl Request<'_> {
    fn bytes(&self) -> Vec<u8> {
        let mut head = format!(
            "{} {} HTTP/1.1\r\nhost: afterimage\r\nconnection: close\r\nuser-agent: afterimage/{}\r\n",
            self.method,
            self.path,
            env!("CARGO_PKG_VERSION"),
        );
        if let Some(after) = self.after {
            head += &format!("last-event-id: {after}\r\n");
        }
        if let Some(body) = &self.body {
            head +=
                &format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len());
        }
        head += "\r\n";
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(self.body.as_deref().unwrap_or_default());
        bytes
    }
}

/// A connection with one answer on it.
#[derive(Debug)]
pub(super) struct Wire {
    stream: UnixStream,
    socket: PathBuf,
    reader: AnswerReader,
    /// What came of the body, and was not taken yet.
    pub body: Vec<u8>,
}

impl Wire {
    /// Sends a request.
    pub fn send(socket: &Path, request: &Request<'_>) -> Result<Self, ClientError> {
        let stream = connect(socket)?;
        let mut wire = Self {
            stream,
            socket: socket.to_owned(),
            reader: AnswerReader::default(),
            body: Vec::new(),
        };
        let sent = wire
            .stream
            .set_write_timeout(Some(CONNECT_MAX))
            .and_then(|()| wire.stream.write_all(&request.bytes()));
        match sent {
            // It may have answered, and closed, before it read everything.
            Ok(()) => Ok(wire),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(wire),
            Err(error) => Err(wire.failed(error, CONNECT_MAX)),
        }
    }

    /// The status, once the head is there.
    pub fn status(&self) -> Option<u16> {
        self.reader.status()
    }

    /// Whether all of the answer is there.
    pub fn is_complete(&self) -> bool {
        self.reader.is_complete()
    }

    /// Reads what is there, and waits for it for at most `wait`. Whether anything came.
    pub fn read(&mut self, wait: Duration) -> Result<bool, ClientError> {
        let mut piece = [0_u8; PIECE_BYTES];
        // A limit of nothing would be none.
        let wait = wait.max(Duration::from_millis(1));
        let read =
            self.stream.set_read_timeout(Some(wait)).and_then(|()| self.stream.read(&mut piece));
        match read {
            Ok(0) => {
                // Otherwise its process died in the middle.
                let ended = self.reader.end();
                ended.map_err(|e| self.io(io::Error::new(io::ErrorKind::UnexpectedEof, e)))?;
                Ok(true)
            }
            Ok(count) => {
                let came = piece.get(..count).unwrap_or_default();
                self.reader
                    .push(came, &mut self.body)
                    .map_err(|error| self.not_understood(error.to_string()))?;
                Ok(true)
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock
                | io::ErrorKind::TimedOut
                | io::ErrorKind::Interrupted => Ok(false),
                _ => Err(self.io(error)),
            },
        }
    }

    /// Reads until `done`, at most for `limit`, and at most `bytes_max` of the body.
    pub fn read_until(
        &mut self,
        done: impl Fn(&Self) -> bool,
        limit: Duration,
        bytes_max: usize,
    ) -> Result<(), ClientError> {
        let until = Instant::now() + limit;
        while !done(self) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ClientError::Silent { socket: self.socket.clone(), limit });
            }
            self.read(left)?;
            if self.body.len() > bytes_max {
                return Err(self.not_understood(format!("more than {bytes_max} bytes")));
            }
        }
        Ok(())
    }

    pub fn not_understood(&self, reason: String) -> ClientError {
        ClientError::NotUnderstood { socket: self.socket.clone(), reason }
    }

    fn io(&self, source: io::Error) -> ClientError {
        ClientError::Io { socket: self.socket.clone(), source }
    }

    fn failed(&self, error: io::Error, limit: Duration) -> ClientError {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                ClientError::Silent { socket: self.socket.clone(), limit }
            }
            _ => self.io(error),
        }
    }
}

fn connect(socket: &Path) -> Result<UnixStream, ClientError> {
    let path = || socket.to_owned();
    let io = |source: io::Error| ClientError::Io { socket: socket.to_owned(), source };
    let until = Instant::now() + CONNECT_MAX;
    let address = SocketAddrUnix::new(socket).map_err(|errno| io(errno.into()))?;
    // A connect that blocks would do so for as long as the queue is full.
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let made = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None);
    let made = made.map_err(|errno| io(errno.into()))?;
    while let Err(errno) = rustix::net::connect(&made, &address) {
        let error = io::Error::from(errno);
        match error.kind() {
            io::ErrorKind::WouldBlock if Instant::now() < until => std::thread::sleep(TRY_AGAIN),
            io::ErrorKind::WouldBlock => {
                return Err(ClientError::Silent { socket: path(), limit: CONNECT_MAX });
            }
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                return Err(ClientError::NoDaemon { socket: path() });
            }
            io::ErrorKind::PermissionDenied => {
                return Err(ClientError::Forbidden { socket: path() });
            }
            _ => return Err(io(error)),
        }
    }
    let stream = UnixStream::from(made);
    stream.set_nonblocking(false).map_err(io)?;
    Ok(stream)
}

//! Why an export cannot be used, and what to do about it.

use super::numbers::STRING_BYTES_MAX;
use crate::units::format_duration;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// What failed with an export, and which.
#[derive(Debug, thiserror::Error)]
#[error("NBD export {address}: {fault}")]
pub struct NbdError {
    /// The export's address, its name in it.
    pub address: String,
    /// What failed.
    #[source]
    pub fault: Fault,
}

impl NbdError {
    /// Whether trying the same again, over a new connection, can not help.
    pub fn is_permanent(&self) -> bool {
        match &self.fault {
            Fault::Connect(error) => error.kind() == io::ErrorKind::PermissionDenied,
            Fault::Request { code, .. } => {
                !matches!(code.0, ErrorCode::NOMEM | ErrorCode::SHUTDOWN)
            }
            Fault::Stalled { .. } | Fault::Lost { .. } | Fault::Failed(_) | Fault::ShuttingDown => {
                false
            }
            _ => true,
        }
    }
}

/// What failed.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// Nobody answers there.
    #[error("cannot connect: {0}; check that its server runs and that the address is right")]
    Connect(#[source] io::Error),
    /// The peer hangs, or is very slow.
    #[error("no answer within {} when asked to {action}; the server or the network hangs: look \
        after it, then run this again", format_duration(*limit))]
    Stalled {
        /// What was asked.
        action: &'static str,
        /// How long was waited.
        limit: Duration,
    },
    /// The connection ended.
    #[error(
        "the connection was lost when it was asked to {action}: {source}; look at the server's \
        log, then run this again"
    )]
    Lost {
        /// What was asked.
        action: &'static str,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// The server says what it must not say. Nothing that it said is believed any more.
    #[error(
        "its server breaks the NBD protocol: {0}; nothing of it is believed. If something else \
        listens at this address, correct that; else report this to who makes the server"
    )]
    Protocol(String),
    /// The server has no such export.
    #[error(
        "its server has no export of this name{0}; `nbdinfo --list` with the address shows \
        what it has"
    )]
    UnknownExport(Said),
    /// The server wants TLS.
    #[error(
        "its server insists on TLS; write the address with nbds in place of nbd, and give the \
        file of the certificate authority"
    )]
    TlsNeeded,
    /// The server has no TLS, or someone on the way says so.
    #[error(
        "its server offers no TLS{0}, or someone on the way hides it, so that nothing was \
        sent; switch TLS on in the server"
    )]
    TlsMissing(Said),
    /// The TLS handshake failed.
    #[error(
        "TLS failed: {0}; check the certificates of both sides: names, dates and who signed \
        them"
    )]
    Tls(String),
    /// A file for TLS cannot be used.
    #[error("cannot use {} for TLS: {why}; give a PEM file", path.display())]
    TlsFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// No file says whose certificates count.
    #[error(
        "TLS needs the file of the certificate authority that signed the server's certificate; \
        give it"
    )]
    NoAuthority,
    /// The server refuses to go on.
    #[error("its server refuses to {action}{said}; look at its settings and its log")]
    Refused {
        /// What was asked.
        action: &'static str,
        /// What it says.
        said: Said,
    },
    /// The server is about to end.
    #[error("its server is shutting down; start it, then run this again")]
    ShuttingDown,
    /// The server could not do what it was asked to.
    #[error(
        "its server could not {action} {len} bytes from {offset}: {code}{said}; look at its log \
        and its storage"
    )]
    Request {
        /// What was asked.
        action: &'static str,
        /// First byte.
        offset: u64,
        /// Number of bytes.
        len: u64,
        /// The number that it gave.
        code: ErrorCode,
        /// What it says.
        said: Said,
    },
    /// Writing was asked for.
    #[error("it is read-only; let its server export it writable")]
    ReadOnly,
    /// A command that the server does not know.
    #[error("its server cannot {0}; use another server")]
    Unsupported(&'static str),
    /// A request that does not lie on the blocks of the export.
    #[error(
        "bytes {offset} to {end} are no whole blocks of {block_bytes} bytes, which its server \
        demands of writes"
    )]
    Unaligned {
        /// First byte.
        offset: u64,
        /// First byte past it.
        end: u64,
        /// Smallest block.
        block_bytes: u32,
    },
    /// A request past the end.
    #[error(
        "bytes {offset} to {end} were asked for, it has {size_bytes}; ask for a range within it"
    )]
    PastEnd {
        /// First byte.
        offset: u64,
        /// First byte past it.
        end: u64,
        /// Size of the export.
        size_bytes: u64,
    },
    /// The server does not tell this of its blocks.
    #[error(
        "its server does not offer the context {0}; if it is a dirty bitmap, check that it \
        exists, is no longer busy and that the server exports it"
    )]
    NoContext(String),
    /// More pieces than any disk has.
    #[error("its server reports more than {0} pieces of changing state, which no sound disk has")]
    Fragmented(usize),
    /// An earlier failure ended the connection.
    #[error("its connection has failed before ({0}); look after that, then run this again")]
    Failed(String),
}

impl Fault {
    /// Whether the connection is still good: the server said no, in order.
    pub(super) fn leaves_connection_good(&self) -> bool {
        match self {
            Self::Request { code, .. } => code.0 != ErrorCode::SHUTDOWN,
            Self::ReadOnly
            | Self::Unsupported(_)
            | Self::Unaligned { .. }
            | Self::PastEnd { .. }
            | Self::NoContext(_)
            | Self::Fragmented(_) => true,
            _ => false,
        }
    }

    /// An error of the stream, met while it was asked to `action` within `limit`.
    pub(super) fn of_stream(error: io::Error, action: &'static str, limit: Duration) -> Self {
        match error.kind() {
            io::ErrorKind::TimedOut => Self::Stalled { action, limit },
            // The TLS layer wraps its own errors.
            io::ErrorKind::InvalidData => Self::Tls(error.to_string()),
            io::ErrorKind::UnexpectedEof => {
                let source = io::Error::new(io::ErrorKind::UnexpectedEof, "the server ended it");
                Self::Lost { action, source }
            }
            _ => Self::Lost { action, source: error },
        }
    }

    /// Shorthand for [`Fault::Protocol`].
    pub(super) fn protocol(what: impl Into<String>) -> Self {
        Self::Protocol(what.into())
    }
}

/// What the peer says in words, shortened and made fit for a terminal. Empty: nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said(String);

impl Said {
    /// What stands in `bytes`.
    pub(super) fn new(bytes: &[u8]) -> Self {
        const CHARS_MAX: usize = 200;
        let bytes = &bytes[..bytes.len().min(STRING_BYTES_MAX)];
        let text = String::from_utf8_lossy(bytes);
        let plain = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c });
        Self(plain.take(CHARS_MAX).collect())
    }

    /// The words alone.
    pub fn words(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, " (it says: {})", self.0) }
    }
}

/// Number of an error in a reply. Those that the protocol knows have Linux's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorCode(pub u32);

impl ErrorCode {
    /// Not permitted: the export is read-only.
    pub const PERM: u32 = 1;
    /// The storage failed.
    pub const IO: u32 = 5;
    /// No memory.
    pub const NOMEM: u32 = 12;
    /// The request makes no sense.
    pub const INVAL: u32 = 22;
    /// No space.
    pub const NOSPC: u32 = 28;
    /// The answer is too large.
    pub const OVERFLOW: u32 = 75;
    /// Not supported.
    pub const NOTSUP: u32 = 95;
    /// The server is about to end.
    pub const SHUTDOWN: u32 = 108;
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.0 {
            Self::PERM => "not permitted",
            Self::IO => "input/output error",
            Self::NOMEM => "out of memory",
            Self::INVAL => "invalid request",
            Self::NOSPC => "no space left",
            Self::OVERFLOW => "too large",
            Self::NOTSUP => "not supported",
            Self::SHUTDOWN => "shutting down",
            other => return write!(f, "error {other}"),
        };
        f.write_str(name)
    }
}

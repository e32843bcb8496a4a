//! Why QEMU or the agent in its guest did not do what it was asked to.

use std::path::PathBuf;
use std::time::Duration;

/// Why talking to QEMU or to its guest agent failed.
#[derive(Debug, thiserror::Error)]
pub enum QmpError {
    /// Nobody listens: the machine is off.
    #[error("nobody listens on {}: the machine is not running, or its QEMU was started without \
        this socket; check the path, or start the machine", path.display())]
    NotRunning {
        /// The socket.
        path: PathBuf,
    },
    /// The system refused the connection, or broke it.
    #[error("{}: {source}; check the path and its permissions", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// Somebody else has the socket.
    #[error("{} serves another program (it takes one at a time); give afterimage a socket of its \
        own, with another -qmp or -chardev of QEMU", path.display())]
    Busy {
        /// The socket.
        path: PathBuf,
    },
    /// No answer came.
    #[error("{}: no answer to {what} within {} s; look whether the machine hangs", path.display(),
        limit.as_secs_f32())]
    TimedOut {
        /// The socket.
        path: PathBuf,
        /// What was asked.
        what: String,
        /// How long was waited.
        limit: Duration,
    },
    /// The peer closed the connection.
    #[error("{} was closed before {what} was answered; look whether the machine still runs",
        path.display())]
    Closed {
        /// The socket.
        path: PathBuf,
        /// What was asked.
        what: String,
    },
    /// The peer does not speak the protocol.
    #[error("{} does not answer as {expected} does: {found}; check which socket this is",
        path.display())]
    Garbage {
        /// The socket.
        path: PathBuf,
        /// What should be there.
        expected: &'static str,
        /// What came instead.
        found: String,
    },
    /// The command was refused.
    #[error("{}: {command} was refused: {reason} ({class})", path.display())]
    Refused {
        /// The socket.
        path: PathBuf,
        /// The command.
        command: String,
        /// QEMU's class of errors, such as `GenericError` or `CommandNotFound`.
        class: String,
        /// QEMU's words.
        reason: String,
    },
}

impl QmpError {
    /// Whether trying the same again can not help.
    pub fn is_permanent(&self) -> bool {
        matches!(self, Self::Garbage { .. })
    }

    /// The words of a refusal; `None` for everything else.
    pub fn refusal(&self) -> Option<&str> {
        match self {
            Self::Refused { reason, .. } => Some(reason),
            _ => None,
        }
    }
}

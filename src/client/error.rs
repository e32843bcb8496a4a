//! Why the daemon could not be asked, or did not do it.

use crate::report::ErrorReport;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why the daemon could not be asked, or did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens at the socket.
    #[error(
        "no daemon listens at {}; start it with `systemctl start afterimage`, or with \
         `afterimage daemon`", socket.display()
    )]
    NoDaemon {
        /// The socket.
        socket: PathBuf,
    },
    /// The user may not talk to it.
    #[error(
        "the daemon at {} does not serve this user; run the same command as root, or with \
         `--no-daemon`", socket.display()
    )]
    Forbidden {
        /// The socket.
        socket: PathBuf,
    },
    /// The connection failed.
    #[error("the connection to the daemon at {} failed: {source}; try again", socket.display())]
    Io {
        /// The socket.
        socket: PathBuf,
        /// How.
        source: io::Error,
    },
    /// It takes too long.
    #[error(
        "the daemon at {} did not answer within {} s; look at its log, or try again",
        socket.display(), limit.as_secs()
    )]
    Silent {
        /// The socket.
        socket: PathBuf,
        /// For how long it was waited.
        limit: Duration,
    },
    /// The answer is none.
    #[error(
        "what listens at {} does not answer as a daemon of afterimage {} does ({reason}); is it \
         another version? Restart it, or work without it: `--no-daemon`", socket.display(), env!("CARGO_PKG_VERSION")
    )]
    NotUnderstood {
        /// The socket.
        socket: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The daemon says no.
    #[error("{}", .0.message)]
    Refused(Box<ErrorReport>),
    /// There is nothing of that name or number.
    #[error("{}", .0.message)]
    NotFound(Box<ErrorReport>),
}

impl ClientError {
    /// Whether the daemon may be about to come back.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::NoDaemon { .. } | Self::Io { .. } | Self::Silent { .. } => true,
            Self::Forbidden { .. }
            | Self::NotUnderstood { .. }
            | Self::Refused(_)
            | Self::NotFound(_) => false,
        }
    }
}

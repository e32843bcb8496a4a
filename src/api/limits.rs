//! What the server takes on at most.

use std::time::Duration;

/// Bounds of the server. All of them hold at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections over TCP. When there are as many, the oldest that does nothing is closed.
    pub connections: usize,
    /// Connections over TCP from one address.
    pub per_address: usize,
    /// Connections over the unix socket.
    pub socket_connections: usize,
    /// Streams of events.
    pub streams: usize,
    /// How long the head of a request may take, or a connection may do nothing.
    pub head: Duration,
    /// How long TLS may take to begin.
    pub handshake: Duration,
    /// How long a peer may take none of what is sent to it.
    pub stall: Duration,
    /// How long a connection is kept; requests that are under way then are finished.
    pub age: Duration,
    /// How long a connection lasts at most, streams too: they can be resumed.
    pub age_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 256,
            per_address: 64,
            socket_connections: 256,
            streams: 64,
            head: Duration::from_secs(10),
            handshake: Duration::from_secs(10),
            stall: Duration::from_secs(20),
            age: Duration::from_secs(600),
            age_max: Duration::from_secs(3600),
        }
    }
}

/// Longest body of a request, in bytes.
pub(super) const BODY_BYTES_MAX: usize = 64 * 1024;
/// Longest head of a request, in bytes.
pub(super) const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Most lines of a head.
pub(super) const HEADERS_MAX: usize = 64;
/// Threads that work for requests that ask the daemon or a local database.
pub(super) const LIGHT_WORK_MAX: usize = 8;
/// Threads that work for requests that open repositories.
pub(super) const HEAVY_WORK_MAX: usize = 2;
/// Most lines of an answer.
pub(super) const LINES_MAX: usize = 1000;
/// Lines of an answer, if it is not said how many.
pub(super) const LINES_DEFAULT: usize = 100;

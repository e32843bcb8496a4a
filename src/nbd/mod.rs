//! Network Block Device: disks of other programs and hosts, and disks for them.
//!
//! The client and the server speak the fixed newstyle handshake, simple and structured replies and
//! block status, over unix sockets, TCP and TLS. Source: `doc/proto.md` of the NBD project
//! (<https://github.com/NetworkBlockDevice/nbd>).
//!
//! Invariants: every number that a peer sends is checked before it is used; every wait on a peer
//! has an end; a connection that failed is never used again.

mod address;
mod bytes;
mod client;
mod error;
mod numbers;
mod server;
mod stream;
mod tls;

pub use address::{Address, AddressError, Transport};
pub use client::{Client, Options, Zeroing};
pub use error::{ErrorCode, Fault, NbdError, Said};
pub use numbers::{
    BASE_ALLOCATION, DEFAULT_PORT, DIRTY_BITMAP_PREFIX, STATE_DIRTY, STATE_HOLE, STATE_ZERO,
};
pub use server::{Export, ExportError, Exports, Limits, Server, ServerError, serve_stream};
pub use stream::Stream;
pub use tls::{Identity, ServerTls, TlsOptions};

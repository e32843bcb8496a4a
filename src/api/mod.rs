//! The HTTP API: everything that the command line shows, and most of what it does, over the unix
//! socket and, if the settings say so, over TCP.
//!
//! Invariants:
//! * Every route stands in one table with what its caller needs ([`Access`]); nothing is served
//!   that is not in it, and the OpenAPI document is made of the same table.
//! * Without a token nothing but `/v1/health` answers, except to root and the daemon's own user
//!   on the unix socket.
//! * A change is in the audit log before it is done; so is a refusal before it is told.
//! * Connections, requests, streams and threads are bounded in number, size and time.

mod access;
mod audited;
mod connection;
mod connections;
mod error;
mod extract;
mod gate;
mod guarded;
mod limits;
mod lines;
mod listen;
mod openapi;
mod peer;
mod problem;
mod refusals;
mod routes;
mod server;
mod slowdown;
mod state;
mod stream;
mod tls;
mod watched;

pub use access::{Access, Rule};
pub use error::ApiError;
pub use limits::Limits;
pub use lines::{
    AuditPage, ConfigLine, Health, NewTokenOrder, NotifyOrder, PauseOrder, PinOrder, PointsPage,
    Resumed, Started, StateLines, UsageLines,
};
pub use openapi::document;
pub use problem::Problem;
pub use server::ApiServer;

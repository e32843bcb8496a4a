//! The API: its server with everything that it serves, over real sockets.

mod access;
#[path = "../common/authority.rs"]
mod authority;
mod client;
mod documented;
mod hostile;
mod real;
mod schema;
mod stand_in;
mod streams;
mod tls;
mod world;

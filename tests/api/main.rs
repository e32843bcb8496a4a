//! The API: its server with everything that it serves, over real sockets.

mod access;
mod client;
mod documented;
mod hostile;
mod schema;
mod stand_in;
mod streams;
mod tls;
mod world;

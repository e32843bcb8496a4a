//! How a running QEMU is talked to: its monitor (QMP), and the agent in its guest.
//!
//! Both speak lines of JSON over a unix socket that serves one client at a time. What QMP is:
//! `docs/interop/qmp-spec.rst` of QEMU; the agent's commands: `qga/qapi-schema.json`.
//!
//! Invariants: every answer has a time limit and every line a greatest length; what the peer sends
//! never makes more than one line be held, besides a bounded number of events.

mod agent;
mod error;
mod lines;
mod message;
mod monitor;

#[cfg(test)]
mod tests;

pub use agent::{Agent, FreezeStatus};
pub use error::QmpError;
pub use message::{Event, Message, Version, parse_message, synchronised};
pub use monitor::Monitor;

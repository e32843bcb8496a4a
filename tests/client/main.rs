//! Asking a daemon over its socket: peers that misbehave, and the same output with it as without.

mod faults;
mod peer;
mod terminal;

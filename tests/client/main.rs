//! Asking a daemon over its socket: peers that misbehave, and the same output with it as without.

mod choice;
#[path = "../common/mod.rs"]
mod common;
mod faults;
mod identical;
mod live;
mod peer;
mod site;
mod terminal;
#[path = "../cli/world.rs"]
#[allow(dead_code, reason = "the tests of the binary use all of it")]
mod world;

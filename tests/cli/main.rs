//! The binary, as users and their scripts meet it.

#[path = "../common/mod.rs"]
mod common;
mod damaged;
mod errors;
mod journey;
mod keys;
mod processes;
mod restore;
mod world;

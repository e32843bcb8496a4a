//! The binary, as users and their scripts meet it.

#[path = "../common/mod.rs"]
mod common;
mod damaged;
mod errors;
mod journey;
mod processes;
mod repair;
mod restore;
mod verify;
mod world;

//! The binary, as users and their scripts meet it.

mod catalog;
mod changes;
#[path = "../common/mod.rs"]
mod common;
mod costs;
mod damaged;
mod direct;
mod errors;
mod journey;
mod keys;
mod processes;
mod prune;
mod repair;
mod restore;
mod upkeep;
mod verify;
mod world;

//! The NBD client and server, with real servers and clients of others, and with peers that lie.

mod bad_starts;
#[path = "../common/mod.rs"]
mod common;
mod exports;
mod foreign_clients;
mod foreign_servers;
mod journey;
mod liar;
mod liars;
mod model;
mod peers;
mod targets;
mod tls;

use std::process::Command;

/// Runs a command to its end and gives what it prints.
///
/// # Panics
/// When it fails.
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a command that must fail, and gives what it complains of.
fn run_in_vain(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(!output.status.success(), "{command:?} succeeds");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

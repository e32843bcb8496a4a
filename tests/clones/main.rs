//! Clones of images on real XFS and btrfs, and snapshots that commands make: what changed is told
//! whatever happens, and nothing is left behind. Needs root, loop devices, `mkfs.xfs`, `xfs_io`,
//! `mkfs.btrfs`, `btrfs`, `qemu-img`, `qemu-io`, `thin_delta` and `jq`.

mod batches;
mod care;
mod commands;
#[path = "../common/mod.rs"]
mod common;
mod image;
mod instant;
mod journey;
#[allow(dead_code, reason = "shared with tests that keep what they made")]
#[path = "../cuts/place.rs"]
mod place;
mod qcow2;
mod samples;
mod volume;
#[allow(dead_code, reason = "shared with the tests of the command line")]
#[path = "../cli/world.rs"]
mod world;

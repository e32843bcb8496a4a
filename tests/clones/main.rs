//! Clones of images on real XFS and btrfs, and snapshots that commands make: what changed is told
//! whatever happens, and nothing is left behind. Needs root, loop devices, `mkfs.xfs`, `xfs_io`,
//! `mkfs.btrfs`, `btrfs`, `qemu-img` and `qemu-io`.

mod batches;
mod care;
mod commands;
mod image;
mod instant;
#[allow(dead_code, reason = "shared with tests that keep what they made")]
#[path = "../cuts/place.rs"]
mod place;
mod qcow2;
mod volume;

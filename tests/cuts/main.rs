//! The real program on real file systems that lose power, fill up or fail, and processes that are
//! killed at any moment: what was acknowledged stays, and the next run goes on. Needs root, loop
//! devices, `mke2fs`, `mkfs.xfs`, `xfs_io`, `prlimit` and `strace`.
//!
//! More of it, elsewhere, or for a time:
//! `AFTERIMAGE_CUTS=5000 AFTERIMAGE_KILLS=1000 AFTERIMAGE_SEED=7 AFTERIMAGE_SECONDS=1800`. Each test
//! ends with a line `count: …` of what ran; a failure names the cycle and where the file system is
//! kept.

mod calls;
mod check;
mod ended;
mod full;
mod kill;
mod knobs;
mod memory;
mod model;
mod mount;
mod place;
mod power;
mod task;
mod world;

//! The embedded demonstration: two real ext4 disks are backed up, changed, backed up again,
//! replicated, spoilt together with their standby, and brought back; each step is proved by
//! hashes and by checking the file systems.
//!
//! It needs e2fsprogs, no root and no virtual machine, and leaves nothing behind.

mod content;
mod disk;
mod error;
mod story;
mod workplace;

pub use error::DemoError;
pub use story::run;

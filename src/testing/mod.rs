//! Parts for tests: wrappers that make good parts fail.

mod between;
mod cut;
pub mod disk;
mod full;
mod noise;
mod parts;
mod random;
mod unsynced;

pub use between::BetweenFileSystem;
pub use cut::{CutFileSystem, LastOperation};
pub use full::{Full, FullFileSystem};
pub use noise::noise;
pub use parts::{MemoryIndex, machine, point};
pub use random::Random;
pub use unsynced::{Lost, UnsyncedFileSystem};

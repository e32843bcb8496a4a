//! Parts for tests: wrappers that make good parts fail.

mod cut;
mod full;
mod unsynced;

pub use cut::{CutFileSystem, LastOperation};
pub use full::{Full, FullFileSystem};
pub use unsynced::{Lost, UnsyncedFileSystem};

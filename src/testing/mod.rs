//! Parts for tests: wrappers that make good parts fail.

mod cut;
mod unsynced;

pub use cut::{CutFileSystem, LastOperation};
pub use unsynced::{Lost, UnsyncedFileSystem};

//! Parts for tests: wrappers that make good parts fail.

mod cut;

pub use cut::{CutFileSystem, LastOperation};

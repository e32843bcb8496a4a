//! Retention: which points of a machine are kept, why, and removing the others; and returning the
//! space that nothing needs any more.

mod gc;

pub use gc::{GcError, GcOutcome, GcRequest, collect};

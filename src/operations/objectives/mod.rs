//! Objectives: how old what could be brought back is, held against how old it may get.
//!
//! [`judge`] is pure: facts and an instant in, a judgement out. [`ObjectiveBook`] judges again and
//! again, and notes in the history for how long each objective was how well met.

mod book;
mod facts;
mod gap;
mod judge;

pub use book::ObjectiveBook;
pub use facts::LiveFacts;
pub(super) use facts::{Noted, objective_lines};
pub use gap::{Durable, account};
pub use judge::{Coming, Feed, Judgement, ObjectiveFacts, judge};

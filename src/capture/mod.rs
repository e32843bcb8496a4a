pub mod clone;
mod command;
mod mark;
pub mod snapshot;

pub use command::CommandError;
pub use mark::Mark;

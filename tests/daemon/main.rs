//! The daemon: its queue, runs from their beginning to their end, and the real program.

mod lifecycle;
mod process;
mod queue;
mod recovery;
mod reload;
mod scene;
mod schedule;
mod unwritable;

//! Objectives and metrics of a real repository, at instants that the tests choose.

mod objectives;
mod promtool;
mod site;
mod text;

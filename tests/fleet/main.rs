//! Many machines under the real daemon: each due time leads to one run, whatever kills it.

mod kill;
mod secrets;
mod site;
mod steady;

//! What runs by itself and when: due times against a slow and independent calendar, windows, the
//! planner, its ledger, and a simulated year.

mod clocks;
mod due;
mod ledger;
mod planner;
mod reference;
mod tools;
mod windows;
mod world;
mod year;

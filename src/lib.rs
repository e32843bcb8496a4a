//! afterimage keeps a warm, bootable standby copy of every machine's disks, fed from
//! deduplicated backups, and keeps those backups so that any older point can come back.
//!
//! The flow of data, which is also the order of the modules:
//!
//! ```text
//! backup     capture of sources --extents--> chunk (cut, name) --new--> store (compress, seal, pack) --> point
//! replicate  tree(sync point) vs tree(newest point) --differing spans--> journal --> destination
//! recover    point --> image or device, every chunk checked by its name
//! ```
//!
//! Nouns come first, left to right; a noun never imports a noun to its right. Verbs join nouns
//! and do not import each other. Faces call the verbs. `tests/layering.rs` holds this.

// Nouns.
pub mod units;

pub mod throttle;

pub mod progress;

pub mod workers;

pub mod sys;

pub mod fsio;

pub mod audit;

mod cron;

pub mod extent;

pub mod nbd;

pub mod qmp;

pub mod source;

pub mod chunk;

pub mod store;

pub mod point;

pub mod catalog;

pub mod capture;

pub mod destination;

// Verbs.
pub mod backup;

pub mod replay;

pub mod recover;

pub mod scrub;

pub mod retain;

pub mod transfer;

pub mod usage;

// Wire and faces.
pub mod settings;

pub mod schedule;

pub mod report;

pub mod operations;

pub mod notify;

pub mod metrics;

pub mod daemon;

pub mod api;

pub mod client;

pub mod demo;

pub mod cli;

// For tests.
#[doc(hidden)]
pub mod testing;

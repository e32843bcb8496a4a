//! What is fuzzed: one target for each parser that meets bytes from outside. The tests of
//! `tests/fuzz` run them with changed inputs from `fixtures/corpus`, `fuzz/` gives them to
//! libFuzzer.
//!
//! A target takes any bytes. It must not panic, hang or ask for much memory, and what it accepts
//! must keep what `docs/on-disk-format.md` promises. It says whether it accepted them.

mod client;
mod databases;
mod documents;
mod images;
mod keys;
pub mod nbd;
mod packs;
mod replicas;
mod requests;
mod texts;
mod trees;
pub mod world;

use cap::Cap;
use std::alloc::System;
use std::sync::{Mutex, PoisonError};

/// Counts what is allocated.
#[global_allocator]
static MEMORY: Cap<System> = Cap::new(System, usize::MAX);

static ALONE: Mutex<()> = Mutex::new(());

/// One parser, or one way into it.
pub struct Target {
    pub name: &'static str,
    pub run: fn(&[u8]) -> bool,
    /// The most memory that may be in use at once, in MiB.
    pub memory_mib: usize,
    /// Longest input that is worth a try, in bytes.
    #[allow(dead_code, reason = "tests know it, libFuzzer is told by its starter")]
    pub input_bytes_max: usize,
    /// Changed inputs in a usual run of the tests.
    #[allow(dead_code, reason = "libFuzzer counts for itself")]
    pub cases: u32,
}

const KIB: usize = 1024;

const fn target(name: &'static str, run: fn(&[u8]) -> bool, cases: u32) -> Target {
    Target { name, run, memory_mib: 64, input_bytes_max: 4 * KIB, cases }
}

const fn large(name: &'static str, run: fn(&[u8]) -> bool, cases: u32) -> Target {
    Target { input_bytes_max: 64 * KIB, ..target(name, run, cases) }
}

/// All of them, by their names.
pub const TARGETS: &[Target] = &[
    large("audit", requests::audit, 10_000),
    target("catalog", databases::catalog, 1500),
    target("changed-list", texts::changed_list, 50_000),
    target("changed-output", texts::changed_output, 50_000),
    target("condemned", documents::condemned, 30_000),
    target("daemon-answer", client::daemon_answer, 100_000),
    target("domain", texts::domain, 30_000),
    target("header", keys::header, 30_000),
    target("history", databases::history, 1500),
    target("hold", documents::hold, 30_000),
    large("journal", replicas::journal, 30_000),
    large("journal-repaired", replicas::journal_repaired, 20_000),
    target("key-export", keys::key_export, 7500),
    target("leaf", trees::leaf, 300_000),
    // One object has 64 MiB at most; they are read into one buffer and opened into another.
    Target { memory_mib: 256, ..large("location", trees::location, 15_000) },
    target("lock-note", replicas::lock_note, 20_000),
    target("manifest", documents::manifest, 30_000),
    target("names", texts::names, 300_000),
    large("nbd-client", nbd::client, 20_000),
    large("nbd-server", nbd::server, 20_000),
    Target { input_bytes_max: 10 * KIB, ..target("node", trees::node, 300_000) },
    large("object", packs::object, 50_000),
    Target { memory_mib: 256, ..large("pack", packs::pack, 15_000) },
    Target { memory_mib: 256, ..large("pack-repaired", packs::pack_repaired, 15_000) },
    Target { memory_mib: 256, ..large("pack-sealed", packs::pack_sealed, 15_000) },
    target("point-choice", texts::point_choice, 100_000),
    large("probe", images::probe, 10_000),
    large("qcow2", images::qcow2, 10_000),
    large("qcow2-chain", images::qcow2_chain, 7500),
    target("qmp", texts::qmp, 100_000),
    target("recovery-key", texts::recovery_key, 200_000),
    target("removal", documents::removal, 30_000),
    target("schedule", texts::schedule, 15_000),
    target("settings", texts::settings, 20_000),
    target("slot", keys::slot, 10_000),
    target("slot-index", keys::slot_index, 20_000),
    Target { input_bytes_max: 132 * KIB, ..target("superblock", replicas::superblock, 10_000) },
    target("superblock-repaired", replicas::superblock_repaired, 10_000),
    target("token", requests::token, 100_000),
    target("tree", trees::tree, 7500),
];

/// The target with this name.
pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

impl Target {
    /// Gives it an input.
    ///
    /// # Panics
    /// When anything is wrong with what it does.
    pub fn check(&self, bytes: &[u8]) -> bool {
        // The allocator remembers the most that there ever was, so one input at a time.
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let before = MEMORY.max_allocated();
        let accepted = (self.run)(bytes);
        let most = MEMORY.max_allocated();
        let is_bounded = most == before || most >> 20 <= self.memory_mib;
        assert!(is_bounded, "{} MiB of memory were in use", most >> 20);
        accepted
    }
}

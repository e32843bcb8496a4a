//! No acknowledged point is ever lost: shown on a simulated disk that yields every state that a
//! crash may leave, with faults at every operation, and by deliberate breakages that must be found.
//!
//! More, or elsewhere: `AFTERIMAGE_PROOF_SEED=1000 AFTERIMAGE_PROOF_ROUNDS=50 bash tests/run proof`

mod errors;
mod go_on;
mod known;
mod lab;
mod sweep;

use afterimage::testing::disk::Span;
use sweep::{CASES, Counts, Effort};

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// The crash sweep of some cases.
fn sweep_all(names: &[&str]) {
    let (first, rounds) =
        (number("AFTERIMAGE_PROOF_SEED", 0), number("AFTERIMAGE_PROOF_ROUNDS", 2));
    let effort = Effort { states: number("AFTERIMAGE_PROOF_STATES", 12), go_on_every: 16 };
    let mut counts = Counts::default();
    for case in CASES.iter().filter(|case| names.contains(&case.name)) {
        for seed in first..first + rounds {
            match sweep::sweep(case, seed, effort) {
                Ok(more) => counts.add(more),
                Err(finding) => panic!("{finding}"),
            }
        }
    }
    println!(
        "count: {} cuts, {} crash states, {} histories went on",
        counts.cuts, counts.states, counts.gone_on
    );
}

#[test]
fn backups_that_are_cut_anywhere_lose_nothing() {
    sweep_all(&["init", "first backup", "next backup"]);
}

#[test]
fn replicas_that_are_cut_anywhere_are_at_exactly_one_point() {
    sweep_all(&["seed", "replay", "repair"]);
}

#[test]
fn removals_that_are_cut_anywhere_remove_nothing_that_is_kept() {
    sweep_all(&["prune", "collection"]);
}

#[test]
fn keys_copies_and_restores_that_are_cut_anywhere_are_old_or_new() {
    sweep_all(&["rotation", "first copy", "next copy", "restore"]);
}

/// Some kinds of failures, at every operation of every case.
fn fail_all(faults: &[&str]) {
    let (seed, stride) = (number("AFTERIMAGE_PROOF_SEED", 0), number("AFTERIMAGE_PROOF_STRIDE", 1));
    let go_on_every = number("AFTERIMAGE_PROOF_GO_ON", 16);
    let effort = errors::Effort { stride, states: 2, go_on_every };
    let mut counts = errors::Counts::default();
    for fault in errors::FAULTS.iter().filter(|fault| faults.contains(&fault.name)) {
        for (case, span) in CASES.iter().flat_map(|it| [(it, Span::Once), (it, Span::ForEver)]) {
            match errors::fail_everywhere(case, fault, span, seed, effort) {
                Ok(more) => counts.add(more),
                Err(finding) => panic!("{finding}"),
            }
        }
    }
    assert!(counts.injected > 0);
    println!(
        "count: {} failures, {} of them without harm, {} crash states after them",
        counts.injected, counts.succeeded, counts.states
    );
}

#[test]
fn writes_that_fail_anywhere_lose_nothing() {
    fail_all(&["disk full", "write error", "sync error", "error of a name"]);
}

#[test]
fn reads_that_fail_anywhere_lose_nothing() {
    fail_all(&["read error", "no more files", "short read"]);
}

#[test]
fn interruptions_anywhere_lose_nothing() {
    fail_all(&["interruption"]);
}

#[test]
fn bits_that_flip_on_the_way_from_the_disk_are_never_believed() {
    fail_all(&["flipped bit"]);
}

//! No acknowledged point is ever lost: shown on a simulated disk that yields every state that a
//! crash may leave, with faults at every operation, and by deliberate breakages that must be found.
//!
//! More, or elsewhere: `AFTERIMAGE_PROOF_SEED=1000 AFTERIMAGE_PROOF_ROUNDS=50 bash tests/run proof`

mod actions;
mod errors;
mod go_on;
mod known;
mod lab;
mod mutants;
mod rot;
mod simulator;
mod sweep;
mod turns;
mod twice;

use afterimage::testing::disk::Span;
use simulator::Theme;
use sweep::{CASES, Counts, Effort};

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// The crash sweep of some cases.
fn sweep_all(names: &[&str]) {
    let (first, rounds) =
        (number("AFTERIMAGE_PROOF_SEED", 0), number("AFTERIMAGE_PROOF_ROUNDS", 2));
    let states = number("AFTERIMAGE_PROOF_STATES", 12);
    let effort = Effort { states, go_on_every: number("AFTERIMAGE_PROOF_GO_ON", 16) };
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
        "count: crash sweep: {} cuts, {} crash states, {} histories went on",
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

#[test]
fn two_accidents_in_a_row_lose_nothing() {
    let (first, rounds) =
        (number("AFTERIMAGE_PROOF_SEED", 0), number("AFTERIMAGE_PROOF_ROUNDS", 4));
    let effort = twice::Effort { pairs: number("AFTERIMAGE_PROOF_PAIRS", 40), states: 4 };
    let mut counts = Counts::default();
    for (pair, seed) in
        twice::PAIRS.iter().flat_map(|pair| (first..first + rounds).map(move |seed| (pair, seed)))
    {
        match twice::twice(pair, seed, effort) {
            Ok(more) => counts.add(more),
            Err(finding) => panic!("{finding}"),
        }
    }
    println!("count: two accidents: {} pairs, {} crash states", counts.cuts, counts.states);
}

#[test]
fn a_superblock_with_any_byte_changed_says_the_same_or_is_refused() {
    rot::superblocks(number("AFTERIMAGE_PROOF_SEED", 0)).unwrap_or_else(|found| panic!("{found}"));
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
        "count: failing operations: {} failures, {} of them without harm, {} crash states",
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

/// Histories by seeds of one half.
fn simulate(half: u64, scenes: u64, theme: Theme) {
    let (first, count) =
        (number("AFTERIMAGE_PROOF_SEED", 0), number("AFTERIMAGE_SIMULATIONS", 400));
    // Those without mishaps find what they find with fewer.
    let count = if theme == Theme::All { count } else { count.div_ceil(4) };
    let (mut counts, mut findings) = (simulator::Counts::default(), Vec::new());
    for seed in (first..first + count).filter(|seed| seed % 2 == half) {
        match simulator::simulate(seed, scenes, theme) {
            Ok(more) => counts.add(more),
            Err(finding) => findings.push(finding),
        }
    }
    println!("count: simulator: {counts}");
    findings.iter().filter_map(|it| it.lines().next()).for_each(|line| println!("{line}"));
    assert!(findings.is_empty(), "{}", findings[0]);
}

#[test]
fn whatever_happens_at_the_same_time_nothing_acknowledged_is_lost_even_seeds() {
    simulate(0, 6, Theme::All);
}

#[test]
fn whatever_happens_at_the_same_time_nothing_acknowledged_is_lost_odd_seeds() {
    simulate(1, 6, Theme::All);
}

#[test]
fn collections_beside_backups_and_prunes_remove_nothing_that_is_needed() {
    (0..2).for_each(|half| simulate(half, 10, Theme::Collections));
}

#[test]
fn a_seed_is_one_history_that_can_be_had_again() {
    for seed in 5000..5012 {
        let [first, again] = [(); 2].map(|()| simulator::simulate(seed, 5, Theme::All));
        assert_eq!(first, again, "seed {seed}");
    }
}

/// Breaks a part of all that can be broken on purpose.
fn break_part(part: usize) {
    let only = std::env::var("AFTERIMAGE_MUTANT").ok();
    let survivors =
        mutants::survivors(only.as_deref(), part, 2, number("AFTERIMAGE_MUTANT_SEEDS", 150));
    assert!(survivors.is_empty(), "the harness has holes: {survivors:?} are not found");
}

#[test]
fn deliberate_breakages_are_found_first_half() {
    break_part(0);
}

#[test]
fn deliberate_breakages_are_found_second_half() {
    break_part(1);
}

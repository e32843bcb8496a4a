//! A year in seconds.

use crate::reference::{Expression, is_due, walk};
use crate::tools::{Ledger, MemoryLedger};
use crate::world::{Chance, Options, Plan, World};
use afterimage::catalog::{History, SlotFate};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::collections::BTreeMap;

const START: &str = "2026-01-15T00:00:20Z";

/// The seed: another one each time that is asked for by `SCHEDULE_SEED`.
fn seed(otherwise: u64) -> u64 {
    let seed = std::env::var("SCHEDULE_SEED").ok().map_or(otherwise, |seed| seed.parse().unwrap());
    println!("SCHEDULE_SEED={seed}");
    seed
}

/// All due minutes of all plans, by one walk over each zone.
fn calendar(plans: &[Plan], from: i64, to: i64) -> BTreeMap<String, Vec<i64>> {
    let mut found = BTreeMap::new();
    let mut zones: BTreeMap<&str, Vec<(&str, Expression)>> = BTreeMap::new();
    for plan in plans {
        let entry = (plan.key.as_str(), Expression::parse(plan.expression));
        zones.entry(plan.zone).or_default().push(entry);
        found.insert(plan.key.clone(), Vec::new());
    }
    for (zone, plans) in zones {
        let zone = TimeZone::get(zone).unwrap();
        walk(&zone, from..to, |minute, now, before, most| {
            for (key, expression) in &plans {
                if is_due(expression, now, before, most) {
                    found.get_mut(*key).unwrap().push(minute);
                }
            }
        });
    }
    found
}

/// Each slot of the calendar, up to the last that was decided, ran once or was skipped for a reason.
/// Returns how many ran, and how many were skipped.
fn check<L: Ledger>(world: &World<L>, plans: &[Plan], options: &Options) -> (u64, u64) {
    let start: Timestamp = START.parse().unwrap();
    let from = start.as_second().div_euclid(60) + 1;
    // A clock that is years ahead is not followed.
    let to =
        world.now.wall.as_second().div_euclid(60).clamp(from, from + options.days as i64 * 1440)
            + 1;
    let (mut ran, mut skipped) = (0, 0);
    for (key, due) in calendar(plans, from, to) {
        let mut left = due.iter().map(|minute| minute * 60).peekable();
        for line in world.ledger.lines(&key) {
            let (first, last) = (line.first.as_second(), line.last.as_second());
            let mut count = 0;
            while let Some(slot) = left.next_if(|slot| *slot <= last) {
                assert!(slot >= first, "{key}: the slot at {slot} was lost before {line:?}");
                count += 1;
            }
            if first > start.as_second() && last < to * 60 {
                assert!(count > 0, "{key}: nothing was due in {line:?}");
            }
            match line.fate {
                SlotFate::Run { .. } => ran += count,
                SlotFate::Skipped(reason) => {
                    assert!(!reason.is_empty());
                    skipped += count;
                }
            }
            if !options.clocks_jump {
                assert_eq!(count, line.count, "{key}: {:?} to {:?}", line.first, line.last);
            }
        }
        // What is left waits for a delay or a window, or came due while the daemon was off.
        let waits = left.map(|slot| to * 60 - slot).max().unwrap_or(0);
        assert!(waits < 8 * 86_400, "{key}: {waits} s undecided");
    }
    (ran, skipped)
}

#[test]
fn in_a_year_each_slot_runs_once_or_is_skipped_for_a_reason() {
    let seed = seed(1);
    let (mut world, plans) = World::new(START, MemoryLedger::default(), Chance(seed));
    let options = Options { days: 365, clocks_jump: false };
    world.run(&options);
    let (ran, skipped) = check(&world, &plans, &options);
    println!(
        "{} disruptions, {} starts, {ran} ran, {skipped} skipped",
        world.disruptions, world.starts
    );
    assert!(world.disruptions > 200 && ran > 20_000 && skipped > 10_000);
}

#[test]
fn in_a_year_of_wrong_clocks_no_slot_runs_twice_and_nothing_is_pruned_in_doubt() {
    let seed = seed(2);
    let (mut world, plans) = World::new(START, MemoryLedger::default(), Chance(seed));
    let options = Options { days: 200, clocks_jump: true };
    world.run(&options);
    let (ran, skipped) = check(&world, &plans, &options);
    println!(
        "{} disruptions, {} starts, {ran} ran, {skipped} skipped",
        world.disruptions, world.starts
    );
    assert!(world.disruptions > 100 && world.starts > 3000);
}

#[test]
fn twelve_days_with_the_real_ledger_are_as_good() {
    let seed = seed(3);
    // In memory where that can be had: this is no test of the disk.
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let history = History::open(folder.path()).unwrap();
    let (mut world, plans) = World::new(START, history, Chance(seed));
    let options = Options { days: 12, clocks_jump: true };
    world.run(&options);
    let (ran, skipped) = check(&world, &plans, &options);
    println!(
        "{} disruptions, {} starts, {ran} ran, {skipped} skipped",
        world.disruptions, world.starts
    );
    assert!(world.starts > 300);
}

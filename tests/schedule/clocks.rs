//! Clocks that are wrong.

use crate::tools::{Bench, after, task, time};
use afterimage::catalog::RunTrigger;
use afterimage::schedule::{Outcome, ScheduledTask, SkipReason, Start};
use jiff::Timestamp;

/// A backup and a prune, each hour.
fn tasks() -> Vec<ScheduledTask> {
    vec![task("backup", "0 * * * *"), ScheduledTask { prunes: true, ..task("prune", "0 * * * *") }]
}

fn end_all(bench: &mut Bench, starts: &[Start]) {
    starts.iter().for_each(|start| bench.ended(start, Outcome::Completed));
}

fn keys(starts: &[Start]) -> Vec<&str> {
    let mut keys: Vec<&str> = starts.iter().map(|start| start.key.as_str()).collect();
    keys.sort_unstable();
    keys
}

fn run_until(bench: &mut Bench, instant: &str) -> Vec<Start> {
    let mut all = Vec::new();
    while bench.now.wall < time(instant) {
        let begun = bench.next(instant);
        end_all(bench, &begun);
        all.extend(begun);
    }
    all
}

fn set(bench: &mut Bench, wall: &str) {
    bench.now.wall = time(wall);
}

#[test]
fn a_clock_that_is_set_years_ahead_begins_nothing_and_holds_pruning() {
    let mut bench = Bench::new("2026-06-01T00:30:00Z", tasks());
    assert_eq!(run_until(&mut bench, "2026-06-01T01:30:00Z").len(), 2);
    set(&mut bench, "2031-06-01T00:30:00Z");
    assert_eq!(bench.tick(), []);
    let skipped = bench.skipped();
    assert_eq!(skipped.len(), 2);
    let hours = (time("2031-06-01T00:00:00Z").as_second()
        - time("2026-06-01T01:00:00Z").as_second())
        / 3600;
    assert!(skipped.iter().all(|it| it.1 == hours as u64 && it.2 == SkipReason::ClockJumped));
    // From the next slot on it runs, but for pruning, however long the wrong clock agrees with
    // itself, and after a restart, and after one of the system.
    for (boot_id, instant) in [("a", "2031-06-01T06:30:00Z"), ("a", "2031-06-01T12:30:00Z")] {
        let begun = run_until(&mut bench, instant);
        assert!(begun.len() == 6 && begun.iter().all(|it| it.key == "backup"));
        assert!(begun.iter().all(|it| it.trigger == RunTrigger::Schedule));
        assert!(bench.skipped().iter().all(|it| it.2 == SkipReason::ClockDoubted));
        bench.boot_id = boot_id.to_owned();
        bench.restart();
    }
    bench.boot_id = "b".to_owned();
    bench.restart();
    assert_eq!(keys(&run_until(&mut bench, "2031-06-01T14:30:00Z")), ["backup"; 2]);
    assert!(bench.planner.doubt().is_some_and(|doubt| doubt.is_far));
    // Until a person says that it is right.
    bench.planner.trust_clock(bench.now);
    assert_eq!(keys(&run_until(&mut bench, "2031-06-01T15:30:00Z")), ["backup", "prune"]);
    bench.restart();
    assert!(bench.planner.may_prune());
}

#[test]
fn a_clock_that_comes_back_runs_no_slot_again_and_is_believed_after_an_hour() {
    let mut bench = Bench::new("2026-06-01T00:30:00Z", tasks());
    assert_eq!(run_until(&mut bench, "2026-06-01T01:30:00Z").len(), 2);
    set(&mut bench, "2031-06-01T00:30:00Z");
    assert_eq!(run_until(&mut bench, "2031-06-01T03:30:00Z").len(), 3);
    // Three hours have passed.
    set(&mut bench, "2026-06-01T04:30:00Z");
    assert_eq!(bench.tick(), []);
    let begun = run_until(&mut bench, "2026-06-01T05:15:00Z");
    assert_eq!(keys(&begun), ["backup"]);
    assert_eq!(begun[0].due, time("2026-06-01T05:00:00Z"));
    assert_eq!(keys(&run_until(&mut bench, "2026-06-01T06:15:00Z")), ["backup", "prune"]);
    // What was claimed in the future that did not come is claimed when it comes.
    bench.boot_id = "b".to_owned();
    set(&mut bench, "2031-06-01T00:59:00Z");
    bench.restart();
    bench.tick();
    bench.planner.trust_clock(bench.now);
    assert!(!run_until(&mut bench, "2031-06-01T02:00:00Z").is_empty());
}

#[test]
fn a_clock_that_goes_back_by_hours_waits_until_the_slots_are_new_again() {
    let mut bench = Bench::new("2026-06-01T00:30:00Z", tasks());
    assert_eq!(run_until(&mut bench, "2026-06-01T12:30:00Z").len(), 24);
    set(&mut bench, "2026-06-01T09:30:00Z");
    assert_eq!(bench.tick(), []);
    bench.restart();
    assert_eq!(run_until(&mut bench, "2026-06-01T12:59:00Z"), []);
    let begun = run_until(&mut bench, "2026-06-01T13:00:00Z");
    assert_eq!(keys(&begun), ["backup", "prune"]);
}

#[test]
fn a_clock_that_goes_back_by_days_goes_on_from_there() {
    let mut bench = Bench::new("2026-06-10T00:30:00Z", tasks());
    assert_eq!(run_until(&mut bench, "2026-06-10T01:30:00Z").len(), 2);
    set(&mut bench, "2026-06-05T00:30:00Z");
    assert_eq!(bench.tick(), []);
    // Five days are not far: it is believed when it agrees for an hour.
    assert_eq!(keys(&run_until(&mut bench, "2026-06-05T01:00:00Z")), ["backup"]);
    assert_eq!(keys(&run_until(&mut bench, "2026-06-05T02:00:00Z")), ["backup", "prune"]);
}

#[test]
fn a_replica_that_waits_follows_its_backup_also_when_the_clock_goes_back_meanwhile() {
    let mut bench =
        Bench::new("2026-06-10T00:30:00Z", vec![task("a", "0 * * * *"), after("b", "a")]);
    let begun = bench.until("2026-06-10T01:00:00Z");
    end_all(&mut bench, &begun);
    let first = bench.tick();
    assert_eq!(keys(&first), ["b"]);
    bench.planner.queued("a");
    bench.manual_ended("a", Outcome::Completed);
    for wall in ["2026-06-05T00:30:00Z", "2026-06-04T20:30:00Z"] {
        set(&mut bench, wall);
        assert_eq!(bench.tick(), []);
    }
    end_all(&mut bench, &first);
    assert_eq!(keys(&bench.tick()), ["b"]);
}

#[test]
fn a_system_that_starts_in_1970_prunes_nothing_until_its_clock_is_set() {
    let mut bench = Bench::new("2026-06-01T00:30:00Z", tasks());
    assert_eq!(run_until(&mut bench, "2026-06-01T01:30:00Z").len(), 2);
    bench.boot_id = "b".to_owned();
    bench.now = afterimage::schedule::Now {
        wall: Timestamp::UNIX_EPOCH,
        boot: std::time::Duration::from_secs(10),
    };
    bench.restart();
    let begun = run_until(&mut bench, "1970-01-01T03:30:00Z");
    assert_eq!(keys(&begun), ["backup"; 3]);
    assert!(bench.planner.doubt().is_some_and(|doubt| doubt.is_far));
    set(&mut bench, "2026-06-02T07:30:00Z");
    assert_eq!(bench.tick(), []);
    assert_eq!(keys(&run_until(&mut bench, "2026-06-02T08:00:00Z")), ["backup"]);
    assert_eq!(keys(&run_until(&mut bench, "2026-06-02T09:00:00Z")), ["backup", "prune"]);
}

#[test]
fn a_suspend_is_no_jump_and_months_off_hold_pruning_for_an_hour() {
    let mut bench = Bench::new("2026-06-01T00:30:00Z", tasks());
    // Asleep for three days: both clocks go on.
    bench.pass(3 * 86_400);
    let begun = bench.tick();
    assert_eq!(keys(&begun), ["backup", "prune"]);
    assert!(begun.iter().all(|it| it.trigger == RunTrigger::CatchUp));
    end_all(&mut bench, &begun);
    bench.skipped();
    // Off for half a year.
    bench.boot_id = "b".to_owned();
    set(&mut bench, "2026-12-01T00:30:00Z");
    bench.now.boot = std::time::Duration::from_secs(60);
    bench.restart();
    let begun = bench.tick();
    assert_eq!(keys(&begun), ["backup"]);
    assert_eq!(begun[0].trigger, RunTrigger::CatchUp);
    end_all(&mut bench, &begun);
    assert_eq!(keys(&run_until(&mut bench, "2026-12-01T01:00:00Z")), ["backup"]);
    assert_eq!(keys(&run_until(&mut bench, "2026-12-01T02:00:00Z")), ["backup", "prune"]);
}

#[test]
fn a_jump_while_the_daemon_is_off_is_seen_when_the_system_is_not_started_anew() {
    let mut bench = Bench::new("2026-06-01T00:30:00Z", tasks());
    bench.now.boot += std::time::Duration::from_secs(60);
    set(&mut bench, "2027-06-01T00:30:00Z");
    bench.restart();
    assert_eq!(bench.tick(), []);
    assert!(bench.skipped().iter().all(|it| it.2 == SkipReason::ClockJumped));
    assert!(bench.planner.doubt().is_some_and(|doubt| doubt.is_far));
    assert_eq!(bench.planner.doubt().unwrap().expected, time("2026-06-01T00:31:00Z"));
}

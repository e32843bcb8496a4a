//! Schedules of many machines, undisturbed.

use crate::site::{Plan, Site, fates};
use afterimage::catalog::RunStatus;
use jiff::Timestamp;
use std::collections::BTreeSet;
use std::time::Duration;

const EVERY_S: i64 = 5;

#[test]
fn each_due_time_of_many_machines_leads_to_one_run_or_says_why_not() {
    let folder = tempfile::tempdir().unwrap();
    let schedule = format!("*/{EVERY_S} * * * * *");
    let plan = Plan { machines: 30, schedule, runs: 4, more: String::new() };
    let site = Site::new(folder.path(), env!("CARGO_BIN_EXE_afterimage"), plan);
    // A replica that is due before the first backup of its machine is done would fail.
    site.command(&["-q", "backup", "now"]).expect_success();
    let began = Timestamp::now();
    let daemon = site.start();
    let first = Timestamp::now().as_second() / EVERY_S * EVERY_S + 2 * EVERY_S;
    std::thread::sleep(Duration::from_secs(30));
    // What was due last may not be written down yet.
    let last = Timestamp::now().as_second() / EVERY_S * EVERY_S - 2 * EVERY_S;
    assert!(daemon.stop().success(), "{}", site.told());

    let mut ran = 0;
    for (task, lines) in site.slots() {
        for due in (first..=last).step_by(EVERY_S as usize) {
            let due = Timestamp::from_second(due).unwrap();
            let (runs, skips) = fates(&lines, due);
            assert_eq!(runs + skips, 1, "{task} at {due}: {lines:?}");
            ran += runs;
        }
    }
    assert!(ran > 60, "only {ran} ran");
    let mut seen = BTreeSet::new();
    for run in site.runs() {
        let Some(due) = run.origin.due else {
            assert!(run.started < began, "nothing else was asked for by hand: {run:?}");
            continue;
        };
        let name = run.replica.or(run.machine);
        assert!(seen.insert((run.kind.word(), name, due)), "{due} ran twice");
        // What was due last waits for the next daemon, or was put off.
        if due.as_second() <= last {
            assert!(!run.outcome.status.is_open(), "{:?}", run.outcome);
            assert_ne!(run.outcome.status, RunStatus::Failed, "{:?}", run.outcome.reason);
        }
    }
    for machine in 0..site.plan.machines {
        let disk = std::fs::read(site.disk(machine)).unwrap();
        assert_eq!(std::fs::read(site.standby(machine)).unwrap(), disk);
    }
}

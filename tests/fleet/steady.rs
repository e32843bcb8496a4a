//! Schedules of many machines, undisturbed.

use crate::site::{Plan, Site, fates};
use afterimage::catalog::{RunKind, RunRecord, RunStatus};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const EVERY_S: i64 = 5;

#[test]
fn each_due_time_of_many_machines_leads_to_one_run_or_says_why_not() {
    let folder = tempfile::tempdir().unwrap();
    let schedule = format!("*/{EVERY_S} * * * * *");
    let plan = Plan { machines: 30, schedule, runs: 4, more: String::new() };
    let site = Site::new(folder.path(), env!("CARGO_BIN_EXE_afterimage"), plan);
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
    // When the first backup of each machine was done; runs are listed with the newest first.
    let is_done = |run: &&RunRecord| {
        run.kind == RunKind::Backup && run.outcome.status == RunStatus::Completed
    };
    let runs = site.runs();
    let backed_up: BTreeMap<_, _> = runs
        .iter()
        .filter(is_done)
        .map(|run| (run.machine.clone(), run.outcome.ended.unwrap()))
        .collect();
    for run in runs {
        let due = run.origin.due.expect("nothing was asked for by hand");
        let name = run.replica.clone().or(run.machine.clone());
        assert!(seen.insert((run.kind.word(), name, due)), "{due} ran twice");
        // What was due last waits for the next daemon, or was put off.
        if due.as_second() <= last {
            assert!(!run.outcome.status.is_open(), "{:?}", run.outcome);
            // A replica can be due before the first backup of its machine is done; nothing else fails.
            let is_early = |reason: &String| {
                reason.contains("has no recovery point yet")
                    && run.started <= backed_up[&run.machine]
            };
            let is_fine = run.outcome.status != RunStatus::Failed
                || run.outcome.reason.as_ref().is_some_and(is_early);
            assert!(is_fine, "{:?}", run.outcome);
        }
    }
    for machine in 0..site.plan.machines {
        let disk = std::fs::read(site.disk(machine)).unwrap();
        assert_eq!(std::fs::read(site.standby(machine)).unwrap(), disk);
    }
}

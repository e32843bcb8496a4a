//! The daemon is killed again and again while it works.

use crate::site::{DISK_BYTES, Plan, Site};
use afterimage::catalog::{RunKind, RunStatus, SlotFate};
use afterimage::testing::Random;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

const KILLS: usize = 20;
const MACHINES: usize = 12;

/// Something changes on a disk.
fn change(site: &Site, random: &mut Random) {
    let machine = random.below(MACHINES as u64) as usize;
    let at = random.below(DISK_BYTES as u64 / 512) * 512;
    let file = std::fs::File::options().write(true).open(site.disk(machine)).unwrap();
    file.write_all_at(&[random.below(256) as u8; 512], at).unwrap();
}

#[test]
fn twenty_kills_under_load_run_nothing_twice_and_lose_nothing() {
    let seed = std::env::var("AFTERIMAGE_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or(20_261_128_u64);
    println!("AFTERIMAGE_SEED={seed}");
    let mut random = Random::new(seed);
    let folder = tempfile::tempdir().unwrap();
    let schedule = "* * * * * *".to_owned();
    let plan = Plan { machines: MACHINES, schedule, runs: 4, more: String::new() };
    let site = Site::new(folder.path(), env!("CARGO_BIN_EXE_afterimage"), plan);
    for kill in 0..KILLS {
        let daemon = site.start();
        for _ in 0..3 {
            change(&site, &mut random);
            std::thread::sleep(Duration::from_millis(50 + random.below(300)));
        }
        if kill % 2 == 0 {
            wait_for_a_run(&site);
        }
        daemon.kill();
    }
    let daemon = site.start();
    std::thread::sleep(Duration::from_secs(3));
    assert!(daemon.stop().success(), "{}", site.told());

    nothing_ran_twice(&site);
    nothing_is_stuck_or_lost(&site);
}

/// Waits until a run is under way; there is one each second.
fn wait_for_a_run(site: &Site) {
    let (folder, since) = (site.folder.join("state/running"), Instant::now());
    let is_idle =
        || std::fs::read_dir(&folder).map_or(true, |mut entries| entries.next().is_none());
    while is_idle() && since.elapsed() < Duration::from_secs(5) {
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn nothing_ran_twice(site: &Site) {
    let runs = site.runs();
    let mut attempts: BTreeMap<_, BTreeSet<u32>> = BTreeMap::new();
    for run in &runs {
        let Some(due) = run.origin.due else { continue };
        let name = run.replica.clone().or(run.machine.clone());
        let slot = (run.kind.word(), name, due);
        let is_first = attempts.entry(slot.clone()).or_default().insert(run.origin.attempt);
        assert!(is_first, "{slot:?} has two runs with the same attempt");
    }
    // A second attempt only follows one that did not end well.
    for run in runs.iter().filter(|run| run.outcome.status == RunStatus::Completed) {
        let Some(due) = run.origin.due else { continue };
        let name = run.replica.clone().or(run.machine.clone());
        let last = attempts[&(run.kind.word(), name.clone(), due)].iter().max().copied();
        assert_eq!(last, Some(run.origin.attempt), "{name:?} at {due} ran again after it was done");
    }
    for (task, lines) in site.slots() {
        let mut ran = BTreeSet::new();
        for line in &lines {
            if matches!(line.fate, SlotFate::Run { .. }) {
                assert!(ran.insert(line.first), "{task}: {:?} twice", line.first);
            }
        }
        for pair in lines.windows(2) {
            let (a, b) = (&pair[0], &pair[1]);
            assert!(a.last < b.first || b.last < a.first, "{task}: {a:?} and {b:?} overlap");
        }
        assert!(!ran.is_empty(), "{task} never ran");
    }
}

fn nothing_is_stuck_or_lost(site: &Site) {
    let runs = site.runs();
    let is_cut = |reason: &String| reason.contains("cut off");
    let cut = runs.iter().filter(|run| run.outcome.reason.as_ref().is_some_and(is_cut)).count();
    assert!(cut > 0, "no kill hit one of {} runs: {}", runs.len(), site.told());
    // By hand, without a daemon: no lock stands in the way.
    site.command(&["-q", "backup", "now"]).expect_success();
    site.command(&["-q", "replicate", "now"]).expect_success();
    site.command(&["-q", "verify", "--all"]).expect_success();
    site.command(&["-q", "catalog", "check"]).expect_success();
    let names: Vec<String> = (0..MACHINES).map(|machine| format!("r{machine}")).collect();
    let mut arguments = vec!["-q", "verify", "--replica"];
    arguments.extend(names.iter().map(String::as_str));
    site.command(&arguments).expect_success();
    for machine in 0..MACHINES {
        assert!(
            std::fs::read(site.disk(machine)).unwrap()
                == std::fs::read(site.standby(machine)).unwrap()
        );
    }
    // Each point that was acknowledged is there.
    let listed = site.command(&["--json", "points"]).expect_success();
    for run in runs
        .iter()
        .filter(|run| run.kind == RunKind::Backup && run.outcome.status == RunStatus::Completed)
    {
        let point = run.outcome.point.expect("a backup that completed has a point").to_string();
        assert!(listed.contains(&point), "point {point} of run {} is lost", run.id);
    }
    assert!(
        std::fs::read_dir(site.folder.join("state/running"))
            .map_or(true, |mut entries| entries.next().is_none())
    );
}

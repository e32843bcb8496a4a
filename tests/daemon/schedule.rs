//! What begins by itself. The planner has tests with a clock of their own; here are few seconds of a
//! real one.

use crate::process::Process;
use crate::scene::{LIMIT, Scene, backup, end_of, name, points, wait_for};
use afterimage::catalog::{RunFilter, RunKind, RunRecord, RunStatus, RunTrigger, SlotFate};
use afterimage::daemon::{DaemonError, DaemonHandle};
use afterimage::fsio::{FileLock, LockHolder, LockMode, RealFileSystem};
use afterimage::report::{EventKind, ExitCode};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use std::collections::BTreeSet;
use std::path::Path;

const REPLICA: &str = "[replica.standby]\nmachine = \"m0\"\ntrigger = \"after-backup\"\n\
                       [[replica.standby.disk]]\nname = \"root\"\n\
                       target = { image = \"standby/root.raw\" }\n";

/// A schedule with one slot within the next day, which is due in a moment.
fn once_soon() -> (Timestamp, String) {
    let due = Timestamp::now() + SignedDuration::from_secs(2);
    let due = Timestamp::from_second(due.as_second()).unwrap();
    let at = due.to_zoned(TimeZone::UTC);
    let line = format!("schedule = \"{} {} {} * * *\"", at.second(), at.minute(), at.hour());
    (due, line)
}

/// Runs of a kind, the oldest first.
fn runs(handle: &dyn DaemonHandle, kind: RunKind) -> Vec<RunRecord> {
    let filter = RunFilter { kind: Some(kind), ..RunFilter::default() };
    let mut runs = handle.history().runs(&filter, 1000).unwrap();
    runs.reverse();
    runs
}

fn wait_for_runs(
    handle: &dyn DaemonHandle,
    kind: RunKind,
    is_enough: impl Fn(&[RunRecord]) -> bool,
) -> Vec<RunRecord> {
    wait_for("the runs", || {
        let runs = runs(handle, kind);
        is_enough(&runs).then_some(runs)
    })
}

fn completed(runs: &[RunRecord]) -> usize {
    runs.iter().filter(|run| run.outcome.status == RunStatus::Completed).count()
}

#[test]
fn each_slot_runs_once_and_replicas_follow() {
    let scene = Scene::with(1, "schedule = \"* * * * * *\"", REPLICA);
    let daemon = scene.daemon();
    let handle = daemon.handle();
    let backups = wait_for_runs(&*handle, RunKind::Backup, |runs| completed(runs) >= 2);
    let mut slots = BTreeSet::new();
    for run in &backups {
        assert!(slots.insert(run.origin.due.unwrap()), "a slot ran twice: {backups:?}");
        assert!(run.origin.trigger != RunTrigger::Manual && run.origin.attempt == 1);
        assert_eq!(run.origin.by, None);
    }
    let followed = wait_for_runs(&*handle, RunKind::Replicate, |runs| completed(runs) >= 1);
    assert_eq!(followed[0].origin.trigger, RunTrigger::AfterBackup);
    assert_eq!(followed[0].replica, Some(name("standby")));
    assert_eq!(followed[0].machine, Some(name("m0")));
    let due = handle.schedule();
    let of = |work: &str| due.iter().find(|line| line.work == work).unwrap();
    assert_eq!(of("backup of m0").schedule.as_deref(), Some("* * * * * *"));
    assert!(of("backup of m0").next.is_some());
    assert_eq!(of("replication to standby").schedule, None);
    daemon.stopper().stop();
    daemon.wait(LIMIT);
    // Every instant since the first is told of: it ran, or why it did not.
    let lines = handle.history().slots("backup m0", 1000).unwrap();
    let told: u64 = lines.iter().map(|line| line.count).sum();
    let (first, last) = (lines.last().unwrap().first, lines[0].last);
    assert_eq!(told as i64, last.as_second() - first.as_second() + 1, "{lines:?}");
}

#[test]
fn a_replica_follows_a_backup_that_somebody_asked_for() {
    let scene = Scene::new(1, REPLICA);
    let daemon = scene.daemon();
    let handle = daemon.handle();
    let run = handle.submit(backup("m0"), "me").unwrap();
    assert_eq!(end_of(&*handle, run).exit, ExitCode::Done);
    let followed = wait_for_runs(&*handle, RunKind::Replicate, |runs| completed(runs) == 1);
    assert_eq!(followed[0].outcome.point, end_of(&*handle, run).summary.point);
}

/// The daemon died after the backup was made, and before its replica heard of it.
#[test]
fn a_replica_follows_a_backup_that_nobody_told_it_of() {
    let scene = Scene::new(1, REPLICA);
    let status = scene.program().args(["-q", "backup", "now"]).status().unwrap();
    assert!(status.success());
    let daemon = scene.daemon();
    let handle = daemon.handle();
    let followed = wait_for_runs(&*handle, RunKind::Replicate, |runs| completed(runs) == 1);
    assert_eq!(followed[0].origin.trigger, RunTrigger::AfterBackup);
}

/// Nobody else can use the repository meanwhile.
fn occupy(repository: &Path) -> FileLock {
    let path = repository.join("locks/repository.lock");
    let holder = LockHolder::this_process("a test");
    FileLock::try_take(&RealFileSystem, &path, LockMode::Exclusive, &holder).unwrap()
}

#[test]
fn what_fails_for_a_reason_that_may_pass_is_tried_again_and_then_given_up() {
    let (due, schedule) = once_soon();
    let retry = "retry = { times = 2, wait = \"1s\", wait_max = \"1s\" }";
    let scene = Scene::with(1, &format!("{schedule}\n{retry}"), "");
    let _held = occupy(&scene.path("repository"));
    let daemon = scene.daemon();
    let handle = daemon.handle();
    let ended =
        |runs: &[RunRecord]| runs.iter().filter(|run| !run.outcome.status.is_open()).count() == 3;
    let runs = wait_for_runs(&*handle, RunKind::Backup, ended);
    for (run, attempt) in runs.iter().zip(1..) {
        assert_eq!(run.outcome.exit, Some(ExitCode::Busy.into()));
        assert!(run.outcome.may_retry);
        assert_eq!((run.origin.due, run.origin.attempt), (Some(due), attempt));
        let is_retry = run.origin.trigger == RunTrigger::Retry;
        assert_eq!(is_retry, attempt > 1);
    }
    let line = &handle.history().slots("backup m0", 1).unwrap()[0];
    assert_eq!(line.fate, SlotFate::Run { run: runs[2].id, attempt: 3 });
    // It waits for the next day now.
    let next = handle.schedule()[0].next.unwrap();
    assert!(next > Timestamp::now() + SignedDuration::from_hours(1), "{next}");
}

#[test]
fn a_slot_whose_run_was_cut_off_is_tried_again_by_the_next_daemon() {
    let (due, schedule) = once_soon();
    let scene = Scene::with(1, &format!("{schedule}\nretry = {{ wait = \"1s\" }}"), "");
    scene.hold("m0");
    let mut process = Process::start(&scene, None);
    scene.wait_for_capture("m0");
    process.child.kill().unwrap();
    process.child.wait().unwrap();
    scene.let_go("m0");
    let daemon = scene.daemon();
    let handle = daemon.handle();
    let runs = wait_for_runs(&*handle, RunKind::Backup, |runs| completed(runs) == 1);
    let of = |run: &RunRecord| (run.origin.due, run.origin.attempt, run.origin.trigger);
    assert_eq!(runs.len(), 2);
    assert_eq!(of(&runs[0]), (Some(due), 1, RunTrigger::Schedule));
    assert!(runs[0].outcome.reason.as_deref().unwrap().contains("cut off"));
    assert_eq!(of(&runs[1]), (Some(due), 2, RunTrigger::Retry));
}

#[test]
fn what_fails_for_good_is_not_tried_again() {
    let (_, schedule) = once_soon();
    let scene = Scene::with(1, &schedule, "");
    std::fs::remove_file(scene.path("m0.img")).unwrap();
    let daemon = scene.daemon();
    let handle = daemon.handle();
    let ended = |runs: &[RunRecord]| runs.iter().any(|run| !run.outcome.status.is_open());
    let runs = wait_for_runs(&*handle, RunKind::Backup, ended);
    assert!(!runs[0].outcome.may_retry, "{runs:?}");
    // As soon as its end was heard of.
    let next = wait_for("the next day", || {
        handle.schedule()[0]
            .next
            .filter(|next| *next > Timestamp::now() + SignedDuration::from_hours(1))
    });
    assert!(next > Timestamp::now());
}

#[test]
fn what_is_paused_does_not_begin_by_itself_until_it_is_resumed() {
    let scene = Scene::with(1, "schedule = \"* * * * * *\"", "");
    let daemon = scene.daemon();
    let handle = daemon.handle();
    handle.pause("machine m0", Some("moving".to_owned()), None, "uid:0").unwrap();
    let pauses = handle.pauses();
    assert_eq!((pauses.len(), pauses[0].by.as_str()), (1, "uid:0"));
    let held = handle.schedule()[0].held.clone().unwrap();
    assert!(held.contains("machine m0"), "{held}");
    let paused = |line: &afterimage::catalog::SlotLine| matches!(&line.fate, SlotFate::Skipped(why) if why.contains("paused"));
    wait_for("a slot that is skipped", || {
        handle.history().slots("backup m0", 1).unwrap().first().filter(|it| paused(it)).map(|_| ())
    });
    let before = runs(&*handle, RunKind::Backup).len();
    // Whoever asks for it gets it.
    let run = handle.submit(backup("m0"), "me").unwrap();
    assert_eq!(end_of(&*handle, run).exit, ExitCode::Done);
    assert_eq!(runs(&*handle, RunKind::Backup).len(), before + 1);
    assert!(matches!(handle.pause("machine m9", None, None, "me"), Err(DaemonError::NotFound(_))));
    assert!(matches!(handle.pause("moon", None, None, "me"), Err(DaemonError::Invalid(_))));
    drop(daemon);
    // It is known to the next daemon.
    let daemon = scene.daemon();
    let handle = daemon.handle();
    assert_eq!(handle.pauses()[0].note.as_deref(), Some("moving"));
    assert!(handle.resume("machine m0", "me").unwrap());
    assert!(!handle.resume("machine m0", "me").unwrap());
    wait_for_runs(&*handle, RunKind::Backup, |runs| completed(runs) > before + 1);
    let events = handle.events(0, usize::MAX).events;
    assert!(
        events
            .iter()
            .any(|it| matches!(&it.what, EventKind::Paused { pauses } if pauses.is_empty()))
    );
}

#[test]
fn other_settings_schedule_other_things() {
    let scene = Scene::new(1, "");
    let daemon = scene.daemon();
    let handle = daemon.handle();
    assert!(handle.schedule().is_empty());
    scene.write_settings(1, "schedule = \"* * * * * *\"", "");
    handle.reload("me").unwrap();
    wait_for_runs(&*handle, RunKind::Backup, |runs| completed(runs) >= 1);
    scene.write_settings(1, "", "");
    handle.reload("me").unwrap();
    assert!(handle.schedule().is_empty());
}

#[test]
fn a_repository_is_looked_after_by_itself() {
    let scene = Scene::with(1, "keep = { last = 1 }", "");
    let text = std::fs::read_to_string(scene.settings_file()).unwrap();
    let upkeep = "[repository.main]\nprune = \"* * * * * *\"\ngc = \"* * * * * *\"\n\
                  verify = \"* * * * * *\"\nverify_percent = 50\n";
    scene.write("afterimage.toml", &text.replace("[repository.main]\n", upkeep));
    let daemon = scene.daemon();
    let handle = daemon.handle();
    for _ in 0..3 {
        std::fs::write(scene.path("m0.img"), Timestamp::now().to_string().repeat(5000)).unwrap();
        let run = handle.submit(backup("m0"), "me").unwrap();
        assert_eq!(end_of(&*handle, run).exit, ExitCode::Done);
        // Of points of one second, none is older than the other.
        let second = Timestamp::now().as_second();
        wait_for("the next second", || (Timestamp::now().as_second() > second).then_some(()));
    }
    // The newest one, and the last one before it.
    wait_for("the prune", || (points(&scene, "m0") == 2).then_some(()));
    for kind in [RunKind::Gc, RunKind::Verify] {
        let runs = wait_for_runs(&*handle, kind, |runs| completed(runs) >= 1);
        assert_eq!(runs[0].repository, Some(name("main")));
        assert_ne!(runs[0].origin.trigger, RunTrigger::Manual);
    }
}

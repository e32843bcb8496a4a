//! What the daemon before left behind.

use crate::scene::{Scene, backup, name, points, record_of, wait_for, wait_for_status};
use afterimage::catalog::{
    RunKind, RunLock, RunOrigin, RunOutcome, RunRecord, RunStatus, RunTrigger,
};
use afterimage::operations::Task;
use afterimage::units::RunId;

/// The record of a backup as a daemon leaves it.
pub fn left(id: u8, machine: &str, status: RunStatus) -> RunRecord {
    let task = serde_json::to_value(backup(machine)).unwrap();
    RunRecord {
        id: RunId([id; 16]),
        kind: RunKind::Backup,
        repository: None,
        machine: Some(name(machine)),
        replica: None,
        started: jiff::Timestamp::now(),
        origin: RunOrigin { task: Some(task), ..RunOrigin::default() },
        outcome: RunOutcome::open(status),
    }
}

#[test]
fn what_waited_is_begun_and_what_was_cut_off_is_ended() {
    let scene = Scene::new(2, "");
    let history = scene.history();
    let waited = left(1, "m0", RunStatus::Queued);
    let cut_off = left(2, "m1", RunStatus::Running);
    let gone = left(3, "gone", RunStatus::Queued);
    let mut strange = left(4, "m0", RunStatus::Queued);
    strange.origin.task = Some(serde_json::json!({"task": "dance"}));
    let elsewhere = left(5, "m1", RunStatus::Running);
    let lock = RunLock::take(&scene.state_dir(), elsewhere.id).unwrap();
    for record in [&waited, &cut_off, &gone, &strange, &elsewhere] {
        history.put(record).unwrap();
    }
    let daemon = scene.daemon();
    let handle = daemon.handle();
    wait_for_status(&*handle, waited.id, RunStatus::Completed);
    assert_eq!(points(&scene, "m0"), 1);
    let failed = |id| {
        let outcome = record_of(&*handle, id).outcome;
        assert_eq!(outcome.status, RunStatus::Failed);
        assert!(outcome.ended.is_some());
        (outcome.reason.unwrap(), outcome.may_retry)
    };
    let (reason, may_retry) = failed(cut_off.id);
    assert!(reason.contains("cut off") && may_retry, "{reason}");
    let (reason, may_retry) = failed(gone.id);
    assert!(reason.contains("there is no machine `gone`") && !may_retry, "{reason}");
    let (reason, _) = failed(strange.id);
    assert!(reason.contains("not understood"), "{reason}");
    // A command line is at it.
    assert_eq!(record_of(&*handle, elsewhere.id).outcome.status, RunStatus::Running);
    assert!(!handle.run(elsewhere.id).unwrap().unwrap().line.cut_off);
    drop(lock);
    assert!(handle.run(elsewhere.id).unwrap().unwrap().line.cut_off);
}

/// What is tried again by itself is not told before that failed too, and who asks for a run sees
/// what becomes of it.
#[test]
fn of_what_was_cut_off_only_what_is_not_tried_again_is_told() {
    let never = "schedule = \"0 0 29 2 *\"\nretry = { times = 1 }";
    let scene = Scene::with(3, never, "");
    let history = scene.history();
    let due = Some(jiff::Timestamp::now());
    for (id, machine, trigger, due) in [
        (1, "m0", RunTrigger::Schedule, due),
        (2, "m1", RunTrigger::Schedule, due),
        (3, "m2", RunTrigger::Manual, None),
    ] {
        let mut record = left(id, machine, RunStatus::Running);
        record.origin = RunOrigin { trigger, due, attempt: 1, ..record.origin };
        history.put(&record).unwrap();
    }
    let _daemon = scene.daemon();
    let told = wait_for("the news", || {
        let failed = history.conditions().unwrap().into_iter().find(|it| it.contains("cut off"))?;
        Some(failed)
    });
    assert!(told.contains("backup of m1") && told.contains("run show 02020202"), "{told}");
    let all = history.conditions().unwrap().join("\n");
    assert!(!all.contains("backup of m0") && !all.contains("backup of m2"), "{all}");
}

/// A run that waited is not done under another id, nor twice.
#[test]
fn a_run_keeps_its_id_and_its_reason_over_a_restart() {
    let scene = Scene::new(1, "");
    let mut record = left(1, "m0", RunStatus::Queued);
    record.origin.by = Some("token:ops".to_owned());
    scene.history().put(&record).unwrap();
    let daemon = scene.daemon();
    wait_for_status(&*daemon.handle(), record.id, RunStatus::Completed);
    drop(daemon);
    let daemon = scene.daemon();
    let handle = daemon.handle();
    let after = record_of(&*handle, record.id);
    assert_eq!(after.origin, record.origin);
    let task: Task = serde_json::from_value(after.origin.task.unwrap()).unwrap();
    assert_eq!(task, backup("m0"));
    assert!(handle.live().is_empty());
    assert_eq!(points(&scene, "m0"), 1);
}

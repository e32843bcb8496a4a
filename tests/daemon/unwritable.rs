//! A history that cannot be written for a while.

use crate::scene::{Scene, backup, end_of, record_of, wait_for, wait_for_status};
use afterimage::catalog::{RunFilter, RunStatus};
use afterimage::report::ExitCode;
use rusqlite::Connection;

/// From now on `what` cannot be inserted.
fn refuse(scene: &Scene, what: &str) -> Connection {
    drop(scene.history());
    let connection = Connection::open(scene.state_dir().join("history.sqlite")).unwrap();
    connection.busy_timeout(crate::scene::LIMIT).unwrap();
    let trigger = format!(
        "CREATE TRIGGER refused BEFORE INSERT ON {what} BEGIN SELECT RAISE(ABORT, 'no room'); END"
    );
    connection.execute_batch(&trigger).unwrap();
    connection
}

fn allow(connection: &Connection) {
    connection.execute_batch("DROP TRIGGER refused").unwrap();
}

#[test]
fn what_is_due_does_not_begin_before_its_slot_can_be_claimed() {
    let scene = Scene::with(1, "schedule = \"* * * * * *\"", "");
    let connection = refuse(&scene, "slot");
    let daemon = scene.daemon();
    let handle = daemon.handle();
    let problems = wait_for("the problem", || {
        Some(handle.status().problems).filter(|problems| !problems.is_empty())
    });
    assert!(problems[0].contains("cannot be begun") && problems[0].contains("no room"));
    assert!(handle.runs(&RunFilter::default(), 10).unwrap().runs.is_empty());
    // What somebody asks for needs no slot.
    let run = handle.submit(backup("m0"), "me").unwrap();
    assert_eq!(end_of(&*handle, run).exit, ExitCode::Done);
    allow(&connection);
    wait_for("a run that is due", || {
        let runs = handle.runs(&RunFilter::default(), 10).unwrap().runs;
        runs.iter().find(|line| line.due.is_some()).map(|_| ())
    });
    wait_for("the end of the problem", || handle.status().problems.is_empty().then_some(()));
}

#[test]
fn an_end_that_cannot_be_written_is_written_later() {
    let scene = Scene::new(1, "");
    let connection = refuse(&scene, "run WHEN NEW.record LIKE '%\"status\":\"completed\"%'");
    let daemon = scene.daemon();
    let handle = daemon.handle();
    let run = handle.submit(backup("m0"), "me").unwrap();
    let end = end_of(&*handle, run);
    // What was made is durable.
    assert_eq!(end.exit, ExitCode::Done);
    assert!(end.summary.warnings.iter().any(|warning| warning.contains("no complete record")));
    assert_eq!(record_of(&*handle, run).outcome.status, RunStatus::Running);
    assert!(handle.status().problems[0].contains("history cannot be written"));
    allow(&connection);
    wait_for_status(&*handle, run, RunStatus::Completed);
    wait_for("the end of the problem", || handle.status().problems.is_empty().then_some(()));
    assert_eq!(record_of(&*handle, run).outcome.point, end.summary.point);
}

#[test]
fn a_run_whose_beginning_cannot_be_written_does_not_begin() {
    let scene = Scene::new(1, "");
    let connection = refuse(&scene, "run WHEN NEW.record LIKE '%\"status\":\"running\"%'");
    let daemon = scene.daemon();
    let handle = daemon.handle();
    let run = handle.submit(backup("m0"), "me").unwrap();
    let end = end_of(&*handle, run);
    assert_eq!(end.exit, ExitCode::Failed);
    assert!(!scene.path("m0.began").exists());
    assert_eq!(record_of(&*handle, run).outcome.status, RunStatus::Failed);
    allow(&connection);
}

//! Runs that somebody asks for: recorded, told of, limited, stopped.

use crate::scene::{Scene, backup, end_of, events_of, name, points, record_of, wait_for_status};
use afterimage::catalog::{RunFilter, RunStatus, RunTrigger, is_running};
use afterimage::daemon::{Daemon, DaemonError, StartError};
use afterimage::operations::Task;
use afterimage::report::{EventKind, ExitCode};
use std::time::Duration;

#[test]
fn a_run_that_is_asked_for_is_recorded_told_of_and_done() {
    let scene = Scene::new(1, "");
    let daemon = scene.daemon();
    let handle = daemon.handle();
    let run = handle.submit(backup("m0"), "uid:0").unwrap();
    let end = end_of(&*handle, run);
    assert_eq!((end.exit, end.error), (ExitCode::Done, None));
    assert_eq!(end.summary.run, Some(run));
    let kinds: Vec<&str> = events_of(&*handle, run)
        .iter()
        .map(|event| match event.what {
            EventKind::Queued(_) => "queued",
            EventKind::Started(_) => "started",
            EventKind::Ended(_) => "ended",
            _ => "other",
        })
        .filter(|kind| *kind != "other")
        .collect();
    assert_eq!(kinds, ["queued", "started", "ended"]);
    let record = record_of(&*handle, run);
    assert_eq!(record.outcome.status, RunStatus::Completed);
    assert_eq!(record.outcome.exit, Some(0));
    assert_eq!(record.origin.trigger, RunTrigger::Manual);
    assert_eq!(record.origin.by.as_deref(), Some("uid:0"));
    assert_eq!(record.origin.task, Some(serde_json::to_value(backup("m0")).unwrap()));
    assert_eq!(record.outcome.point, end.summary.point);
    assert!(!record.outcome.steps.is_empty());
    let page = handle.runs(&RunFilter::default(), 10).unwrap();
    assert_eq!((page.runs.len(), page.next), (1, None));
    assert_eq!(handle.run(run).unwrap().unwrap().line.status, RunStatus::Completed);
    assert!(handle.live().is_empty());
    assert!(!is_running(&scene.state_dir(), run));
    assert_eq!(points(&scene, "m0"), 1);
}

#[test]
fn what_makes_no_sense_is_refused_before_there_is_a_run() {
    let scene = Scene::new(1, "");
    let daemon = scene.daemon();
    let handle = daemon.handle();
    let refused = handle.submit(backup("m1"), "me").unwrap_err();
    assert!(matches!(refused, DaemonError::NotFound(_)), "{refused:?}");
    assert!(refused.to_string().contains("did you mean `m0`?"), "{refused}");
    let task = |text: &str| serde_json::from_str::<Task>(text).unwrap();
    for text in [
        r#"{"task":"restore","machine":"m0","point":"latest","to":"relative"}"#,
        r#"{"task":"restore","machine":"m0","point":"latest","to":"/x","zone":"Mars/Base"}"#,
        r#"{"task":"verify-repository","repository":"main","scope":{"sample":0}}"#,
    ] {
        let refused = handle.submit(task(text), "me").unwrap_err();
        assert!(matches!(refused, DaemonError::Invalid(_)), "{refused:?}");
    }
    assert!(handle.runs(&RunFilter::default(), 10).unwrap().runs.is_empty());
}

#[test]
fn there_is_one_daemon_for_a_state_folder() {
    let scene = Scene::new(1, "");
    let daemon = scene.daemon();
    let refused = Daemon::start(scene.settings()).unwrap_err();
    assert_eq!(refused.exit_code(), ExitCode::Busy);
    assert!(matches!(refused, StartError::Instance(_)));
    let output = scene.program().arg("daemon").output().unwrap();
    assert_eq!(output.status.code(), Some(11));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains(&format!("process {}", std::process::id())), "{told}");
    assert!(scene.settings().daemon.socket.exists());
    drop(daemon);
    assert!(!scene.settings().daemon.socket.exists());
    drop(scene.daemon());
}

#[test]
fn runs_of_one_machine_follow_each_other_and_others_go_beside_them() {
    let scene = Scene::new(2, "");
    let daemon = scene.daemon();
    let handle = daemon.handle();
    scene.hold("m0");
    let first = handle.submit(backup("m0"), "me").unwrap();
    scene.wait_for_capture("m0");
    let second = handle.submit(backup("m0"), "me").unwrap();
    let other = handle.submit(backup("m1"), "me").unwrap();
    assert_eq!(end_of(&*handle, other).exit, ExitCode::Done);
    let live = handle.live();
    let status: Vec<_> = live.iter().map(|it| (it.run, it.status)).collect();
    assert_eq!(status, [(first, RunStatus::Running), (second, RunStatus::Queued)]);
    assert!(live[1].waits_for.as_deref().unwrap().contains("machine m0"), "{live:?}");
    assert_eq!((handle.status().running, handle.status().queued), (1, 1));
    let detail = handle.run(first).unwrap().unwrap();
    assert!(detail.live.is_some() && !detail.line.cut_off);
    scene.let_go("m0");
    assert_eq!(end_of(&*handle, first).exit, ExitCode::Done);
    assert_eq!(end_of(&*handle, second).exit, ExitCode::Done);
    assert_eq!(points(&scene, "m0"), 2);
}

#[test]
fn runs_on_one_disk_wait_for_each_other_where_the_settings_say_so() {
    let scene = Scene::new(2, "[daemon]\ndisk_runs = 1\n");
    let daemon = scene.daemon();
    let handle = daemon.handle();
    scene.hold("m0");
    let first = handle.submit(backup("m0"), "me").unwrap();
    scene.wait_for_capture("m0");
    let second = handle.submit(backup("m1"), "me").unwrap();
    let waits_for = handle.run(second).unwrap().unwrap().live.unwrap().waits_for.unwrap();
    assert!(waits_for.contains("same disk"), "{waits_for}");
    scene.let_go("m0");
    assert_eq!(end_of(&*handle, first).exit, ExitCode::Done);
    assert_eq!(end_of(&*handle, second).exit, ExitCode::Done);
}

#[test]
fn a_run_that_waits_ends_at_once_when_it_is_cancelled() {
    let scene = Scene::new(2, "[daemon]\nruns = 1\n");
    let daemon = scene.daemon();
    let handle = daemon.handle();
    scene.hold("m0");
    let first = handle.submit(backup("m0"), "me").unwrap();
    scene.wait_for_capture("m0");
    let second = handle.submit(backup("m1"), "me").unwrap();
    handle.cancel(second, "token:ops").unwrap();
    let end = end_of(&*handle, second);
    assert_eq!(end.exit, ExitCode::Interrupted);
    let record = record_of(&*handle, second);
    assert_eq!(record.outcome.status, RunStatus::Failed);
    assert_eq!(record.outcome.exit, Some(130));
    assert!(record.outcome.reason.unwrap().contains("token:ops"));
    assert!(matches!(handle.cancel(second, "me"), Err(DaemonError::Conflict(_))));
    scene.let_go("m0");
    assert_eq!(end_of(&*handle, first).exit, ExitCode::Done);
    assert_eq!(points(&scene, "m1"), 0);
}

#[test]
fn a_run_under_way_that_is_cancelled_says_by_whom_and_leaves_nothing() {
    let scene = Scene::new(1, "");
    let daemon = scene.daemon();
    let handle = daemon.handle();
    scene.hold("m0");
    let run = handle.submit(backup("m0"), "me").unwrap();
    scene.wait_for_capture("m0");
    handle.cancel(run, "uid:1000").unwrap();
    assert!(handle.live()[0].stopping);
    scene.let_go("m0");
    let end = end_of(&*handle, run);
    assert_eq!(end.exit, ExitCode::Interrupted);
    assert!(end.error.unwrap().contains("cancelled by uid:1000"));
    let record = record_of(&*handle, run);
    assert_eq!((record.outcome.status, record.outcome.exit), (RunStatus::Failed, Some(130)));
    assert!(record.outcome.reason.unwrap().contains("cancelled by uid:1000"));
    assert!(!record.outcome.may_retry);
    assert_eq!(points(&scene, "m0"), 0);
    let next = handle.submit(backup("m0"), "me").unwrap();
    assert_eq!(end_of(&*handle, next).exit, ExitCode::Done);
}

#[test]
fn a_daemon_that_stops_lets_short_runs_end_and_leaves_the_rest_to_the_next() {
    let scene = Scene::new(2, "[daemon]\nruns = 1\n");
    let daemon = scene.daemon();
    let handle = daemon.handle();
    scene.hold("m0");
    let first = handle.submit(backup("m0"), "me").unwrap();
    scene.wait_for_capture("m0");
    let second = handle.submit(backup("m1"), "me").unwrap();
    daemon.stopper().stop();
    let refused = handle.submit(backup("m1"), "me").unwrap_err();
    assert!(matches!(refused, DaemonError::Unavailable(_)), "{refused:?}");
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| daemon.wait(Duration::from_secs(60)));
        scene.let_go("m0");
        waits.join().unwrap();
    });
    assert_eq!(record_of(&*handle, first).outcome.status, RunStatus::Completed);
    assert_eq!(record_of(&*handle, second).outcome.status, RunStatus::Queued);
    drop(daemon);
    let next = scene.daemon();
    let handle = next.handle();
    wait_for_status(&*handle, second, RunStatus::Completed);
    assert_eq!((points(&scene, "m0"), points(&scene, "m1")), (1, 1));
}

#[test]
fn what_takes_long_is_put_off_when_the_daemon_stops() {
    let scene = Scene::new(1, "");
    let daemon = scene.daemon();
    let handle = daemon.handle();
    scene.hold("m0");
    let run = handle.submit(backup("m0"), "me").unwrap();
    scene.wait_for_capture("m0");
    daemon.stopper().stop();
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| daemon.wait(Duration::ZERO));
        crate::scene::wait_for("the request", || handle.live().first()?.stopping.then_some(()));
        scene.let_go("m0");
        waits.join().unwrap();
    });
    let outcome = record_of(&*handle, run).outcome;
    assert_eq!((outcome.status, outcome.exit), (RunStatus::Failed, Some(130)));
    assert!(outcome.reason.unwrap().contains("stopped with the daemon"));
    assert!(outcome.may_retry);
}

#[test]
fn what_is_found_meanwhile_is_told() {
    let scene = Scene::new(1, "");
    let daemon = scene.daemon();
    let handle = daemon.handle();
    let run = handle.submit(backup("m0"), "me").unwrap();
    assert_eq!(end_of(&*handle, run).exit, ExitCode::Done);
    let packs = scene.path("repository/packs");
    let pack = walk(&packs).into_iter().next().unwrap();
    let mut content = std::fs::read(&pack).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 1;
    let mut permissions = std::fs::metadata(&pack).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o600);
    std::fs::set_permissions(&pack, permissions).unwrap();
    std::fs::write(&pack, content).unwrap();
    let scope = afterimage::operations::VerifyScope::All;
    let task = Task::VerifyRepository { repository: name("main"), scope };
    let run = handle.submit(task, "me").unwrap();
    let end = end_of(&*handle, run);
    assert_eq!(end.exit, ExitCode::Failed);
    let events = events_of(&*handle, run);
    let told = events.iter().filter(|event| matches!(event.what, EventKind::Told { .. })).count();
    assert!(told > 0, "{events:?}");
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

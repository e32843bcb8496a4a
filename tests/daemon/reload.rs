//! Other settings while the daemon runs.

use crate::scene::{Scene, backup, end_of, record_of};
use afterimage::catalog::RunStatus;
use afterimage::daemon::DaemonError;
use afterimage::report::{EventKind, ExitCode};

#[test]
fn other_settings_count_at_once_and_runs_under_way_keep_theirs() {
    let scene = Scene::new(2, "");
    let daemon = scene.daemon();
    let handle = daemon.handle();
    scene.hold("m1");
    let under_way = handle.submit(backup("m1"), "me").unwrap();
    scene.wait_for_capture("m1");
    let waits = handle.submit(backup("m1"), "me").unwrap();
    // The machine m1 goes.
    scene.write_settings(
        1,
        "",
        "[machine.new]\nrepository = \"main\"\n[[machine.new.disk]]\n\
                             name = \"root\"\nsource = { image = \"m1.img\", format = \"raw\" }\n",
    );
    let report = handle.reload("me").unwrap();
    assert_eq!(report.changes, ["machine new is new", "machine m1 is gone"]);
    assert!(report.needs_restart.is_empty());
    assert_eq!(report.settings_fingerprint, handle.status().settings_fingerprint);
    let end = end_of(&*handle, waits);
    assert!(end.error.unwrap().contains("there is no machine `m1`"));
    assert!(handle.submit(backup("m1"), "me").is_err());
    let new = handle.submit(backup("new"), "me").unwrap();
    assert_eq!(end_of(&*handle, new).exit, ExitCode::Done);
    scene.let_go("m1");
    assert_eq!(end_of(&*handle, under_way).exit, ExitCode::Done);
    let events = handle.events(0, usize::MAX).events;
    assert!(events.iter().any(|event| event.what == EventKind::Reloaded));
}

#[test]
fn wrong_settings_change_nothing_and_are_told() {
    let scene = Scene::new(1, "");
    let daemon = scene.daemon();
    let handle = daemon.handle();
    let before = handle.settings();
    scene.write("afterimage.toml", "state_dir = \"state\"\nmistake = 1\n");
    let Err(DaemonError::Settings { problems, message }) = handle.reload("me") else {
        panic!("it was taken");
    };
    assert!(problems.iter().any(|problem| problem.line == 2), "{problems:?}");
    assert_eq!(handle.settings(), before);
    assert_eq!(handle.status().reload_error, Some(message));
    let run = handle.submit(backup("m0"), "me").unwrap();
    assert_eq!(end_of(&*handle, run).exit, ExitCode::Done);
    std::fs::remove_file(scene.settings_file()).unwrap();
    assert!(handle.reload("me").is_err());
    scene.write_settings(1, "", "");
    handle.reload("me").unwrap();
    assert_eq!(handle.status().reload_error, None);
    assert_eq!(record_of(&*handle, run).outcome.status, RunStatus::Completed);
}

#[test]
fn a_state_folder_stays_until_the_daemon_is_started_anew() {
    let scene = Scene::new(1, "");
    let daemon = scene.daemon();
    let handle = daemon.handle();
    let text = std::fs::read_to_string(scene.settings_file()).unwrap();
    scene.write("afterimage.toml", &text.replace("\"state\"", "\"elsewhere\""));
    let report = handle.reload("me").unwrap();
    assert!(report.needs_restart.iter().any(|it| it.contains("state_dir")), "{report:?}");
    assert_eq!(handle.settings().state_dir, scene.state_dir());
    let run = handle.submit(backup("m0"), "me").unwrap();
    assert_eq!(end_of(&*handle, run).exit, ExitCode::Done);
    assert!(!scene.path("elsewhere").exists());
}

#[test]
fn settings_that_a_part_of_the_daemon_cannot_take_change_nothing() {
    let scene = Scene::new(1, "");
    let daemon = scene.daemon();
    let handle = daemon.handle();
    daemon.on_reload(|settings| match settings.daemon.runs {
        7 => Err("seven are too many".to_owned()),
        runs => Ok(vec![format!("the number {runs}")]),
    });
    scene.write_settings(1, "", "[daemon]\nruns = 7\n");
    let refused = handle.reload("me").unwrap_err().to_string();
    assert!(refused.contains("seven are too many"), "{refused}");
    assert_eq!(handle.status().reload_error, Some(refused));
    assert_ne!(handle.settings().daemon.runs, 7);
    scene.write_settings(1, "", "[daemon]\nruns = 8\n");
    assert_eq!(handle.reload("me").unwrap().needs_restart, ["the number 8"]);
    assert_eq!(handle.settings().daemon.runs, 8);
}

//! What is refused, and with which exit code.

use crate::world::World;

#[test]
fn a_missing_repository_is_told_from_other_failures() {
    let world = World::without_repository("\"none\"");
    for args in
        [&["backup", "now"][..], &["points"], &["replicate", "now"], &["catalog", "rebuild"]]
    {
        world.run(args).expect(10).complains("`afterimage init`");
    }
    world.run(&["restore", "web01", "--to", "out"]).expect(10);
    let status = world.run(&["status"]).expect(3);
    status.says("unusable").complains("there is no repository");
    world.run(&["init", "main"]).expect(0);
    world.run(&["init", "main"]).expect(1).complains("already holds a repository");
    world.run(&["init"]).expect(0).says("skipped");
}

#[test]
fn wrong_settings_and_names_are_usage_errors() {
    let world = World::new("\"none\"");
    world.run(&["backup", "now", "web1"]).expect(2).complains("did you mean `web01`?");
    world.run(&["replicate", "now", "nothing"]).expect(2).complains("it has: standby");
    world.run(&["verify", "--replica", "x"]).expect(2);
    world.run(&["backup"]).expect(2);
    let ended = world.run(&["--json", "frobnicate"]).expect(2);
    assert!(ended.json_error()["message"].as_str().unwrap().contains("frobnicate"));
    let ended = world.run(&["-c", "missing.toml", "points"]).expect(2);
    ended.complains("there is no settings file missing.toml");

    world.write("bad.toml", b"stat_dir = \"x\"\n[repository.main]\nurl = 3\n");
    let ended = world.run(&["-c", "bad.toml", "config", "check"]).expect(2);
    ended.complains("bad.toml:1:1").complains("bad.toml:3:").complains("problems in");
    let error = world.run(&["--json", "-c", "bad.toml", "points"]).expect(2).json_error();
    assert!(error["problems"].as_array().unwrap().len() >= 2, "{error}");
}

#[test]
fn a_missing_source_fails_and_leaves_no_point() {
    let world = World::new("\"none\"");
    std::fs::remove_file(world.path("web01.img")).unwrap();
    let ended = world.json(&["backup", "now"]).expect(1);
    let summary = ended.summary();
    assert_eq!((&summary["status"], &summary["kind"]), (&"failed".into(), &"backup".into()));
    let message = ended.json_error()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("disk root") && message.contains("web01.img"), "{message}");
    assert_eq!(message.matches("web01.img").count(), 1, "the reason is told once: {message}");
    world.run(&["points"]).expect(0).says("there are no points yet");
    world.run(&["status"]).expect(0).says("failed, ");
    world.run(&["restore", "web01", "--to", "out"]).expect(1).complains("has no recovery point");
    world.run(&["replicate", "now"]).expect(1).complains("has no recovery point");
}

#[test]
fn one_machine_that_fails_does_not_stop_the_others() {
    let world = World::new("\"none\"");
    world.write_settings("\"none\"", &["web00", "web01"]);
    let ended = world.json(&["backup", "now"]).expect(3);
    let summaries: Vec<_> =
        ended.lines().into_iter().filter(|line| line["message_type"] == "summary").collect();
    let of = |index: usize| summaries[index]["status"].as_str().unwrap().to_owned();
    assert_eq!([of(0), of(1), of(2)], ["failed", "completed", "incomplete"]);
    assert_eq!(summaries[2]["runs"]["failed"], 1);
    let ended = world.run(&["backup", "now"]).expect(3);
    ended.says("web01: point #2").says("all: 1 completed, 1 failed").complains("web00: disk root");
    std::fs::remove_file(world.path("web01.img")).unwrap();
    world.run(&["backup", "now"]).expect(1).says("all: 2 failed");
}

#[test]
fn a_lock_that_is_held_is_told_with_its_holder() {
    let world = World::new("\"none\"");
    world.backup();
    let is_of_machine = |path: &std::path::PathBuf| path.to_string_lossy().contains("machine-");
    let path = world.files("repository/locks").into_iter().find(is_of_machine).unwrap();
    let note = r#"{"work":"backup of web01","pid":4242,"host":"elsewhere"}"#;
    let lock = std::fs::File::options().write(true).open(&path).unwrap();
    lock.try_lock().unwrap();
    std::fs::write(&path, note).unwrap();
    let ended = world.run(&["backup", "now"]).expect(11);
    ended.complains("backup of web01 (process 4242 on elsewhere)");
    // Reading goes on.
    world.run(&["restore", "web01", "--to", "out"]).expect(0);
    let alone = world.path("repository/locks/repository.lock");
    let shared = std::fs::File::options().write(true).open(alone).unwrap();
    shared.try_lock_shared().unwrap();
    world.run(&["catalog", "rebuild"]).expect(11);
    drop((lock, shared));
    world.run(&["backup", "now"]).expect(0);
    world.run(&["catalog", "rebuild"]).expect(0);
}

#[test]
fn a_repository_of_a_newer_format_is_refused() {
    let world = World::new("\"none\"");
    let header = String::from_utf8(world.read("repository/repository.json")).unwrap();
    let newer = header.replacen("\"format\": 2", "\"format\": 99", 1);
    assert_ne!(header, newer, "{header}");
    world.write("repository/repository.json", newer.as_bytes());
    world
        .run(&["backup", "now"])
        .expect(1)
        .complains("has format 99")
        .complains("newer afterimage");
}

#[test]
fn encryption_that_differs_from_the_settings_is_a_wrong_key() {
    let world = World::new("\"none\"");
    world.write("secret", &[b'x'; 64]);
    world.write_settings("{ key_file = \"secret\" }", &["web01"]);
    world.run(&["backup", "now"]).expect(12).complains("the settings say `encryption =");
}

#[test]
fn a_history_that_cannot_be_written_is_a_warning_and_a_broken_catalog_is_built_anew() {
    let world = World::new("\"none\"");
    world.backup();
    world.write("state/history.sqlite", &[b'x'; 8192]);
    for suffix in ["wal", "shm"] {
        // There is none after a clean end.
        let _ = std::fs::remove_file(world.path(&format!("state/history.sqlite-{suffix}")));
    }
    let summary = world.json(&["backup", "now"]).expect(0).summary();
    assert_eq!(summary["status"], "completed");
    let warning = summary["warnings"][0].as_str().unwrap();
    assert!(warning.contains("history.sqlite"), "{warning}");
    world.run(&["backup", "now"]).expect(0).complains("warning: there is no complete record");
    world.run(&["status"]).expect(3).says("#3").complains("the last runs are not known");

    let is_catalog = |path: &std::path::PathBuf| path.to_string_lossy().contains("catalog-");
    for path in world.files("state").into_iter().filter(is_catalog) {
        std::fs::write(path, [b'x'; 8192]).unwrap();
    }
    let refused = world.run(&["backup", "now"]).expect(1);
    refused.complains("is damaged").complains("`afterimage catalog rebuild main`");
    world.run(&["catalog", "rebuild"]).expect(0).says("points: 3");
    world.run(&["points"]).expect(0).says("#3");
}

#[test]
fn a_target_that_is_a_source_by_another_name_is_refused() {
    let world = World::new("\"none\"");
    world.backup();
    let content = world.read("web01.img");
    std::fs::create_dir(world.path("standby")).unwrap();
    std::fs::hard_link(world.path("web01.img"), world.path("standby/root.raw")).unwrap();
    let ended = world.run(&["replicate", "now", "--adopt"]).expect(1);
    ended.complains("is the source of a disk");
    std::fs::remove_dir_all(world.path("standby")).unwrap();
    std::os::unix::fs::symlink(world.path("repository"), world.path("standby")).unwrap();
    let ended = world.run(&["replicate", "now", "--adopt"]).expect(1);
    ended.complains("inside the repository");
    assert!(!world.path("repository/.afterimage-standby").exists());
    assert!(world.read("web01.img") == content);
}

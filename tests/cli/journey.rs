//! What works.

use crate::world::{DISK_BYTES, World, damage};

#[test]
fn a_machine_is_backed_up_and_its_replica_follows() {
    let world = World::without_repository("\"none\"");
    world.run(&["config", "check"]).expect(0).says("is fine: 1 repository, 1 machine, 1 replica");
    world.run(&["init"]).expect(0).says("main: created the repository");
    let first = world.read("web01.img");
    world.run(&["backup", "now"]).expect(0).says("web01: point #1 ").says("read 3.00 MiB");
    world.run(&["points"]).expect(0).says("#1").says("MACHINE").says("offline");
    world.run(&["replicate", "now"]).expect(0).says("standby: now at point #1").says("first copy");
    assert!(world.read("standby/root.raw") == first);
    world.run(&["replicate", "now"]).expect(0).says("standby: skipped, it is at the newest point");

    let second = world.write_disk("web01", 2);
    world.run(&["status"]).expect(0).says("usable").says("none");
    world.backup();
    world.run(&["status"]).expect(0).says("1 point, ").says("#2");
    world.run(&["replicate", "now", "standby"]).expect(0).says("point #2").says("from point #1");
    assert!(world.read("standby/root.raw") == second);
    world.run(&["verify", "--replica", "standby"]).expect(0).says("standby: equals point #2");
    world.run(&["catalog", "rebuild"]).expect(0).says("points: 2");
    world.run(&["points", "web01"]).expect(0).says("#1").says("#2");
}

#[test]
fn json_ends_with_a_summary_that_says_what_was_done() {
    let world = World::new("\"none\"");
    let backup = world.json(&["backup", "now"]).expect(0).summary();
    assert_eq!(backup["kind"], "backup");
    assert_eq!(backup["status"], "completed");
    assert_eq!(backup["machine"], "web01");
    assert_eq!(backup["sequence"], 1);
    assert_eq!(backup["run"].as_str().map(str::len), Some(32));
    assert_eq!(backup["point"].as_str().map(str::len), Some(64));
    for count in ["bytes_read", "bytes_changed", "bytes_new"] {
        assert_eq!(backup[count], DISK_BYTES, "{count}: {backup}");
    }
    assert!(backup["bytes_stored"].as_u64().unwrap() > DISK_BYTES as u64, "{backup}");
    assert_eq!(backup["bytes_written"], 0);
    assert!(backup["duration_s"].as_f64().unwrap() > 0.0);
    assert!(backup["started"].as_str().unwrap().ends_with('Z'), "{backup}");

    let points = world.json(&["points"]).expect(0).lines();
    assert_eq!(points[0]["message_type"], "point");
    assert_eq!(points[0]["point"], backup["point"]);
    assert_eq!(points[0]["disks"][0]["size_bytes"], DISK_BYTES);

    let copied = world.json(&["replicate", "now"]).expect(0).summary();
    assert_eq!((&copied["status"], &copied["replica"]), (&"completed".into(), &"standby".into()));
    assert_eq!(copied["point"], backup["point"]);
    assert_eq!(copied["bytes_written"], DISK_BYTES);
    let skipped = world.json(&["replicate", "now"]).expect(0).summary();
    assert_eq!(skipped["status"], "skipped");
    assert_eq!(skipped["bytes_written"], 0);

    let status = world.json(&["status"]).expect(0).lines();
    let kinds: Vec<_> = status.iter().map(|line| line["message_type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["repository", "machine", "replica", "summary"]);
    assert_eq!(status[1]["last_run"]["run"], backup["run"]);
    assert_eq!(status[2]["last_run"]["status"], "skipped");
    assert_eq!(status[2]["lag_points"], 0);
    let check = world.json(&["config", "check"]).expect(0).summary();
    assert_eq!(check["kind"], "config-check");
}

#[test]
fn several_runs_give_a_summary_each_and_one_for_all() {
    let world = World::new("\"none\"");
    world.write_settings("\"none\"", &["web01", "web02"]);
    world.write_disk("web02", 2);
    let lines = world.json(&["backup", "now"]).expect(0).lines();
    let summaries: Vec<_> = lines.iter().filter(|l| l["message_type"] == "summary").collect();
    assert_eq!(summaries.len(), 3);
    assert_eq!(summaries[2]["runs"]["completed"], 2);
    assert_eq!(summaries[2]["bytes_read"], 2 * DISK_BYTES);
    world.run(&["replicate", "now"]).expect(0).says("all: 2 completed");
}

#[test]
fn backup_first_backs_each_machine_up_once_and_replicates_then() {
    let world = World::new("\"none\"");
    world
        .run(&["replicate", "now", "--backup-first"])
        .expect(0)
        .says("web01: point #1")
        .says("standby: now at point #1")
        .says("all: 2 completed");
    assert!(world.read("standby/root.raw") == world.read("web01.img"));
}

#[test]
fn a_foreign_write_to_a_replica_is_found_told_and_repaired() {
    let world = World::new("\"none\"");
    world.run(&["replicate", "now", "--backup-first"]).expect(0);
    damage(&world.path("standby/root.raw"), 1_000_000);
    let ended = world.json(&["verify", "--replica", "standby"]).expect(1);
    let differing = &ended.summary()["differing"][0];
    assert_eq!(differing["disk"], "root");
    let (start, end) = (&differing["ranges"][0]["start"], &differing["ranges"][0]["end"]);
    assert!(start.as_u64().unwrap() <= 1_000_000 && end.as_u64().unwrap() > 1_000_000);
    world
        .run(&["verify", "--replica", "standby"])
        .expect(1)
        .complains("replica standby differs from point #1")
        .complains(&format!("in bytes {start}-{end}"));

    let repaired = world.json(&["replicate", "now"]).expect(0).summary();
    assert_eq!(repaired["status"], "completed");
    let detail = repaired["detail"].as_str().unwrap();
    assert!(detail.contains("changed since the last sync"), "{detail}");
    assert!(world.read("standby/root.raw") == world.read("web01.img"));
    world.run(&["verify", "--replica", "standby"]).expect(0);

    let mut longer = world.read("standby/root.raw");
    longer.extend([7; 512]);
    world.write("standby/root.raw", &longer);
    let repaired = world.json(&["replicate", "now"]).expect(0).summary();
    assert!(repaired["detail"].as_str().unwrap().contains("resized"), "{repaired}");
    assert!(world.read("standby/root.raw") == world.read("web01.img"));
}

#[test]
fn a_target_that_holds_something_needs_adopt() {
    let world = World::new("\"none\"");
    world.backup();
    std::fs::create_dir(world.path("standby")).unwrap();
    world.write("standby/root.raw", b"somebody's");
    world.run(&["replicate", "now"]).expect(1).complains("--adopt");
    assert_eq!(world.read("standby/root.raw"), b"somebody's");
    world.run(&["replicate", "now", "--adopt"]).expect(0).says("adopted");
    assert!(world.read("standby/root.raw") == world.read("web01.img"));
}

/// It was made anew without a word, on whatever file system was there instead of its own.
#[test]
fn a_replica_whose_superblock_is_gone_is_not_made_anew_without_adopt() {
    let world = World::new("\"none\"");
    world.run(&["replicate", "now", "--backup-first"]).expect(0);
    std::fs::rename(world.path("standby"), world.path("mounted")).unwrap();
    world
        .run(&["replicate", "now"])
        .expect(1)
        .complains("replica standby")
        .complains("standby/.afterimage-standby/superblock")
        .complains("mount")
        .complains("`afterimage replicate now standby --adopt`");
    assert!(!world.path("standby").exists(), "something was made on the bare mount point");
    std::fs::rename(world.path("mounted"), world.path("standby")).unwrap();
    world.run(&["replicate", "now"]).expect(0).says("standby: skipped");
    std::fs::remove_dir_all(world.path("standby")).unwrap();
    world.run(&["replicate", "now", "standby", "--adopt"]).expect(0).says("first copy");
    assert!(world.read("standby/root.raw") == world.read("web01.img"));
}

#[test]
fn an_encrypted_repository_works_with_a_generated_key_and_with_a_pass_phrase() {
    for (encryption, file) in
        [("{ key_file = \"secret\" }", false), ("{ passphrase_file = \"secret\" }", true)]
    {
        let world = World::without_repository(encryption);
        if file {
            world.write("secret", b"correct horse battery staple\n");
            world.run(&["init"]).expect(0);
        } else {
            world.run(&["init"]).expect(0).complains("keep a copy of it elsewhere");
        }
        world.run(&["replicate", "now", "--backup-first"]).expect(0);
        assert!(world.read("standby/root.raw") == world.read("web01.img"));
        world.run(&["restore", "web01", "--to", "out"]).expect(0);
        assert!(world.read("out/root.raw") == world.read("web01.img"));
        // The key is another one now; then it is gone.
        world.write("secret", &[b'x'; 64]);
        world.run(&["points"]).expect(12).complains("does not open the repository");
        std::fs::remove_file(world.path("secret")).unwrap();
        world.run(&["backup", "now"]).expect(12).complains("secret");
        let ended = world.json(&["restore", "web01", "--to", "other"]).expect(12);
        assert!(ended.json_error()["message"].as_str().unwrap().contains("secret"));
    }
}

#[test]
fn manual_pages_and_completions_are_made() {
    let world = World::without_repository("\"none\"");
    world.run(&["man"]).expect(0).says(".TH afterimage");
    world.run(&["man", "--dir", "pages"]).expect(0);
    assert!(world.path("pages/afterimage-restore.1").is_file());
    for shell in ["bash", "zsh", "fish"] {
        world.run(&["completions", shell]).expect(0).says("backup");
    }
    world.run(&["--help"]).expect(0).says("Exit codes");
}

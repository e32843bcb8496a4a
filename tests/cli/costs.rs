//! Copies to a second repository, and what all of it costs.

use crate::world::World;
use serde_json::Value;

/// A world with a second repository, `offsite`, that is encrypted.
fn with_offsite() -> World {
    let world = World::new("\"none\"");
    let mut text = String::from_utf8(world.read("settings.toml")).unwrap();
    text += "[repository.offsite]\nurl = \"offsite\"\nencryption = { key_file = \"key\" }\n";
    world.write("settings.toml", text.as_bytes());
    world.run(&["init"]).expect(0).says("offsite: created");
    world
}

/// The settings of the second place alone, where `offsite` is what machines are restored from.
fn elsewhere(world: &World) {
    let text = String::from_utf8(world.read("settings.toml")).unwrap();
    let text = text.replace("repository = \"main\"", "repository = \"offsite\"");
    world.write("elsewhere.toml", text.as_bytes());
}

#[test]
fn points_are_copied_once_and_restored_from_the_other_place() {
    let world = with_offsite();
    let first = world.read("web01.img");
    world.backup();
    let ended = world.run(&["copy", "main", "offsite"]).expect(0);
    ended.says("web01: points copied to offsite: 1, there before: 0, ");
    let mut second = first.clone();
    second[1_000_000..1_000_010].fill(1);
    world.write("web01.img", &second);
    world.backup();
    let summary =
        world.json(&["copy", "main", "offsite", "--machine", "web01"]).expect(0).summary();
    assert_eq!(
        [&summary["kind"], &summary["status"], &summary["machine"], &summary["repository"]],
        ["copy", "completed", "web01", "offsite"]
    );
    assert_eq!(summary["sequence"], 2);
    assert!(summary["bytes_read"].as_u64().unwrap() > 0);
    assert!(summary["bytes_new"].as_u64().unwrap() < 200_000, "{summary}");
    assert!(summary["bytes_stored"].as_u64().unwrap() < 200_000, "{summary}");
    world.run(&["copy", "main", "offsite"]).expect(0).says("skipped, offsite has them all already");

    elsewhere(&world);
    for (number, content) in [("#1", &first), ("#2", &second)] {
        let args = ["-c", "elsewhere.toml", "restore", "web01", "--point", number, "--to", "out"];
        world.run(&[&args[..], &["--force", "--yes"]].concat()).expect(0);
        assert!(world.read("out/root.raw") == *content, "{number}");
    }
    // A machine goes on with its backups there.
    world.run(&["-c", "elsewhere.toml", "backup", "now"]).expect(0).says("#3");
}

#[test]
fn one_point_of_one_machine_can_be_chosen() {
    let world = with_offsite();
    world.backup();
    world.write_disk("web01", 2);
    world.backup();
    let ended = world.json(&["copy", "main", "offsite", "--point", "#2"]).expect(0);
    assert_eq!(ended.summary()["sequence"], 2);
    let points: Vec<Value> = world.json(&["points"]).expect(0).lines();
    let offsite = points.iter().filter(|line| line["repository"] == "offsite");
    assert_eq!(offsite.map(|line| &line["sequence"]).collect::<Vec<_>>(), [2]);
    world.run(&["copy", "main", "offsite", "--point", "#9"]).expect(1).complains("no point #9");
    world.run(&["copy", "main", "offsite", "--point", "?"]).expect(2).complains("names no point");
    world.run(&["copy", "main", "offsite", "--machine", "x"]).expect(1).complains("no recovery");
    world.run(&["copy", "main", "offsit"]).expect(2).complains("did you mean `offsite`?");
    world.run(&["copy", "main", "main"]).expect(2).complains("both are the repository");
    std::fs::remove_dir_all(world.path("offsite")).unwrap();
    world.run(&["copy", "main", "offsite"]).expect(10).complains("`afterimage init`");
    // Nobody may add points of a machine to a repository while another one does.
    world.run(&["init", "offsite"]).expect(0);
    world.run(&["copy", "main", "offsite"]).expect(0);
}

#[test]
fn costs_are_told_of_repositories_machines_and_points() {
    let world = with_offsite();
    world.write_settings("\"none\"", &["web01", "db01"]);
    let common = world.read("web01.img");
    let mut other = common.clone();
    other.extend_from_slice(&crate::common::noise(9, 500_000));
    world.write("db01.img", &other);
    world.run(&["backup", "now"]).expect(0);
    world.run(&["backup", "now", "web01"]).expect(0);
    let ended = world.run(&["stats"]).expect(0);
    ended.says("REPOSITORY").says("web01").says("db01").says("FREES");
    let lines = world.json(&["stats", "--points"]).expect(0).lines();
    let usage = |scope: &str| -> Vec<&Value> {
        lines.iter().filter(|line| line["scope"] == scope).collect()
    };
    let repository = usage("repository")[0];
    let bytes = |line: &Value, key: &str| line[key].as_u64().unwrap();
    assert_eq!(repository["message_type"], "usage");
    assert_eq!(bytes(repository, "points"), 3);
    let parts = ["stored_bytes", "garbage_bytes", "overhead_bytes"];
    let sum: u64 = parts.iter().map(|key| bytes(repository, key)).sum();
    assert_eq!(sum, bytes(repository, "packs_bytes"), "{repository}");
    let on_disk: u64 =
        world.files("repository/packs").iter().map(|it| it.metadata().unwrap().len()).sum();
    assert_eq!(on_disk, bytes(repository, "packs_bytes"));
    let machines = usage("machine");
    let [db, web] = machines[..] else { panic!("{machines:?}") };
    assert_eq!((&db["machine"], &web["machine"]), (&"db01".into(), &"web01".into()));
    // What only db01 has is its tail; what web01 has is also db01's.
    assert!((400_000..700_000).contains(&bytes(db, "unique_bytes")), "{db}");
    assert!(bytes(web, "unique_bytes") < 100_000, "{web}");
    assert!(bytes(web, "shared_bytes") > 3_000_000, "{web}");
    assert!(web["dedup_ratio"].as_f64().unwrap() > 1.9, "{web}");
    assert_eq!(usage("point").len(), 3);

    let lines = world.json(&["stats", "web01", "--repository", "main"]).expect(0).lines();
    let scopes: Vec<&Value> = lines.iter().map(|line| &line["scope"]).collect();
    assert_eq!(
        scopes,
        ["repository", "machine", "point", "point", "null"]
            .map(|text| { if text == "null" { Value::Null } else { Value::from(text) } })
            .iter()
            .collect::<Vec<_>>()
    );
    world.run(&["stats", "nobody"]).expect(2).complains("has no recovery point");
    world.run(&["stats", "--repository", "x"]).expect(2);
}

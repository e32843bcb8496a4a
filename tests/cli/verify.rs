//! Verifying a repository from the command line.

use crate::world::{World, damage};
use std::path::PathBuf;

/// Two machines with a point each, the standby of the first, and the pack with the data of the
/// first.
fn world(encryption: &str) -> (World, PathBuf) {
    let world = World::new(encryption);
    world.write_settings(encryption, &["web01", "web02"]);
    world.write_disk("web02", 2);
    world.backup();
    let packs = world.files("repository/packs");
    let pack = packs.into_iter().max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    world.run(&["backup", "now", "web02"]).expect(0);
    world.run(&["replicate", "now", "standby"]).expect(0);
    (world, pack)
}

fn name(pack: &std::path::Path) -> String {
    pack.file_name().unwrap().to_str().unwrap().to_owned()
}

#[test]
fn a_good_repository_is_told_to_be_good_and_each_point_shows_it() {
    for encryption in ["\"none\"", "{ key_file = \"key\" }"] {
        let (world, _) = world(encryption);
        world.run(&["points"]).expect(0).says("never");
        world.run(&["verify", "--all"]).expect(0).says("main: nothing is damaged; read ");
        world.run(&["points"]).expect(0).says("good, ");
        world.run(&["verify", "--sample"]).expect(0).says("main: nothing is damaged");
        world.run(&["verify", "--sample", "50"]).expect(0);
        world.run(&["verify", "web01"]).expect(0).says("point #1 ").says("is good; read ");
        world.run(&["verify", "web01", "--point", "#1"]).expect(0);
        let summary = world.json(&["verify", "--all", "--repository", "main"]).expect(0).summary();
        assert_eq!((&summary["repository"], &summary["kind"]), (&"main".into(), &"verify".into()));
        let points = world.json(&["points", "web01"]).expect(0).lines();
        assert_eq!(points[0]["verified"]["good"], true, "{points:?}");
        assert_ne!(points[0]["verified"]["how"], "sample");
        std::fs::remove_file(world.path("key")).ok();
        world.run(&["verify", "--all", "--no-key"]).expect(0).says("not checked without keys");
    }
}

#[test]
fn damage_is_named_with_its_points_and_replicas_and_counts_as_a_failure() {
    let (world, pack) = world("\"none\"");
    damage(&pack, 1_500_000);
    let ended = world.run(&["verify", "--all"]).expect(1);
    let ended = ended.says(&name(&pack)).says("points affected: web01 #1 (").says("standby");
    assert!(!ended.out.contains("web02"), "{ended:?}");
    ended.complains("web01 #1 (").complains("afterimage repair main");
    world.run(&["points"]).expect(0).says("damaged, ").says("good, ");
    world.run(&["status"]).expect(3).says("1 damaged").complains("web01 #1 (");

    let ended = world.json(&["verify", "--all"]).expect(1);
    let lines = ended.lines();
    let found = lines.iter().find(|line| line["message_type"] == "damage").unwrap();
    assert_eq!((&found["kind"], &found["pack"]), (&"pack".into(), &name(&pack).into()));
    assert_eq!(found["object_count"], 1);
    assert_eq!(found["points"][0]["machine"], "web01");
    assert_eq!(found["replicas"], serde_json::json!(["standby"]));
    let point = lines.iter().find(|line| line["message_type"] == "damaged_point").unwrap();
    assert_eq!((&point["machine"], &point["sequence"]), (&"web01".into(), &1.into()));
    let range = &point["disks"][0]["ranges"][0];
    let len = range["end"].as_u64().unwrap() - range["start"].as_u64().unwrap();
    assert_eq!(point["damaged_bytes"], len);
    assert_eq!(ended.summary()["status"], "failed");

    // What is known is told by a sample that reads something else, and by the point itself.
    world.run(&["verify", "--sample"]).expect(1).says(&name(&pack));
    world.run(&["verify", "web01"]).expect(1).says(&name(&pack));
    world.run(&["verify", "web02"]).expect(0);
    let ended = world.run(&["verify", "--all", "--no-key"]).expect(1);
    ended.says("its content does not match its name").says(&name(&pack));
    // The next backup stores it again: then no point is harmed any more.
    world.backup();
    let ended = world.run(&["verify", "--all"]).expect(1).says(&name(&pack));
    assert!(ended.says("points affected: none").out.contains("points affected"));
    world.run(&["verify", "web01", "--point", "#1"]).expect(0);
}

#[test]
fn a_verification_of_one_point_finds_what_nobody_knew_of() {
    let (world, pack) = world("{ key_file = \"key\" }");
    damage(&pack, 1_500_000);
    world.run(&["verify", "web02"]).expect(0);
    world.run(&["verify", "web01"]).expect(1).says("is damaged").says(&name(&pack));
}

#[test]
fn foreign_files_are_told_and_harm_no_point() {
    let (world, _) = world("\"none\"");
    world.write("repository/points/notes.txt", b"mine");
    world.write("repository/notes.txt", b"mine");
    let ended = world.run(&["verify", "--all"]).expect(1);
    ended.says("points/notes.txt").says("foreign file notes.txt").says("points affected: none");
}

#[test]
fn what_is_to_be_verified_must_be_said() {
    let world = World::new("\"none\"");
    world.run(&["verify"]).expect(2);
    world.run(&["verify", "--all", "web01"]).expect(2);
    world.run(&["verify", "--sample", "0"]).expect(2);
    world.run(&["verify", "--sample", "--no-key"]).expect(2);
    world.run(&["verify", "--point", "#1"]).expect(2);
    world.run(&["verify", "nobody"]).expect(2).complains("nobody");
    world.run(&["verify", "--all", "--repository", "other"]).expect(2);
}

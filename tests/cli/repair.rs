//! Repair, and restores past damage, from the command line.

use crate::world::{World, damage};
use std::path::PathBuf;

fn largest_pack(world: &World) -> PathBuf {
    let packs = world.files("repository/packs");
    packs.into_iter().max_by_key(|path| path.metadata().unwrap().len()).unwrap()
}

/// A machine with one point, whose content is gone from its source; a damaged pack.
fn damaged_world(encryption: &str) -> (World, Vec<u8>, PathBuf) {
    let world = World::new(encryption);
    let content = world.read("web01.img");
    world.backup();
    let pack = largest_pack(&world);
    (world, content, pack)
}

#[test]
fn a_damaged_chunk_is_healed_from_the_standby() {
    let (world, content, pack) = damaged_world("{ key_file = \"key\" }");
    world.run(&["replicate", "now", "standby"]).expect(0);
    world.write_disk("web01", 99);
    damage(&pack, 1_000_000);
    damage(&pack, 2_000_000);
    world.run(&["repair"]).expect(2).complains("--yes");
    let ended = world.run(&["repair", "--dry-run"]).expect(0);
    ended.says("points affected: web01 #1").says("dry run");
    assert!(pack.exists() && !world.path("repository/quarantine").exists());
    let ended = world.json(&["repair", "main", "--yes"]).expect(0);
    let lines = ended.lines();
    assert_eq!(lines[0]["message_type"], "damage", "{lines:?}");
    let detail = ended.summary()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("objects healed: 2") && detail.contains("set apart: 1"), "{detail}");
    assert!(!pack.exists());
    let apart = world.path("repository/quarantine").join(pack.file_name().unwrap());
    assert!(apart.exists() && apart.with_extension("json").exists());
    world.run(&["verify", "--all"]).expect(0).complains("quarantine holds 1 damaged file (");
    world.run(&["restore", "web01", "--to", "out"]).expect(0);
    assert!(world.read("out/root.raw") == content);
    world.run(&["repair", "--yes"]).expect(0).says("nothing is damaged");
    world.run(&["points"]).expect(0).says("good, ");
}

#[test]
fn a_lost_pack_comes_back_from_a_copy_of_the_folder() {
    let (world, content, pack) = damaged_world("\"none\"");
    let name = pack.file_name().unwrap().to_str().unwrap().to_owned();
    let copy = world.path("copy/packs").join(&name[..2]);
    std::fs::create_dir_all(&copy).unwrap();
    std::fs::rename(&pack, copy.join(&name)).unwrap();
    world.write_disk("web01", 99);
    let ended = world.run(&["repair", "--yes", "--from", "copy"]).expect(0);
    ended.says("files copied in: 1");
    world.run(&["restore", "web01", "--to", "out"]).expect(0);
    assert!(world.read("out/root.raw") == content);
}

#[test]
fn what_stays_damaged_is_listed_and_restored_past() {
    let (world, content, pack) = damaged_world("\"none\"");
    world.write_disk("web01", 99);
    damage(&pack, 1_500_000);
    let ended = world.run(&["restore", "web01", "--to", "out"]).expect(1);
    ended.complains("--skip-damaged");
    let ended = world.json(&["restore", "web01", "--skip-damaged", "--to", "out"]).expect(3);
    let summary = ended.summary();
    assert_eq!(summary["status"], "incomplete");
    let range = &summary["missing"][0]["ranges"][0];
    let at = |key: &str| usize::try_from(range[key].as_u64().unwrap()).unwrap();
    let (start, end) = (at("start"), at("end"));
    assert_eq!(summary["missing"][0]["missing_bytes"], end - start);
    let found = world.read("out/root.raw");
    assert!(found[..start] == content[..start] && found[end..] == content[end..]);
    assert!(found[start..end].iter().all(|byte| *byte == 0));
    let map: serde_json::Value =
        serde_json::from_slice(&world.read("out/root.raw.missing.json")).unwrap();
    assert_eq!(map["ranges"][0], *range);

    let ended = world.run(&["repair", "--yes"]).expect(3);
    ended.complains("web01 #1 (").complains("--skip-damaged");
    let again = ["restore", "web01", "--skip-damaged", "--force", "--yes", "--to", "out"];
    world.run(&again).expect(3).complains("root.raw.missing.json");
    assert!(world.read("out/root.raw") == found);
}

#[test]
fn another_repository_of_the_settings_heals() {
    let (world, content, pack) = damaged_world("\"none\"");
    let settings = String::from_utf8(world.read("settings.toml")).unwrap();
    let other = "[repository.other]\nurl = \"other\"\nencryption = { key_file = \"key\" }\n";
    let moved = settings.replace("repository = \"main\"", "repository = \"other\"");
    world.write("settings.toml", (moved + other).as_bytes());
    world.run(&["init", "other"]).expect(0);
    world.run(&["backup", "now", "web01"]).expect(0);
    world.write("settings.toml", (settings + other).as_bytes());
    world.write_disk("web01", 99);
    damage(&pack, 1_500_000);
    world.run(&["repair", "main", "--from", "other", "--yes"]).expect(0).says("healed: 1");
    world.run(&["restore", "web01", "--to", "out"]).expect(0);
    assert!(world.read("out/root.raw") == content);
}

//! Damaged repositories: what is lost is named, and nothing wrong is given out.

use crate::world::{World, damage};
use std::path::PathBuf;

/// Two machines with a point each; the largest pack of the first, which holds its data.
fn world_with_a_pack() -> (World, PathBuf) {
    let world = World::new("\"none\"");
    world.write_settings("\"none\"", &["web01", "web02"]);
    world.write_disk("web02", 2);
    world.backup();
    let packs = world.files("repository/packs");
    let pack = packs.into_iter().max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    world.run(&["backup", "now", "web02"]).expect(0);
    (world, pack)
}

fn short(pack: &std::path::Path) -> String {
    pack.file_name().unwrap().to_str().unwrap()[..12].to_owned()
}

#[test]
fn a_damaged_pack_fails_the_restore_and_names_the_points_affected() {
    let (world, pack) = world_with_a_pack();
    damage(&pack, 1_500_000);
    let ended = world.run(&["restore", "web01", "--to", "out"]).expect(1);
    let ended = ended.complains(&short(&pack)).complains("points affected: web01 #1 (");
    assert!(!ended.err.contains("web02 #"), "{ended:?}");
    assert!(!world.path("out/root.raw").exists());
    world.assert_nothing_partial();
    world.run(&["restore", "web02", "--to", "out"]).expect(0);
    assert!(world.read("out/root.raw") == world.read("web02.img"));
    world.run(&["replicate", "now", "standby"]).expect(1).complains("points affected: web01 #1");
}

#[test]
fn a_lost_pack_fails_the_restore_and_the_next_backup_stores_it_again() {
    let (world, pack) = world_with_a_pack();
    std::fs::remove_file(&pack).unwrap();
    let ended = world.run(&["restore", "web01", "--to", "out"]).expect(1);
    let ended = ended.complains("a pack was lost").complains("points affected: web01 #1 (");
    assert!(!ended.err.contains("web02 #"), "{ended:?}");
    world.backup();
    world.run(&["restore", "web01", "--point", "#1", "--to", "out"]).expect(0);
    assert!(world.read("out/root.raw") == world.read("web01.img"));
}

#[test]
fn a_pack_that_was_cut_off_is_told_by_whatever_reads_the_repository() {
    let (world, pack) = world_with_a_pack();
    let content = std::fs::read(&pack).unwrap();
    std::fs::write(&pack, &content[..content.len() / 2]).unwrap();
    world.run(&["points"]).expect(3).complains(&short(&pack)).complains("web01 #1 (");
    world.run(&["status"]).expect(3).says("1 damaged").complains(&short(&pack));
    world.run(&["catalog", "rebuild"]).expect(3).complains(&short(&pack));
    let ended = world.json(&["backup", "now", "web01"]).expect(0);
    assert!(ended.summary()["warnings"][0].as_str().unwrap().contains(&short(&pack)));
    world.run(&["restore", "web01", "--point", "#1", "--to", "out"]).expect(0);
    assert!(world.read("out/root.raw") == world.read("web01.img"));
}

#[test]
fn a_manifest_that_was_cut_off_is_told_and_not_taken_for_no_point() {
    let world = World::new("\"none\"");
    let id = world.backup();
    let manifest = world.path("repository/points").join(&id);
    let content = std::fs::read(&manifest).unwrap();
    std::fs::write(&manifest, &content[..content.len() / 2]).unwrap();
    world.run(&["catalog", "rebuild"]).expect(3).complains(&id[..12]);
    world.run(&["points"]).expect(3).complains("is damaged");
    world.run(&["restore", "web01", "--to", "out"]).expect(1).complains(&id[..12]);
}

//! A repository's life after the first backups: points go, space comes back, damage is found and
//! mended, and all of it is copied to a second repository.

use crate::world::{DISK_BYTES, World, damage};
use std::path::PathBuf;

/// Two repositories, of which the machine uses the first; `keep` and what else is said of it.
fn world() -> World {
    let world = World::without_repository("{ key_file = \"main.key\" }");
    let text = String::from_utf8(world.read("settings.toml")).unwrap();
    let text = text.replace(
        "[machine.web01]\n",
        "gc_fill_percent = 90\n[repository.second]\nurl = \"second\"\nencryption = \"none\"\n\
         [machine.web01]\nkeep = { last = 1 }\nprune_max_percent = 60\n",
    );
    world.write("settings.toml", text.as_bytes());
    world.run(&["init"]).expect(0).says("recovery key:").complains("it or the recovery key");
    world
}

/// Four points, each with another part of the disk exchanged. The content of the last one, and the
/// pack that only it needs.
fn back_up_four_times(world: &World) -> (Vec<u8>, PathBuf) {
    let mut content = world.write_disk("web01", 1);
    let mut before = Vec::new();
    for round in 0..4_u64 {
        let at = usize::try_from(round).unwrap() * 700_000;
        content[at..at + 700_000].copy_from_slice(&crate::common::noise(50 + round, 700_000));
        world.write("web01.img", &content);
        before = world.files("repository/packs");
        world.backup();
    }
    let mut packs = world.files("repository/packs");
    packs.retain(|pack| !before.contains(pack));
    (content, packs.into_iter().max_by_key(|pack| pack.metadata().unwrap().len()).unwrap())
}

fn packs_bytes(world: &World) -> u64 {
    world.files("repository/packs").iter().map(|path| path.metadata().unwrap().len()).sum()
}

#[test]
fn a_repository_is_pruned_collected_verified_repaired_and_copied() {
    let world = world();
    let (content, newest) = back_up_four_times(&world);
    world.run(&["replicate", "now", "standby"]).expect(0);

    world.run(&["prune", "--dry-run"]).expect(0).says("2 of 4 points would go");
    world.run(&["prune"]).expect(0).says("removed 2 of 4 points").says("sync point of standby");
    let before = packs_bytes(&world);
    let gc = world.json(&["gc", "main"]).expect(0).summary();
    let freed = before - packs_bytes(&world);
    let told = gc["bytes_freed"].as_u64().unwrap();
    assert!(freed > 500_000, "{freed} of {before} bytes were freed");
    // What was written anew has trailers, which it does not count.
    assert!(told.abs_diff(freed) < 100_000, "{told} told, {freed} freed");
    world.run(&["gc"]).expect(0).says("main: nothing to remove; ");
    world.run(&["verify", "--all"]).expect(0).says("main: nothing is damaged").says("2 points");

    damage(&newest, 300_000);
    let found = world.run(&["verify", "--all", "--repository", "main"]).expect(1);
    found.says("web01 #4 (").complains("run `afterimage repair main`");
    let blind = world.run(&["verify", "--all", "--no-key", "--repository", "main"]).expect(1);
    blind.complains("which points need it cannot be told without keys");
    let skipped = world.run(&["restore", "web01", "--to", "holes", "--skip-damaged"]).expect(3);
    skipped.complains("could not be read and are zeros");
    world.run(&["repair", "main", "--yes"]).expect(0).says("files set apart: 1");
    world.run(&["verify", "--all"]).expect(0).complains("1 damaged file (");

    world.run(&["copy", "main", "second"]).expect(0).says("points copied to second: 2");
    world.run(&["copy", "main", "second"]).expect(0).says("second has them all already");
    world.run(&["points"]).expect(0).says("REPOSITORY").says("second");
    world.run(&["restore", "web01", "--repository", "second", "--to", "out"]).expect(0);
    assert!(world.read("out/root.raw") == content);
    let lines = world.json(&["stats"]).expect(0).lines();
    let of = |name: &str| {
        let line = lines.iter().find(|line| line["repository"] == name).unwrap();
        (line["points"].as_u64().unwrap(), line["logical_bytes"].as_u64().unwrap())
    };
    assert_eq!(of("main"), (2, 2 * DISK_BYTES as u64));
    assert_eq!(of("main"), of("second"));
    world.run(&["catalog", "check"]).expect(0).says("all: 2 completed");
}

#[test]
fn a_copy_is_used_by_name_when_the_first_repository_is_lost() {
    let world = world();
    let (content, _) = back_up_four_times(&world);
    world.run(&["copy", "main", "second", "--machine", "web02"]).expect(1).complains("web02");
    world.run(&["copy", "main", "second", "--point", "latest"]).expect(0);
    std::fs::rename(world.path("repository"), world.path("gone")).unwrap();
    world.run(&["restore", "web01", "--to", "out"]).expect(10);
    world.run(&["restore", "web01", "--to", "out", "--repository", "secund"]).expect(2);
    world.run(&["restore", "web01", "--to", "out", "--repository", "second"]).expect(0);
    assert!(world.read("out/root.raw") == content);
    let status = world.run(&["status"]).expect(3);
    status.says("unusable").complains("there is no repository");
}

#[test]
fn files_of_keys_that_are_missing_or_in_the_way_are_told_as_such() {
    let world = world();
    let add = ["key", "add", "main", "--key-file", "spare.key"];
    world.run(&add).expect(12).complains("there is no spare.key: add `--generate`");
    world.run(&[&add[..], &["--generate"]].concat()).expect(0);
    world.run(&["key", "export", "main", "--to", "main.keys"]).expect(0).says("3 key slots");
    let again = world.run(&["key", "export", "main", "--to", "main.keys"]).expect(1);
    again.complains("main.keys exists already, and is not overwritten");
}

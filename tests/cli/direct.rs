//! A replica that is fed straight from its machine, through the binary.

use crate::common::{let_it_settle, write_noticed};
use crate::world::{DISK_BYTES, World};
use std::time::{Duration, SystemTime};

/// The replica of `web01` is fed straight from it. A file that was changed just now proves nothing;
/// that takes its time to pass.
fn direct() -> World {
    let world = World::without_repository("\"none\"");
    set_mode(&world, "direct");
    let_it_settle();
    world
}

fn set_mode(world: &World, mode: &str) {
    world.write_settings("\"none\"", &["web01"]);
    let text = String::from_utf8(world.read("settings.toml")).unwrap();
    let replica = "[replica.standby]\n";
    let text = text.replace(replica, &format!("{replica}mode = \"{mode}\"\n"));
    world.write("settings.toml", text.as_bytes());
    world.run(&["config", "check"]).expect(0);
}

fn same(world: &World) -> bool {
    world.read("standby/root.raw") == world.read("web01.img")
}

#[test]
fn a_replica_follows_its_machine_and_goes_over_to_backups_and_back() {
    let world = direct();
    let first = world.json(&["replicate", "now"]).expect(0).summary();
    assert_eq!(first["bytes_written"].as_u64(), Some(DISK_BYTES as u64), "{first}");
    assert!(first["detail"].as_str().unwrap().starts_with("first copy, captured at"), "{first}");
    assert!(same(&world));
    world.run(&["replicate", "now"]).expect(0).says("skipped, nothing changed since");
    let verified = world.json(&["verify", "--replica", "standby"]).expect(0).summary();
    assert!(verified["detail"].as_str().unwrap().contains("all was compared"), "{verified}");

    // What was written is not told by a file: everything is compared, and little is written.
    write_noticed(&world.path("web01.img"), 70_000, b"changed");
    let third = world.json(&["replicate", "now"]).expect(0).summary();
    assert!(third["bytes_written"].as_u64().unwrap() <= 8192, "{third}");
    assert!(third["detail"].as_str().unwrap().contains("all was compared"), "{third}");
    assert!(same(&world));
    // Its repository is not there yet.
    let status = world.json(&["status"]).expect(3);
    let line = status.lines().into_iter().find(|line| line["replica"] == "standby").unwrap();
    assert_eq!((&line["state"], &line["direct"]), (&"clean".into(), &true.into()), "{line}");

    world.run(&["init"]).expect(0);
    world.run(&["backup", "now"]).expect(0);
    set_mode(&world, "backup");
    std::thread::sleep(Duration::from_millis(1100));
    world.run(&["backup", "now"]).expect(0);
    world.run(&["replicate", "now"]).expect(0).says("fed straight from its machine before");
    assert!(same(&world));
    world.run(&["verify", "--replica", "standby"]).expect(0);
    write_noticed(&world.path("web01.img"), 700_000, b"changed again");
    set_mode(&world, "direct");
    world.run(&["replicate", "now"]).expect(0).says("it was fed from backups before");
    assert!(same(&world));
    // Neither prune nor the repository is in the way of it.
    std::fs::rename(world.path("repository"), world.path("gone")).unwrap();
    write_noticed(&world.path("web01.img"), 0, b"and again");
    world.run(&["replicate", "now"]).expect(0);
    assert!(same(&world));
}

#[test]
fn a_verification_finds_what_the_replica_does_not_hold() {
    let world = direct();
    world.run(&["verify", "--replica", "standby"]).expect(1).complains("never seeded");
    world.run(&["replicate", "now"]).expect(0);
    let image = world.path("standby/root.raw");
    let file = std::fs::File::options().write(true).open(&image).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"rot", 1_000_000).unwrap();
    file.set_modified(SystemTime::now()).unwrap();
    let told = world.run(&["verify", "--replica", "standby"]).expect(1);
    told.complains("differs from what was captured at").complains("bytes 999424-1003520");
    write_noticed(&world.path("web01.img"), 70_000, b"changed");
    let told = world.run(&["verify", "--replica", "standby"]).expect(1);
    told.complains("what changed in the machine since it was replicated is not known");
    world.run(&["replicate", "now"]).expect(0);
    assert!(same(&world));
}

//! Backups that know what changed, through the binary.

use crate::common::{let_it_settle, write_noticed};
use crate::world::{DISK_BYTES, World};
use serde_json::Value;
use std::time::{Duration, SystemTime};

fn bytes_read(summary: &Value) -> u64 {
    summary["bytes_read"].as_u64().unwrap()
}

/// Backs `web01` up and gives the summary.
#[track_caller]
fn backup(world: &World, more: &[&str]) -> Value {
    world.json(&[&["backup", "now", "web01"], more].concat()).expect(0).summary()
}

#[test]
fn an_image_that_nobody_wrote_to_is_passed_over_unless_it_shall_be_read() {
    let world = World::new("\"none\"");
    let_it_settle();
    assert_eq!(bytes_read(&backup(&world, &[])), DISK_BYTES as u64);
    assert_eq!(bytes_read(&backup(&world, &[])), 0);
    assert_eq!(bytes_read(&backup(&world, &["--full-read"])), DISK_BYTES as u64);
    assert_eq!(bytes_read(&backup(&world, &[])), 0);
    // One byte, also with the old time of modification, makes a difference.
    let file = std::fs::File::options().write(true).open(world.path("web01.img")).unwrap();
    let modified = file.metadata().unwrap().modified().unwrap();
    write_noticed(&world.path("web01.img"), 70_000, b"x");
    file.set_modified(modified).unwrap();
    let summary = backup(&world, &[]);
    assert_eq!(bytes_read(&summary), DISK_BYTES as u64);
    world.run(&["replicate", "now"]).expect(0);
    assert!(world.read("standby/root.raw") == world.read("web01.img"));
}

/// Settings whose disk has a list of what changed.
fn with_list() -> World {
    let world = World::new("{ key_file = \"main.key\" }");
    let text = String::from_utf8(world.read("settings.toml")).unwrap();
    let text = text.replace(
        "image = \"web01.img\"",
        "image = \"web01.img\", changed = \"web01.changed.json\"",
    );
    world.write("settings.toml", text.as_bytes());
    world.run(&["config", "check"]).expect(0);
    world
}

fn write_list(world: &World, since: &str, extents: &str) {
    let text = format!("{{\"format\":1,\"since\":\"{since}\",\"extents\":{extents}}}");
    world.write("web01.changed.json", text.as_bytes());
}

#[test]
fn a_list_of_changes_is_used_once_and_only_for_its_point() {
    let world = with_list();
    // There is nothing to read it for yet.
    let first = backup(&world, &[])["point"].as_str().unwrap().to_owned();
    write_noticed(&world.path("web01.img"), 1_000_000, &[7; 5000]);
    write_list(&world, &first, "[[1000000, 5000]]");
    let second = backup(&world, &[]);
    assert!(bytes_read(&second) < 400_000, "{second}");
    assert_eq!(second["warnings"], Value::Null);
    // The same list again: there is a newer point, so everything is read, and why is told.
    let third = world.run(&["backup", "now", "web01"]).expect(0);
    third.complains("disk root was read in full").complains(&first[..12]);
    let newest = backup(&world, &["--full-read"])["point"].as_str().unwrap().to_owned();
    // A list that is older than the image does not know of its last changes.
    write_list(&world, &newest, "[]");
    let file = std::fs::File::options().write(true).open(world.path("web01.changed.json")).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(60)).unwrap();
    write_noticed(&world.path("web01.img"), 2_000_000, &[9; 10]);
    let fifth = world.run(&["backup", "now", "web01"]).expect(0);
    fifth.complains("written to after it was made");
    for list in ["", "{}", "[]", "{\"format\":1,\"since\":\"x\",\"extents\":[]}"] {
        world.write("web01.changed.json", list.as_bytes());
        let told = world.run(&["backup", "now", "web01"]).expect(0);
        told.complains("disk root was read in full: the list").complains("web01.changed.json");
    }
    std::fs::remove_file(world.path("web01.changed.json")).unwrap();
    world.run(&["backup", "now", "web01"]).expect(0).complains("cannot be read");
    world.run(&["replicate", "now"]).expect(0);
    assert!(world.read("standby/root.raw") == world.read("web01.img"));
}

#[test]
fn a_list_that_leaves_something_out_is_found_out_by_a_full_read() {
    let world = with_list();
    let text = String::from_utf8(world.read("settings.toml")).unwrap();
    let machine = "[machine.web01]\n";
    let text = text.replace(machine, &format!("{machine}full_read_every = \"1 second\"\n"));
    world.write("settings.toml", text.as_bytes());
    let first = backup(&world, &["--full-read"])["point"].as_str().unwrap().to_owned();
    write_noticed(&world.path("web01.img"), 1_000_000, &[7; 5000]);
    write_noticed(&world.path("web01.img"), 2_000_000, &[8; 10]);
    std::thread::sleep(Duration::from_millis(1100));
    write_list(&world, &first, "[[1000000, 5000]]");
    let told = world.run(&["backup", "now", "web01"]).expect(0);
    told.complains("disk root: 4.00 KiB changed in bytes 1998848-2002944")
        .complains("backup now web01 --trust-changes");
    world.run(&["status"]).complains("disk root: what is told of its changes is not believed");
    let second = backup(&world, &[]);
    assert!(second["warnings"][0].as_str().unwrap().contains("not believed"), "{second}");
    assert_eq!(bytes_read(&second), DISK_BYTES as u64);
    world.run(&["replicate", "now"]).expect(0);
    assert!(world.read("standby/root.raw") == world.read("web01.img"));
    let text = text.replace("1 second", "1 week");
    world.write("settings.toml", text.as_bytes());
    let newest = second["point"].as_str().unwrap();
    write_list(&world, newest, "[]");
    let third = backup(&world, &["--trust-changes"]);
    assert_eq!((bytes_read(&third), &third["warnings"]), (0, &Value::Null), "{third}");
    world.run(&["status"]).expect(0);
}

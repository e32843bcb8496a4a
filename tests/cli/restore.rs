//! Bringing points back.

use crate::world::World;

#[test]
fn a_point_is_chosen_by_number_id_time_or_as_the_latest() {
    let world = World::new("\"none\"");
    let first = world.read("web01.img");
    let first_id = world.backup();
    let shown = world.run(&["points"]).expect(0).out;
    // Of the second line: machine, point, id, date, time.
    let words: Vec<&str> = shown.lines().nth(1).unwrap().split_whitespace().collect();
    let first_time = format!("{} {}", words[3], words[4]);
    let first_utc = world.json(&["points"]).lines()[0]["time"].as_str().unwrap().to_owned();
    let second = world.write_disk("web01", 2);
    wait_for_the_next_second(&first_utc);
    world.backup();

    let cases = [
        ("latest", &second),
        ("#1", &first),
        ("#2", &second),
        (&first_id[..12], &first),
        (&first_id, &first),
        // As it is shown, in the zone of the user, and as it is stored.
        (&first_time, &first),
        (&first_utc, &first),
        ("2999-01-01 00:00", &second),
    ];
    for (index, (point, expected)) in cases.into_iter().enumerate() {
        let folder = format!("out{index}");
        world.run(&["restore", "web01", "--point", point, "--to", &folder]).expect(0);
        assert!(&world.read(&format!("{folder}/root.raw")) == expected, "{point}");
    }
    let no = |point| world.run(&["restore", "web01", "--point", point, "--to", "no"]);
    no("#3").expect(1).complains("web01 has no point #3");
    no("2001-01-01 00:00").expect(1).complains("has no point at or before");
    no("yesterday").expect(2).complains("names no point");
    assert!(!world.path("no").exists());
}

fn wait_for_the_next_second(time: &str) {
    let time: jiff::Timestamp = time.parse().unwrap();
    while jiff::Timestamp::now().as_second() <= time.as_second() {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[test]
fn nothing_is_overwritten_without_force_and_yes() {
    let world = World::new("\"none\"");
    world.backup();
    let content = world.read("web01.img");
    let restore = |rest: &[&str]| world.run(&[&["restore", "web01"], rest].concat());
    restore(&["--disk", "root", "--to", "one.raw"]).expect(0);
    assert!(world.read("one.raw") == content);
    world.write("one.raw", b"mine");
    restore(&["--disk", "root", "--to", "one.raw"]).expect(1).complains("add `--force`");
    let plan = restore(&["--disk", "root", "--to", "one.raw", "--force"]).expect(2);
    plan.complains("restore web01 from point #1").complains("will be lost").complains("--yes");
    restore(&["--to", "one.raw", "--force", "--dry-run"]).expect(0).says("will be lost");
    assert_eq!(world.read("one.raw"), b"mine");
    let dry = world.json(&["restore", "web01", "--to", "new", "--dry-run"]).expect(0);
    assert_eq!(dry.lines()[1]["message_type"], "plan");
    assert_eq!(dry.summary()["status"], "skipped");
    assert!(!world.path("new").exists());
    restore(&["--to", "one.raw", "--force", "--yes"]).expect(0);
    assert!(world.read("one.raw") == content);
    world.assert_nothing_partial();
}

#[test]
fn sources_replicas_and_the_repository_are_never_overwritten() {
    let world = World::new("\"none\"");
    world.run(&["replicate", "now", "--backup-first"]).expect(0);
    let restore =
        |to| world.run(&["restore", "web01", "--disk", "root", "--to", to, "--force", "--yes"]);
    restore("web01.img").expect(1).complains("the source of disk root of machine web01");
    restore("standby/root.raw").expect(1).complains("disk root of replica standby");
    restore("repository/points/x").expect(1).complains("inside the repository");
    world.run(&["restore", "web01", "--disk", "data", "--to", "x"]).expect(1).complains("root");
}

#[test]
fn a_machine_that_is_no_longer_in_the_settings_still_comes_back() {
    let world = World::new("\"none\"");
    world.backup();
    let content = world.read("web01.img");
    world.write_settings("\"none\"", &["web02"]);
    world.run(&["points", "web01"]).expect(0).says("#1");
    world.run(&["restore", "web01", "--to", "out"]).expect(0);
    assert!(world.read("out/root.raw") == content);
    world.run(&["restore", "web03", "--to", "out"]).expect(2).complains("did you mean `web02`?");
}

#[test]
fn the_definition_travels_in_the_point() {
    let world = World::new("\"none\"");
    let settings = String::from_utf8(world.read("settings.toml")).unwrap();
    let with = settings
        .replace("[[machine.web01.disk]]", "definition = \"web01.xml\"\n[[machine.web01.disk]]");
    world.write("settings.toml", with.as_bytes());
    world.run(&["backup", "now"]).expect(1).complains("web01.xml");
    world.write("web01.xml", b"<domain/>");
    world.backup();
    world.run(&["restore", "web01", "--to", "out"]).expect(0);
    assert_eq!(world.read("out/definition/web01.xml"), b"<domain/>");

    std::fs::create_dir(world.path("other")).unwrap();
    let twice = with.replace("\"web01.xml\"", "[\"web01.xml\", \"other/web01.xml\"]");
    world.write("settings.toml", twice.as_bytes());
    world.write("other/web01.xml", b"<other/>");
    world.run(&["config", "check"]).expect(2).complains("the same name");
    world.run(&["backup", "now"]).expect(2).complains("the same name");
}

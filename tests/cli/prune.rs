//! Retention, pins and locks on the command line.

use crate::common::name;
use crate::world::{World, damage};
use afterimage::backup::{BackupRequest, ChangeHints, backup};
use afterimage::capture::Disks;
use afterimage::catalog::Catalog;
use afterimage::fsio::RealFileSystem;
use afterimage::progress::Progress;
use afterimage::source::SourceSpec;
use afterimage::store::Repository;
use afterimage::units::RunId;
use jiff::Timestamp;

/// Points of `web01` that were made at these times.
fn make_points(world: &World, times: &[&str]) {
    let fs = RealFileSystem::shared();
    let repository = Repository::open(&fs, &world.path("repository"), None, 1).unwrap();
    let catalog = Catalog::open(&world.path("state"), repository.header().id).unwrap();
    let machine = name("web01");
    world.write("web01.img", &crate::common::noise(1, 10_000));
    for time in times {
        let path = world.path("web01.img");
        let source = SourceSpec { path, format: None, must_be_device: false, quiesced: false };
        let request = BackupRequest {
            machine: &machine,
            capturer: &Disks::of_files([(name("root"), source)]),
            hints: ChangeHints::default(),
            definition: Vec::new(),
            lock_until: None,
            now: time.parse().unwrap(),
            run: RunId::random().unwrap(),
            workers: 1,
            history: None,
        };
        backup(&repository, &catalog, &request, &Progress::default()).unwrap();
    }
}

/// A world with more settings for `web01`.
fn world_with(settings: &str) -> World {
    let world = World::new("\"none\"");
    set(&world, settings);
    world
}

fn set(world: &World, settings: &str) {
    world.write_settings("\"none\"", &["web01"]);
    let text = String::from_utf8(world.read("settings.toml")).unwrap();
    let with = format!("[machine.web01]\n{settings}\n");
    world.write("settings.toml", text.replace("[machine.web01]\n", &with).as_bytes());
}

fn sequences(world: &World) -> Vec<u64> {
    let lines = world.json(&["points", "web01"]).expect(0).lines();
    let points = lines.iter().filter(|line| line["message_type"] == "point");
    points.map(|line| line["sequence"].as_u64().unwrap()).collect()
}

const SIX: [&str; 6] = [
    "2025-03-01T10:00:00Z",
    "2025-12-31T23:30:00Z",
    "2026-01-01T08:00:00Z",
    "2026-10-25T00:15:00Z",
    "2026-10-25T01:15:00Z",
    "2026-10-25T09:00:00Z",
];

#[test]
fn a_dry_run_tells_for_each_point_why_it_stays_or_goes_and_prune_does_it() {
    let keep = "keep = { hourly = 2, yearly = 2 }\ntimezone = \"Europe/Berlin\"";
    let world = world_with(keep);
    make_points(&world, &SIX);
    let dry = world.run(&["prune", "--dry-run"]).expect(0);
    let dry = dry.says("yearly 2025").says("no rule keeps it").says("Europe/Berlin");
    let dry = dry.says("dry run: 2 of 6 points would go; nothing was removed");
    dry.says("`afterimage gc` would give ").says(" back then");
    let lines = world.json(&["prune", "web01", "--dry-run"]).expect(0).lines();
    let expected: [(bool, &[&str]); 6] = [
        (true, &["yearly 2025"]),
        // In Berlin it is the next year already.
        (false, &[]),
        (false, &[]),
        (true, &["hourly 2026-10-25 02:00 +02:00"]),
        (true, &["hourly 2026-10-25 02:00 +01:00", "yearly 2026"]),
        (true, &["newest"]),
    ];
    for ((line, (keep, reasons)), sequence) in lines.iter().zip(expected).zip(1..) {
        assert_eq!(line["message_type"], "prune_decision");
        assert_eq!((&line["sequence"], &line["keep"]), (&sequence.into(), &keep.into()), "{line}");
        assert_eq!(line["reasons"], serde_json::json!(reasons), "{line}");
    }
    assert_eq!(sequences(&world), [1, 2, 3, 4, 5, 6]);

    let done = world.run(&["prune"]).expect(0).says("web01: removed 2 of 6 points");
    done.says("`afterimage gc`");
    assert_eq!(sequences(&world), [1, 4, 5, 6]);
    let again = world.json(&["prune"]).expect(0).summary();
    assert_eq!((&again["status"], &again["kind"]), (&"skipped".into(), &"prune".into()));
    assert_eq!((&again["points_kept"], &again["points_removed"]), (&4.into(), &0.into()));
    world.run(&["restore", "web01", "--point", "#1", "--to", "out"]).expect(0);
    assert!(world.read("out/root.raw") == world.read("web01.img"));
    world.run(&["catalog", "rebuild"]).expect(0).says("points: 4");
    world.run(&["points"]).expect(0);
}

#[test]
fn more_than_the_share_needs_yes() {
    let world = world_with("keep = { last = 1 }");
    make_points(&world, &SIX);
    let refused = world.run(&["prune"]).expect(2).says("no rule keeps it");
    refused.complains("4 of 6 points").complains("50 %").complains("afterimage prune web01 --yes");
    world.json(&["prune"]).expect(2).json_error();
    assert_eq!(sequences(&world).len(), 6);
    set(&world, "keep = { last = 1 }\nprune_max_percent = 60");
    world.run(&["prune"]).expect(2).complains("60 %");
    world.run(&["prune", "--dry-run"]).expect(0).says("which needs `--yes`");
    let done = world.json(&["prune", "--yes"]).expect(0).summary();
    assert_eq!((&done["points_kept"], &done["points_removed"]), (&2.into(), &4.into()));
    assert_eq!(done["run"].as_str().map(str::len), Some(32));
    assert_eq!(sequences(&world), [5, 6]);
}

#[test]
fn a_machine_without_keep_is_skipped() {
    let world = World::new("\"none\"");
    make_points(&world, &SIX);
    world.run(&["prune"]).expect(0).says("web01: skipped, the settings have no `keep`");
    world.run(&["prune", "--dry-run"]).expect(0).says("no `keep`");
    world.run(&["prune", "web02"]).expect(2).complains("did you mean `web01`?");
    assert_eq!(sequences(&world).len(), 6);
}

#[test]
fn a_pinned_point_stays_until_it_is_unpinned() {
    let world = world_with("keep = { last = 1 }");
    make_points(&world, &SIX);
    let pin =
        |point: &str, note: &str| world.run(&["points", "pin", "web01", point, "--note", note]);
    pin("#2", "before the upgrade").expect(0).says("web01: point #2 ").says("is pinned");
    pin("#2", "before the upgrade").expect(0).says("is pinned already");
    pin("#9", "x").expect(1).complains("no point #9");
    pin("#2", "two\nlines").expect(2).complains("control character");
    world.run(&["points", "pin", "web01", "latest"]).expect(0);
    world.run(&["points"]).expect(0).says("KEPT BY").says("pinned: before the upgrade");
    let lines = world.json(&["points", "web01"]).expect(0).lines();
    assert_eq!(lines[1]["pins"][0]["note"], "before the upgrade");
    assert_eq!(lines[0]["pins"], serde_json::Value::Null);
    world.run(&["prune", "--dry-run"]).expect(0).says("pinned: before the upgrade");
    world.run(&["prune", "--yes"]).expect(0);
    assert_eq!(sequences(&world), [2, 5, 6]);
    let unpin = || world.run(&["points", "unpin", "web01", "#2"]);
    unpin().expect(0).says("is no longer pinned");
    unpin().expect(0).says("is not pinned");
    world.run(&["prune"]).expect(0);
    assert_eq!(sequences(&world), [5, 6]);
}

#[test]
fn a_lock_outlives_the_settings_that_made_it() {
    let world = world_with("lock_days = 3");
    world.backup();
    world.run(&["points"]).expect(0).says("locked until 20");
    let line = world.json(&["points"]).expect(0).lines().remove(0);
    let (time, until) = (&line["time"], &line["locked_until"]);
    let parse = |value: &serde_json::Value| value.as_str().unwrap().parse::<Timestamp>().unwrap();
    assert_eq!(parse(until).as_second() - parse(time).as_second(), 3 * 86_400);
    set(&world, "keep = { last = 1 }");
    world.backup();
    world.backup();
    let dry = world.run(&["prune", "--dry-run"]).expect(0);
    dry.says("locked until 20").says("0 of 3 points would go");
    // Raised later, it locks what is there.
    world.backup();
    world.run(&["prune", "--dry-run"]).expect(0).says("1 of 4 points would go");
    set(&world, "keep = { last = 1 }\nlock_days = 1");
    world.run(&["prune", "--dry-run"]).expect(0).says("0 of 4 points would go");
}

#[test]
fn the_point_of_a_replica_stays() {
    let world = world_with("keep = { last = 1 }");
    make_points(&world, &SIX[..1]);
    world.run(&["replicate", "now"]).expect(0);
    make_points(&world, &SIX[1..]);
    world.run(&["prune", "--dry-run"]).expect(0).says("sync point of standby");
    world.run(&["prune"]).expect(0);
    assert_eq!(sequences(&world), [1, 5, 6]);
    // A replica whose folder is not there, such as one that is not mounted.
    std::fs::rename(world.path("standby"), world.path("away")).unwrap();
    set(&world, "keep = { yearly = 1 }");
    let stopped = world.run(&["prune", "--yes"]).expect(1).complains("replica standby");
    stopped.complains("is gone, though it was fed before");
    assert_eq!(sequences(&world), [1, 5, 6]);
}

#[test]
fn what_cannot_be_right_removes_nothing_and_is_told() {
    let world = world_with("keep = { last = 1 }");
    make_points(&world, &SIX);
    world.run(&["points", "pin", "web01", "#1"]).expect(0);
    let hold = world.files("repository/holds").remove(0);
    damage(&hold, 70);
    world
        .run(&["prune", "--yes"])
        .expect(1)
        .complains("nothing is removed")
        .complains("pin or lock");
    world.run(&["points"]).expect(3).complains("what keeps points is not known");
    damage(&hold, 70);
    make_points(&world, &["2999-01-01T00:00:00Z"]);
    let stopped = world.run(&["prune", "--yes"]).expect(1);
    stopped.complains("point #7 ").complains("is dated 2999-01-01").complains("the clock");
    assert_eq!(sequences(&world).len(), 7);
}

#[test]
fn a_clock_that_is_behind_the_history_removes_nothing() {
    let world = world_with("keep = { last = 1 }");
    make_points(&world, &SIX);
    world.json(&["backup", "now"]).expect(0);
    // The run that is in the history has been, as far as this clock knows, tomorrow.
    let path = world.path("state/history.sqlite");
    let database = rusqlite::Connection::open(path).unwrap();
    let tomorrow = Timestamp::now() + jiff::SignedDuration::from_hours(24);
    let changed = database
        .execute("UPDATE run SET record = json_set(record, '$.ended', ?1)", [tomorrow.to_string()]);
    assert_eq!(changed.unwrap(), 1);
    let stopped = world.run(&["prune", "--yes"]).expect(1).complains("the clock went back");
    stopped.complains(&tomorrow.to_string()[..10]);
    assert_eq!(sequences(&world).len(), 7);
}

#[test]
fn a_point_that_is_missing_is_told_by_every_command() {
    let world = world_with("keep = { last = 1 }");
    make_points(&world, &SIX[..2]);
    world.run(&["points"]).expect(0);
    let first = world.json(&["points"]).expect(0).lines()[0]["point"].as_str().unwrap().to_owned();
    std::fs::remove_file(world.path("repository/points").join(&first)).unwrap();
    for _ in 0..2 {
        world.run(&["points"]).expect(3).complains(&first[..12]).complains("it is missing");
        world.run(&["status"]).expect(3).complains("it is missing");
    }
    world.run(&["backup", "now"]).expect(0).complains("it is missing");
    world.run(&["catalog", "rebuild"]).expect(3).complains("it is missing").says("points: 2");
    world.run(&["points"]).expect(3).complains(&first[..12]);
}

#[test]
fn a_catalog_that_is_built_anew_remembers_no_point_that_was_removed() {
    let world = world_with("keep = { last = 1 }");
    make_points(&world, &SIX);
    // An older catalog knows the points that will go.
    let catalog =
        world.files("state").into_iter().find(|path| path.to_string_lossy().contains("catalog-"));
    let catalog = catalog.unwrap();
    let old = std::fs::read(&catalog).unwrap();
    world.run(&["prune", "--yes"]).expect(0);
    std::fs::write(&catalog, old).unwrap();
    world.run(&["catalog", "rebuild"]).expect(0).says("points: 2");
    world.run(&["points"]).expect(0);
}

//! The local catalog: compared, built anew, and found out when it cannot be relied on.

use crate::world::World;
use rusqlite::Connection;
use std::path::PathBuf;

impl World {
    fn catalog_file(&self) -> PathBuf {
        let is_it = |path: &PathBuf| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            name.starts_with("catalog-") && name.ends_with(".sqlite")
        };
        let found: Vec<PathBuf> = self.files("state").into_iter().filter(is_it).collect();
        assert_eq!(found.len(), 1, "{found:?}");
        found.into_iter().next().unwrap()
    }

    /// Changes the catalog behind the program's back.
    fn meddle(&self, sql: &str) {
        let connection = Connection::open(self.catalog_file()).unwrap();
        connection.execute_batch(sql).unwrap();
    }

    /// A log of SQLite's that stayed.
    fn logs(&self) -> Vec<PathBuf> {
        let is_log = |path: &PathBuf| path.to_string_lossy().ends_with("-wal");
        self.files("state").into_iter().filter(is_log).collect()
    }
}

#[test]
fn a_check_finds_every_kind_of_difference_and_a_rebuild_ends_it() {
    let world = World::new("\"none\"");
    world.backup();
    world.write_disk("web01", 2);
    world.backup();
    world.run(&["catalog", "check"]).expect(0).says("main: catalog equals the repository");
    for (sql, what) in [
        ("UPDATE part SET entries = substr(entries, 47) WHERE no = 1", "is not in it"),
        (
            "UPDATE part SET entries = CAST(entries || zeroblob(46) AS BLOB) WHERE no = 1",
            "is only in it",
        ),
        (
            "UPDATE part SET entries =
             CAST(substr(entries, 1, 32) || x'00000041' || substr(entries, 37) AS BLOB)",
            "is otherwise in it",
        ),
        ("UPDATE part SET pack = zeroblob(32)", "in pack 000000000000 is only in it"),
        ("UPDATE pack SET kind = 1", "pack "),
        ("UPDATE point SET sequence = 7 WHERE sequence = 2", "is otherwise in it"),
    ] {
        world.meddle(sql);
        let ended = world.run(&["catalog", "check", "main"]).expect(1);
        ended.complains(what).complains("`afterimage catalog rebuild main`");
        let summary = world.json(&["catalog", "check"]).expect(1).summary();
        assert_eq!(
            (&summary["kind"], &summary["status"]),
            (&"catalog-check".into(), &"failed".into())
        );
        world.run(&["catalog", "rebuild", "main"]).expect(0).says("points: 2");
        world.run(&["catalog", "check"]).expect(0);
    }
    // What every command brings up to date is no difference.
    world.meddle("DELETE FROM point WHERE sequence = 1");
    world.run(&["catalog", "check"]).expect(0).says("came or went just before");
    assert_eq!(world.logs(), Vec::<PathBuf>::new());
    let second = |path: &PathBuf| path.to_string_lossy().contains("second.sqlite");
    assert!(!world.files("state").iter().any(second), "{:?}", world.files("state"));
}

#[test]
fn what_a_killed_check_left_is_removed_and_two_at_once_are_refused() {
    let world = World::new("\"none\"");
    world.backup();
    let live = world.catalog_file();
    let second = live.with_extension("second.sqlite");
    std::fs::write(&second, [b'x'; 100]).unwrap();
    std::fs::write(second.with_extension("sqlite-wal"), [b'y'; 100]).unwrap();
    world.run(&["catalog", "check"]).expect(0);
    assert!(!second.exists() && !second.with_extension("sqlite-wal").exists());
    let lock = live.with_extension("second.lock");
    let held = std::fs::File::options().write(true).open(lock).unwrap();
    held.try_lock().unwrap();
    world.run(&["catalog", "check"]).expect(11);
    world.run(&["catalog", "rebuild"]).expect(11);
    drop(held);
    // A command that has the catalog open is waited for, and then in the way.
    let lock = live.with_extension("lock");
    let held = std::fs::File::options().write(true).open(lock).unwrap();
    held.try_lock_shared().unwrap();
    world.run(&["catalog", "rebuild"]).expect(11);
    world.run(&["catalog", "check"]).expect(0);
    drop(held);
    world.run(&["catalog", "rebuild"]).expect(0);
}

#[test]
fn a_missing_catalog_is_named_and_built_only_when_told_to() {
    let world = World::new("\"none\"");
    // Of an empty repository there is nothing to miss.
    std::fs::remove_dir_all(world.path("state")).unwrap();
    world.run(&["points"]).expect(0);
    world.backup();
    std::fs::remove_dir_all(world.path("state")).unwrap();
    for args in [&["points"][..], &["points", "web01"], &["backup", "now"], &["replicate", "now"]] {
        let ended = world.run(args).expect(1).complains("is missing, although");
        ended.complains("`afterimage catalog rebuild main`");
    }
    world.run(&["catalog", "check"]).expect(1).complains("is missing, although");
    let status = world.run(&["status"]).expect(3);
    status.says("unusable").complains("`afterimage catalog rebuild main`");
    world.run(&["catalog", "rebuild"]).expect(0).says("points: 1");
    world.run(&["points"]).expect(0).says("#1");
    world.run(&["status"]).expect(0);
}

#[test]
fn an_older_copy_that_is_brought_back_is_named_and_built_anew_only_when_told_to() {
    let world = World::new("\"none\"");
    world.backup();
    let file = world.catalog_file();
    assert_eq!(world.logs(), Vec::<PathBuf>::new(), "the file is whole without a log");
    let old = std::fs::read(&file).unwrap();
    world.write_disk("web01", 2);
    world.backup();
    std::fs::write(&file, &old).unwrap();
    let refused = world.run(&["backup", "now"]).expect(1).complains("is an older copy");
    refused.complains("`afterimage catalog rebuild main`");
    world.run(&["status"]).expect(3).complains("is an older copy");
    world.run(&["catalog", "rebuild"]).expect(0).says("points: 2");
    world.run(&["backup", "now"]).expect(0).says("#3");
    // The copy is older than the one that was built, too.
    std::fs::write(&file, &old).unwrap();
    world.run(&["points"]).expect(1).complains("is an older copy");
    world.run(&["catalog", "rebuild"]).expect(0);
    // An empty file has never been anywhere.
    std::fs::write(&file, b"").unwrap();
    world.run(&["points"]).expect(1).complains("is an older copy: it is at generation 0");
    world.run(&["catalog", "rebuild"]).expect(0);
    world.run(&["catalog", "check"]).expect(0);
}

#[test]
fn a_damaged_or_foreign_catalog_is_named_at_every_command() {
    let world = World::new("\"none\"");
    world.backup();
    let file = world.catalog_file();
    let good = std::fs::read(&file).unwrap();
    let cut = &good[..good.len() / 2];
    let mut turned = good.clone();
    // The header, then the first page of the schema.
    turned[100..200].fill(0xff);
    let noise = crate::common::noise(1, 50_000);
    for (bad, what) in [(cut, "cut off"), (&turned, "turned over"), (&noise, "noise")] {
        std::fs::write(&file, bad).unwrap();
        let refused = world.run(&["points"]).expect(1);
        assert!(refused.err.contains("is damaged"), "{what}: {refused:#?}");
        refused.complains("`afterimage catalog rebuild main`");
        world.run(&["catalog", "check"]).expect(1).complains("is damaged");
        world.run(&["catalog", "rebuild"]).expect(0).says("points: 1");
        world.run(&["points"]).expect(0).says("#1");
    }
    world.meddle("UPDATE repository SET id = zeroblob(16)");
    let refused = world.run(&["points"]).expect(1).complains("belongs to the repository 0000");
    refused.complains("`afterimage catalog rebuild main`");
    world.run(&["catalog", "rebuild"]).expect(0);
    world.meddle("DROP TABLE damaged");
    world.run(&["points"]).expect(1).complains("is damaged: no such table");
    world.run(&["catalog", "rebuild"]).expect(0);
    world.run(&["catalog", "check"]).expect(0);
}

#[test]
fn a_rebuild_keeps_what_is_known_of_damaged_copies() {
    let world = World::new("\"none\"");
    world.backup();
    world.meddle(
        "INSERT INTO damaged SELECT substr(entries, 1, 32), pack.no
         FROM part JOIN pack ON pack.name = part.pack WHERE part.no = 1",
    );
    world.run(&["catalog", "check"]).expect(0);
    world.run(&["catalog", "rebuild"]).expect(0);
    let connection = Connection::open(world.catalog_file()).unwrap();
    let count = |sql: &str| -> i64 { connection.query_row(sql, [], |row| row.get(0)).unwrap() };
    let known = "SELECT count(*) FROM damaged JOIN pack ON pack.no = damaged.pack
                 JOIN part ON part.pack = pack.name AND substr(part.entries, 1, 32) = damaged.name";
    assert_eq!((count("SELECT count(*) FROM damaged"), count(known)), (1, 1));
}

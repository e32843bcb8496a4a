//! Keys, as people and scripts meet them.

use crate::world::{Ended, World};

const KEY_FILE: &str = "{ key_file = \"secret\" }";

/// The recovery key in an output for people.
fn printed_key(ended: &Ended) -> String {
    let line = ended.out.lines().find(|line| is_key(line.trim()));
    line.unwrap_or_else(|| panic!("no recovery key: {ended:#?}")).trim().to_owned()
}

fn is_key(text: &str) -> bool {
    text.split('-').count() == 13 && text.split('-').all(|group| group.len() == 5)
}

#[test]
fn a_lost_key_file_is_replaced_with_the_recovery_key_that_init_printed() {
    let world = World::without_repository(KEY_FILE);
    let init = world.run(&["init"]).expect(0).says("It is shown only now");
    let key = printed_key(&init);
    assert!(!init.err.contains(&key), "{init:#?}");
    world.backup();
    std::fs::remove_file(world.path("secret")).unwrap();
    world.run(&["points"]).expect(12).complains("afterimage key recover");

    world.write("typed", key.replacen(&key[..1], "%", 1).as_bytes());
    let mistyped = world.run(&["key", "recover", "--recovery-key-file", "typed"]);
    mistyped.expect(12).complains("mistyped in group 1; nothing was tried with it");
    let other = "00JMF-MVWMJ-Q7F0M-6A2D4-EABVZ-SR86V-5D87G-B6NZP-WG4JY-WMVRX-KQ1E3-E31HB-ASXGN";
    world.write("typed", other.as_bytes());
    let wrong = world.run(&["key", "recover", "--recovery-key-file", "typed"]);
    wrong.expect(12).complains("the recovery key does not open the repository");
    assert!(!world.path("secret").exists());

    // As people type it, on standard input.
    let typed = format!("{}\n", key.to_lowercase().replace('-', " "));
    let output = world.command(&["key", "recover"]).write_stdin(typed).output().unwrap();
    let ended = crate::world::ended(output).expect(0).says("opens the repository");
    ended.complains("a new key was written to");
    world.run(&["restore", "web01", "--to", "out"]).expect(0);
    assert!(world.read("out/root.raw") == world.read("web01.img"));
}

#[test]
fn the_recovery_key_stands_in_one_place_of_the_json_and_nowhere_else() {
    let world = World::without_repository(KEY_FILE);
    let init = world.json(&["init"]).expect(0);
    let summary = init.summary();
    let key = summary["recovery_key"].as_str().unwrap();
    assert!(is_key(key), "{key}");
    assert_eq!(init.out.matches(key).count(), 1);
    assert!(!init.err.contains(key));
    for args in [&["key", "list"][..], &["status"], &["-v", "points"], &["-v", "key", "rotate"]] {
        let ended = world.json(args).expect(0);
        assert!(!ended.out.contains("recovery_key\"") && !ended.err.contains(key), "{ended:#?}");
    }
    let bare = key.replace('-', "");
    for path in world.files(".") {
        let bytes = std::fs::read(&path).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains(key) && !text.contains(&bare), "{}", path.display());
    }
    let world = World::without_repository(KEY_FILE);
    let init = world.json(&["init", "--no-recovery-key"]).expect(0).summary();
    assert!(init["recovery_key"].is_null());
    let world = World::without_repository("\"none\"");
    assert!(world.json(&["init"]).expect(0).summary()["recovery_key"].is_null());
}

#[test]
fn keys_are_listed_added_exchanged_and_removed() {
    let world = World::new(KEY_FILE);
    world.backup();
    world.run(&["key", "list"]).expect(0).says("key file").says("recovery key").says("yes");
    let add = ["key", "add", "--key-file", "spare", "--generate", "--label", "in the safe"];
    let added = world.json(&add).expect(0).summary();
    assert_eq!(added["kind"], "key");
    let slot = added["slot"].as_str().unwrap().to_owned();
    let lines = world.json(&["key", "list"]).expect(0).lines();
    let line = lines.iter().find(|line| line["slot"] == slot.as_str()).unwrap();
    assert_eq!((&line["message_type"], &line["kind"]), (&"key_slot".into(), &"key-file".into()));
    assert_eq!((&line["label"], &line["opens"]), (&"in the safe".into(), &false.into()));
    world.run(&["key", "add", "--key-file", "spare"]).expect(0).says("skipped");
    world.run(&["key", "add", "--key-file", "spare", "--generate"]).expect(1).complains("spare");
    world.run(&["key", "add", "--key-file", "missing"]).expect(12).complains("missing");

    let before = world.read("secret");
    let rotated = world.run(&["key", "rotate"]).expect(0);
    rotated.says("new key slot").complains("the master key stays the same");
    assert_ne!(world.read("secret"), before);
    assert!(!world.path("secret.new").exists() && !world.path("secret.old").exists());
    world.run(&["points"]).expect(0).says("#1");

    world.run(&["key", "remove", &slot[..6]]).expect(2).complains("in the safe");
    world.run(&["key", "remove", &slot[..6], "--yes"]).expect(0).says("removed key slot");
    world.run(&["key", "remove", "xyz", "--yes"]).expect(2).complains("no key slot begins with");
    world.write_settings("{ key_file = \"spare\" }", &["web01"]);
    world.run(&["points"]).expect(12).complains("afterimage key recover");
    world.run(&["key", "list"]).expect(3).says("key file").complains("does not open");
}

#[test]
fn a_rotation_to_a_pass_phrase_says_what_to_write_in_the_settings() {
    let world = World::new(KEY_FILE);
    world.backup();
    world.write("phrase", b"correct horse battery staple\n");
    let rotated = world.run(&["key", "rotate", "--passphrase-file", "phrase"]).expect(0);
    let rotated = rotated.complains("now write encryption = { passphrase_file = \"phrase\" }");
    assert!(!rotated.err.contains("horse") && !rotated.out.contains("horse"), "{rotated:#?}");
    world.run(&["points"]).expect(12);
    world.write_settings("{ passphrase_file = \"phrase\" }", &["web01"]);
    world.run(&["points"]).expect(0).says("#1");
    world.run(&["key", "rotate"]).expect(2).complains("--passphrase-file FILE");
}

#[test]
fn an_export_brings_a_lost_header_and_lost_slots_back() {
    let world = World::new(KEY_FILE);
    world.backup();
    world.run(&["key", "export", "--to", "export.json"]).expect(0).says("2 key slots");
    world.run(&["key", "export", "--to", "export.json"]).expect(1).complains("export.json");
    std::fs::remove_file(world.path("repository/repository.json")).unwrap();
    std::fs::remove_dir_all(world.path("repository/keys")).unwrap();
    for args in [&["points"][..], &["init"], &["key", "list"]] {
        world.run(args).expect(10).complains("afterimage key recover --from");
    }
    let done = world.run(&["key", "recover", "--from", "export.json"]).expect(0);
    done.says("repository.json").says("keys/index.json");
    world.run(&["key", "list"]).expect(0);
    world.run(&["restore", "web01", "--to", "out"]).expect(0);
    assert!(world.read("out/root.raw") == world.read("web01.img"));
}

#[test]
fn a_slot_that_was_taken_away_is_named() {
    let world = World::new(KEY_FILE);
    let lines = world.json(&["key", "list"]).expect(0).lines();
    let recovery = lines.iter().find(|line| line["kind"] == "recovery-key").unwrap();
    let slot = recovery["slot"].as_str().unwrap();
    std::fs::remove_file(world.path(&format!("repository/keys/{slot}.json"))).unwrap();
    let ended = world.json(&["key", "list"]).expect(3).summary();
    let warning = ended["warnings"][0].as_str().unwrap();
    assert!(warning.contains(slot) && warning.contains("is missing"), "{warning}");
    world.run(&["key", "list", "--repair"]).expect(0).says("is missing");
    world.run(&["key", "list"]).expect(0);
}

#[test]
fn the_repository_must_be_named_where_there_are_several() {
    let world = World::new(KEY_FILE);
    let text = String::from_utf8(world.read("settings.toml")).unwrap();
    let far = "[repository.far]\nurl = \"far\"\nencryption = \"none\"\n[machine.web01]";
    world.write("settings.toml", text.replace("[machine.web01]", far).as_bytes());
    world.run(&["key", "list"]).expect(2).complains("far, main");
    world.run(&["key", "list", "main"]).expect(0);
    world.run(&["key", "list", "mani"]).expect(2).complains("did you mean `main`?");
    world.run(&["init", "far"]).expect(0);
    world.run(&["key", "list", "far"]).expect(1).complains("is not encrypted");
}

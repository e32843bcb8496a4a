//! With a daemon and without: the same sentences, lines of JSON, files and exit codes.

use crate::common::let_it_settle;
use crate::site::{LONG, Site};
use crate::world::{Ended, damage};
use serde_json::Value;
use std::time::{Duration, Instant};

/// What differs between any two runs.
const VOLATILE: [&str; 9] = [
    "run",
    "point",
    "started",
    "ended",
    "duration_s",
    "time",
    "parent",
    "bytes_stored",
    "bytes_freed",
];

/// Numbers, identities and times become one sign; so does the folder.
fn scrub(site: &Site, text: &str) -> String {
    let folder = site.world.folder.path().display().to_string();
    let text = text.replace(&folder, "FOLDER");
    let is_part = |c: char| c.is_ascii_hexdigit() || matches!(c, '.' | ':' | '-' | '+');
    let mut out = String::new();
    let mut rest = text.as_str();
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        let (part, after) = rest.split_at(end);
        match part.is_empty() {
            true => {
                out.push(first);
                rest = &rest[first.len_utf8()..];
            }
            false => {
                // A folder of packs can be called `eb` as well as `1b`.
                let is_id = part.contains(|c: char| c.is_ascii_digit()) || out.ends_with("packs/");
                out += if is_id { "~" } else { part };
                rest = after;
            }
        }
    }
    out
}

fn scrub_json(site: &Site, value: &mut Value) {
    match value {
        Value::Object(fields) => {
            // How much of the packs is read depends on how the workers shared them out.
            let is_of_packs = fields.get("repository").is_some_and(Value::is_string);
            let is_packs = |name: &str| is_of_packs && name.starts_with("bytes_");
            fields.retain(|name, _| !VOLATILE.contains(&name.as_str()) && !is_packs(name));
            fields.values_mut().for_each(|value| scrub_json(site, value));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| scrub_json(site, item)),
        Value::String(text) => *text = scrub(site, text),
        _ => {}
    }
}

/// All that a command told, without what differs between any two runs.
fn told(site: &Site, ended: &Ended, json: bool) -> String {
    let out = match json {
        false => scrub(site, &ended.out),
        true => {
            let mut lines = ended.lines();
            lines.retain(|line| line["message_type"] != "status");
            lines.iter_mut().for_each(|line| scrub_json(site, line));
            lines.iter().map(|line| format!("{line}\n")).collect()
        }
    };
    format!("exit code {}\n{out}\n--- errors ---\n{}", ended.code, scrub(site, &ended.err))
}

/// A site without a daemon and one with.
struct Pair {
    here: Site,
    daemon: Site,
    json: bool,
}

impl Pair {
    fn new(json: bool) -> Self {
        Self { here: Site::new(), daemon: Site::with_daemon(), json }
    }

    fn both(&self) -> [&Site; 2] {
        [&self.here, &self.daemon]
    }

    /// Runs a command in both, which must tell the same and exit with `code`.
    #[track_caller]
    fn run(&self, code: i32, args: &[&str]) {
        let mut all = args.to_vec();
        if self.json {
            all.insert(0, "--json");
        }
        let [here, daemon] = self.both().map(|site| told(site, &site.run(&all), self.json));
        assert_eq!(here, daemon, "{all:?}");
        assert!(here.starts_with(&format!("exit code {code}\n")), "{all:?}: {here}");
    }

    /// Both have the same in a file.
    #[track_caller]
    fn same(&self, file: &str) {
        let [here, daemon] = self.both().map(|site| site.world.read(file));
        assert!(here == daemon, "{file} differs");
    }

    fn write_disk(&self, seed: u64) {
        for site in self.both() {
            site.world.write_disk("web01", seed);
        }
        // Whether an image is read that was written to just now is a matter of moments.
        let_it_settle();
    }

    /// Turns a byte of each pack over.
    fn damage(&self) {
        for site in self.both() {
            let packs = site.world.files("repository");
            let packs: Vec<_> = packs.iter().filter(|path| is_pack(path)).collect();
            assert!(!packs.is_empty());
            packs.iter().for_each(|path| damage(path, 5000));
        }
    }
}

fn is_pack(path: &std::path::Path) -> bool {
    path.components().any(|part| part.as_os_str() == "packs")
        && path.metadata().is_ok_and(|meta| meta.len() > 100_000)
}

fn journey(json: bool) {
    let pair = Pair::new(json);
    pair.run(0, &["replicate", "now", "--backup-first"]);
    pair.same("standby/root.raw");
    // Nothing changed.
    pair.run(0, &["backup", "now", "--full-read", "--trust-changes"]);
    pair.run(0, &["replicate", "now", "standby"]);
    pair.write_disk(2);
    pair.run(0, &["backup", "now", "web01"]);
    pair.run(2, &["backup", "now", "web02"]);

    pair.run(0, &["verify", "--all"]);
    pair.run(0, &["verify", "--sample", "--repository", "main"]);
    pair.run(0, &["verify", "--replica", "standby"]);
    pair.run(0, &["verify", "web01", "--point", "#1"]);
    // The first time is one of the command's zone, not of the daemon's.
    pair.run(1, &["verify", "web01", "--point", "2020-01-01 00:00"]);
    for site in pair.both() {
        let ended = site.run(&["verify", "web01", "--point", "2020-01-01 00:00"]);
        ended.expect(1).complains("2019-12-31T18:30:00Z");
    }
    pair.run(2, &["verify", "web01", "--point", "yesterday"]);
    pair.run(2, &["verify", "nobody"]);

    for site in pair.both() {
        std::fs::create_dir(site.world.path("out")).unwrap();
    }
    pair.run(0, &["restore", "web01", "--to", "out"]);
    pair.same("out/root.raw");
    pair.run(1, &["restore", "web01", "--to", "out"]);
    pair.run(2, &["restore", "web01", "--to", "out", "--force"]);
    pair.run(0, &["restore", "web01", "--to", "out", "--force", "--yes", "--point", "#1"]);
    pair.same("out/root.raw");

    pair.run(0, &["copy", "main", "second", "--point", "latest"]);
    pair.run(0, &["copy", "main", "second"]);
    pair.run(1, &["copy", "main", "second", "--machine", "nobody"]);

    pair.run(0, &["replicate", "now", "--backup-first"]);
    pair.run(0, &["backup", "now"]);
    pair.run(0, &["prune", "--dry-run"]);
    pair.run(0, &["prune", "--yes"]);
    pair.run(0, &["prune"]);
    pair.run(0, &["gc"]);

    pair.damage();
    pair.run(3, &["verify", "--all"]);
    pair.run(1, &["verify", "web01"]);
    pair.run(2, &["repair", "main"]);
    pair.run(0, &["repair", "main", "--dry-run"]);
    pair.run(0, &["repair", "main", "--yes"]);

    for site in pair.both() {
        std::fs::rename(site.world.path("second"), site.world.path("away")).unwrap();
    }
    pair.run(10, &["gc", "second"]);
    pair.run(3, &["gc"]);
    let [here, daemon] = pair.both().map(Site::runs);
    assert!(here.len() > 25 && here.len() == daemon.len());
    assert!(here.iter().all(|run| run["by"].is_null()));
    assert!(daemon.iter().all(|run| run["by"].is_string()), "{daemon:?}");
}

#[test]
fn people_are_told_the_same() {
    journey(false);
}

#[test]
fn programs_are_told_the_same() {
    journey(true);
}

/// What `status` tells of repositories, machines and replicas, without what changes by itself.
fn state(site: &Site, code: i32, more: &[&str]) -> Vec<Value> {
    let mut lines = site.world.json(&[&["status"], more].concat()).expect(code).lines();
    let told = ["repository", "machine", "replica"];
    lines.retain(|line| line["message_type"].as_str().is_some_and(|it| told.contains(&it)));
    assert_eq!(lines.len(), 4, "{lines:?}");
    for line in &mut lines {
        let fields = line.as_object_mut().unwrap();
        fields.retain(|name, _| name != "free_bytes" && name != "age_s");
    }
    lines
}

/// Beside a daemon, repositories are not listed anew; what is wrong is seen all the same.
#[test]
fn the_state_is_the_same_beside_a_daemon() {
    let site = Site::with_daemon();
    let same = |code: i32| {
        let until = Instant::now() + LONG;
        loop {
            let (beside, alone) = (state(&site, code, &[]), state(&site, code, &["--no-daemon"]));
            if beside == alone {
                return beside;
            }
            // It looks again some seconds after a run.
            assert!(Instant::now() < until, "{beside:?}\n{alone:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    site.run(&["replicate", "now", "--backup-first"]).expect(0);
    // Points, machines and replicas are those of now, whenever the daemon looked.
    let now = state(&site, 0, &[]);
    assert_eq!(
        (&now[0]["points"], &now[2]["points"], &now[3]["lag_s"]),
        (&1.into(), &1.into(), &0.into())
    );
    let seen = same(0);
    assert!(seen[0]["packs"].as_u64() > Some(0), "{seen:?}");
    std::fs::rename(site.world.path("repository"), site.world.path("elsewhere")).unwrap();
    assert_eq!(state(&site, 3, &[]), state(&site, 3, &["--no-daemon"]));
    std::fs::rename(site.world.path("elsewhere"), site.world.path("repository")).unwrap();
    let pack = site.world.files("repository").into_iter().find(|path| is_pack(path)).unwrap();
    damage(&pack, 5000);
    site.run(&["verify", "--all"]).expect(3);
    assert!(same(3)[0]["damages"].as_array().is_some_and(|found| !found.is_empty()));
}

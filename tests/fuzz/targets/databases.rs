//! The local databases, damaged on the medium or by what stands in their rows.
//!
//! An input is a list of changes to a good database, so that it can be short.

use super::documents::check_manifest;
use super::world::{self, World};
use afterimage::catalog::{
    Catalog, History, RunFilter, RunKind, RunOrigin, RunOutcome, RunRecord, RunStatus,
    ScheduledSince, SlotBatch, SlotClaim, SlotSkip,
};
use afterimage::schedule::{DueTimes, Now, Planner, ScheduledTask, When};
use afterimage::settings::{MissedPolicy, RetrySettings, Schedule, TimingSettings};
use afterimage::store::{
    Encoding, ObjectIndex, ObjectKind, PackEntry, PackKind, PackRecord, Repository,
};
use afterimage::testing::point;
use afterimage::units::{ObjectName, PackName, RunId};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

const PAGE_BYTES: usize = 16 * 1024;
/// What is changed by a first byte: rows that are bytes, not text.
const BLOBS: [(u8, &str); 3] = [
    (b'E', "UPDATE part SET entries = ?1"),
    (b'B', "UPDATE bucket SET entries = ?1"),
    (b'F', "UPDATE filter SET bits = ?1"),
];

/// The catalog: the first byte says what is changed, pages or the rows.
pub fn catalog(bytes: &[u8]) -> bool {
    static GOOD: OnceLock<Vec<u8>> = OnceLock::new();
    world::with(|world| {
        let folder = world.folder.path().join("catalog");
        let path = Catalog::path(&folder, world.plain.header().id);
        let good = GOOD.get_or_init(|| good_catalog(world, &folder, &path));
        spoil(&folder, &path, good, bytes, "UPDATE point SET manifest = ?1");
        check_catalog(world, &folder)
    })
}

/// The history of runs, likewise.
pub fn history(bytes: &[u8]) -> bool {
    static GOOD: OnceLock<Vec<u8>> = OnceLock::new();
    world::with(|world| {
        let folder = world.folder.path().join("history");
        let path = folder.join("history.sqlite");
        let good = GOOD.get_or_init(|| good_history(&folder, &path));
        spoil(&folder, &path, good, bytes, "UPDATE run SET record = ?1");
        check_history(&folder)
    })
}

/// Puts the good database in place, changed as `bytes` say: `R` and a text for the rows, or
/// a mark of [`BLOBS`] and bytes, or anything else and pieces that are laid over its pages.
fn spoil(folder: &Path, path: &Path, good: &[u8], bytes: &[u8], update: &str) {
    // What SQLite left beside the one before.
    let _ = std::fs::remove_dir_all(folder);
    std::fs::create_dir_all(folder).unwrap();
    let (kind, mut rest) = bytes.split_first().unwrap_or((&b'P', &[]));
    let mut file = good.to_vec();
    if *kind == b'R' {
        std::fs::write(path, &file).unwrap();
        let connection = rusqlite::Connection::open(path).unwrap();
        connection.execute(update, [String::from_utf8_lossy(rest)]).unwrap();
        return;
    }
    if let Some((_, update)) = BLOBS.iter().find(|(mark, _)| mark == kind) {
        std::fs::write(path, &file).unwrap();
        let connection = rusqlite::Connection::open(path).unwrap();
        // Only a catalog has such tables.
        let _ = connection.execute(update, [rest]);
        return;
    }
    while let Some([page, low, high, len]) = world::take(&mut rest) {
        let at = usize::from(page) * PAGE_BYTES + usize::from(u16::from_le_bytes([low, high]));
        let (piece, later) = rest.split_at(usize::from(len).min(rest.len()));
        rest = later;
        for (target, byte) in file.iter_mut().skip(at % (good.len() + 1)).zip(piece) {
            *target = *byte;
        }
    }
    // Then it ends where the last byte says, if there is one left.
    if let [quarters, ..] = rest {
        file.truncate(good.len() / 256 * usize::from(*quarters));
    }
    std::fs::write(path, &file).unwrap();
}

fn closed(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

fn good_catalog(world: &World, folder: &PathBuf, path: &Path) -> Vec<u8> {
    let _ = std::fs::remove_dir_all(folder);
    let repository = world.plain.header().id;
    let catalog = Catalog::open(folder, repository).unwrap();
    for (number, kind) in [(1, ObjectKind::Chunk), (2, ObjectKind::Leaf)] {
        let entry = |at: u8| PackEntry {
            name: ObjectName([number * 16 + at; 32]),
            kind,
            encoding: Encoding::Zstd,
            stored_len: 100,
            plain_len: 4096,
        };
        let record = PackRecord {
            name: PackName([number; 32]),
            kind: if number == 1 { PackKind::Data } else { PackKind::Tree },
            bytes: 64 + 48 + 8 * 142,
            entries: (0..8).map(entry).collect(),
        };
        catalog.add_pack(&record).unwrap();
        if number == 1 {
            // Some of it is in a run, some is not.
            catalog.merge_recent().unwrap();
        }
    }
    let mut one = point(1, 1, 1_700_000_000, &["root".parse().unwrap(), "data".parse().unwrap()]);
    one.manifest.repository = repository;
    catalog.add_point(&one).unwrap();
    drop(catalog);
    closed(path)
}

fn check_catalog(world: &World, folder: &Path) -> bool {
    let repository: &Repository = &world.plain;
    let Ok(catalog) = Catalog::open(folder, repository.header().id) else { return false };
    let mut is_good = true;
    let points = [
        catalog.points(None),
        catalog.known_points(),
        catalog.newest_point(&"web01".parse().unwrap()).map(|it| it.into_iter().collect()),
    ];
    for found in points {
        match found {
            Ok(found) => found.iter().for_each(|it| check_manifest(&it.manifest, repository)),
            Err(error) => {
                is_good = false;
                assert!(!error.to_string().is_empty());
            }
        }
    }
    let names: Vec<ObjectName> = (0..48).map(|number| ObjectName([number; 32])).collect();
    match catalog.locate(&names) {
        Ok(places) => {
            let mut reader = repository.reader(&catalog).unwrap();
            // No pack is there: what it says of one must not be believed, nor asked memory for.
            for place in places.into_iter().flatten() {
                assert!(reader.object_at(&place).is_err());
            }
        }
        Err(_) => is_good = false,
    }
    is_good &= catalog.contains(&names).is_ok();
    is_good &= catalog.packs().is_ok() && catalog.contents().is_ok();
    is_good &= catalog.missing_points().is_ok();
    is_good &= catalog.integrity().is_ok_and(|found| found.is_empty());
    let known = catalog.known_packs();
    is_good &= known.is_ok_and(|known| catalog.census(&known, &mut |_, _| {}).is_ok());
    is_good &= catalog.merge_all().is_ok();
    is_good &= catalog.last_sequence(&"web01".parse().unwrap()).is_ok();
    is_good
}

fn good_history(folder: &PathBuf, path: &Path) -> Vec<u8> {
    let _ = std::fs::remove_dir_all(folder);
    let history = History::open(folder).unwrap();
    for number in 0..3 {
        history.put(&run(number)).unwrap();
    }
    history.write_slots(&slots()).unwrap();
    drop(history);
    closed(path)
}

fn run(number: u8) -> RunRecord {
    RunRecord {
        id: RunId([number; 16]),
        kind: RunKind::Backup,
        repository: None,
        machine: Some("web01".parse().unwrap()),
        replica: None,
        started: jiff::Timestamp::from_second(1_700_000_000 + i64::from(number)).unwrap(),
        origin: RunOrigin::default(),
        outcome: RunOutcome::open(RunStatus::Completed),
    }
}

const TASK: &str = "backup web01";

/// A slot that began a run, some that did not, and how the clock stood.
fn slots() -> SlotBatch {
    let at = |second: i64| jiff::Timestamp::from_second(1_700_000_000 + second).unwrap();
    let task = TASK.to_owned();
    let schedule = task_of_slots().schedule();
    let clock = r#"{"wall":"2023-11-14T22:13:20Z","boot_ms":1,"boot_id":null,"doubt":null}"#;
    let (first, last, reason) = (at(60), at(120), "paused".to_owned());
    SlotBatch {
        noted: at(0),
        scheduled: vec![ScheduledSince { task: task.clone(), schedule, since: at(-60) }],
        skips: vec![SlotSkip { task: task.clone(), first, last, count: 2, reason }],
        claims: vec![SlotClaim { task, due: at(180), attempt: 1, record: run(9) }],
        clock: Some(clock.to_owned()),
        ..SlotBatch::default()
    }
}

fn task_of_slots() -> ScheduledTask {
    let zone = "Europe/Berlin".to_owned();
    let schedule = Schedule { expression: "* * * * *".to_owned(), timezone: zone.clone() };
    let timing = TimingSettings {
        timezone: zone,
        allowed: Vec::new(),
        missed: MissedPolicy::Run,
        jitter: std::time::Duration::from_secs(20),
        retry: RetrySettings::default(),
    };
    let when = When::Schedule(Box::new(DueTimes::new(&schedule).unwrap()));
    ScheduledTask::new(TASK.to_owned(), when, &timing).unwrap()
}

/// Whatever is read of slots, a planner goes on from it.
fn check_slots(history: &History) -> bool {
    let mut is_good = history.slots(TASK, 10).is_ok() && history.pauses().is_ok();
    match history.slot_facts() {
        Ok(facts) => {
            let wall = jiff::Timestamp::from_second(1_700_009_000).unwrap();
            let now = Now { wall, boot: std::time::Duration::from_secs(5) };
            let mut planner = Planner::new(now, None, vec![task_of_slots()], &facts);
            assert!(planner.tick(now).len() < 10);
        }
        Err(_) => is_good = false,
    }
    is_good
}

fn check_history(folder: &Path) -> bool {
    let Ok(history) = History::open(folder) else { return false };
    let machine = "web01".parse().unwrap();
    let runs = history.runs(&RunFilter::default(), 1);
    let mut is_good = runs.is_ok();
    for record in runs.into_iter().flatten() {
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<RunRecord>(&text).unwrap(), record);
    }
    is_good &= history.latest_instant().is_ok();
    is_good &= history.has_completed(RunKind::Backup, &machine, None).is_ok();
    is_good &= check_slots(&history);
    is_good &= history.conditions().is_ok() && history.reported().is_ok();
    is_good &= history.next_message("webhook ops").is_ok() && history.channel("mail ops").is_ok();
    is_good &= history.count_ended(jiff::Timestamp::MIN, jiff::Timestamp::MAX).is_ok();
    is_good
}

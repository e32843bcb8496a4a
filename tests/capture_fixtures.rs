//! `fixtures/points-3`: a repository whose second point was made from what a snapshot told, written
//! by the first version with points of format 3; and `fixtures/superblock-2`: the superblock of a
//! replica that is fed straight from its machine. Every later version reads both.

mod common;

use afterimage::backup::{BackupRequest, ChangeHints, backup};
use afterimage::catalog::Catalog;
use afterimage::destination::{Damaged, ReplicaRecord, State, Superblock};
use afterimage::fsio::RealFileSystem;
use afterimage::point::{Consistency, Point, Provenance};
use afterimage::progress::Progress;
use afterimage::recover::{RestoreOptions, plan_restore, restore};
use afterimage::store::{InitOptions, Repository};
use afterimage::testing::noise;
use afterimage::units::RunId;
use common::files::{read_files, write_files};
use common::tracked::Tracked;
use common::{name, small_cut};
use std::path::{Path, PathBuf};

fn fixture(of: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(of)
}

/// What the disk holds in the first point, and in the second.
fn contents() -> [Vec<u8>; 2] {
    let mut content = noise(21, 200_000);
    content[70_000..130_000].fill(0);
    let first = content.clone();
    content[100_000..101_000].copy_from_slice(&noise(22, 1000));
    [first, content]
}

fn open(folder: &Path) -> (Repository, Catalog) {
    let repository =
        Repository::open(&RealFileSystem::shared(), &folder.join("repository"), None, 1).unwrap();
    let catalog = Catalog::open(&folder.join("state"), repository.header().id).unwrap();
    (repository, catalog)
}

fn is_asked_for(of: &str) -> bool {
    std::env::var_os("AFTERIMAGE_WRITE_FIXTURES").is_some() && !fixture(of).exists()
}

/// Run as root, so that no host's name gets into the manifests: `unshare --uts sh -c 'hostname
/// fixture && AFTERIMAGE_WRITE_FIXTURES=1 cargo test --test capture_fixtures'`.
#[test]
fn the_points_are_written_on_request() {
    if !is_asked_for("points-3") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let now = "2026-11-28T05:00:00Z".parse().unwrap();
    let options = InitOptions { cut: small_cut(), secret: None, recovery_key: None, now };
    let root = folder.path().join("repository");
    Repository::init(&RealFileSystem::shared(), &root, &options).unwrap();
    let (repository, catalog) = open(folder.path());
    let history = afterimage::catalog::History::open(&folder.path().join("state")).unwrap();
    let machine = Tracked::default();
    for (content, time) in contents().iter().zip(["2026-11-28T05:00:00Z", "2026-11-28T06:00:00Z"]) {
        machine.set(content);
        let web01 = name("web01");
        let request = BackupRequest {
            machine: &web01,
            capturer: &machine.capturer("root"),
            hints: ChangeHints {
                sources: history.sources(repository.header().id, &web01).unwrap(),
                ..ChangeHints::default()
            },
            definition: Vec::new(),
            lock_until: None,
            now: time.parse().unwrap(),
            run: RunId([6; 16]),
            workers: 1,
            history: Some(&history),
        };
        backup(&repository, &catalog, &request, &Progress::default()).unwrap();
    }
    let left_out = ["state", "repository/tmp", "repository/locks"];
    for (path, content) in read_files(folder.path()) {
        if !left_out.iter().any(|it| path.starts_with(it)) {
            let path = fixture("points-3").join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
    }
}

#[test]
fn points_that_were_made_from_a_capture_are_read() {
    let folder = tempfile::tempdir().unwrap();
    write_files(&read_files(&fixture("points-3")), folder.path());
    let (repository, catalog) = open(folder.path());
    let report = catalog.sync(&repository).unwrap();
    assert!(report.damages.is_empty(), "{:?}", report.damages);
    let points = catalog.points(None).unwrap();
    let provenances: Vec<Provenance> =
        points.iter().map(|point| point.manifest.disks[0].provenance).collect();
    assert_eq!(provenances, [Provenance::FullRead, Provenance::Snapshot]);
    let format = |point: &Point| std::fs::read(repository.layout().point(point.id)).unwrap()[8];
    assert_eq!(points.iter().map(format).collect::<Vec<_>>(), [1, 3]);
    for (point, content) in points.iter().zip(contents()) {
        assert_eq!(point.manifest.consistency, Consistency::CrashConsistent);
        let to = folder.path().join(format!("restored-{}", point.manifest.sequence.0));
        let options = RestoreOptions {
            disk: None,
            to: to.clone(),
            force: false,
            protected: Vec::new(),
            workers: 1,
            damaged: Damaged::Fail,
        };
        let fs = RealFileSystem::shared();
        let plan = plan_restore(fs.as_ref(), &repository, &catalog, point, &options).unwrap();
        restore(&fs, &repository, &catalog, &plan, &options, &Progress::default()).unwrap();
        assert!(std::fs::read(to.join("root.raw")).unwrap() == content);
    }
}

const ID: &str = "0808080808080808080808080808080808080808080808080808080808080808";

/// What the superblock of the fixture says.
fn record() -> ReplicaRecord {
    let json = serde_json::json!({
        "replica": "standby",
        "replica_id": "01010101010101010101010101010101",
        "repository": "00000000000000000000000000000000",
        "machine": "web01",
        "epoch": 0,
        "state": { "seeding": { "to": {
            "id": ID, "sequence": 3, "time": "2026-11-28T05:00:00Z"
        } } },
        "disks": [
            { "name": "root", "size_bytes": 0, "path": "/srv/standby/root.raw", "identity": null }
        ],
        "direct": {
            "capture": ID,
            "compared": "2026-11-28T05:00:00Z",
            "boot_id": "9a1b0a53-9f4c-4a4e-9d2a-000000000000",
            "bases": {
                "root": { "kind": "snapshot", "token": "web01-root-3" },
                "data": { "kind": "files", "files": [{
                    "device": 1, "inode": 2, "len_bytes": 3, "mtime_ns": 4, "ctime_ns": 5
                }] }
            }
        }
    });
    serde_json::from_value(json).unwrap()
}

#[test]
fn the_superblock_is_written_on_request() {
    if is_asked_for("superblock-2") {
        std::fs::create_dir_all(fixture("superblock-2")).unwrap();
        let path = fixture("superblock-2").join("superblock");
        Superblock::create(&RealFileSystem::shared(), &path, record()).unwrap();
    }
}

#[test]
fn a_superblock_that_knows_of_captures_is_read() {
    let path = fixture("superblock-2").join("superblock");
    let found = Superblock::read_only(&RealFileSystem, &path, &name("standby")).unwrap();
    assert_eq!(found, record());
    assert_eq!(found.direct.as_ref().unwrap().bases.len(), 2);
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!((bytes[8], bytes[64 * 1024 + 8]), (2, 2));
    // What is fed from backups needs no newer program.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("superblock");
    let mut backup_fed = ReplicaRecord { direct: None, ..record() };
    let fs = RealFileSystem::shared();
    assert!(Superblock::create(&fs, &path, backup_fed.clone()).is_err(), "no repository");
    backup_fed.repository.0 = [7; 16];
    let mut superblock = Superblock::create(&fs, &path, backup_fed.clone()).unwrap();
    assert_eq!(std::fs::read(&path).unwrap()[8], 1);
    // A base is only ever stored for the capture that the state leads to.
    let mut other = record().state;
    if let State::Seeding { to } = &mut other {
        to.id.0 = [9; 32];
    }
    let wrong = ReplicaRecord { state: other, direct: record().direct, ..backup_fed };
    assert!(superblock.store(wrong).is_err());
}

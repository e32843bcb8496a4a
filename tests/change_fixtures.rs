//! `fixtures/points-2`: a repository whose second point was made from what changed, written by the
//! first version with points of format 2. Every later one reads it.

mod common;

use afterimage::backup::{BackupRequest, ChangeHints, backup};
use afterimage::capture::Disks;
use afterimage::catalog::Catalog;
use afterimage::destination::Damaged;
use afterimage::extent::Extent;
use afterimage::fsio::RealFileSystem;
use afterimage::point::{Point, Provenance};
use afterimage::progress::Progress;
use afterimage::recover::{RestoreOptions, plan_restore, restore};
use afterimage::source::{ChangedList, HandedOver, ImageFormat, SourceSpec};
use afterimage::store::{InitOptions, Repository};
use afterimage::testing::noise;
use afterimage::units::RunId;
use common::files::{read_files, write_files};
use common::{name, small_cut};
use std::path::{Path, PathBuf};

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/points-2")
}

/// What the disk holds in the first point, and in the second.
fn contents() -> [Vec<u8>; 2] {
    let mut content = noise(11, 200_000);
    content[70_000..130_000].fill(0);
    let first = content.clone();
    content[100_000..101_000].copy_from_slice(&noise(12, 1000));
    [first, content]
}

fn open(folder: &Path) -> (Repository, Catalog) {
    let repository =
        Repository::open(&RealFileSystem::shared(), &folder.join("repository"), None, 1).unwrap();
    let catalog = Catalog::open(&folder.join("state"), repository.header().id).unwrap();
    (repository, catalog)
}

fn back_up(folder: &Path, hints: ChangeHints, time: &str) -> Point {
    let (repository, catalog) = open(folder);
    let path = folder.join("root.raw");
    let format = Some(ImageFormat::Raw);
    let request = BackupRequest {
        machine: &name("web01"),
        capturer: &Disks::of_files([(
            name("root"),
            SourceSpec { path, format, must_be_device: false, quiesced: false },
        )]),
        hints,
        definition: Vec::new(),
        lock_until: None,
        now: time.parse().unwrap(),
        run: RunId([5; 16]),
        workers: 1,
        history: None,
    };
    backup(&repository, &catalog, &request, &Progress::default()).unwrap().point
}

/// Run as root, so that no host's name gets into the manifests: `unshare --uts sh -c 'hostname
/// fixture && AFTERIMAGE_WRITE_FIXTURES=1 cargo test --test change_fixtures'`.
#[test]
fn the_fixture_is_written_on_request() {
    if std::env::var_os("AFTERIMAGE_WRITE_FIXTURES").is_none() || fixture().exists() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let now = "2026-11-28T03:00:00Z".parse().unwrap();
    let options = InitOptions { cut: small_cut(), secret: None, recovery_key: None, now };
    let root = folder.path().join("repository");
    Repository::init(&RealFileSystem::shared(), &root, &options).unwrap();
    let [first, second] = contents();
    std::fs::write(folder.path().join("root.raw"), first).unwrap();
    let point = back_up(folder.path(), ChangeHints::default(), "2026-11-28T03:00:00Z");
    std::fs::write(folder.path().join("root.raw"), second).unwrap();
    let extents = vec![Extent::between(100_000, 101_000)];
    let list = HandedOver::List(ChangedList { since: point.id, extents });
    let hints = ChangeHints { lists: [(name("root"), list)].into(), ..ChangeHints::default() };
    back_up(folder.path(), hints, "2026-11-28T04:00:00Z");
    let left_out = ["state", "root.raw", "repository/tmp", "repository/locks"];
    for (path, content) in read_files(folder.path()) {
        if !left_out.iter().any(|it| path.starts_with(it)) {
            let path = fixture().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
    }
}

#[test]
fn points_that_tell_how_they_were_read_are_read() {
    let folder = tempfile::tempdir().unwrap();
    write_files(&read_files(&fixture()), folder.path());
    let (repository, catalog) = open(folder.path());
    let report = catalog.sync(&repository).unwrap();
    assert!(report.damages.is_empty(), "{:?}", report.damages);
    let points = catalog.points(None).unwrap();
    let provenances: Vec<Provenance> =
        points.iter().map(|point| point.manifest.disks[0].provenance).collect();
    assert_eq!(provenances, [Provenance::FullRead, Provenance::List]);
    for (point, content) in points.iter().zip(contents()) {
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
    // The formats: only the second one needs the newer.
    let format = |point: &Point| std::fs::read(repository.layout().point(point.id)).unwrap()[8];
    assert_eq!(points.iter().map(format).collect::<Vec<_>>(), [1, 2]);
    // A full read of the same content makes the same tree.
    std::fs::write(folder.path().join("root.raw"), &contents()[1]).unwrap();
    drop(catalog);
    let third = back_up(folder.path(), ChangeHints::default(), "2026-11-28T05:00:00Z");
    assert_eq!(third.manifest.disks[0].root, points[1].manifest.disks[0].root);
}

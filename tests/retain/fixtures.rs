//! Pins, locks, records and lists of condemned packs that the first version with them wrote are
//! read by this one.
//!
//! `fixtures/retention-1/KIND/` holds them; they belong to the repository of
//! `fixtures/format-1/KIND/`.

use crate::common::name;
use afterimage::fsio::RealFileSystem;
use afterimage::point::{
    Hold, HoldKind, Removal, commit_hold, commit_removal, list_holds, removed_among,
};
use afterimage::store::{CondemnedList, CurrentList, Repository, Secret, Stage};
use afterimage::units::{CollectionEpoch, PackName, PointId, RunId};
use std::path::{Path, PathBuf};

/// Set it to write the fixtures of the current format; existing ones are never replaced.
const WRITE: &str = "AFTERIMAGE_WRITE_FIXTURES";
const KINDS: [&str; 2] = ["plain", "key-file"];
const FOLDERS: [&str; 2] = ["holds", "removed"];
const RUN: RunId = RunId([7; 16]);

fn fixtures(set: &str, kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(set).join(kind)
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        match from.is_dir() {
            true => copy(&from, &to),
            false => assert!(std::fs::copy(&from, &to).is_ok(), "{}", from.display()),
        }
    }
}

/// A copy of the repository that may be written to.
fn open(kind: &str, folder: &Path) -> Repository {
    copy(&fixtures("format-1", kind).join("repository"), folder);
    let key = fixtures("format-1", kind).join("test.key");
    let secret =
        (kind == "key-file").then(|| Secret::from_key_file(&RealFileSystem, &key).unwrap());
    Repository::open(&RealFileSystem::shared(), folder, secret.as_ref(), 1).unwrap()
}

fn holds() -> [Hold; 3] {
    let pin = |note: Option<&str>| HoldKind::Pin { note: note.map(ToOwned::to_owned) };
    let until = "2026-12-01T00:00:00Z".parse().unwrap();
    let kinds = [pin(Some("before the upgrade")), pin(None), HoldKind::Lock { until }];
    let mut number = 0;
    kinds.map(|kind| {
        number += 1;
        Hold {
            point: PointId([number; 32]),
            kind,
            created: "2026-11-22T12:00:00Z".parse().unwrap(),
            run: RUN,
            host: "fixture".to_owned(),
        }
    })
}

fn removal() -> Removal {
    Removal {
        machine: name("web01"),
        points: [PointId([8; 32]), PointId([9; 32])].into(),
        time: "2026-11-22T12:00:00Z".parse().unwrap(),
        run: RUN,
        host: "fixture".to_owned(),
    }
}

fn condemned() -> CondemnedList {
    CondemnedList {
        epoch: CollectionEpoch(3),
        stage: Stage::Confirmed,
        packs: [PackName([4; 32]), PackName([5; 32])].into(),
        time: "2026-11-22T12:00:00Z".parse().unwrap(),
        run: RUN,
        host: "fixture".to_owned(),
    }
}

#[test]
fn a_list_of_condemned_packs_of_the_first_version_is_read() {
    for kind in KINDS {
        let folder = tempfile::tempdir().unwrap();
        let repository = open(kind, folder.path());
        assert_eq!(repository.condemned().unwrap().stage(), Stage::Idle, "{kind}");
        copy(&fixtures("retention-1", kind).join("condemned"), &folder.path().join("condemned"));
        let current = repository.condemned().unwrap();
        assert_eq!(current.list, Some(condemned()), "{kind}");
        // The next list counts, and is the only one that stays.
        let session = repository.begin_writing(RUN).unwrap();
        let (epoch, stage) = (CollectionEpoch(4), Stage::Idle);
        let next = CondemnedList { epoch, stage, packs: [].into(), ..condemned() };
        repository.publish_condemned(&session, &next, &current).unwrap();
        let now = repository.condemned().unwrap();
        assert_eq!((now.list, now.older), (Some(next), Vec::new()), "{kind}");
    }
}

#[test]
fn pins_locks_and_records_of_the_first_version_are_read() {
    for kind in KINDS {
        let folder = tempfile::tempdir().unwrap();
        let repository = open(kind, folder.path());
        for sub in FOLDERS {
            copy(&fixtures("retention-1", kind).join(sub), &folder.path().join(sub));
        }
        let found = list_holds(&repository).unwrap();
        for expected in holds() {
            let of_point: Vec<&Hold> = found.of(expected.point).iter().map(|(_, it)| it).collect();
            assert_eq!(of_point, [&expected], "{kind}");
        }
        assert_eq!(found.iter().count(), 3, "{kind}");
        let asked = [7, 8, 9].map(|byte| PointId([byte; 32])).into();
        let (removed, damages) = removed_among(&repository, &asked).unwrap();
        assert_eq!((removed, damages), (removal().points, Vec::new()), "{kind}");
    }
}

#[test]
fn fixtures_are_written_on_request() {
    if std::env::var_os(WRITE).is_none() {
        return;
    }
    for kind in KINDS {
        let to = fixtures("retention-1", kind);
        let folder = tempfile::tempdir().unwrap();
        let repository = open(kind, folder.path());
        let session = repository.begin_writing(RUN).unwrap();
        for hold in holds() {
            commit_hold(&repository, &session, &hold).unwrap();
        }
        commit_removal(&repository, &session, &removal()).unwrap();
        repository.publish_condemned(&session, &condemned(), &CurrentList::default()).unwrap();
        for sub in FOLDERS.into_iter().chain(["condemned"]).filter(|sub| !to.join(sub).exists()) {
            copy(&folder.path().join(sub), &to.join(sub));
        }
    }
}

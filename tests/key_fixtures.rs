//! Slots, an index and an export that an earlier version wrote are read by this one.
//!
//! `fixtures/slots-2/` is a repository without points. `fixtures/README.md` says how to write one.

use afterimage::fsio::RealFileSystem;
use afterimage::operations::{self, InitChoice, NewKey};
use afterimage::settings::Settings;
use afterimage::store::{
    KeyExport, RecoveryKey, Repository, Secret, SlotKind, check_slots, list_slots, put_back,
};
use afterimage::units::Name;
use std::path::{Path, PathBuf};

/// Set it to write the fixture; an existing one is never replaced.
const WRITE: &str = "AFTERIMAGE_WRITE_FIXTURES";

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/slots-2")
}

/// The fixture where it may be written to.
fn copied() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("repository/keys");
    std::fs::create_dir_all(&keys).unwrap();
    for file in ["repository/repository.json", "test.key", "recovery-key", "export.json"] {
        std::fs::copy(fixture().join(file), folder.path().join(file)).unwrap();
    }
    for entry in std::fs::read_dir(fixture().join("repository/keys")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), keys.join(entry.file_name())).unwrap();
    }
    folder
}

fn secrets(folder: &Path) -> [Secret; 2] {
    let own = Secret::from_key_file(&RealFileSystem, &folder.join("test.key")).unwrap();
    let recovery = RecoveryKey::read(&RealFileSystem, &folder.join("recovery-key")).unwrap();
    [own, Secret::RecoveryKey(recovery)]
}

#[test]
fn slots_and_index_of_an_earlier_version_open_and_are_in_order() {
    let (folder, fs) = (copied(), RealFileSystem::shared());
    let root = folder.path().join("repository");
    for secret in secrets(folder.path()) {
        let repository = Repository::open(&fs, &root, Some(&secret), 1).unwrap();
        assert_eq!(repository.check_slots().unwrap(), []);
    }
    let layout = afterimage::store::Layout::new(root);
    assert_eq!(check_slots(&RealFileSystem, &layout, None).unwrap(), []);
    let slots = list_slots(&RealFileSystem, &layout).unwrap();
    let labels: Vec<_> = slots.iter().filter_map(|slot| slot.label.as_ref()).collect();
    assert_eq!(labels.len(), 1);
    assert_eq!(labels[0].as_str(), "in the safe");
    for kind in [SlotKind::KeyFile, SlotKind::RecoveryKey] {
        assert!(slots.iter().any(|slot| slot.kind == kind), "{kind:?}");
    }
}

#[test]
fn an_export_of_an_earlier_version_brings_all_back() {
    let (folder, fs) = (copied(), RealFileSystem::shared());
    let (root, export) = (folder.path().join("repository"), folder.path().join("export.json"));
    assert_eq!(KeyExport::read(&RealFileSystem, &export).unwrap().slots(), 3);
    std::fs::remove_dir_all(root.join("keys")).unwrap();
    std::fs::remove_file(root.join("repository.json")).unwrap();
    let done = put_back(&fs, &root, &export, &secrets(folder.path())).unwrap();
    assert!(done.is_checked, "{done:?}");
    for file in ["repository.json", "keys/index.json"] {
        let found = std::fs::read(root.join(file)).unwrap();
        assert!(found == std::fs::read(fixture().join("repository").join(file)).unwrap(), "{file}");
    }
}

#[test]
fn key_fixtures_are_written_on_request() {
    let folder = fixture();
    if std::env::var_os(WRITE).is_none() || folder.exists() {
        return;
    }
    std::fs::create_dir_all(&folder).unwrap();
    let text = "state_dir = \"state\"\n[repository.main]\nurl = \"repository\"\n\
                encryption = { key_file = \"test.key\" }\n";
    let settings = Settings::parse(text, &folder.join("settings.toml")).unwrap();
    let choice = InitChoice { recovery_key: true };
    let made = operations::init(&settings, &name("main"), choice).unwrap();
    let key = made.recovery_key.unwrap();
    std::fs::write(folder.join("recovery-key"), format!("{}\n", *key.text())).unwrap();
    let spare = NewKey::KeyFile { path: folder.join("spare.key"), generate: true };
    let label = Some("in the safe".parse().unwrap());
    operations::add_key(&settings, &name("main"), &spare, label).unwrap();
    std::fs::remove_file(folder.join("spare.key")).unwrap();
    let export = folder.join("export.json");
    operations::export_keys(&settings, &name("main"), &export).unwrap();
    for left_out in ["tmp", "locks", "packs", "points"] {
        std::fs::remove_dir_all(folder.join("repository").join(left_out)).unwrap();
    }
}

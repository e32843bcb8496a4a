//! Slots and their index, written and read back, changed and swapped.

use super::*;
use crate::chunk::CutParameters;
use crate::fsio::RealFileSystem;
use crate::store::{InitOptions, Keys, Repository};
use std::path::Path;
use std::sync::Arc;

const NOW: jiff::Timestamp = jiff::Timestamp::UNIX_EPOCH;

fn key_file(byte: u8) -> Secret {
    Secret::KeyFile(Zeroizing::new(vec![byte; 40]))
}

struct Scene {
    folder: tempfile::TempDir,
    fs: Arc<dyn FileSystem>,
    recovery_key: RecoveryKey,
}

impl Scene {
    /// A repository that a key file and a recovery key open.
    fn new() -> Self {
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let (fs, recovery_key) = (RealFileSystem::shared(), RecoveryKey::random().unwrap());
        let options = InitOptions {
            cut: CutParameters::with_average(16 * 1024).unwrap(),
            secret: Some(&key_file(1)),
            recovery_key: Some(&recovery_key),
            now: NOW,
        };
        Repository::init(&fs, folder.path(), &options).unwrap();
        Self { folder, fs, recovery_key }
    }

    fn open(&self) -> Repository {
        Repository::open(&self.fs, self.folder.path(), Some(&key_file(1)), 1).unwrap()
    }

    fn layout(&self) -> Layout {
        Layout::new(self.folder.path().to_owned())
    }

    fn slot(&self, kind: SlotKind) -> SlotId {
        let slots = list_slots(self.fs.as_ref(), &self.layout()).unwrap();
        slots.iter().find(|slot| slot.kind == kind).unwrap().id
    }

    fn problems(&self, keys: Option<&Keys>) -> Vec<SlotProblem> {
        check_slots(self.fs.as_ref(), &self.layout(), keys).unwrap()
    }
}

fn wrapped(secret: &Secret, label: Option<&str>) -> (RepositoryId, SecretKey, NewSlot) {
    let (id, master) = (RepositoryId([3; 16]), SecretKey::new([42; 32]));
    let label = label.map(|text| text.parse().unwrap());
    let slot = wrap(id, secret, label, &master, NOW).unwrap();
    (id, master, slot)
}

fn edited(slot: &NewSlot, edit: impl FnOnce(&mut serde_json::Value)) -> Vec<u8> {
    let mut value = serde_json::from_slice(&slot.text).unwrap();
    edit(&mut value);
    serde_json::to_vec(&value).unwrap()
}

#[test]
fn a_recovery_key_opens_its_own_slot_and_no_other() {
    let scene = Scene::new();
    let open = |secret: &Secret| {
        Repository::open(&scene.fs, scene.folder.path(), Some(secret), 1).map(drop)
    };
    open(&Secret::RecoveryKey(scene.recovery_key.clone())).unwrap();
    let typed = RecoveryKey::parse(&scene.recovery_key.text()).unwrap();
    open(&Secret::RecoveryKey(typed)).unwrap();
    let other = open(&Secret::RecoveryKey(RecoveryKey::random().unwrap())).unwrap_err();
    assert!(matches!(other, StoreError::WrongKey { tried: 1, .. }), "{other}");
    assert!(other.to_string().contains("afterimage key recover"), "{other}");
    // The same bytes as a key file are another key.
    let bytes = Zeroizing::new(scene.recovery_key.bytes().to_vec());
    assert!(open(&Secret::KeyFile(bytes)).is_err());
}

#[test]
fn what_the_first_format_can_hold_is_written_in_it() {
    let passphrase = Secret::Passphrase(Zeroizing::new(b"correct horse".to_vec()));
    let recovery = Secret::RecoveryKey(RecoveryKey::random().unwrap());
    for (secret, label, format) in [
        (&key_file(1), None, 1),
        (&passphrase, None, 1),
        (&key_file(1), Some("office"), 2),
        (&recovery, None, 2),
    ] {
        let (id, master, slot) = wrapped(secret, label);
        let text = String::from_utf8(slot.text.clone()).unwrap();
        assert!(text.starts_with(&format!("{{\n  \"format\": {format},")), "{text}");
        assert_eq!(text.contains("label"), label.is_some());
        assert!(open_text(&slot.text, id, secret).unwrap() == master);
    }
}

#[test]
fn label_and_format_of_a_slot_cannot_be_exchanged() {
    let (id, _, slot) = wrapped(&key_file(1), Some("office"));
    let opens = |text: &[u8]| open_text(text, id, &key_file(1)).is_some();
    assert!(opens(&edited(&slot, |_| ())));
    assert!(!opens(&edited(&slot, |it| it["label"] = "nobody's".into())));
    assert!(!opens(&edited(&slot, |it| it["label"] = serde_json::Value::Null)));
    for format in [0, 1, 3] {
        assert!(!opens(&edited(&slot, |it| it["format"] = format.into())), "{format}");
    }
    let (id, _, plain) = wrapped(&key_file(1), None);
    let opens = |text: &[u8]| open_text(text, id, &key_file(1)).is_some();
    assert!(opens(&plain.text));
    assert!(!opens(&edited(&plain, |it| it["format"] = 2.into())));
    assert!(!opens(&edited(&plain, |it| it["label"] = "x".into())));
    assert!(!opens(
        &edited(&plain, |it| it["wrapping"] = serde_json::json!({"method": "recovery-key"}))
    ));
}

#[test]
fn slots_that_ask_for_the_world_are_passed_over() {
    let passphrase = Secret::Passphrase(Zeroizing::new(b"correct horse".to_vec()));
    let (id, _, slot) = wrapped(&passphrase, None);
    for (memory_kib, passes) in [(u32::MAX, 1), (64, u32::MAX), (0, 0)] {
        let text = edited(&slot, |it| {
            it["wrapping"]["memory_kib"] = memory_kib.into();
            it["wrapping"]["passes"] = passes.into();
        });
        assert!(open_text(&text, id, &passphrase).is_none());
    }
}

#[test]
fn a_new_repository_has_slots_in_order_with_and_without_keys() {
    let scene = Scene::new();
    assert_eq!(scene.problems(None), []);
    assert_eq!(scene.open().check_slots().unwrap(), []);
    let folder = tempfile::tempdir().unwrap();
    let options = InitOptions {
        cut: CutParameters::with_average(16 * 1024).unwrap(),
        secret: None,
        recovery_key: None,
        now: NOW,
    };
    Repository::init(&scene.fs, folder.path(), &options).unwrap();
    let layout = Layout::new(folder.path().to_owned());
    assert_eq!(check_slots(scene.fs.as_ref(), &layout, None).unwrap(), []);
    let plain = Repository::open(&scene.fs, folder.path(), None, 1).unwrap();
    assert_eq!(plain.check_slots().unwrap(), []);
}

/// Does something to a repository's slots; what must be found of it, with and without keys.
type Harm = (&'static str, fn(&Scene, &Path), fn(&SlotProblem) -> bool);

#[test]
fn a_slot_that_was_removed_added_changed_or_swapped_is_told() {
    let harms: [Harm; 9] = [
        (
            "removed",
            |_, recovery| std::fs::remove_file(recovery).unwrap(),
            |it| matches!(it, SlotProblem::Missing { .. }),
        ),
        (
            "added",
            |scene, _| {
                let slot = wrapped(&key_file(9), None).2;
                std::fs::write(scene.layout().slot(slot.id), slot.text).unwrap();
            },
            |it| matches!(it, SlotProblem::Unlisted { .. }),
        ),
        (
            "cut off",
            |_, recovery| {
                let text = std::fs::read(recovery).unwrap();
                std::fs::write(recovery, &text[..text.len() / 2]).unwrap();
            },
            |it| matches!(it, SlotProblem::Damaged { .. }),
        ),
        (
            "changed, and well-formed",
            |_, recovery| {
                let text = std::fs::read_to_string(recovery).unwrap();
                std::fs::write(recovery, text.replace("1970", "1971")).unwrap();
            },
            |it| matches!(it, SlotProblem::Damaged { .. }),
        ),
        (
            "another one's content",
            |scene, recovery| {
                let other = scene.layout().slot(scene.slot(SlotKind::KeyFile));
                std::fs::copy(other, recovery).unwrap();
            },
            |it| matches!(it, SlotProblem::Damaged { .. }),
        ),
        (
            "under another name",
            |scene, recovery| {
                std::fs::rename(recovery, scene.layout().slots().join("copy.json")).unwrap();
            },
            |it| matches!(it, SlotProblem::Foreign { .. } | SlotProblem::Missing { .. }),
        ),
        (
            "no index",
            |scene, _| std::fs::remove_file(scene.layout().slot_index()).unwrap(),
            |it| *it == SlotProblem::IndexMissing && !it.is_damage(),
        ),
        (
            "an index that is cut off",
            |scene, _| std::fs::write(scene.layout().slot_index(), "{").unwrap(),
            |it| matches!(it, SlotProblem::IndexDamaged { .. }),
        ),
        (
            "no slots at all",
            |scene, _| {
                remove_all(scene.fs.as_ref(), &scene.layout()).unwrap();
            },
            |it| matches!(it, SlotProblem::NoSlots | SlotProblem::IndexMissing),
        ),
    ];
    for (what, harm, is_expected) in harms {
        let scene = Scene::new();
        let repository = scene.open();
        harm(&scene, &scene.layout().slot(scene.slot(SlotKind::RecoveryKey)));
        for found in [scene.problems(None), scene.problems(Some(repository.keys()))] {
            assert!(!found.is_empty(), "{what}");
            assert!(found.iter().all(is_expected), "{what}: {found:?}");
        }
    }
}

#[test]
fn an_index_that_somebody_else_wrote_is_told_with_keys() {
    let (scene, other) = (Scene::new(), Scene::new());
    let repository = scene.open();
    let path = scene.layout().slot_index();
    let own = std::fs::read_to_string(&path).unwrap();
    let recovery = scene.slot(SlotKind::RecoveryKey);
    // Slot and entry removed together: hashes alone cannot tell.
    std::fs::remove_file(scene.layout().slot(recovery)).unwrap();
    let mut value: serde_json::Value = serde_json::from_str(&own).unwrap();
    value["index"]["slots"].as_object_mut().unwrap().remove(&recovery.to_string()).unwrap();
    std::fs::write(&path, format!("{value:#}\n")).unwrap();
    assert_eq!(scene.problems(None), []);
    let found = scene.problems(Some(repository.keys()));
    assert!(matches!(found.as_slice(), [SlotProblem::IndexDamaged { .. }]), "{found:?}");
    // Nor can the index of another repository be put there.
    std::fs::copy(other.layout().slot_index(), &path).unwrap();
    let found = scene.problems(Some(repository.keys()));
    assert!(
        matches!(&found[0], SlotProblem::IndexDamaged { reason } if reason.contains("another"))
    );
    // Whatever stands there, the slots open.
    scene.open();
}

#[test]
fn every_change_of_an_index_is_told() {
    let scene = Scene::new();
    let repository = scene.open();
    let path = scene.layout().slot_index();
    let own = std::fs::read(&path).unwrap();
    let good = read_index(scene.fs.as_ref(), &scene.layout(), Some(repository.keys())).unwrap();
    for at in 0..own.len() {
        let mut changed = own.clone();
        changed[at] ^= 1;
        std::fs::write(&path, changed).unwrap();
        let found = read_index(scene.fs.as_ref(), &scene.layout(), Some(repository.keys()));
        // White space may change, and what is read is then the same.
        let found = found.unwrap();
        assert!(matches!(found, IndexState::Damaged(_)) || found == good, "byte {at}");
        scene.open();
    }
}

#[test]
fn a_slot_of_a_later_version_is_no_damage() {
    let scene = Scene::new();
    let repository = scene.open();
    let recovery = scene.slot(SlotKind::RecoveryKey);
    let path = scene.layout().slot(recovery);
    let text = std::fs::read_to_string(&path).unwrap().replace("\"format\": 2", "\"format\": 3");
    std::fs::write(&path, &text).unwrap();
    // As a later version would list it.
    let keys = repository.keys();
    let IndexState::Good(mut index) =
        read_index(scene.fs.as_ref(), &scene.layout(), Some(keys)).unwrap()
    else {
        panic!("the index is good");
    };
    index.slots.insert(recovery, digest(text.as_bytes()));
    std::fs::write(scene.layout().slot_index(), index.encode(keys).unwrap()).unwrap();
    assert_eq!(scene.problems(Some(keys)), []);
    assert_eq!(list_slots(scene.fs.as_ref(), &scene.layout()).unwrap().len(), 1);
    scene.open();
}

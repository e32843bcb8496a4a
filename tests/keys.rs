//! Keys that are lost and recovered, headers and slots that are put back, and what is refused.

use afterimage::fsio::RealFileSystem;
use afterimage::operations::{self, InitChoice, NewKey, OperationError, RemoveRequest};
use afterimage::report::{ExitCode, Summary};
use afterimage::settings::Settings;
use afterimage::store::{
    RecoveryKey, Repository, Secret, SlotKind, SlotProblem, StoreError, check_slots, list_slots,
};
use afterimage::units::Name;
use std::path::{Path, PathBuf};

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// Settings with one repository, and what opens it.
struct Scene {
    folder: tempfile::TempDir,
    settings: Settings,
    name: Name,
    recovery_key: Option<RecoveryKey>,
}

impl Scene {
    fn without_repository(encryption: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path(), encryption);
        Self { folder, settings, name: name("main"), recovery_key: None }
    }

    fn new() -> Self {
        let mut scene = Self::without_repository("{ key_file = \"key\" }");
        let choice = InitChoice { recovery_key: true };
        let made = operations::init(&scene.settings, &scene.name, choice).unwrap();
        scene.recovery_key = made.recovery_key;
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn open(&self) -> Result<Repository, StoreError> {
        let secret = Secret::from_key_file(&RealFileSystem, &self.path("key"))?;
        let fs = RealFileSystem::shared();
        Repository::open(&fs, &self.path("repository"), Some(&secret), 1)
    }

    fn add(&self, key: &str) -> Result<Summary, OperationError> {
        let key = NewKey::KeyFile { path: self.path(key), generate: true };
        operations::add_key(&self.settings, &self.name, &key, None)
    }

    fn remove(&self, digits: &str, own_key_too: bool) -> Result<Summary, OperationError> {
        let request = RemoveRequest { digits, own_key_too };
        operations::remove_key(&self.settings, &self.name, request)
    }

    fn export(&self, to: &str) -> Result<Summary, OperationError> {
        operations::export_keys(&self.settings, &self.name, &self.path(to))
    }

    fn put_back(&self, from: &str) -> Result<Summary, OperationError> {
        operations::put_back_keys(&self.settings, &self.name, &self.path(from), None)
    }

    fn recover(&self, key: &RecoveryKey) -> Result<Summary, OperationError> {
        operations::recover_key(&self.settings, &self.name, key)
    }

    fn problems(&self) -> Vec<SlotProblem> {
        self.open().unwrap().check_slots().unwrap()
    }

    /// Ids of the slots of a kind.
    fn slots(&self, kind: SlotKind) -> Vec<String> {
        let layout = afterimage::store::Layout::new(self.path("repository"));
        let slots = list_slots(&RealFileSystem, &layout).unwrap().into_iter();
        slots.filter(|slot| slot.kind == kind).map(|slot| slot.id.to_string()).collect()
    }

    fn slot_file(&self, id: &str) -> PathBuf {
        self.path(&format!("repository/keys/{id}.json"))
    }
}

fn settings(folder: &Path, encryption: &str) -> Settings {
    let text = format!(
        "state_dir = \"state\"\n[repository.main]\nurl = \"repository\"\nencryption = {encryption}\n"
    );
    Settings::parse(&text, &folder.join("settings.toml")).unwrap()
}

fn says<T: std::fmt::Debug>(result: Result<T, OperationError>, text: &str) {
    let message = result.unwrap_err().to_string();
    assert!(message.contains(text), "{message}");
}

#[test]
fn header_and_slots_that_are_gone_come_back_from_an_export() {
    let scene = Scene::new();
    let id = scene.open().unwrap().header().id;
    scene.add("second").unwrap();
    scene.export("export").unwrap();
    use std::os::unix::fs::MetadataExt;
    assert_eq!(scene.path("export").metadata().unwrap().mode() & 0o777, 0o600);
    says(scene.export("export"), "export");
    std::fs::remove_file(scene.path("repository/repository.json")).unwrap();
    std::fs::remove_dir_all(scene.path("repository/keys")).unwrap();
    assert!(scene.open().is_err());
    let done = scene.put_back("export").unwrap();
    let detail = done.detail.clone().unwrap();
    assert!(detail.contains("repository.json") && detail.contains("keys/index.json"), "{detail}");
    assert!(!done.warnings.iter().any(|text| text.contains("could not be checked")), "{done:?}");
    assert_eq!(scene.open().unwrap().header().id, id);
    assert_eq!(scene.problems(), []);
    assert_eq!(scene.slots(SlotKind::KeyFile).len(), 2);
    // Nothing is left to do.
    assert_eq!(scene.put_back("export").unwrap().detail, None);
}

#[test]
fn with_the_recovery_key_and_an_export_all_else_may_be_lost() {
    let scene = Scene::new();
    scene.export("export").unwrap();
    std::fs::remove_file(scene.path("repository/repository.json")).unwrap();
    std::fs::remove_dir_all(scene.path("repository/keys")).unwrap();
    std::fs::remove_file(scene.path("key")).unwrap();
    let done = scene.put_back("export").unwrap();
    assert!(done.warnings[0].contains("could not be checked"), "{done:?}");
    scene.recover(scene.recovery_key.as_ref().unwrap()).unwrap();
    assert_eq!(scene.problems(), []);
    let again = scene.recover(scene.recovery_key.as_ref().unwrap()).unwrap();
    assert!(again.reason.unwrap().contains("already"));
}

#[test]
fn a_wrong_recovery_key_opens_nothing_and_writes_nothing() {
    let scene = Scene::new();
    std::fs::remove_file(scene.path("key")).unwrap();
    let error = scene.recover(&RecoveryKey::random().unwrap()).unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::WrongKey, "{error}");
    assert!(!scene.path("key").exists());
}

#[test]
fn good_slots_are_kept_and_removed_ones_stay_removed() {
    let scene = Scene::new();
    let second = scene.add("second").unwrap().slot.unwrap().to_string();
    scene.export("export").unwrap();
    scene.remove(&second[..8], false).unwrap();
    scene.add("third").unwrap();
    let own = scene.slots(SlotKind::KeyFile);
    let recovery = scene.slots(SlotKind::RecoveryKey);
    // One is damaged, and must come back; what was added since must stay.
    let good = std::fs::read(scene.slot_file(&recovery[0])).unwrap();
    std::fs::write(scene.slot_file(&recovery[0]), "{}").unwrap();
    assert!(matches!(scene.problems()[..], [SlotProblem::Damaged { .. }]));
    let done = scene.put_back("export").unwrap();
    assert_eq!(done.detail.unwrap().matches(".json").count(), 1);
    assert_eq!(std::fs::read(scene.slot_file(&recovery[0])).unwrap(), good);
    assert_eq!(scene.problems(), []);
    assert_eq!(scene.slots(SlotKind::KeyFile), own);
    assert!(!own.contains(&second));
}

#[test]
fn an_export_of_another_repository_is_refused() {
    let (scene, other) = (Scene::new(), Scene::new());
    std::fs::write(scene.path("repository/points/x"), [0; 64]).unwrap();
    std::fs::copy(scene.path("key"), other.path("key-of-scene")).unwrap();
    other.export("export").unwrap();
    std::fs::copy(other.path("export"), scene.path("export")).unwrap();
    says(scene.put_back("export"), "is another one");
    // Without a header the points and packs tell.
    std::fs::remove_file(scene.path("repository/repository.json")).unwrap();
    says(scene.put_back("export"), "is another one");
    assert!(!scene.path("repository/repository.json").exists());
}

#[test]
fn an_export_that_was_changed_in_any_place_is_refused() {
    let scene = Scene::new();
    scene.export("export").unwrap();
    let whole = std::fs::read(scene.path("export")).unwrap();
    let header = std::fs::read(scene.path("repository/repository.json")).unwrap();
    for at in (0..whole.len()).step_by(5) {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        std::fs::write(scene.path("export"), changed).unwrap();
        std::fs::remove_file(scene.path("repository/repository.json")).unwrap();
        let done = scene.put_back("export");
        let back = std::fs::read(scene.path("repository/repository.json"));
        // White space may change, and what is put back is then the same.
        assert!(done.is_err() && back.is_err() || back.is_ok_and(|it| it == header), "byte {at}");
        std::fs::write(scene.path("repository/repository.json"), &header).unwrap();
    }
    std::fs::write(scene.path("export"), &whole[..whole.len() / 2]).unwrap();
    says(scene.put_back("export"), "cannot be used as an export");
}

#[test]
fn a_header_that_is_lost_is_told_and_no_new_repository_takes_its_place() {
    let scene = Scene::new();
    std::fs::create_dir_all(scene.path("repository/packs/00")).unwrap();
    std::fs::write(scene.path("repository/packs/00/pack"), "x").unwrap();
    std::fs::remove_file(scene.path("repository/repository.json")).unwrap();
    let keys = scene.slots(SlotKind::KeyFile);
    let choice = InitChoice { recovery_key: true };
    for error in [
        operations::init(&scene.settings, &scene.name, choice).map(drop).unwrap_err(),
        operations::open_repository(&scene.settings, &scene.name).map(drop).unwrap_err(),
        scene.add("second").unwrap_err(),
    ] {
        assert_eq!(error.exit_code(), ExitCode::NoRepository, "{error}");
        assert!(error.to_string().contains("afterimage key recover --from"), "{error}");
    }
    assert_eq!(scene.slots(SlotKind::KeyFile), keys);
}

#[test]
fn the_last_slot_and_the_own_one_are_not_removed_by_accident() {
    let scene = Scene::new();
    let own = scene.slots(SlotKind::KeyFile).remove(0);
    let recovery = scene.slots(SlotKind::RecoveryKey).remove(0);
    says(scene.remove(&own, false), "the only one that the key of the settings opens");
    says(scene.remove("", false), "no key slot begins with");
    says(scene.remove("zz", false), "no key slot begins with");
    scene.remove(&recovery, false).unwrap();
    says(scene.remove(&own, true), "the last good one");
    // A damaged one is no other slot.
    scene.add("second").unwrap();
    let others = scene.slots(SlotKind::KeyFile).into_iter().filter(|slot| *slot != own);
    let second: Vec<String> = others.collect();
    std::fs::write(scene.slot_file(&second[0]), "{}").unwrap();
    says(scene.remove(&own, true), "the last good one");
    scene.remove(&second[0], false).unwrap();
    assert_eq!(scene.problems(), []);
    // With another slot and on purpose it goes.
    scene.add("third").unwrap();
    scene.remove(&own, true).unwrap();
    assert!(scene.open().is_err());
}

#[test]
fn a_rotation_makes_the_old_key_useless_and_keeps_the_label() {
    let scene = Scene::new();
    let old = std::fs::read(scene.path("key")).unwrap();
    let key = NewKey::KeyFile { path: scene.path("other"), generate: true };
    let label = Some("office".parse().unwrap());
    operations::add_key(&scene.settings, &scene.name, &key, label).unwrap();
    let scene =
        Scene { settings: settings(scene.folder.path(), "{ key_file = \"other\" }"), ..scene };
    std::fs::copy(scene.path("other"), scene.path("before")).unwrap();
    let opens = |file: &str| {
        let secret = Secret::from_key_file(&RealFileSystem, &scene.path(file)).unwrap();
        let fs = RealFileSystem::shared();
        Repository::open(&fs, &scene.path("repository"), Some(&secret), 1).is_ok()
    };
    assert!(opens("before"));
    let done = operations::rotate_key(&scene.settings, &scene.name, None).unwrap();
    assert!(!opens("before") && opens("other"));
    assert!(done.warnings.iter().any(|text| text.contains("the master key stays the same")));
    let layout = afterimage::store::Layout::new(scene.path("repository"));
    let slots = list_slots(&RealFileSystem, &layout).unwrap();
    let new = slots.iter().find(|slot| Some(slot.id) == done.slot).unwrap();
    assert_eq!(new.label.as_ref().unwrap().as_str(), "office");
    // The other key file is not touched.
    assert_eq!(std::fs::read(scene.path("key")).unwrap(), old);
    assert_eq!(scene.problems(), []);
}

#[test]
fn a_key_file_behind_a_symbolic_link_is_exchanged_where_it_is() {
    let scene = Scene::new();
    std::fs::create_dir(scene.path("vault")).unwrap();
    std::fs::rename(scene.path("key"), scene.path("vault/real")).unwrap();
    std::os::unix::fs::symlink("vault/real", scene.path("key")).unwrap();
    let before = std::fs::read(scene.path("vault/real")).unwrap();
    operations::rotate_key(&scene.settings, &scene.name, None).unwrap();
    assert!(scene.path("key").is_symlink());
    assert_ne!(std::fs::read(scene.path("vault/real")).unwrap(), before);
    assert_eq!(scene.problems(), []);
}

#[test]
fn a_rotation_touches_no_file_that_it_did_not_make() {
    let scene = Scene::new();
    for name in ["key.new", "key.old"] {
        std::fs::write(scene.path(name), "somebody's").unwrap();
        let before = std::fs::read(scene.path("key")).unwrap();
        says(operations::rotate_key(&scene.settings, &scene.name, None), name);
        assert_eq!(std::fs::read(scene.path(name)).unwrap(), b"somebody's");
        assert_eq!(std::fs::read(scene.path("key")).unwrap(), before);
        std::fs::remove_file(scene.path(name)).unwrap();
    }
    operations::rotate_key(&scene.settings, &scene.name, None).unwrap();
}

#[test]
fn a_key_file_of_two_repositories_is_not_exchanged_for_one() {
    let scene = Scene::new();
    let text = "state_dir = \"state\"\n[repository.main]\nurl = \"repository\"\n\
                encryption = { key_file = \"key\" }\n[repository.far]\nurl = \"far\"\n\
                encryption = { key_file = \"key\" }\n";
    let both = Settings::parse(text, &scene.path("settings.toml")).unwrap();
    says(operations::rotate_key(&both, &scene.name, None), "of repository far too");
    assert_eq!(scene.problems(), []);
}

#[test]
fn a_pass_phrase_is_exchanged_for_another_and_an_interrupted_exchange_is_ended() {
    let scene = Scene::without_repository("{ passphrase_file = \"phrase\" }");
    std::fs::write(scene.path("phrase"), "correct horse\n").unwrap();
    std::fs::write(scene.path("other"), "battery staple\n").unwrap();
    let choice = InitChoice { recovery_key: false };
    operations::init(&scene.settings, &scene.name, choice).unwrap();
    let error = operations::rotate_key(&scene.settings, &scene.name, None).unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Usage, "{error}");
    let to = NewKey::PassphraseFile(scene.path("other"));
    let done = operations::rotate_key(&scene.settings, &scene.name, Some(&to)).unwrap();
    assert!(done.warnings[0].contains("passphrase_file"), "{done:?}");
    let error = operations::list_keys(&scene.settings, &scene.name).unwrap();
    assert!(!error.is_complete && error.warnings[0].contains("does not open"), "{error:?}");
    // Again with settings that still name the old one: it was done.
    let again = operations::rotate_key(&scene.settings, &scene.name, Some(&to)).unwrap();
    assert_eq!(again.slot, None);
    let settings = settings(scene.folder.path(), "{ passphrase_file = \"other\" }");
    assert!(operations::list_keys(&settings, &scene.name).unwrap().is_complete);
    for entry in std::fs::read_dir(scene.path("repository/keys")).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        assert!(!text.contains("staple") && !text.contains("horse"));
    }
}

#[test]
fn a_damaged_index_stops_changes_until_somebody_accepts_the_slots() {
    let scene = Scene::new();
    let index = scene.path("repository/keys/index.json");
    let text = std::fs::read_to_string(&index).unwrap();
    std::fs::write(&index, text.replace("\"mac\": \"", "\"mac\": \"f")).unwrap();
    says(scene.add("second"), "afterimage key list --repair");
    assert!(!scene.path("second").exists());
    operations::repair_key_index(&scene.settings, &scene.name).unwrap();
    assert_eq!(scene.problems(), []);
    scene.add("second").unwrap();
}

#[test]
fn a_repository_without_an_index_gets_one_with_its_first_change() {
    let scene = Scene::new();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/format-1/key-file");
    std::fs::remove_dir_all(scene.path("repository")).unwrap();
    copy(&from.join("repository"), &scene.path("repository"));
    std::fs::copy(from.join("test.key"), scene.path("key")).unwrap();
    assert_eq!(scene.problems(), [SlotProblem::IndexMissing]);
    let layout = afterimage::store::Layout::new(scene.path("repository"));
    let found = check_slots(&RealFileSystem, &layout, None).unwrap();
    assert_eq!(found, [SlotProblem::IndexMissing]);
    let listed = operations::list_keys(&scene.settings, &scene.name).unwrap();
    assert!(listed.is_complete && listed.slots[0].opens == Some(true), "{listed:?}");
    let made = operations::add_key(&scene.settings, &scene.name, &NewKey::RecoveryKey, None);
    let text = made.unwrap().recovery_key.unwrap();
    assert_eq!(scene.problems(), []);
    std::fs::remove_file(scene.path("key")).unwrap();
    scene.recover(&RecoveryKey::parse(&text.0).unwrap()).unwrap();
    assert_eq!(scene.problems(), []);
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(std::fs::copy(entry.path(), to).unwrap()),
        }
    }
}

#[test]
fn keys_are_not_kept_in_the_repository_that_they_open() {
    let scene = Scene::new();
    says(scene.export("repository/export"), "lies in the repository's folder");
    says(scene.add("repository/key"), "lies in the repository's folder");
    assert!(!scene.path("repository/key").exists());
}

#[test]
fn a_plain_repository_has_no_keys() {
    let scene = Scene::without_repository("\"none\"");
    let choice = InitChoice { recovery_key: true };
    let made = operations::init(&scene.settings, &scene.name, choice).unwrap();
    assert!(made.recovery_key.is_none());
    let list = operations::list_keys(&scene.settings, &scene.name).map(drop);
    let rotate = operations::rotate_key(&scene.settings, &scene.name, None).map(drop);
    for refused in [
        list,
        rotate,
        scene.add("x").map(drop),
        scene.export("x").map(drop),
        scene.put_back("x").map(drop),
    ] {
        says(refused, "is not encrypted: it has no keys");
    }
}

//! Every change of the keys, killed and without power at each of its operations.
//!
//! What must hold afterwards: what stands at the key file of the settings opens the repository, or
//! (where the key goes to another file) the old or the new one does; the recovery key opens it
//! whatever happens; nothing is taken for damage; and the next command, the same or another one,
//! leaves nothing behind.

use super::change::{add, remove, repair, rotate};
use super::list::list;
use super::recover::{export, let_in, put_back_from};
use super::*;
use crate::operations::InitChoice;
use crate::operations::open::open_place;
use crate::operations::repository::init_on;
use crate::store::{Layout, RecoveryKey, Repository, SlotKind};
use crate::testing::{CutFileSystem, LastOperation, Lost, UnsyncedFileSystem};

const INIT: InitChoice = InitChoice { recovery_key: true };

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Init,
    Add,
    Remove,
    RotateInPlace,
    RotateTo,
    Recover,
    PutBack,
}

struct Scene {
    folder: tempfile::TempDir,
    settings: Settings,
    name: Name,
    phase: Phase,
    recovery_key: Option<RecoveryKey>,
    /// The slot of the second key, where that is there before.
    slot: String,
}

/// What the next command is, after one that was cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Same,
    Other,
}

impl Scene {
    /// Everything that comes before the phase.
    fn before(phase: Phase) -> Self {
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let text = "state_dir = \"state\"\n[repository.main]\nurl = \"repository\"\n\
                    encryption = { key_file = \"key\" }\n";
        let settings = Settings::parse(text, &folder.path().join("settings.toml")).unwrap();
        let name = "main".parse().unwrap();
        let mut scene =
            Self { folder, settings, name, phase, recovery_key: None, slot: String::new() };
        let fs = RealFileSystem::shared();
        if phase != Phase::Init {
            let made = init_on(&fs, scene.place(&fs).settings, INIT).unwrap();
            scene.recovery_key = made.recovery_key;
        }
        scene.write_key("second");
        match phase {
            Phase::Remove => {
                let added = add(&scene.place(&fs), &scene.key("second"), None).unwrap();
                scene.slot = added.slot.unwrap().to_string();
            }
            Phase::Recover => std::fs::remove_file(scene.path("key")).unwrap(),
            Phase::PutBack => {
                export(&scene.place(&fs), &scene.path("export")).unwrap();
                std::fs::remove_dir_all(scene.path("repository/keys")).unwrap();
                std::fs::remove_file(scene.path("repository/repository.json")).unwrap();
            }
            _ => {}
        }
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn place(&self, fs: &Arc<dyn FileSystem>) -> Place<'_> {
        let found = Place::find(&self.settings, &self.name).unwrap();
        Place { fs: fs.clone(), ..found }
    }

    fn write_key(&self, name: &str) {
        std::fs::write(self.path(name), format!("{name:-<40}")).unwrap();
    }

    fn key(&self, name: &str) -> NewKey {
        NewKey::KeyFile { path: self.path(name), generate: false }
    }

    fn act(&mut self, fs: &Arc<dyn FileSystem>) -> Result<(), OperationError> {
        let place = self.place(fs);
        match self.phase {
            Phase::Init => {
                let made = init_on(fs, place.settings, INIT)?;
                self.recovery_key = made.recovery_key;
                return Ok(());
            }
            Phase::Add => add(&place, &self.key("second"), None),
            Phase::Remove => {
                remove(&place, RemoveRequest { digits: &self.slot, own_key_too: false })
            }
            Phase::RotateInPlace => rotate(&place, None),
            Phase::RotateTo => rotate(&place, Some(&self.key("second"))),
            Phase::Recover => let_in(&place, self.recovery_key.as_ref().unwrap()),
            Phase::PutBack => put_back_from(&place, &self.path("export"), None),
        }
        .map(drop)
    }

    fn open(&self, secret: Option<&Secret>) -> Result<Repository, StoreError> {
        Repository::open(&RealFileSystem::shared(), &self.path("repository"), secret, 1)
    }

    fn opens_with_own(&self) -> bool {
        let fs = RealFileSystem::shared();
        open_place(&fs, self.place(&fs).settings).is_ok()
    }

    fn opens_with(&self, name: &str) -> bool {
        let secret = Secret::from_key_file(&RealFileSystem, &self.path(name)).unwrap();
        self.open(Some(&secret)).is_ok()
    }

    fn opens_with_recovery_key(&self) -> bool {
        let key = self.recovery_key.clone().map(Secret::RecoveryKey);
        key.is_none_or(|key| self.open(Some(&key)).is_ok())
    }

    /// What must hold right after the fault.
    fn check(&self, what: &str) {
        let header = Layout::new(self.path("repository")).header();
        if !header.exists() {
            assert!(matches!(self.phase, Phase::Init | Phase::PutBack), "{what}");
            return;
        }
        assert!(self.opens_with_recovery_key(), "{what}");
        match self.phase {
            Phase::RotateTo => {
                assert!(self.opens_with_own() || self.opens_with("second"), "{what}")
            }
            Phase::Recover => {}
            _ => assert!(self.opens_with_own(), "{what}"),
        }
        if self.opens_with_own() {
            let report = list(&self.place(&RealFileSystem::shared())).unwrap();
            assert!(report.is_complete, "{what}: {:?}", report.warnings);
        }
    }

    /// Whether the same command would find nothing to do. Files under construction then wait for
    /// the next one that writes.
    fn is_over(&self, fs: &Arc<dyn FileSystem>) -> bool {
        let is_over = match self.phase {
            Phase::Init => self.opens_with_own(),
            Phase::Remove => {
                let slots = list(&self.place(fs)).unwrap();
                slots.warnings.is_empty()
                    && slots.slots.iter().all(|it| it.slot.to_string() != self.slot)
            }
            _ => false,
        };
        if is_over {
            repair(&self.place(fs)).unwrap();
        }
        is_over
    }

    /// The next command succeeds, and nothing is left of the one that was interrupted.
    fn go_on(&mut self, next: Next, what: &str) {
        let fs = RealFileSystem::shared();
        let done = match next {
            Next::Same if self.is_over(&fs) => Ok(()),
            Next::Same => self.act(&fs),
            Next::Other => {
                self.write_key("third");
                add(&self.place(&fs), &self.key("third"), None).map(drop)
            }
        };
        done.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(self.opens_with_recovery_key(), "{what}");
        let is_elsewhere = next == Next::Same && self.phase == Phase::RotateTo;
        assert!(self.opens_with_own() != is_elsewhere, "{what}");
        if next == Next::Same {
            let second = matches!(self.phase, Phase::Add | Phase::RotateTo);
            assert_eq!(self.opens_with("second"), second, "{what}");
        }
        let name = if is_elsewhere { "second" } else { "key" };
        let secret = Secret::from_key_file(&RealFileSystem, &self.path(name)).unwrap();
        let repository = self.open(Some(&secret)).unwrap();
        assert_eq!(repository.check_slots().unwrap(), [], "{what}");
        for name in ["key.new", "key.old"] {
            assert!(!self.path(name).exists(), "{what}: {name}");
        }
        let temporary = std::fs::read_dir(self.path("repository/tmp")).unwrap();
        assert_eq!(temporary.count(), 0, "{what}");
    }
}

fn cut_everywhere(phase: Phase, last: LastOperation, lost: Option<Lost>, next: Next) {
    for cut in 0.. {
        let what = format!("{phase:?}, {last:?}, {lost:?} lost, then {next:?}, cut {cut}");
        let mut scene = Scene::before(phase);
        let old = std::fs::read(scene.path("key")).unwrap_or_default();
        let unsynced = UnsyncedFileSystem::new(RealFileSystem::shared());
        let fs = CutFileSystem::new(unsynced.clone(), cut, last);
        let done = scene.act(&(fs.clone() as Arc<dyn FileSystem>));
        // What only tidies up may fail unnoticed.
        assert!(done.is_ok() || fs.is_cut(), "{what}: {done:?}");
        if let Some(lost) = lost {
            unsynced.power_cut(lost).unwrap();
        }
        scene.check(&what);
        let is_there = Layout::new(scene.path("repository")).header().exists();
        // Only the same command makes a repository of what is none yet.
        if next == Next::Same || (is_there && scene.opens_with_own()) {
            scene.go_on(next, &what);
        }
        if phase == Phase::RotateInPlace && next == Next::Same && done.is_err() {
            std::fs::write(scene.path("before"), &old).unwrap();
            assert!(!scene.opens_with("before"), "{what}: the old key still opens");
        }
        if !fs.is_cut() {
            assert!(cut > 8, "{what}: so few operations");
            break;
        }
    }
}

fn cut_in_all_manners(phase: Phase) {
    for next in [Next::Same, Next::Other] {
        cut_everywhere(phase, LastOperation::Torn, None, next);
        cut_everywhere(phase, LastOperation::Absent, None, next);
        for lost in [Lost::Content, Lost::Names, Lost::Everything] {
            cut_everywhere(phase, LastOperation::Torn, Some(lost), next);
        }
    }
}

#[test]
fn a_creation_that_is_cut_anywhere_is_a_repository_that_opens_or_none() {
    cut_in_all_manners(Phase::Init);
}

#[test]
fn a_key_that_is_added_and_cut_anywhere_is_there_or_not() {
    cut_in_all_manners(Phase::Add);
}

#[test]
fn a_removal_that_is_cut_anywhere_leaves_the_own_key() {
    cut_in_all_manners(Phase::Remove);
}

#[test]
fn a_rotation_in_place_that_is_cut_anywhere_leaves_a_key_file_that_opens() {
    cut_in_all_manners(Phase::RotateInPlace);
}

#[test]
fn a_rotation_to_another_file_that_is_cut_anywhere_leaves_the_old_or_the_new_key() {
    cut_in_all_manners(Phase::RotateTo);
}

#[test]
fn a_recovery_that_is_cut_anywhere_leaves_the_recovery_key() {
    cut_in_all_manners(Phase::Recover);
}

#[test]
fn putting_back_that_is_cut_anywhere_is_done_by_putting_back_again() {
    cut_in_all_manners(Phase::PutBack);
}

#[test]
fn two_commands_do_not_change_keys_at_once() {
    let scene = Scene::before(Phase::Add);
    let fs = RealFileSystem::shared();
    let place = scene.place(&fs);
    let held = super::change::Open::own(&place, crate::store::IndexTrust::Needed).unwrap();
    for refused in [
        add(&place, &scene.key("second"), None),
        rotate(&place, None),
        repair(&place),
        export(&place, &scene.path("export")),
        let_in(&place, scene.recovery_key.as_ref().unwrap()),
    ] {
        let error = refused.unwrap_err();
        assert_eq!(error.exit_code(), crate::report::ExitCode::Busy, "{error}");
        assert!(error.to_string().contains("a change of the keys"), "{error}");
    }
    drop(held);
    add(&place, &scene.key("second"), None).unwrap();
}

#[test]
fn a_rotation_that_another_host_began_is_not_settled_by_guessing() {
    let mut scene = Scene::before(Phase::RotateInPlace);
    let fs = RealFileSystem::shared();
    scene.write_key("other-host");
    add(&scene.place(&fs), &scene.key("other-host"), None).unwrap();
    // Cut right after the new slot came, before the key file was exchanged.
    let cut = (0..100).find(|cut| {
        let torn = CutFileSystem::new(fs.clone(), *cut, LastOperation::Absent);
        assert!(scene.act(&(torn as Arc<dyn FileSystem>)).is_err());
        let slots = list(&scene.place(&fs)).unwrap().slots;
        slots.iter().filter(|slot| slot.kind == SlotKind::KeyFile).count() == 3
    });
    assert!(cut.is_some());
    let text = "state_dir = \"state\"\n[repository.main]\nurl = \"repository\"\n\
                encryption = { key_file = \"other-host\" }\n";
    let other = Settings::parse(text, &scene.path("settings.toml")).unwrap();
    let own = std::mem::replace(&mut scene.settings, other);
    let error = add(&scene.place(&fs), &scene.key("second"), None).unwrap_err().to_string();
    assert!(error.contains("run `afterimage key rotate` again where it was begun"), "{error}");
    scene.settings = own;
    scene.go_on(Next::Same, "the host that began");
}

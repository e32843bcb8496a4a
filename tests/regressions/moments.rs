//! Defects that showed when something could not be read for a moment, and could be read later.

use crate::KIB;
use crate::common::{World, name, noise, small_cut};
use afterimage::catalog::Catalog;
use afterimage::fsio::{FileSystem, OpenMode};
use afterimage::operations::{catalog_rebuild, open_repository};
use afterimage::progress::Progress;
use afterimage::settings::Settings;
use afterimage::store::{
    Doubt, IndexTrust, InitOptions, Keyring, Own, Repository, Secret, rotate_in_place,
};
use afterimage::testing::disk::{Failing, SimulatedDisk, Span, Step, Verdict};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A slot that could not be read for a moment, right after it was made, was left out of the index,
/// and looked as if somebody had put it there by other means.
#[test]
fn a_rotation_that_cannot_read_for_a_moment_lists_its_slot_all_the_same() {
    let (root, key) = (Path::new("/r/repository"), Path::new("/r/key"));
    let template = SimulatedDisk::new();
    template.create_dir_all(root).unwrap();
    template.open(key, OpenMode::CreateNew).unwrap().write_all_at(&[7; 32], 0).unwrap();
    let secret = |fs: &Arc<dyn FileSystem>| Secret::from_key_file(fs.as_ref(), key).unwrap();
    let fs: Arc<dyn FileSystem> = Arc::new(template.clone());
    let now = jiff::Timestamp::UNIX_EPOCH;
    let secret_now = secret(&fs);
    let options =
        InitOptions { cut: small_cut(), secret: Some(&secret_now), recovery_key: None, now };
    Repository::init(&fs, root, &options).unwrap();
    for at in 0.. {
        let disk = template.copy();
        let is_read = |step| matches!(step, Step::Open | Step::Look | Step::Read);
        let failing = Arc::new(Failing::new(is_read, at, Span::Once, Verdict::Fail(libc::EINTR)));
        let failing_fs: Arc<dyn FileSystem> = disk.directed(failing.clone());
        let rotated = (|| {
            let secret = Secret::from_key_file(failing_fs.as_ref(), key)?;
            let mut keyring = Keyring::open(&failing_fs, root, &secret, IndexTrust::Needed)?;
            rotate_in_place(&mut keyring, key, None, now)
        })();
        if !failing.has_failed() {
            assert!(rotated.is_ok() && at > 10, "{rotated:?}");
            break;
        }
        let fs: Arc<dyn FileSystem> = Arc::new(disk);
        let secret = secret(&fs);
        let mut keyring = Keyring::open(&fs, root, &secret, IndexTrust::Needed).unwrap();
        let own = Own { secret: Some(&secret), key_file: Some(key) };
        keyring.settle(own, Doubt::Refuse).unwrap();
        drop(keyring);
        let repository = Repository::open(&fs, root, Some(&secret), 1).unwrap();
        assert_eq!(repository.check_slots().unwrap(), [], "read {at}");
    }
}

fn settings_of(world: &World) -> Settings {
    let text = "state_dir = \"state\"\n[repository.main]\nurl = \"repository\"\n\
                encryption = \"none\"\n";
    std::fs::write(world.path("settings.toml"), text).unwrap();
    Settings::load(&world.path("settings.toml")).unwrap()
}

/// How far it is was read before how far it had been, which others said meanwhile: of twenty thousand
/// runs of a daemon, seven took the catalog for an older copy.
#[test]
fn a_catalog_that_others_write_to_is_not_taken_for_an_older_copy() {
    let world = World::small(&["root"], false);
    let settings = settings_of(&world);
    let main = name("main");
    catalog_rebuild(&settings, &main, &Progress::default()).unwrap();
    let generation =
        AtomicU64::new(open_repository(&settings, &main).unwrap().catalog.generation().unwrap());
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let open = open_repository(&settings, &main).unwrap();
                    let next = generation.fetch_add(1, Ordering::Relaxed) + 1;
                    open.catalog.raise_generation(next).unwrap();
                }
            });
        }
        for _ in 0..300 {
            let opened = open_repository(&settings, &main).map(drop);
            if opened.is_err() {
                is_over.store(true, Ordering::Relaxed);
            }
            opened.unwrap();
        }
        is_over.store(true, Ordering::Relaxed);
    });
}

/// What could not be read of the old catalog, for want of memory, counted as nothing: the new one
/// was then taken for an older copy, and did not know what is damaged.
#[test]
fn a_rebuild_forgets_nothing_that_it_only_cannot_read_now() {
    let world = World::small(&["root"], false);
    world.write_disk("root", &noise(1, 9000));
    world.backup().unwrap();
    let settings = settings_of(&world);
    let rebuild = || catalog_rebuild(&settings, &name("main"), &Progress::default());
    rebuild().unwrap();
    Catalog::remove(&world.state_dir(), world.repository().header().id).unwrap();
    let in_the_way = world.state_dir().join("history.sqlite-shm");
    std::os::unix::fs::symlink("nowhere", &in_the_way).unwrap();
    let refused = rebuild().unwrap_err().to_string();
    assert!(refused.contains("history.sqlite failed: unable to open"), "{refused}");
    std::fs::remove_file(in_the_way).unwrap();
    rebuild().unwrap();
    open_repository(&settings, &name("main")).unwrap();
}

/// Its number was given again: two points were #2, and copying found two histories.
#[test]
fn a_point_that_could_not_be_read_for_a_moment_keeps_its_number() {
    let world = World::small(&["root"], false);
    world.write_disk("root", &noise(1, 100 * KIB));
    world.backup().unwrap();
    let second = world.backup().unwrap().point;
    let path = world.repository().layout().point(second.id);
    let good = std::fs::read(&path).unwrap();
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 1;
    // On another computer, whose catalog does not know the point yet.
    std::fs::remove_dir_all(world.state_dir()).unwrap();
    std::fs::write(&path, flipped).unwrap();
    let third = world.backup().unwrap();
    assert!(!third.damages.is_empty());
    std::fs::write(&path, good).unwrap();
    let numbers: Vec<u64> = world.points().iter().map(|it| it.manifest.sequence.0).collect();
    assert_eq!(numbers, [1, 2, 3]);
}

//! Defects that were found and mended, each held by a test.

mod common;
#[path = "regressions/crashes.rs"]
mod crashes;
#[path = "regressions/moments.rs"]
mod moments;

// Of the proof: what it takes to have two accidents in a row.
#[path = "proof/actions.rs"]
mod actions;
#[path = "proof/go_on.rs"]
#[allow(dead_code, reason = "each test crate uses its own part")]
mod go_on;
#[path = "proof/known.rs"]
#[allow(dead_code, reason = "each test crate uses its own part")]
mod known;
#[path = "proof/lab.rs"]
#[allow(dead_code, reason = "each test crate uses its own part")]
mod lab;
#[path = "proof/sweep.rs"]
#[allow(dead_code, reason = "each test crate uses its own part")]
mod sweep;
#[path = "proof/twice.rs"]
mod twice;

use afterimage::catalog::Catalog;
use afterimage::destination::{State, Superblock};
use afterimage::fsio::{
    DirEntry, FileHandle, FileStat, FileSystem, OpenMode, RealFileSystem, Result as FileResult,
};
use afterimage::progress::Progress;
use afterimage::replay::{PlanConflict, ReplayError, Replicated};
use afterimage::store::Repository;
use afterimage::testing::{CutFileSystem, LastOperation};
use common::{World, assert_same, name, noise, small_cut};
use std::path::Path;
use std::sync::{Arc, Mutex};

const KIB: usize = 1024;

fn replica_is(world: &World, disk: &str, content: &[u8]) {
    assert_same(&world.replica_disk("standby", disk), content, disk);
}

/// The second of two equal chunks of a region was opened from bytes that were open already.
#[test]
fn content_that_repeats_within_a_region_comes_back_from_an_encrypted_repository() {
    let world = World::small(&["root"], true);
    let piece = noise(1, 16 * KIB);
    let content = [&piece[..], &vec![0; 16 * KIB], &piece, &piece].concat();
    world.write_disk("root", &content);
    let point = world.backup().unwrap().point;
    assert_same(&world.restored(&point, "root"), &content, "restored");
    world.replicate("standby").unwrap();
    replica_is(&world, "root", &content);
}

/// With a superblock, whatever was at the path of a new disk was taken for the replica's own.
#[test]
fn a_disk_that_is_new_to_a_replica_does_not_overwrite_what_is_at_its_path() {
    let mut world = World::small(&["root"], false);
    world.write_disk("root", &noise(1, 9000));
    world.backup().unwrap();
    world.replicate("standby").unwrap();
    let somebodys = world.path("standby/data.raw");
    std::fs::write(&somebodys, b"somebody's").unwrap();
    world.disks.push("data".to_owned());
    world.write_disk("data", &noise(2, 5000));
    world.backup().unwrap();
    let refused = world.replicate("standby").unwrap_err();
    assert!(
        matches!(&refused, ReplayError::Conflict(PlanConflict::Occupied { path }) if *path == somebodys),
        "{refused}"
    );
    assert_eq!(std::fs::read(&somebodys).unwrap(), b"somebody's");
    let adopted = world.replicate_on(&world.fs, "standby", true).unwrap();
    assert!(matches!(adopted, Replicated::Repaired { .. }), "{adopted:?}");
    replica_is(&world, "data", &noise(2, 5000));
}

/// The path in the settings was never looked at again after the first copy.
#[test]
fn a_target_that_is_elsewhere_in_the_settings_is_written_there() {
    let mut world = World::small(&["root"], false);
    world.write_disk("root", &noise(1, 9000));
    world.backup().unwrap();
    world.replicate("standby").unwrap();
    let old = world.path("standby/root.raw");
    world.target_folder = Some("moved".to_owned());
    let done = world.replicate("standby").unwrap();
    assert!(matches!(done, Replicated::Repaired { .. }), "{done:?}");
    let moved = world.path("moved/root.raw");
    assert_same(&std::fs::read(&moved).unwrap(), &noise(1, 9000), "moved");
    // And back, by moving the file itself: it is known.
    std::fs::remove_file(&old).unwrap();
    std::fs::rename(&moved, &old).unwrap();
    world.target_folder = None;
    let done = world.replicate("standby").unwrap();
    assert!(matches!(done, Replicated::Repaired { differing_bytes: 0, .. }), "{done:?}");
}

/// A replica that was killed in the middle of an update.
fn in_mid_apply() -> World {
    for cut in 0.. {
        let world = World::in_memory(&["root"], false);
        world.init_on(&world.fs, small_cut()).unwrap();
        world.write_disk("root", &noise(1, 100 * KIB));
        world.backup().unwrap();
        world.replicate("standby").unwrap();
        world.write_disk("root", &noise(2, 120 * KIB));
        world.backup().unwrap();
        let fs = CutFileSystem::new(RealFileSystem::shared(), cut, LastOperation::Torn);
        let done = world.replicate_on(&(fs as Arc<dyn FileSystem>), "standby", false);
        assert!(done.is_err(), "it was never applying");
        let home = world.replica_home("standby");
        let record =
            Superblock::read_only(&RealFileSystem, &home.superblock(), &name("standby")).unwrap();
        let image = world.replica_disk("standby", "root");
        if matches!(record.state, State::Applying { .. }) && image != noise(1, 100 * KIB) {
            return world;
        }
    }
    unreachable!("the loop has no end");
}

/// Each of these was an error of every later run.
#[test]
fn an_update_that_cannot_be_finished_ends_in_a_comparison() {
    let harms: [fn(&World); 4] = [
        |world| std::fs::remove_file(world.replica_home("standby").journal()).unwrap(),
        |world| {
            let journal = world.replica_home("standby").journal();
            let mut content = std::fs::read(&journal).unwrap();
            content[5000] ^= 1;
            std::fs::write(&journal, content).unwrap();
        },
        |world| std::fs::remove_file(world.path("standby/root.raw")).unwrap(),
        |world| {
            let image = world.path("standby/root.raw");
            std::fs::write(world.path("standby/other"), noise(3, 50 * KIB)).unwrap();
            std::fs::rename(world.path("standby/other"), image).unwrap();
        },
    ];
    for (number, harm) in harms.into_iter().enumerate() {
        let world = in_mid_apply();
        harm(&world);
        let session = world.open_replica(&world.fs, "standby").unwrap();
        assert!(session.unfinished.is_some() && !session.redone, "harm {number}");
        drop(session);
        let mut done = world.replicate("standby");
        if number == 3 {
            // A file that nobody knows is there, and only the user can say whose it is.
            let refused = matches!(&done, Err(ReplayError::Conflict(PlanConflict::Foreign { .. })));
            assert!(refused, "{done:?}");
            done = world.replicate_on(&world.fs, "standby", true);
        }
        let done = done.unwrap();
        assert!(matches!(done, Replicated::Repaired { .. }), "harm {number}: {done:?}");
        replica_is(&world, "root", &noise(2, 120 * KIB));
        assert!(!world.replica_home("standby").journal().exists());
        let done = world.replicate("standby").unwrap();
        assert!(matches!(done, Replicated::Skipped { .. }), "harm {number}: {done:?}");
    }
}

/// The number of a point that was removed is given again; the replica took the new one for it.
#[test]
fn a_point_with_the_number_of_a_removed_one_is_newer_all_the_same() {
    let world = World::small(&["root"], false);
    for seed in [1, 2] {
        world.write_disk("root", &noise(seed, 9000));
        world.backup().unwrap();
    }
    world.replicate("standby").unwrap();
    let newest = world.points().pop().unwrap();
    world.remove_point(newest.id);
    // No replica goes back by itself.
    let done = world.replicate("standby").unwrap();
    assert!(matches!(done, Replicated::Skipped { .. }), "{done:?}");
    replica_is(&world, "root", &noise(2, 9000));
    world.write_disk("root", &noise(3, 9000));
    let again = world.backup().unwrap().point;
    assert_eq!(again.manifest.sequence, newest.manifest.sequence);
    let done = world.replicate("standby").unwrap();
    assert!(matches!(done, Replicated::Repaired { .. }), "{done:?}");
    replica_is(&world, "root", &noise(3, 9000));
}

/// A tree of the sync point that cannot be read stopped every later replication.
#[test]
fn a_damaged_sync_point_leads_to_a_comparison() {
    let world = World::small(&["root"], false);
    world.write_disk("root", &noise(1, 500 * KIB));
    world.backup().unwrap();
    world.replicate("standby").unwrap();
    let old: Vec<_> = world.repository().list_packs().unwrap();
    world.write_disk("root", &noise(2, 500 * KIB));
    world.backup().unwrap();
    for (pack, _) in old {
        std::fs::remove_file(world.repository().layout().pack(pack)).unwrap();
    }
    let done = world.replicate("standby").unwrap();
    assert!(matches!(done, Replicated::Repaired { .. }), "{done:?}");
    replica_is(&world, "root", &noise(2, 500 * KIB));
}

/// Files whose writer's lock was gone, after a power cut, stayed for ever.
#[test]
fn files_under_construction_without_a_lock_are_swept() {
    let world = World::small(&["root"], false);
    let orphan = format!("repository/tmp/{}-7.tmp", "ab".repeat(16));
    std::fs::write(world.path(&orphan), b"half a pack").unwrap();
    world.write_disk("root", &noise(1, 9000));
    world.backup().unwrap();
    assert_eq!(world.leftovers(), Vec::<String>::new());
}

/// The catalog's copy of a manifest is not authenticated; its size was believed.
#[test]
fn a_restore_and_a_replication_believe_the_manifest_not_the_catalogs_copy_of_it() {
    let world = World::small(&["root"], false);
    world.write_disk("root", &vec![0; 4000]);
    world.backup().unwrap();
    let id = world.repository().header().id;
    let catalog = rusqlite::Connection::open(Catalog::path(&world.state_dir(), id)).unwrap();
    let sql = "UPDATE point SET manifest = replace(manifest, '\"size_bytes\":4000', \
               '\"size_bytes\":5000')";
    assert_eq!(catalog.execute(sql, []).unwrap(), 1);
    drop(catalog);
    let point = world.points().pop().unwrap();
    assert_eq!(point.manifest.disks[0].size_bytes, 5000, "the catalog was not altered");
    assert_same(&world.restored(&point, "root"), &vec![0; 4000], "restored");
    world.replicate("standby").unwrap();
    replica_is(&world, "root", &vec![0; 4000]);
}

type Hook = Box<dyn FnOnce() + Send>;

/// Does something else right after a folder was listed for the first time.
struct AfterList {
    inner: Arc<dyn FileSystem>,
    folder: std::path::PathBuf,
    hook: Mutex<Option<Hook>>,
}

impl std::fmt::Debug for AfterList {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AfterList")
    }
}

impl FileSystem for AfterList {
    fn open(&self, path: &Path, mode: OpenMode) -> FileResult<Arc<dyn FileHandle>> {
        self.inner.open(path, mode)
    }

    fn rename_no_replace(&self, from: &Path, to: &Path) -> FileResult<()> {
        self.inner.rename_no_replace(from, to)
    }

    fn rename(&self, from: &Path, to: &Path) -> FileResult<()> {
        self.inner.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> FileResult<()> {
        self.inner.remove_file(path)
    }

    fn create_dir_all(&self, path: &Path) -> FileResult<()> {
        self.inner.create_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> FileResult<()> {
        self.inner.sync_dir(path)
    }

    fn list(&self, path: &Path) -> FileResult<Vec<DirEntry>> {
        let listed = self.inner.list(path)?;
        if path == self.folder
            && let Some(hook) = self.hook.lock().unwrap().take()
        {
            hook();
        }
        Ok(listed)
    }

    fn stat(&self, path: &Path) -> FileResult<Option<FileStat>> {
        self.inner.stat(path)
    }

    fn lock_path(&self, path: &Path) -> FileResult<std::path::PathBuf> {
        self.inner.lock_path(path)
    }

    fn free_bytes(&self, path: &Path) -> FileResult<u64> {
        self.inner.free_bytes(path)
    }
}

/// What another backup added to repository and catalog after the listing looked as if it were in
/// the catalog only, and was forgotten.
#[test]
fn what_another_backup_adds_while_the_catalog_is_synced_is_not_forgotten() {
    for folder in ["repository/packs", "repository/points"] {
        let world = Arc::new(Mutex::new(World::small(&["root"], false)));
        let (root, state_dir, listed) = {
            let world = world.lock().unwrap();
            world.write_disk("root", &noise(1, 9000));
            (world.path("repository"), world.state_dir(), world.path(folder))
        };
        let other = Arc::clone(&world);
        let hook: Hook = Box::new(move || {
            let world = other.lock().unwrap();
            let disks = world.disks.clone();
            world.backup_of(&world.fs, "db01", &disks, &Progress::default()).unwrap();
        });
        let fs: Arc<dyn FileSystem> = Arc::new(AfterList {
            inner: RealFileSystem::shared(),
            folder: listed,
            hook: Mutex::new(Some(hook)),
        });
        let repository = Repository::open(&fs, &root, None, 1).unwrap();
        let catalog = Catalog::open(&state_dir, repository.header().id).unwrap();
        let report = catalog.sync(&repository).unwrap();
        assert_eq!((report.packs_gone, report.points_gone), (0, 0), "{folder}");
        assert_eq!(catalog.point_ids().unwrap().len(), 1, "{folder}");
        assert_eq!(catalog.packs().unwrap().len(), 2, "{folder}");
    }
}

/// A repository on a read-only mount could be restored from, but not replicated from.
#[test]
fn a_repository_that_is_mounted_read_only_still_feeds_replicas() {
    let world = World::small(&["root"], false);
    world.write_disk("root", &noise(1, 90 * KIB));
    world.backup().unwrap();
    let repository = world.path("repository");
    let mount = |arguments: &[&str]| {
        let done = std::process::Command::new("mount").args(arguments).arg(&repository).status();
        assert!(done.unwrap().success(), "this test needs root, to mount");
    };
    mount(&["--bind", repository.to_str().unwrap()]);
    mount(&["-o", "remount,bind,ro"]);
    let done = world.replicate("standby");
    let unmounted = std::process::Command::new("umount").arg(&repository).status().unwrap();
    assert!(unmounted.success());
    assert!(matches!(done, Ok(Replicated::Seeded { .. })), "{done:?}");
    replica_is(&world, "root", &noise(1, 90 * KIB));
}

/// The catalog and the history were readable by everybody who could enter the folder.
#[test]
fn local_databases_are_readable_by_their_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::small(&["root"], true);
    std::fs::create_dir(world.state_dir()).unwrap();
    std::fs::set_permissions(world.state_dir(), std::fs::Permissions::from_mode(0o755)).unwrap();
    world.write_disk("root", &noise(1, 9000));
    world.backup().unwrap();
    let _history = afterimage::catalog::History::open(&world.state_dir()).unwrap();
    let files: Vec<_> = std::fs::read_dir(world.state_dir()).unwrap().map(|e| e.unwrap()).collect();
    assert!(files.len() >= 2, "{files:?}");
    for file in files {
        let mode = file.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{file:?}");
    }
}

/// It was refused because its image was locked, which says nothing of why.
#[test]
fn a_promoted_replica_is_refused_as_such_while_its_guest_runs() {
    use afterimage::fsio::{QemuAccess, QemuLock};
    use afterimage::units::Epoch;
    let world = World::small(&["root"], false);
    world.write_disk("root", &noise(1, 50 * KIB));
    world.backup().unwrap();
    world.replicate("standby").unwrap();
    let home = world.replica_home("standby").superblock();
    let mut superblock = Superblock::open(&RealFileSystem, &home, &name("standby")).unwrap();
    let mut record = superblock.current().clone();
    let State::Clean { point } = record.state else { unreachable!("it is clean") };
    record.state = State::Promoted { point };
    record.epoch = Epoch(record.epoch.0 + 1);
    superblock.store(record).unwrap();
    let _guest = QemuLock::take(&world.path("standby/root.raw"), QemuAccess::Write).unwrap();
    let refused = world.replicate("standby").unwrap_err();
    let promoted = matches!(refused, ReplayError::Conflict(PlanConflict::Promoted { point: at }) if at == point);
    assert!(promoted, "{refused}");
}

use super::*;
use crate::fsio::{FileLock, LockHolder};
use crate::fsio::{FileSystem, LockMode, OpenMode, write_new};
use crate::testing::{LastOperation, Random};
use std::collections::BTreeSet;

fn disk() -> SimulatedDisk {
    let disk = SimulatedDisk::new();
    disk.create_dir_all(Path::new("/a")).unwrap();
    disk
}

fn path(name: &str) -> PathBuf {
    Path::new("/a").join(name)
}

/// Contents of a file in all states that a crash may leave.
fn states(disk: &SimulatedDisk, name: &str) -> BTreeSet<Option<Vec<u8>>> {
    let samples = (0..20).map(|seed| disk.crash_states(Random::new(seed), 10_000));
    samples.flatten().map(|state| state.content(&path(name))).collect()
}

#[test]
fn what_is_synced_stays_in_every_state() {
    let disk = disk();
    let fs: Arc<dyn FileSystem> = Arc::new(disk.clone());
    write_new(&fs, path("t"), &path("f"), b"content").unwrap();
    assert_eq!(disk.waiting(), 0);
    assert_eq!(states(&disk, "f"), [Some(b"content".to_vec())].into());
    assert_eq!(states(&disk, "t"), [None].into());
}

#[test]
fn a_new_file_may_be_there_or_not_grown_or_not_filled_or_not() {
    let disk = disk();
    let file = disk.open(&path("f"), OpenMode::CreateNew).unwrap();
    file.write_all_at(b"xy", 0).unwrap();
    let all = states(&disk, "f");
    let expected = [None, Some(vec![]), Some(vec![0, 0]), Some(b"xy".to_vec())];
    assert_eq!(all, expected.into());
    file.sync().unwrap();
    assert_eq!(states(&disk, "f"), [None, Some(b"xy".to_vec())].into());
    disk.sync_dir(Path::new("/a")).unwrap();
    assert_eq!(states(&disk, "f"), [Some(b"xy".to_vec())].into());
}

#[test]
fn writes_are_torn_at_sectors_and_nowhere_else() {
    let disk = disk();
    let file = disk.open(&path("f"), OpenMode::CreateNew).unwrap();
    file.set_len(4 * 512).unwrap();
    disk.settle();
    file.write_all_at(&[7; 1024 + 512], 256).unwrap();
    let all = states(&disk, "f");
    // Four sectors are touched, two of them in part.
    assert_eq!(all.len(), 16);
    for content in all.into_iter().flatten() {
        for sector in content.chunks(512).take(3).skip(1) {
            assert!(sector.iter().all(|byte| *byte == sector[0]), "torn within a sector");
        }
    }
}

#[test]
fn a_rename_is_undone_as_a_whole_and_never_doubled() {
    let disk = disk();
    disk.create_dir_all(Path::new("/b")).unwrap();
    let file = disk.open(&path("f"), OpenMode::CreateNew).unwrap();
    file.write_all_at(b"1", 0).unwrap();
    disk.settle();
    let other = Path::new("/b/f");
    disk.rename(&path("f"), other).unwrap();
    for state in disk.crash_states(Random::new(2), 100) {
        let places = [state.content(&path("f")), state.content(other)];
        assert_eq!(places.iter().flatten().count(), 1, "{places:?}");
    }
    disk.sync_dir(Path::new("/b")).unwrap();
    assert_eq!(states(&disk, "f"), [None].into());
    // Created, renamed, and only the second folder synced.
    drop(disk.open(&path("g"), OpenMode::CreateNew).unwrap());
    disk.rename_no_replace(&path("g"), Path::new("/b/g")).unwrap();
    disk.sync_dir(Path::new("/b")).unwrap();
    assert_eq!(states(&disk, "g"), [None].into());
}

#[test]
fn a_sync_that_fails_forgets_and_the_next_one_does_not_know() {
    let disk = disk();
    let file = disk.open(&path("f"), OpenMode::CreateNew).unwrap();
    file.write_all_at(b"old", 0).unwrap();
    disk.settle();
    let failing = Failing::new(|step| step == Step::Sync, 0, Span::Once, Verdict::Fail(libc::EIO));
    let fs = disk.directed(Arc::new(failing));
    let file = fs.open(&path("f"), OpenMode::Write).unwrap();
    file.write_all_at(b"new", 0).unwrap();
    assert!(file.sync().is_err());
    file.sync().unwrap();
    assert_eq!(disk.content(&path("f")).unwrap(), b"new");
    assert_eq!(states(&disk, "f"), [Some(b"old".to_vec())].into());
}

#[test]
fn a_killed_process_does_nothing_more_and_its_locks_are_free() {
    let disk = disk();
    let killed = Arc::new(Killed::after(1, LastOperation::Torn));
    let fs = disk.directed(killed.clone());
    let holder = LockHolder::this_process("a test");
    let take =
        |fs: &SimulatedDisk| FileLock::try_take(fs, &path("lock"), LockMode::Exclusive, &holder);
    let held = take(&fs).unwrap();
    assert!(take(&disk).is_err());
    let file = fs.open(&path("f"), OpenMode::CreateNew).unwrap();
    assert!(file.write_all_at(b"abcd", 0).is_err());
    assert!(killed.is_dead());
    assert!(fs.remove_file(&path("f")).is_err());
    assert!(file.read_at(&mut [0], 0).is_err());
    assert_eq!(disk.content(&path("f")).unwrap(), b"ab");
    for state in disk.crash_states(Random::new(3), 50) {
        take(&state).unwrap();
    }
    drop(held);
}

#[test]
fn a_copy_goes_its_own_way() {
    let disk = disk();
    let file = disk.open(&path("f"), OpenMode::CreateNew).unwrap();
    file.write_all_at(b"one", 0).unwrap();
    let copy = disk.copy();
    disk.overwrite(&path("f"), 0, b"two");
    assert_eq!(copy.content(&path("f")).unwrap(), b"one");
    assert_eq!(disk.content(&path("f")).unwrap(), b"two");
    assert_eq!(copy.files(), [path("f")]);
    let names: Vec<_> = copy.list(Path::new("/a")).unwrap().into_iter().map(|e| e.name).collect();
    assert_eq!(names, ["f"]);
}

//! What is not certainly the clone that was kept tells nothing, and nothing is left behind.

use crate::image::{clone, clone_as, mark, mark_of};
use crate::volume::{Kind, Volume, succeed};
use afterimage::capture::clone::{CloneError, ImageClone};
use afterimage::extent::Extent;
use afterimage::source::{ImageFormat, open_clone};
use afterimage::testing::noise;
use std::fs::Permissions;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::Command;

fn image_on(volume: &Volume) -> PathBuf {
    let path = volume.path("disk.img");
    std::fs::write(&path, noise(1, 1 << 20)).unwrap();
    path
}

/// An image, and a clone of it that is kept.
fn with_base(kind: Kind) -> (Volume, PathBuf, ImageClone) {
    let volume = Volume::new(kind);
    let path = image_on(&volume);
    let mut base = clone(&path, None).unwrap();
    base.keep(None);
    (volume, path, base)
}

#[test]
fn a_base_that_is_not_what_it_was_tells_nothing() {
    for kind in [Kind::Xfs, Kind::Btrfs] {
        let (volume, path, base) = with_base(kind);
        let (kept, place) = (base.as_base(), base.as_base().path);
        let next = clone(&path, Some(&kept)).unwrap();
        let unknown = |reason: &str| {
            let found = next.changed_since(&kept).unwrap_err();
            assert!(found.contains(reason) && found.contains("web01.root."), "{kind:?}: {found}");
        };
        assert_eq!(next.changed_since(&kept).unwrap(), []);
        // Only root can write to it, and does.
        let file = std::fs::File::options().write(true).open(&place).unwrap();
        file.write_all_at(b"x", 5000).unwrap();
        drop(file);
        unknown("not what it was");
        std::fs::remove_file(&place).unwrap();
        unknown("is gone");
        std::fs::copy(&path, &place).unwrap();
        unknown("not what it was");
        std::fs::remove_file(&place).unwrap();
        symlink(&path, &place).unwrap();
        unknown("is gone");
        std::fs::remove_file(&place).unwrap();
        std::fs::create_dir(&place).unwrap();
        unknown("is gone");
        std::fs::remove_dir(&place).unwrap();
        std::fs::rename(volume.path(".afterimage-clones"), volume.path("elsewhere")).unwrap();
        unknown("is gone");
        let mut foreign = kept.clone();
        foreign.path = path.clone();
        assert!(next.changed_since(&foreign).unwrap_err().contains("no clone"));
    }
}

#[test]
fn a_base_counts_after_the_file_system_was_mounted_anew() {
    for kind in [Kind::Xfs, Kind::Btrfs] {
        let (volume, path, base) = with_base(kind);
        let kept = base.as_base();
        drop(base);
        volume.remount();
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.write_all_at(&[7; 4096], 8192).unwrap();
        let next = clone(&path, Some(&kept)).unwrap();
        assert_eq!(next.changed_since(&kept).unwrap(), [Extent::between(8192, 12288)], "{kind:?}");
        drop((next, file));
    }
}

#[test]
fn what_a_run_that_was_cut_off_left_is_removed_and_nothing_else() {
    let (volume, path, base) = with_base(Kind::Xfs);
    let kept = base.as_base();
    // As if the process had been killed: nothing is dropped.
    std::mem::forget(clone(&path, Some(&kept)).unwrap());
    let left: Vec<String> = volume.clones();
    assert_eq!(left.len(), 2);
    // Still in use by another run.
    let in_use = left.iter().find(|name| !kept.path.ends_with(name)).unwrap();
    drop(clone(&path, Some(&kept)).unwrap());
    assert_eq!(volume.clones().len(), 2);
    // That run has ended now; its clone is one that nobody holds.
    let dead = volume.path(".afterimage-clones").join(in_use);
    std::fs::remove_file(&dead).unwrap();
    std::fs::write(&dead, "left").unwrap();
    let mut foreign = clone_as(&path, Some(ImageFormat::Raw), mark_of(2), None).unwrap();
    foreign.keep(None);
    std::fs::write(volume.path(".afterimage-clones/README"), "mine").unwrap();
    let mut next = clone(&path, Some(&kept)).unwrap();
    assert!(!dead.exists());
    assert_eq!(volume.clones().len(), 4, "{:?}", volume.clones());
    next.keep(Some(&kept));
    drop(next);
    let mut names = volume.clones();
    names.retain(|name| name.contains(&mark().to_string()));
    assert_eq!(names.len(), 1, "{names:?}");
    assert!(foreign.as_base().path.exists());
    assert!(volume.path(".afterimage-clones/README").exists());
}

#[test]
fn a_clone_that_is_not_kept_leaves_nothing_not_even_its_folder() {
    for kind in [Kind::Xfs, Kind::Btrfs] {
        let volume = Volume::new(kind);
        let path = image_on(&volume);
        let held = clone(&path, None).unwrap();
        let mode = |path: &PathBuf| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&held.spec().path), 0o400);
        assert_eq!(mode(&volume.path(".afterimage-clones")), 0o700);
        let source = open_clone(&held.spec()).unwrap();
        source.check_unchanged().unwrap();
        drop((source, held));
        let left: Vec<_> = std::fs::read_dir(volume.folder()).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }
}

#[test]
fn a_folder_that_is_not_ones_own_is_refused_and_left_alone() {
    let volume = Volume::new(Kind::Xfs);
    let path = image_on(&volume);
    let folder = volume.path(".afterimage-clones");
    let refused = |reason: &str| {
        let refused = clone(&path, None).unwrap_err();
        assert!(matches!(refused, CloneError::Folder { .. }), "{refused}");
        assert!(refused.to_string().contains(reason), "{refused}");
    };
    let elsewhere = volume.path("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    symlink(&elsewhere, &folder).unwrap();
    refused("no folder");
    std::fs::remove_file(&folder).unwrap();
    std::fs::write(&folder, "a file").unwrap();
    refused("no folder");
    std::fs::remove_file(&folder).unwrap();
    std::fs::create_dir(&folder).unwrap();
    std::fs::set_permissions(&folder, Permissions::from_mode(0o770)).unwrap();
    refused("others can write");
    std::fs::set_permissions(&folder, Permissions::from_mode(0o700)).unwrap();
    std::os::unix::fs::chown(&folder, Some(65534), None).unwrap();
    refused("another user");
    assert_eq!(std::fs::read_dir(&elsewhere).unwrap().count(), 0);
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
}

#[test]
fn what_cannot_be_cloned_is_refused_with_the_reason() {
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = folder.path().join("disk.img");
    std::fs::write(&path, [1; 4096]).unwrap();
    let refused = clone(&path, None).unwrap_err();
    assert!(matches!(refused, CloneError::FileSystem { .. }), "{refused}");
    assert!(refused.to_string().contains("XFS or btrfs"), "{refused}");
    let refused = clone(folder.path(), None).unwrap_err();
    assert!(matches!(refused, CloneError::NotAFile { .. }), "{refused}");
    let refused = clone(&folder.path().join("none"), None).unwrap_err().to_string();
    assert!(refused.contains("cannot find") && refused.contains("none"), "{refused}");
    // XFS without shared blocks.
    let volume = Volume::without_reflink();
    let path = image_on(&volume);
    let refused = clone(&path, None).unwrap_err();
    assert!(matches!(refused, CloneError::Refused { .. }), "{refused}");
    assert!(!volume.path(".afterimage-clones").exists());
}

/// In a folder whose new files are written in place, and the other way around.
#[test]
fn images_are_cloned_whether_or_not_they_are_copied_on_write() {
    let volume = Volume::new(Kind::Btrfs);
    for (folder, flag) in [("plain", "+C"), ("in-place", "-C")] {
        let folder = volume.path(folder);
        std::fs::create_dir(&folder).unwrap();
        if flag == "-C" {
            succeed(Command::new("chattr").arg("+C").arg(&folder));
        }
        let path = folder.join("disk.img");
        std::fs::write(&path, "").unwrap();
        succeed(Command::new("chattr").arg(flag).arg(&path));
        std::fs::write(&path, noise(1, 1 << 20)).unwrap();
        let held = clone(&path, None).unwrap();
        assert!(std::fs::read(held.spec().path).unwrap() == std::fs::read(&path).unwrap());
    }
}

/// Whatever space is left: either it is a whole clone, or an error that leaves nothing.
#[test]
fn a_clone_that_does_not_fit_is_an_error_and_never_a_part() {
    let volume = Volume::sized(Kind::Xfs, 300 << 20);
    let path = volume.path("disk.img");
    let image = std::fs::File::create(&path).unwrap();
    for block in 0..4000 {
        image.write_all_at(&noise(block, 4096), block * 8192).unwrap();
    }
    image.sync_all().unwrap();
    let filler = std::fs::File::create(volume.path("filler")).unwrap();
    let (mut filled, mut failures) = (0, 0);
    for step in [1 << 20, 64 << 10, 4096] {
        let keep = rustix::fs::FallocateFlags::KEEP_SIZE;
        while rustix::fs::fallocate(&filler, keep, filled, step).is_ok() {
            filled += step;
        }
    }
    let held = loop {
        match clone(&path, None) {
            Ok(held) => break held,
            Err(refused) => assert!(failures < 10_000, "{refused}"),
        }
        failures += 1;
        assert!(volume.clones().is_empty(), "{:?}", volume.clones());
        filled -= 4096;
        let punch = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
        rustix::fs::fallocate(&filler, punch, filled, 4096).unwrap();
    };
    assert!(failures > 0, "it was never too full");
    assert!(std::fs::read(held.spec().path).unwrap() == std::fs::read(&path).unwrap());
}

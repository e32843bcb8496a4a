//! Restores onto what is there already: nothing is replaced that must not be.

mod common;

use afterimage::destination::Damaged;
use afterimage::fsio::{FileStat, QemuAccess, QemuLock, RealFileSystem};
use afterimage::point::Point;
use afterimage::progress::Progress;
use afterimage::recover::{RestoreError, RestoreOptions, plan_restore, restore};
use common::{World, assert_same, noise, small_cut};
use std::path::Path;

const DISK_BYTES: usize = 60_000;

/// A machine whose disk was backed up once.
fn world() -> (World, Point) {
    let world = World::in_memory(&["root"], false);
    world.init_on(&RealFileSystem::shared(), small_cut()).unwrap();
    world.write_disk("root", &noise(1, DISK_BYTES));
    let point = world.backup().unwrap().point;
    (world, point)
}

fn no_partial_files(folder: &Path) {
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let partial = names.filter(|name| name.to_string_lossy().ends_with(".partial"));
    assert_eq!(partial.count(), 0);
}

/// It was renamed away from under the guest, whose writes then went nowhere.
#[test]
fn an_image_that_a_guest_runs_on_is_not_replaced() {
    let (world, point) = world();
    let folder = world.restore(&point, "restored").unwrap();
    let image = folder.join("root.raw");
    std::fs::write(&image, b"the guest's").unwrap();
    let guest = QemuLock::take(&image, QemuAccess::Write).unwrap();
    let refused = world.restore(&point, "restored").unwrap_err().to_string();
    assert!(refused.contains("is open in another program"), "{refused}");
    assert_eq!(std::fs::read(&image).unwrap(), b"the guest's");
    no_partial_files(&folder);
    drop(guest);
    assert_same(&world.restored(&point, "root"), &noise(1, DISK_BYTES), "after the guest ended");
}

/// What is protected was looked at when the restore was planned, and not again.
#[test]
fn a_folder_that_leads_to_a_source_once_the_user_was_asked_is_refused() {
    let (world, point) = world();
    for folder in ["harmless", "sources"] {
        std::fs::create_dir(world.path(folder)).unwrap();
    }
    let source = world.path("sources/root.raw");
    std::fs::write(&source, b"a source").unwrap();
    let fs = RealFileSystem::shared();
    let link = world.path("link");
    let lead_to = |folder: &str| {
        let _ = std::fs::remove_file(&link);
        std::os::unix::fs::symlink(world.path(folder), &link).unwrap();
    };
    lead_to("harmless");
    let protected: Vec<(FileStat, String)> =
        vec![(fs.stat(&source).unwrap().unwrap(), "the source of a disk".to_owned())];
    let (to, damaged) = (link.clone(), Damaged::Fail);
    let options = RestoreOptions { disk: None, to, force: true, protected, workers: 1, damaged };
    let repository = world.repository();
    let catalog = world.catalog(&repository);
    let plan = plan_restore(fs.as_ref(), &repository, &catalog, &point, &options).unwrap();
    lead_to("sources");
    let done = restore(&fs, &repository, &catalog, &plan, &options, &Progress::default());
    assert!(matches!(done, Err(RestoreError::Protected { .. })), "{done:?}");
    assert_eq!(std::fs::read(&source).unwrap(), b"a source");
    no_partial_files(&world.path("sources"));
}

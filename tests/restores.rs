//! Restores onto what is there already: nothing is replaced that must not be, and an image never
//! stands without the map of what is missing in it.

mod common;

use afterimage::destination::Damaged;
use afterimage::fsio::{FileStat, QemuAccess, QemuLock, RealFileSystem};
use afterimage::point::Point;
use afterimage::progress::Progress;
use afterimage::recover::{RestoreError, RestoreOptions, plan_restore, restore};
use afterimage::store::PackKind;
use afterimage::testing::{CutFileSystem, LastOperation};
use common::{World, assert_same, noise, small_cut};
use std::path::Path;
use std::sync::Arc;

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

/// The map went before the image was replaced: for a while, and after a kill for ever, zeros that
/// never were there stood without a word of it.
#[test]
fn an_image_with_gaps_has_its_map_until_it_is_replaced() {
    let (mut world, point) = world();
    let repository = world.repository();
    let is_data = |pack| repository.read_pack_record(pack).unwrap().kind == PackKind::Data;
    let mut packs = repository.list_packs().unwrap().into_iter().map(|(pack, _)| pack);
    let pack = packs.find(|pack| is_data(*pack)).unwrap();
    let pack = repository.layout().pack(pack);
    let good = std::fs::read(&pack).unwrap();
    let mut rotten = good.clone();
    rotten[5000] ^= 1;
    std::fs::write(&pack, rotten).unwrap();
    world.damaged = Damaged::Skip;
    let image = world.restore(&point, "restored").unwrap().join("root.raw");
    let map = world.path("restored/root.raw.missing.json");
    let with_gaps = (std::fs::read(&image).unwrap(), std::fs::read(&map).unwrap());
    std::fs::write(&pack, good).unwrap();
    world.damaged = Damaged::Fail;
    for cut in 0.. {
        std::fs::write(&image, &with_gaps.0).unwrap();
        std::fs::write(&map, &with_gaps.1).unwrap();
        let fs = CutFileSystem::new(RealFileSystem::shared(), cut, LastOperation::Torn);
        let done = world.restore_on(&(Arc::clone(&fs) as _), &point, "restored");
        let is_whole = std::fs::read(&image).unwrap() == noise(1, DISK_BYTES);
        assert!(is_whole || map.exists(), "cut {cut}: zeros stand without their map");
        if !fs.is_cut() {
            done.unwrap();
            assert!(is_whole && !map.exists(), "the map of an image that is whole stayed");
            assert!(cut >= 8, "{cut} operations cannot be all");
            break;
        }
    }
}

//! Rot: every file of a repository, and its catalog, flipped, cut off, removed and swapped.
//!
//! What must hold: nothing panics, nothing wrong is given out as right, what is refused names
//! what is damaged, and the next backup makes good what it can know of.

mod common;

use afterimage::catalog::{Catalog, CatalogError};
use afterimage::point::Point;
use afterimage::replay::Replicated;
use afterimage::store::{Repository, Secret, StoreError};
use afterimage::units::PointId;
use common::files::{Files, read_files, write_files};
use common::{World, assert_same, noise, small_cut};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

type Contents = BTreeMap<String, Vec<u8>>;

/// A small repository with two points, kept in memory to be laid out again and again.
struct Template {
    files: Files,
    points: Vec<(Point, Contents)>,
    encrypted: bool,
}

fn contents(number: u64) -> Contents {
    let mut root = noise(1, 150_000);
    root[40_000..90_000].fill(0);
    root[7000 * number as usize..][..9000].copy_from_slice(&noise(number, 9000));
    let again = root[100_000..110_000].to_vec();
    root[120_000..130_000].copy_from_slice(&again);
    [("root".to_owned(), root), ("data".to_owned(), noise(2, 3333))].into()
}

fn write_disks(world: &World, contents: &Contents) {
    contents.iter().for_each(|(disk, content)| world.write_disk(disk, content));
}

impl Template {
    fn new(encrypted: bool) -> Self {
        let world = World::in_memory(&["root", "data"], encrypted);
        world.init_on(&world.fs, small_cut()).unwrap();
        let mut points = Vec::new();
        for number in 0..2 {
            write_disks(&world, &contents(number));
            points.push((world.backup().unwrap().point, contents(number)));
        }
        Self { files: read_files(world.folder.path()), points, encrypted }
    }

    fn lay_out(&self, files: &Files) -> World {
        let world = World::in_memory(&["root", "data"], self.encrypted);
        write_files(files, world.folder.path());
        world
    }

    /// Files of the repository that carry something, and the catalog's.
    fn targets(&self) -> Vec<&PathBuf> {
        let carries = |path: &&PathBuf| {
            let text = path.to_str().unwrap();
            text.starts_with("repository") && !text.contains("locks") || text.ends_with(".sqlite")
        };
        self.files.keys().filter(carries).collect()
    }
}

fn open(world: &World) -> Result<(Repository, Catalog), StoreError> {
    let secret = world.secret.as_ref();
    let repository = Repository::open(&world.fs, &world.path("repository"), secret, 1)?;
    let catalog = Catalog::open(&world.state_dir(), repository.header().id)?;
    catalog.sync(&repository)?;
    Ok((repository, catalog))
}

fn forget_catalog(world: &World) {
    std::fs::remove_dir_all(world.state_dir()).unwrap();
}

/// Restores a point; what succeeds is right.
fn restores(world: &World, point: &Point, expected: &Contents, what: &str) -> Result<(), String> {
    let folder = world.restore(point, "restored").map_err(|error| error.to_string())?;
    for (disk, content) in expected {
        let found = std::fs::read(folder.join(format!("{disk}.raw"))).unwrap();
        assert_same(&found, content, &format!("{what}: restored {disk}"));
    }
    Ok(())
}

/// Does everything that can be done with the damaged repository. Gives back the errors of the
/// restores of the two points, if it could be opened at all.
fn exercise(template: &Template, world: &World, what: &str) -> Result<Vec<String>, String> {
    open(world).map_err(|error| error.to_string())?;
    let mut errors = Vec::new();
    let mut known: BTreeMap<PointId, Contents> = BTreeMap::new();
    for (point, expected) in &template.points {
        errors.extend(restores(world, point, expected, what).err());
        known.insert(point.id, expected.clone());
    }
    let newer = contents(2);
    write_disks(world, &newer);
    let done = world.backup();
    // Rot in what is old stops no new backup; only the catalog's own can.
    let catalog_is_whole = !what.contains("sqlite");
    assert!(done.is_ok() || !catalog_is_whole, "{what}: {done:?}");
    if let Ok(done) = done {
        // It fails loudly where it shares a damaged object.
        let _ = restores(world, &done.point, &newer, what);
        known.insert(done.point.id, newer);
    }
    if let Ok(Replicated::Seeded { to }) = world.replicate("standby") {
        for (disk, content) in &known[&to.id] {
            assert_same(&world.replica_disk("standby", disk), content, what);
        }
    }
    Ok(errors)
}

/// What is done to a file, in words and in deed.
type Harm = (String, Box<dyn Fn(&mut Vec<u8>)>);

/// Ways to damage one file.
fn damages(len: usize) -> Vec<Harm> {
    let mut all: Vec<Harm> = Vec::new();
    let places = [0, 9, len / 5, len / 2, len * 4 / 5, len.saturating_sub(45), len - 1];
    for at in places {
        let bit = 1 << (at % 8);
        all.push((format!("byte {at} flipped"), Box::new(move |it| it[at.min(len - 1)] ^= bit)));
    }
    for left in [0, len / 2, len - 1] {
        all.push((format!("cut to {left}"), Box::new(move |it| it.truncate(left))));
    }
    all.push(("longer".to_owned(), Box::new(|it| it.push(0))));
    all
}

fn damage_everything(encrypted: bool) {
    let template = Template::new(encrypted);
    let mut refused = 0;
    for path in template.targets() {
        for (kind, damage) in damages(template.files[path].len()) {
            for catalog_lost in [false, true] {
                let what = format!("{} {kind}, catalog lost: {catalog_lost}", path.display());
                let mut files = template.files.clone();
                damage(files.get_mut(path).unwrap());
                let world = template.lay_out(&files);
                if catalog_lost {
                    forget_catalog(&world);
                }
                match exercise(&template, &world, &what) {
                    Ok(errors) => {
                        refused += errors.len();
                        check_names(path, &errors, &what);
                    }
                    Err(error) => {
                        refused += 1;
                        let is_small = !path.to_str().unwrap().contains("/p");
                        assert!(is_small, "{what}: does not open: {error}");
                    }
                }
            }
        }
    }
    assert!(refused > 30, "only {refused} refusals: nothing was damaged");
}

/// Every refusal says which pack, point or object it is about.
fn check_names(path: &Path, errors: &[String], what: &str) {
    let file = path.file_name().unwrap().to_str().unwrap();
    for error in errors {
        let names_it = file.len() == 64 && error.contains(&file[..12]);
        let names_object = error.contains("object ") || error.contains("catalog");
        assert!(names_it || names_object, "{what}: {error}");
    }
}

#[test]
fn damage_anywhere_is_never_given_out_as_content() {
    damage_everything(false);
}

#[test]
fn damage_anywhere_in_an_encrypted_repository_is_never_given_out_as_content() {
    damage_everything(true);
}

#[test]
fn files_of_a_kind_that_were_swapped_are_found_out_or_harmless() {
    for encrypted in [false, true] {
        let template = Template::new(encrypted);
        let packs = |it: &&&PathBuf| it.to_str().unwrap().contains("/packs/");
        let points = |it: &&&PathBuf| it.to_str().unwrap().contains("/points/");
        let targets = template.targets();
        let packs: Vec<_> = targets.iter().filter(packs).collect();
        let points: Vec<_> = targets.iter().filter(points).collect();
        assert!(packs.len() >= 4 && points.len() == 2);
        for pair in packs.windows(2).chain(points.windows(2)) {
            let what = format!("{} and {} swapped", pair[0].display(), pair[1].display());
            let mut files = template.files.clone();
            files.insert(pair[0].to_path_buf(), template.files[*pair[1]].clone());
            files.insert(pair[1].to_path_buf(), template.files[*pair[0]].clone());
            let world = template.lay_out(&files);
            let errors = exercise(&template, &world, &what).unwrap();
            assert!(errors.len() == 2 || what.contains("packs"), "{what}: {errors:?}");
        }
    }
}

/// A chunk that is known only from a pack that is not there, or cannot be read, is not known.
#[test]
fn the_next_backup_stores_again_what_was_in_a_lost_pack() {
    for encrypted in [false, true] {
        let template = Template::new(encrypted);
        for path in template.targets() {
            if !path.to_str().unwrap().contains("/packs/") {
                continue;
            }
            for cut in [None, Some(10), Some(template.files[path].len() - 1)] {
                let what = format!("{} cut to {cut:?}", path.display());
                let mut files = template.files.clone();
                match cut {
                    None => drop(files.remove(path)),
                    Some(len) => files.get_mut(path).unwrap().truncate(len),
                }
                let world = template.lay_out(&files);
                let done = world.backup().unwrap();
                assert_eq!(done.damages.is_empty(), cut.is_none(), "{what}: {:?}", done.damages);
                restores(&world, &done.point, &template.points[1].1, &what).unwrap();
                forget_catalog(&world);
                restores(&world, &done.point, &template.points[1].1, &what).unwrap();
            }
        }
    }
}

fn catalog_of(template: &Template) -> PathBuf {
    let is_catalog = |path: &&PathBuf| path.extension().is_some_and(|it| it == "sqlite");
    template.files.keys().find(is_catalog).cloned().unwrap()
}

#[test]
fn a_damaged_catalog_never_costs_more_than_itself() {
    let template = Template::new(false);
    let catalog = catalog_of(&template);
    assert!(template.files.keys().all(|it| !it.to_str().unwrap().ends_with("-wal")));
    let len = template.files[&catalog].len();
    // Pages of 16 KiB, rows at their ends: every row is met by one of these.
    for at in (0..len).step_by(len / 200).chain(len - 2000..len - 1900) {
        let what = format!("byte {at} of the catalog's sqlite file");
        let mut files = template.files.clone();
        files.get_mut(&catalog).unwrap()[at] ^= 4;
        let world = template.lay_out(&files);
        let _ = exercise(&template, &world, &what);
        forget_catalog(&world);
        for point in world.points() {
            let old = template.points.iter().find(|(old, _)| old.id == point.id);
            let expected = old.map_or_else(|| contents(2), |(_, expected)| expected.clone());
            restores(&world, &point, &expected, &what).unwrap();
        }
    }
}

#[test]
fn keys_headers_and_catalogs_that_do_not_belong_are_refused() {
    let template = Template::new(true);
    let world = template.lay_out(&template.files);
    let open_with =
        |secret: Option<&Secret>| Repository::open(&world.fs, &world.path("repository"), secret, 1);
    std::fs::write(world.path("other"), [8; 32]).unwrap();
    let other = Secret::from_key_file(world.fs.as_ref(), &world.path("other")).unwrap();
    assert!(matches!(open_with(Some(&other)), Err(StoreError::WrongKey { tried: 1, .. })));
    assert!(matches!(open_with(None), Err(StoreError::EncryptionDiffers { .. })));
    let header = world.path("repository/repository.json");
    let text = std::fs::read_to_string(&header).unwrap();
    std::fs::write(&header, text.replace("\"format\": 2", "\"format\": 3")).unwrap();
    let newer = open_with(world.secret.as_ref());
    assert!(matches!(newer, Err(StoreError::NewerFormat { found: 3, known: 2, .. })), "{newer:?}");
    std::fs::write(&header, text.replace("aes-256-gcm", "none")).unwrap();
    assert!(open_with(None).is_err(), "the encryption was taken off by a changed word");
    std::fs::write(&header, text).unwrap();
    // The slot and its index.
    for file in std::fs::read_dir(world.path("repository/keys")).unwrap() {
        std::fs::remove_file(file.unwrap().path()).unwrap();
    }
    let keyless = open_with(world.secret.as_ref());
    assert!(matches!(keyless, Err(StoreError::WrongKey { tried: 0, .. })), "{keyless:?}");

    let (one, two) = (Template::new(false), Template::new(false));
    let world = one.lay_out(&one.files);
    let foreign = &two.files[&catalog_of(&two)];
    std::fs::write(world.folder.path().join(catalog_of(&one)), foreign).unwrap();
    let refused = Catalog::open(&world.state_dir(), world.repository().header().id);
    assert!(matches!(refused, Err(CatalogError::Foreign { .. })), "{refused:?}");
}

/// Lengths of 4 GiB in a trailer, with everything else in order.
#[test]
fn a_hostile_trailer_is_refused_before_it_is_believed() {
    let template = Template::new(false);
    let is_pack = |path: &&&PathBuf| path.to_str().unwrap().contains("/packs/");
    let targets = template.targets();
    let pack = targets.iter().find(is_pack).unwrap();
    let footer = template.files[*pack].len() - 48;
    for (at, value) in [(0, u32::MAX), (4, u32::MAX), (0, 0), (4, 0), (4, 1 << 20), (0, 1 << 30)] {
        let mut files = template.files.clone();
        let content = files.get_mut(*pack).unwrap();
        content[footer + at..footer + at + 4].copy_from_slice(&value.to_le_bytes());
        let world = template.lay_out(&files);
        forget_catalog(&world);
        let (repository, catalog) = open(&world).unwrap();
        let report = catalog.sync(&repository).unwrap();
        let name = pack.file_name().unwrap().to_str().unwrap();
        let text = report.damages.iter().map(ToString::to_string).collect::<String>();
        assert!(text.contains(&name[..12]), "{at} {value}: {text}");
    }
}

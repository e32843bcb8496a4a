//! Rot, found: every file of a repository is damaged in turn, in every way, and the verification
//! names the file and exactly the points that cannot be restored because of it.
//!
//! What is expected is not computed from the verification: it is what a restore says that knows
//! nothing but the damaged repository.

mod common;

use afterimage::catalog::Catalog;
use afterimage::point::Point;
use afterimage::progress::Progress;
use afterimage::scrub::{FilesVerdict, verify_files};
use afterimage::scrub::{FindingKind, Scope, Verdict, VerifyRequest, verify_repository};
use afterimage::store::{Layout, Repository, StoreError};
use afterimage::units::PointId;
use common::files::{Files, read_files, write_files};
use common::{World, assert_same, noise, small_cut};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

type Contents = BTreeMap<String, Vec<u8>>;

/// Two machines that share content, and three points.
struct Template {
    files: Files,
    points: Vec<(Point, Contents)>,
    encrypted: bool,
}

fn contents(machine: &str, number: u64) -> Contents {
    let mut root = noise(1, 100_000);
    root[20_000..60_000].fill(0);
    root[7000 * number as usize..][..5000].copy_from_slice(&noise(number, 5000));
    if machine == "db01" {
        root.extend(noise(77, 30_000));
        return [("db-root".to_owned(), root)].into();
    }
    [("root".to_owned(), root), ("data".to_owned(), noise(2, 3333))].into()
}

impl Template {
    fn new(encrypted: bool) -> Self {
        let world = World::in_memory(&[], encrypted);
        world.init_on(&world.fs, small_cut()).unwrap();
        let mut points = Vec::new();
        for (machine, number) in [("web01", 0), ("db01", 9), ("web01", 1)] {
            let contents = contents(machine, number);
            let disks: Vec<String> = contents.keys().cloned().collect();
            contents.iter().for_each(|(disk, content)| world.write_disk(disk, content));
            let done = world.backup_of(&world.fs, machine, &disks, &Progress::default()).unwrap();
            points.push((done.point, contents));
        }
        let mut files = read_files(world.folder.path());
        let carries = |path: &Path| {
            let text = path.to_str().unwrap();
            text == "key" || text.ends_with(".sqlite") || text.starts_with("repository")
        };
        files.retain(|path, _| carries(path) && !path.to_str().unwrap().contains("locks"));
        Self { files, points, encrypted }
    }

    fn lay_out(&self, files: &Files) -> World {
        let world = World::in_memory(&[], self.encrypted);
        write_files(files, world.folder.path());
        world
    }

    /// Files of the repository.
    fn targets(&self) -> Vec<PathBuf> {
        let paths = self.files.keys().filter(|path| path.starts_with("repository"));
        paths.cloned().collect()
    }

    /// A file of the same kind.
    fn sibling(&self, path: &Path) -> Option<&Vec<u8>> {
        let kind = |path: &Path| path.components().nth(1).map(|it| it.as_os_str().to_owned());
        let mut others = self.files.iter().filter(|(it, _)| *it != path && kind(it) == kind(path));
        others.next().map(|(_, content)| content)
    }
}

fn open(world: &World) -> Result<(Repository, Catalog), StoreError> {
    let secret = world.secret.as_ref();
    let repository = Repository::open(&world.fs, &world.path("repository"), secret, 1)?;
    let catalog = Catalog::open(&world.state_dir(), repository.header().id)?;
    Ok((repository, catalog))
}

fn verify(world: &World, scope: Scope<'_>) -> Result<Verdict, StoreError> {
    let (repository, catalog) = open(world)?;
    let request = VerifyRequest { scope, workers: 2 };
    Ok(verify_repository(&repository, &catalog, &request, &Progress::default()).unwrap())
}

fn forget_catalog(world: &World) {
    let _ = std::fs::remove_dir_all(world.state_dir());
}

/// Points that do not restore. What does restore is right.
fn lost_points(template: &Template, world: &World, what: &str) -> BTreeSet<PointId> {
    let mut lost = BTreeSet::new();
    for (point, contents) in &template.points {
        if open(world).is_err() || world.restore(point, "restored").is_err() {
            lost.insert(point.id);
            continue;
        }
        for (disk, content) in contents {
            let found = std::fs::read(world.path(&format!("restored/{disk}.raw"))).unwrap();
            assert_same(&found, content, &format!("{what}: restored {disk}"));
        }
    }
    lost
}

fn harmed(verdict: &Verdict, template: &Template) -> BTreeSet<PointId> {
    let known = |id: &PointId| template.points.iter().any(|(point, _)| point.id == *id);
    let harmed = verdict.points.iter().filter(|point| !point.is_good()).map(|point| point.id);
    harmed.filter(known).collect()
}

/// What is done to the files, and the file that must be named; `None`: the catalog alone knows.
struct Harm {
    what: String,
    files: Files,
    named: PathBuf,
    /// Nobody but the catalog remembers what is gone.
    needs_catalog: bool,
}

fn harms(template: &Template, path: &Path) -> Vec<Harm> {
    let whole = &template.files[path];
    let len = whole.len();
    let mut harms = Vec::new();
    let mut add = |what: String, change: &mut dyn FnMut(&mut Files), named: &Path| {
        let mut files = template.files.clone();
        change(&mut files);
        let what = format!("{} {what}", path.display());
        harms.push(Harm { what, files, named: named.to_owned(), needs_catalog: false });
    };
    let ends = [0, 9, 40, len / 5, len / 2, len * 4 / 5];
    for at in ends.into_iter().chain([100, 60, 45, 20, 1].map(|back| len.saturating_sub(back))) {
        let at = at.min(len - 1);
        let mut flip = |files: &mut Files| files.get_mut(path).unwrap()[at] ^= 1 << (at % 8);
        add(format!("flipped at {at} of {len}"), &mut flip, path);
    }
    for left in [0, 63, len / 2, len - 1] {
        let mut cut = |files: &mut Files| files.get_mut(path).unwrap().truncate(left);
        add(format!("cut to {left}"), &mut cut, path);
    }
    let copy = path.with_file_name(format!("{}.old", path.file_name().unwrap().to_str().unwrap()));
    let mut duplicate = |files: &mut Files| drop(files.insert(copy.clone(), whole.clone()));
    add("duplicated".to_owned(), &mut duplicate, &copy);
    // Under a name that could be right.
    let digits = path.file_name().unwrap().to_str().unwrap();
    if digits.len() == 64 {
        let last = if digits.ends_with('0') { "1" } else { "0" };
        let copy = path.with_file_name(format!("{}{last}", &digits[..63]));
        let mut duplicate = |files: &mut Files| drop(files.insert(copy.clone(), whole.clone()));
        add("duplicated under a fit name".to_owned(), &mut duplicate, &copy);
    }
    if let Some(other) = template.sibling(path) {
        let mut content = other.clone();
        content.resize(len, 0);
        let mut swap = |files: &mut Files| drop(files.insert(path.to_owned(), content.clone()));
        add("replaced by another one of its length".to_owned(), &mut swap, path);
    }
    let mut remove = |files: &mut Files| drop(files.remove(path));
    add("removed".to_owned(), &mut remove, path);
    if let Some(last) = harms.last_mut() {
        last.needs_catalog = path.to_str().unwrap().contains("points/");
    }
    harms
}

fn check(template: &Template, harm: &Harm) {
    let what = &harm.what;
    let world = template.lay_out(&harm.files);
    forget_catalog(&world);
    let lost = lost_points(template, &world, what);
    for catalog_is_lost in [false, true] {
        let world = template.lay_out(&harm.files);
        let what = format!("{what}, catalog lost: {catalog_is_lost}");
        if catalog_is_lost {
            forget_catalog(&world);
        }
        // A repository that does not open is found to be damaged by everybody.
        let Ok(verdict) = verify(&world, Scope::All) else {
            assert_eq!(lost.len(), template.points.len(), "{what}: it is refused");
            continue;
        };
        if catalog_is_lost && harm.needs_catalog {
            continue;
        }
        assert!(!verdict.is_good(), "{what}: not found");
        assert!(verdict.unchecked.is_empty(), "{what}: {:?}", verdict.unchecked);
        assert_eq!(harmed(&verdict, template), lost, "{what}: points, {:?}", verdict.findings);
        let named = harm.named.strip_prefix("repository").unwrap().to_str().unwrap();
        let is_lost_pack = what.contains("packs/") && what.contains("removed");
        for finding in &verdict.findings {
            let nobody_knows = catalog_is_lost && is_lost_pack;
            let is_right =
                finding.file == named || nobody_knows && finding.kind == FindingKind::LostObjects;
            assert!(is_right, "{what}: {finding:?}");
        }
        let points: BTreeSet<PointId> =
            verdict.findings.iter().flat_map(|it| it.points.iter().copied()).collect();
        assert!(points.is_superset(&lost), "{what}: {points:?} of {lost:?}");
        // Once more, and the others still restore with what was noted.
        let again = verify(&world, Scope::All).unwrap();
        let is_remembered = !(what.contains("removed") && what.contains("points/"));
        assert!(!is_remembered || harmed(&again, template) == lost, "{what}: again");
        let still_lost = lost_points(template, &world, &what);
        assert!(still_lost.is_subset(&lost), "{what}: {still_lost:?}");
    }
}

fn sweep(encrypted: bool) {
    let template = Template::new(encrypted);
    let world = template.lay_out(&template.files);
    let good = verify(&world, Scope::All).unwrap();
    assert!(good.is_good() && good.points.len() == 3 && good.warnings.is_empty(), "{good:?}");
    let mut kinds = BTreeSet::new();
    for path in template.targets() {
        kinds.insert(path.components().nth(1).unwrap().as_os_str().to_owned());
        for harm in harms(&template, &path) {
            check(&template, &harm);
        }
    }
    assert_eq!(kinds.len(), if encrypted { 4 } else { 3 }, "{kinds:?}");
}

#[test]
fn every_damage_of_every_file_is_found_and_named_with_its_points() {
    sweep(false);
}

#[test]
fn every_damage_of_every_file_of_an_encrypted_repository_is_found_and_named_with_its_points() {
    sweep(true);
}

#[test]
fn without_any_key_all_that_is_named_by_its_content_is_checked() {
    let template = Template::new(true);
    for path in template.targets() {
        for harm in harms(&template, &path) {
            let world = template.lay_out(&harm.files);
            let layout = Layout::new(world.path("repository"));
            let found: FilesVerdict =
                verify_files(world.fs.as_ref(), &layout, 2, &Progress::default()).unwrap();
            let text = harm.named.to_str().unwrap();
            let is_covered = text.contains("/p") && !harm.what.ends_with("removed");
            let named: Vec<&str> = found.findings.iter().map(|it| it.file.as_str()).collect();
            let expected = text.strip_prefix("repository/").unwrap();
            assert!(!is_covered || named == [expected], "{}: {named:?}", harm.what);
            assert!(is_covered || named.is_empty(), "{}: {named:?}", harm.what);
        }
    }
}

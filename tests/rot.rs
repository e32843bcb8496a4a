//! Rot, found: every file of a repository is damaged in turn, in every way, and the verification
//! names the file and exactly the points that cannot be restored because of it.
//!
//! What is expected is not computed from the verification: it is what a restore says that knows
//! nothing but the damaged repository.

mod common;

use afterimage::fsio::{FileLock, LockMode};
use afterimage::point::list_holds;
use afterimage::progress::Progress;
use afterimage::scrub::{
    FilesVerdict, FindingKind, Scope, VerifyError, VerifyRequest, verify_files, verify_repository,
};
use afterimage::store::{Layout, StoreError};
use afterimage::units::PointId;
use common::files::Files;
use common::template::{Template, forget_catalog, harmed, lost_points, open, verify, verify_with};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What is done to the files, and the file that must be named; `None`: the catalog alone knows.
struct Harm {
    what: String,
    files: Files,
    named: PathBuf,
    /// What a pin or lock that is damaged or gone is about.
    held: Option<PointId>,
    /// Nobody but the catalog remembers what is gone.
    needs_catalog: bool,
}

fn harms(template: &Template, path: &Path) -> Vec<Harm> {
    let whole = &template.files[path];
    let len = whole.len();
    let held = held(template, path);
    let mut harms = Vec::new();
    let mut add = |what: String, change: &mut dyn FnMut(&mut Files), named: &Path| {
        let mut files = template.files.clone();
        change(&mut files);
        let what = format!("{} {what}", path.display());
        let held = held.filter(|_| named == path);
        harms.push(Harm { what, files, named: named.to_owned(), held, needs_catalog: false });
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
    for more in [1, 5 << 20] {
        let mut grow = |files: &mut Files| files.get_mut(path).unwrap().resize(len + more, 0);
        add(format!("longer by {more}"), &mut grow, path);
    }
    let copy = path.with_file_name(format!("{}.old", path.file_name().unwrap().to_str().unwrap()));
    let mut duplicate = |files: &mut Files| drop(files.insert(copy.clone(), whole.clone()));
    add("duplicated".to_owned(), &mut duplicate, &copy);
    // Under a name that could be right.
    let name = path.file_name().unwrap().to_str().unwrap();
    let (digits, suffix) = name.split_at(name.find('.').unwrap_or(name.len()));
    if digits.len() >= 32 {
        let last = if digits.ends_with('0') { "1" } else { "0" };
        let copy = format!("{}{last}{suffix}", &digits[..digits.len() - 1]);
        let copy = path.with_file_name(copy);
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
        let folders = ["points", "holds", "removed", "condemned"];
        last.needs_catalog = folders.contains(&kind(path));
    }
    harms
}

/// The folder of the repository in which a file lies, or its name.
fn kind(path: &Path) -> &str {
    path.components().nth(1).unwrap().as_os_str().to_str().unwrap()
}

/// The point that a pin or lock of the template is about.
fn held(template: &Template, path: &Path) -> Option<PointId> {
    let world = template.lay_out(&template.files);
    let holds = list_holds(&world.repository()).unwrap();
    let name = path.file_name().unwrap().to_str().unwrap();
    holds.iter().find(|(id, _)| id.to_string() == name).map(|(_, hold)| hold.point)
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
            if kind(&harm.named) == "keys" {
                // With another key it is found where the damage is.
                let key = template.second_key(&world);
                let verdict = verify_with(&world, key.as_ref(), Scope::All).unwrap();
                let named: Vec<&str> = verdict.findings.iter().map(|it| it.file.as_str()).collect();
                assert_eq!(named, [below(&harm.named)], "{what}: with the other key");
            }
            continue;
        };
        if catalog_is_lost && harm.needs_catalog {
            continue;
        }
        assert!(!verdict.is_good(), "{what}: not found");
        assert!(verdict.unchecked.is_empty(), "{what}: {:?}", verdict.unchecked);
        assert_eq!(harmed(&verdict, template), lost, "{what}: points, {:?}", verdict.findings);
        let named = below(&harm.named);
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
        if let (Some(point), false) = (harm.held, catalog_is_lost) {
            assert_eq!(points, [point].into(), "{what}: what it kept");
        }
        // Once more, and the others still restore with what was noted.
        let again = verify(&world, Scope::All).unwrap();
        let is_remembered = !(what.contains("removed") && what.contains("points/"));
        assert!(!is_remembered || harmed(&again, template) == lost, "{what}: again");
        let still_lost = lost_points(template, &world, &what);
        assert!(still_lost.is_subset(&lost), "{what}: {still_lost:?}");
    }
}

/// As it is named in findings.
fn below(path: &Path) -> &str {
    path.strip_prefix("repository").unwrap().to_str().unwrap()
}

fn sweep(encrypted: bool) {
    let template = Template::new(encrypted);
    let world = template.lay_out(&template.files);
    let good = verify(&world, Scope::All).unwrap();
    assert!(good.is_good() && good.points.len() == 3 && good.warnings.is_empty(), "{good:?}");
    let mut kinds: BTreeSet<String> = BTreeSet::new();
    for path in template.targets() {
        kinds.insert(kind(&path).to_owned());
        for harm in harms(&template, &path) {
            check(&template, &harm);
        }
    }
    let plain = ["condemned", "holds", "packs", "points", "removed", "repository.json"];
    let keys = encrypted.then_some("keys");
    let expected: BTreeSet<String> = plain.into_iter().chain(keys).map(str::to_owned).collect();
    assert_eq!(kinds, expected);
    let slots = template.targets().iter().filter(|path| kind(path) == "keys").count();
    assert_eq!(slots, if encrypted { 4 } else { 0 }, "three slots and their index");
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
            let (what, file) = (&harm.what, below(&harm.named));
            let is_covered = match kind(&path) {
                "repository.json" => false,
                // Digits of it that are others are not told from those that were written.
                "keys" => !(path.ends_with("index.json") && what.contains("flipped")),
                _ => !what.ends_with("removed"),
            };
            let named: Vec<&str> = found.findings.iter().map(|it| it.file.as_str()).collect();
            assert!(!is_covered || named == [file], "{what}: {named:?}");
            if !is_covered && kind(&path) == "keys" {
                assert!(named.iter().all(|it| it.starts_with("keys/")), "{what}: {named:?}");
                continue;
            }
            assert!(is_covered || named.is_empty(), "{}: {named:?}", harm.what);
        }
    }
}

#[test]
fn a_verification_runs_beside_readers_and_writers_but_not_beside_what_removes() {
    let template = Template::new(false);
    let world = template.lay_out(&template.files);
    let repository = world.repository();
    let writing = repository.lock_shared("a backup").unwrap();
    assert!(verify(&world, Scope::All).unwrap().is_good());
    drop(writing);
    let (fs, lock) = (world.fs.as_ref(), repository.layout().repository_lock());
    let _alone =
        FileLock::try_take(fs, &lock, LockMode::Exclusive, &Layout::holder("a removal")).unwrap();
    let (repository, catalog) = open(&world).unwrap();
    let request = VerifyRequest { scope: Scope::All, workers: 1 };
    let refused = verify_repository(&repository, &catalog, &request, &Progress::default());
    assert!(matches!(refused, Err(VerifyError::Store(StoreError::Lock(_)))), "{refused:?}");
}

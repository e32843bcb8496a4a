//! Repair: what can be had from anywhere is brought back, and nothing that could be restored
//! before cannot be restored afterwards, wherever the repair is cut short.

mod common;

use afterimage::fsio::{FileSystem, RealFileSystem};
use afterimage::progress::Progress;
use afterimage::scrub::{
    FindingKind, HealSource, RepairReport, RepairRequest, Scope, TreeSource, VerifyError, repair,
};
use afterimage::source::{self, ImageFormat, Source, SourceSpec};
use afterimage::store::Repository;
use afterimage::testing::{CutFileSystem, LastOperation};
use afterimage::units::RunId;
use common::files::Files;
use common::template::{Template, forget_catalog, harmed, lost_points, open, verify};
use common::{World, name};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Files that a repair may meet damaged, and how.
fn damages(template: &Template, all: bool) -> Vec<(String, Files)> {
    let mut damages = Vec::new();
    for path in template.targets() {
        let text = path.to_str().unwrap().to_owned();
        if !text.contains("/packs/") && !text.contains("/points/") {
            continue;
        }
        let whole = &template.files[&path];
        let len = whole.len();
        let mut add = |what: &str, content: Option<Vec<u8>>| {
            let mut files = template.files.clone();
            match content {
                Some(content) => drop(files.insert(path.clone(), content)),
                None => drop(files.remove(&path)),
            }
            damages.push((format!("{text} {what}"), files));
        };
        let flipped = |at: usize| {
            let mut content = whole.clone();
            content[at] ^= 2;
            Some(content)
        };
        add("flipped in the middle", flipped(len / 2));
        add("flipped at its end", flipped(len - 1));
        add("removed", None);
        if all {
            add("flipped at its start", flipped(3));
            add("flipped in its salt", flipped(40));
            add("flipped in its trailer", flipped(len - 60));
            add("cut", Some(whole[..len * 2 / 3].to_vec()));
            let other = template.sibling(&path).unwrap().clone();
            add("replaced by another", Some(other));
        }
    }
    damages
}

fn run(
    repository: &Repository,
    world: &World,
    copies: &[PathBuf],
    sources: &[HealSource<'_>],
) -> Result<RepairReport, VerifyError> {
    let run = RunId::random().unwrap();
    let request = RepairRequest { run, now: world.now(), workers: 2, copies, sources };
    let catalog = world.catalog(repository);
    repair(repository, &catalog, &request, &Progress::default(), &mut |_| true)
}

/// The disks of all points as images, as a replica or a source has them.
fn images(template: &Template, world: &World) -> Vec<HealSource<'static>> {
    let mut sources = Vec::new();
    for (number, (point, contents)) in template.points.iter().enumerate() {
        for (disk, content) in contents {
            let path = world.path(&format!("{number}-{disk}.raw"));
            std::fs::write(&path, content).unwrap();
            let format = Some(ImageFormat::Raw);
            let spec = SourceSpec { path, format, must_be_device: false, quiesced: false };
            let open = move || source::open(&spec).map_err(|error| error.to_string());
            let of = (point.manifest.machine.clone(), name(disk));
            sources.push(HealSource { what: disk.clone(), of, open: Box::new(open) });
        }
    }
    sources
}

/// No point is lost, and nothing of the damage is left but what was set apart.
fn assert_healed(template: &Template, world: &World, report: &RepairReport, what: &str) {
    let after = report.after.as_ref().unwrap_or_else(|| panic!("{what}: nothing was found"));
    assert!(after.is_good(), "{what}: {:?}", after.findings);
    assert!(verify(world, Scope::All).unwrap().is_good(), "{what}");
    assert_eq!(lost_points(template, world, what), BTreeSet::new(), "{what}");
    forget_catalog(world);
    assert!(verify(world, Scope::All).unwrap().is_good(), "{what}: with a new catalog");
    assert_eq!(lost_points(template, world, what), BTreeSet::new(), "{what}");
    assert_eq!(world.leftovers(), Vec::<String>::new(), "{what}");
}

#[test]
fn everything_that_a_replica_still_holds_is_healed() {
    for encrypted in [false, true] {
        let template = Template::new(encrypted);
        for (what, files) in damages(&template, true) {
            // A manifest is content of no disk.
            if what.contains("/points/") {
                continue;
            }
            let world = template.lay_out(&files);
            let sources = images(&template, &world);
            let report = run(&world.repository(), &world, &[], &sources).unwrap();
            assert_healed(&template, &world, &report, &what);
        }
    }
}

#[test]
fn everything_is_healed_from_a_repository_with_other_keys() {
    for encrypted in [false, true] {
        let template = Template::new(encrypted);
        let other = Template::new(!encrypted);
        let other_world = other.lay_out(&other.files);
        let (other_repository, other_catalog) = open(&other_world).unwrap();
        other_catalog.sync(&other_repository).unwrap();
        let mut sources = Vec::new();
        for (point, _) in &other.points {
            for disk in &point.manifest.disks {
                let (repository, catalog, tree) = (&other_repository, &other_catalog, disk.tree());
                let open = move || {
                    TreeSource::new(repository, catalog, &tree)
                        .map(|source| Box::new(source) as Box<dyn Source>)
                        .map_err(|error| error.to_string())
                };
                let of = (point.manifest.machine.clone(), disk.name.clone());
                sources.push(HealSource { what: "other".into(), of, open: Box::new(open) });
            }
        }
        for (what, files) in damages(&template, false) {
            if what.contains("/points/") {
                continue;
            }
            let world = template.lay_out(&files);
            let report = run(&world.repository(), &world, &[], &sources).unwrap();
            assert_healed(&template, &world, &report, &what);
        }
    }
}

#[test]
fn every_file_comes_back_from_a_copy_of_the_repository() {
    for encrypted in [false, true] {
        let template = Template::new(encrypted);
        let copy = template.lay_out(&template.files);
        for (what, files) in damages(&template, true) {
            let world = template.lay_out(&files);
            let copies = [copy.path("repository")];
            let report = run(&world.repository(), &world, &copies, &[]).unwrap();
            assert_eq!(report.copied.len(), 1, "{what}: {:?}", report.copied);
            assert_healed(&template, &world, &report, &what);
            for path in template.targets() {
                let content = std::fs::read(world.folder.path().join(&path)).unwrap();
                assert!(content == template.files[&path], "{what}: {}", path.display());
            }
        }
    }
}

#[test]
fn a_pack_that_nobody_remembers_comes_back_from_a_copy() {
    let template = Template::new(false);
    let copy = template.lay_out(&template.files);
    for (what, files) in damages(&template, false) {
        if !what.contains("/packs/") || !what.contains("removed") {
            continue;
        }
        let world = template.lay_out(&files);
        forget_catalog(&world);
        let copies = [PathBuf::from("/nowhere"), copy.path("repository")];
        let report = run(&world.repository(), &world, &copies, &[]).unwrap();
        assert_healed(&template, &world, &report, &what);
    }
}

#[test]
fn a_repair_without_any_help_makes_nothing_worse_and_leaves_a_clean_repository() {
    for encrypted in [false, true] {
        let template = Template::new(encrypted);
        for (what, files) in damages(&template, true) {
            let before = lost_points(&template, &template.lay_out(&files), &what);
            let world = template.lay_out(&files);
            let report = run(&world.repository(), &world, &[], &[]).unwrap();
            assert_eq!(report.healed, 0, "{what}");
            let lost = lost_points(&template, &world, &what);
            assert!(lost.is_subset(&before), "{what}: {lost:?} of {before:?}");
            forget_catalog(&world);
            let lost_anew = lost_points(&template, &world, &what);
            assert!(lost_anew.is_subset(&before), "{what}: {lost_anew:?} of {before:?}");
            // What stays is only that points lack something.
            let after = verify(&world, Scope::All).unwrap();
            let only_lost =
                after.findings.iter().all(|finding| finding.kind == FindingKind::LostObjects);
            assert!(only_lost, "{what}: {:?}", after.findings);
            // A manifest that was set apart is no point any more.
            let is_point = what.contains("/points/");
            assert!(is_point || harmed(&after, &template) == lost, "{what}");
            let apart: Vec<_> = std::fs::read_dir(world.path("repository/quarantine"))
                .map(|entries| entries.map(|it| it.unwrap().path()).collect())
                .unwrap_or_default();
            assert_eq!(apart.is_empty(), what.contains("removed"), "{what}: {apart:?}");
            let kept = apart.iter().any(|path| {
                std::fs::read(path).is_ok_and(|it| files.values().any(|content| *content == it))
            });
            assert!(kept || what.contains("removed"), "{what}: the damaged file itself");
        }
    }
}

#[test]
fn the_next_backup_makes_good_what_it_meets_again() {
    let template = Template::new(true);
    for (what, files) in damages(&template, false) {
        if what.contains("/points/") {
            continue;
        }
        let world = template.lay_out(&files);
        verify(&world, Scope::All).unwrap();
        let (point, contents) = &template.points[2];
        let disks: Vec<String> = contents.keys().cloned().collect();
        contents.iter().for_each(|(disk, content)| world.write_disk(disk, content));
        let progress = Progress::default();
        world.backup_of(&world.fs, "web01", &disks, &progress).unwrap();
        let lost = lost_points(&template, &world, &what);
        assert!(!lost.contains(&point.id), "{what}: the same content is there again");
        // A new catalog knows nothing of damage: the reader itself takes the good copy.
        forget_catalog(&world);
        let lost = lost_points(&template, &world, &what);
        assert!(!lost.contains(&point.id), "{what}: with a new catalog");
    }
}

#[test]
fn a_file_that_does_not_belong_is_set_apart_and_a_good_repository_is_left_alone() {
    let template = Template::new(false);
    let world = template.lay_out(&template.files);
    let report = run(&world.repository(), &world, &[], &[]).unwrap();
    assert!(report.before.is_good() && report.after.is_none());
    assert!(!world.path("repository/quarantine").exists());
    std::fs::write(world.path("repository/points/notes.txt"), "mine").unwrap();
    let report = run(&world.repository(), &world, &[], &[]).unwrap();
    assert_eq!(report.set_apart, ["points/notes.txt"]);
    let kept = std::fs::read(world.path("repository/quarantine/points_notes.txt")).unwrap();
    assert_eq!(kept, b"mine");
    let good = verify(&world, Scope::All).unwrap();
    assert!(good.is_good());
    assert_eq!(good.quarantined, (1, 4));
}

/// Cuts a repair at each of its operations; the next one goes on.
fn cut_everywhere(template: &Template, files: &Files, what: &str, last: LastOperation) {
    for cut in 0.. {
        let what = format!("{what}, {last:?}, cut {cut}");
        let mut world = template.lay_out(files);
        let before = lost_points(template, &template.lay_out(files), &what);
        let sources = images(template, &world);
        // Half of what could heal, so that something stays damaged too.
        let sources = &sources[..sources.len() / 2];
        let cut_fs = CutFileSystem::new(RealFileSystem::shared(), cut, last);
        world.workers = 1;
        let fs: Arc<dyn FileSystem> = cut_fs.clone();
        let secret = world.secret.as_ref();
        let done = Repository::open(&fs, &world.path("repository"), secret, 1)
            .map_err(VerifyError::from)
            .and_then(|repository| run(&repository, &world, &[], sources));
        assert!(done.is_ok() || cut_fs.is_cut(), "{what}: {done:?}");
        let lost = lost_points(template, &world, &what);
        assert!(lost.is_subset(&before), "{what}: {lost:?} of {before:?}");
        let again = run(&world.repository(), &world, &[], sources).unwrap();
        // With nothing left to do nobody writes, and what the dead one left is for the next writer.
        let swept = again.after.is_some();
        let after = again.after.unwrap_or(again.before);
        let only_lost =
            after.findings.iter().all(|finding| finding.kind == FindingKind::LostObjects);
        assert!(only_lost, "{what}: {:?}", after.findings);
        let lost = lost_points(template, &world, &what);
        assert!(lost.is_subset(&before), "{what}: {lost:?} of {before:?}");
        assert!(!swept || world.leftovers().is_empty(), "{what}: {:?}", world.leftovers());
        if !cut_fs.is_cut() {
            assert!(cut > 10, "{what}: so few operations");
            break;
        }
    }
}

#[test]
fn a_repair_that_is_cut_anywhere_loses_nothing_and_can_be_begun_again() {
    let template = Template::new(true);
    let is_data = |path: &Path| path.to_str().unwrap().contains("/packs/");
    let largest = template.targets().into_iter().filter(|path| is_data(path));
    let largest = largest.max_by_key(|path| template.files[path].len()).unwrap();
    let whole = &template.files[&largest];
    for at in [whole.len() / 2, whole.len() - 1] {
        let mut files = template.files.clone();
        files.get_mut(&largest).unwrap()[at] ^= 1;
        for last in [LastOperation::Absent, LastOperation::Torn] {
            cut_everywhere(&template, &files, &format!("flipped at {at}"), last);
        }
    }
}

#[test]
fn documents_come_back_from_a_copy_and_without_one_are_set_apart_and_not_told_again() {
    let template = Template::new(true);
    let whole = template.lay_out(&template.files);
    let is_document = |path: &Path| {
        ["holds", "removed", "condemned"]
            .iter()
            .any(|it| path.starts_with(format!("repository/{it}")))
    };
    let documents: Vec<PathBuf> =
        template.targets().into_iter().filter(|path| is_document(path)).collect();
    assert_eq!(documents.len(), 4);
    for path in &documents {
        for (removed, copied) in [(false, false), (false, true), (true, false), (true, true)] {
            let what = format!("{}, removed: {removed}, copied: {copied}", path.display());
            let mut files = template.files.clone();
            match removed {
                true => drop(files.remove(path)),
                false => files.get_mut(path).unwrap()[70] ^= 1,
            }
            let world = template.lay_out(&files);
            let copy = copied.then(|| whole.path("repository"));
            let copies: Vec<PathBuf> = copy.into_iter().collect();
            let report = run(&world.repository(), &world, &copies, &[]).unwrap();
            assert_eq!(report.before.findings.len(), 1, "{what}");
            assert_eq!(report.copied.len(), usize::from(copied), "{what}");
            let is_set_apart = !removed && !copied;
            assert_eq!(report.set_apart.len(), usize::from(is_set_apart), "{what}");
            assert_eq!(world.path("").join(path).exists(), copied, "{what}");
            let after = verify(&world, Scope::All).unwrap();
            assert!(after.is_good(), "{what}: {:?}", after.findings);
        }
    }
}

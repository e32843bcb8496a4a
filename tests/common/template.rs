//! A small repository with two machines that share content, and three points: to be laid out,
//! damaged, verified and restored again and again.

use super::files::{Files, read_files, write_files};
use super::{World, assert_same, noise, small_cut};
use afterimage::catalog::Catalog;
use afterimage::point::Point;
use afterimage::progress::Progress;
use afterimage::scrub::{Scope, Verdict, VerifyRequest, verify_repository};
use afterimage::store::{Repository, StoreError};
use afterimage::units::PointId;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

pub type Contents = BTreeMap<String, Vec<u8>>;

/// Two machines that share content, and three points.
pub struct Template {
    pub files: Files,
    pub points: Vec<(Point, Contents)>,
    pub encrypted: bool,
}

pub fn contents(machine: &str, number: u64) -> Contents {
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
    pub fn new(encrypted: bool) -> Self {
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

    pub fn lay_out(&self, files: &Files) -> World {
        let world = World::in_memory(&[], self.encrypted);
        write_files(files, world.folder.path());
        world
    }

    /// Files of the repository.
    pub fn targets(&self) -> Vec<PathBuf> {
        let paths = self.files.keys().filter(|path| path.starts_with("repository"));
        paths.cloned().collect()
    }

    /// A file of the same kind.
    pub fn sibling(&self, path: &Path) -> Option<&Vec<u8>> {
        let kind = |path: &Path| path.components().nth(1).map(|it| it.as_os_str().to_owned());
        let mut others = self.files.iter().filter(|(it, _)| *it != path && kind(it) == kind(path));
        others.next().map(|(_, content)| content)
    }
}

pub fn open(world: &World) -> Result<(Repository, Catalog), StoreError> {
    let secret = world.secret.as_ref();
    let repository = Repository::open(&world.fs, &world.path("repository"), secret, 1)?;
    let catalog = Catalog::open(&world.state_dir(), repository.header().id)?;
    Ok((repository, catalog))
}

pub fn verify(world: &World, scope: Scope<'_>) -> Result<Verdict, StoreError> {
    let (repository, catalog) = open(world)?;
    let request = VerifyRequest { scope, workers: 2 };
    Ok(verify_repository(&repository, &catalog, &request, &Progress::default()).unwrap())
}

pub fn forget_catalog(world: &World) {
    let _ = std::fs::remove_dir_all(world.state_dir());
}

/// Points that do not restore. What does restore is right.
pub fn lost_points(template: &Template, world: &World, what: &str) -> BTreeSet<PointId> {
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

pub fn harmed(verdict: &Verdict, template: &Template) -> BTreeSet<PointId> {
    let known = |id: &PointId| template.points.iter().any(|(point, _)| point.id == *id);
    let harmed = verdict.points.iter().filter(|point| !point.is_good()).map(|point| point.id);
    harmed.filter(known).collect()
}

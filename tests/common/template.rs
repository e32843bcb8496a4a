//! A small repository with two machines that share content, and three points: to be laid out,
//! damaged, verified and restored again and again.

use super::files::{Files, read_files, write_files};
use super::{World, assert_same, noise, small_cut};
use afterimage::catalog::Catalog;
use afterimage::fsio::RealFileSystem;
use afterimage::point::{Hold, HoldKind, Point, commit_hold};
use afterimage::progress::Progress;
use afterimage::scrub::{Scope, Verdict, VerifyRequest, verify_repository};
use afterimage::store::{IndexTrust, Keyring, RecoveryKey, Repository, Secret, StoreError};
use afterimage::units::{PointId, RunId};
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
        add_the_rest(&world, &points);
        let mut files = read_files(world.folder.path());
        let carries = |path: &Path| {
            let text = path.to_str().unwrap();
            text == "key"
                || text == "second-key"
                || text.ends_with(".sqlite")
                || text.starts_with("repository")
        };
        files.retain(|path, _| carries(path) && !path.to_str().unwrap().contains("locks"));
        Self { files, points, encrypted }
    }

    /// Another key of the repository, for when the slot of the first one is damaged.
    pub fn second_key(&self, world: &World) -> Option<Secret> {
        let path = world.path("second-key");
        self.encrypted.then(|| Secret::from_key_file(&RealFileSystem, &path).unwrap())
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

/// All kinds of files that a repository can have besides: more key slots, a pin, a lock, a record
/// of a removed point, and the list of condemned packs that a collection leaves. The catalog then
/// knows of all of them.
fn add_the_rest(world: &World, points: &[(Point, Contents)]) {
    if let Some(own) = &world.secret {
        let second = world.path("second-key");
        std::fs::write(&second, [8; 32]).unwrap();
        let second = Secret::from_key_file(&RealFileSystem, &second).unwrap();
        let recovery = Secret::RecoveryKey(RecoveryKey::random().unwrap());
        let (root, now) = (world.path("repository"), world.now());
        let mut keyring = Keyring::open(&world.fs, &root, own, IndexTrust::Needed).unwrap();
        keyring.add(&second, None, now).unwrap();
        keyring.add(&recovery, None, now).unwrap();
    }
    // What only this point needs is collected.
    world.write_disk("root", &noise(99, 70_000));
    let disks = ["root".to_owned()];
    let gone = world.backup_of(&world.fs, "web01", &disks, &Progress::default()).unwrap().point;
    world.remove_point(gone.id);
    assert!(world.gc().unwrap().removed_packs > 0);
    let (repository, run) = (world.repository(), RunId::random().unwrap());
    let session = repository.begin_writing(run).unwrap();
    let until = jiff::Timestamp::from_second(4_000_000_000).unwrap();
    let pin = HoldKind::Pin { note: Some("kept".to_owned()) };
    for ((point, _), kind) in points.iter().zip([pin, HoldKind::Lock { until }]) {
        let (created, host) = (world.now(), "host".to_owned());
        let hold = Hold { point: point.id, kind, created, run, host };
        commit_hold(&repository, &session, &hold).unwrap();
    }
    assert!(verify(world, Scope::All).unwrap().is_good());
}

pub fn open(world: &World) -> Result<(Repository, Catalog), StoreError> {
    open_with(world, world.secret.as_ref())
}

fn open_with(world: &World, secret: Option<&Secret>) -> Result<(Repository, Catalog), StoreError> {
    let repository = Repository::open(&world.fs, &world.path("repository"), secret, 1)?;
    let catalog = Catalog::open(&world.state_dir(), repository.header().id)?;
    Ok((repository, catalog))
}

pub fn verify(world: &World, scope: Scope<'_>) -> Result<Verdict, StoreError> {
    verify_with(world, world.secret.as_ref(), scope)
}

pub fn verify_with(
    world: &World,
    secret: Option<&Secret>,
    scope: Scope<'_>,
) -> Result<Verdict, StoreError> {
    let (repository, catalog) = open_with(world, secret)?;
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

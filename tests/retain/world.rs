//! What the tests of retention share: a world with points, and a prune of it.

use crate::common::{World, assert_same, name, noise, small_cut};
use afterimage::fsio::{FileSystem, RealFileSystem};
use afterimage::point::{Hold, HoldKind, Point, commit_hold};
use afterimage::progress::Progress;
use afterimage::retain::{PruneRequest, Pruned, ReplicaPlace, RetainError, plan_prune, prune};
use afterimage::store::{Repository, StoreError};
use afterimage::units::{HoldId, Keep, PointId, RunId};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A prune of `web01`.
pub struct Prune {
    pub keep: Keep,
    pub lock_days: u32,
    pub replicas: Vec<ReplicaPlace>,
    pub recorded: Option<Timestamp>,
    pub now: Timestamp,
}

impl Prune {
    /// One that keeps the last point besides what is protected.
    pub fn last_one(world: &World) -> Self {
        let keep = Keep { last: 1, ..Keep::default() };
        let (lock_days, replicas, recorded) = (0, Vec::new(), None);
        Self { keep, lock_days, replicas, recorded, now: world.now() }
    }

    pub fn follow(mut self, world: &World, replica: &str, was_fed: bool) -> Self {
        let home = world.replica_home(replica);
        self.replicas.push(ReplicaPlace { replica: name(replica), home, was_fed });
        self
    }

    pub fn run(&self, world: &World) -> Result<Pruned, RetainError> {
        self.run_on(world, &world.fs)
    }

    pub fn run_on(&self, world: &World, fs: &Arc<dyn FileSystem>) -> Result<Pruned, RetainError> {
        let repository = Repository::open(fs, &world.path("repository"), world.secret.as_ref(), 1)?;
        let catalog = world.catalog(&repository);
        let machine = name("web01");
        let request = PruneRequest {
            machine: &machine,
            keep: &self.keep,
            zone: &TimeZone::UTC,
            lock_days: self.lock_days,
            replicas: &self.replicas,
            recorded: self.recorded,
            now: self.now,
        };
        let approved = plan_prune(fs.as_ref(), &repository, &catalog, &request)?.going();
        let (run, progress) = (RunId::random().unwrap(), Progress::default());
        prune(fs.as_ref(), &repository, &catalog, &request, &approved, run, &progress)
    }
}

pub fn content(number: u64) -> Vec<u8> {
    let mut content = noise(1, 60_000);
    content[5000 * number as usize..][..3000].copy_from_slice(&noise(100 + number, 3000));
    content
}

/// A world with so many points of the disk `root`.
pub fn world_with(points: u64, encrypted: bool) -> World {
    let mut world = World::in_memory(&["root"], encrypted);
    world.workers = 1;
    world.init_on(&RealFileSystem::shared(), small_cut()).unwrap();
    for number in 1..=points {
        back_up(&world, number);
    }
    world
}

pub fn back_up(world: &World, number: u64) -> Point {
    world.write_disk("root", &content(number));
    world.backup().unwrap().point
}

pub fn sequences(points: &[Point]) -> Vec<u64> {
    points.iter().map(|point| point.manifest.sequence.0).collect()
}

pub fn point(world: &World, sequence: u64) -> Point {
    let found = world.points().into_iter().find(|it| it.manifest.sequence.0 == sequence);
    found.unwrap_or_else(|| panic!("there is no point #{sequence}"))
}

pub fn hold(world: &World, point: PointId, kind: HoldKind) -> HoldId {
    try_hold(&world.repository(), point, kind, world.now()).unwrap()
}

pub fn try_pin(repository: &Repository, point: PointId) -> Result<HoldId, StoreError> {
    try_hold(repository, point, HoldKind::Pin { note: None }, Timestamp::UNIX_EPOCH)
}

fn try_hold(
    repository: &Repository,
    point: PointId,
    kind: HoldKind,
    created: Timestamp,
) -> Result<HoldId, StoreError> {
    let run = RunId::random().unwrap();
    let hold = Hold { point, kind, created, run, host: "here".to_owned() };
    commit_hold(repository, &repository.begin_writing(run)?, &hold)
}

pub fn pin(world: &World, sequence: u64) -> HoldId {
    let note = Some("before the upgrade".to_owned());
    hold(world, point(world, sequence).id, HoldKind::Pin { note })
}

pub fn check_content(world: &World, what: &str) {
    for point in world.points() {
        let found = world.restored(&point, "root");
        assert_same(&found, &content(point.manifest.sequence.0), what);
    }
}

pub fn missing(world: &World) -> BTreeSet<PointId> {
    let repository = world.repository();
    let report = world.catalog(&repository).sync(&repository).unwrap();
    assert_eq!(report.damages.len(), report.missing.len(), "{:?}", report.damages);
    report.missing
}

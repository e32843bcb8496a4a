//! A small world for tests of the engine: a machine's disks, a repository, a replica.
#![allow(dead_code, reason = "each test crate uses its own part")]

pub mod authority;
pub mod files;
pub mod template;
pub mod tracked;

use afterimage::backup::{BackupError, BackupRequest, BackupResult, ChangeHints, backup};
use afterimage::capture::Disks;
use afterimage::catalog::{Catalog, CatalogContents, SecondCatalog};
use afterimage::chunk::CutParameters;
use afterimage::destination::{Damaged, ReplicaHome, TargetKind};
use afterimage::fsio::{FileSystem, RealFileSystem};
use afterimage::point::Point;
use afterimage::progress::Progress;
use afterimage::recover::{RestoreError, RestoreOptions, plan_restore, restore};
use afterimage::replay::{
    ReplayError, ReplicaSession, ReplicateRequest, Replicated, TargetSpec, replicate,
};
use afterimage::retain::{GcError, GcOutcome, GcRequest, Removed, collect, remove_points};
use afterimage::source::SourceSpec;
use afterimage::store::{InitOptions, Repository, Secret, StoreError};
use afterimage::units::{Name, PointId, RunId};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// A repository, the disks of one machine and any number of replicas, in one folder.
pub struct World {
    pub folder: tempfile::TempDir,
    /// What the engine's writes go through.
    pub fs: Arc<dyn FileSystem>,
    pub disks: Vec<String>,
    /// Disks that replicas have targets for, when they are others than the machine's.
    pub target_disks: Option<Vec<String>>,
    /// Where replicas have their images, when it is not their own folder.
    pub target_folder: Option<String>,
    pub secret: Option<Secret>,
    pub workers: usize,
    /// Until when new points are locked.
    pub lock_until: Option<jiff::Timestamp>,
    /// What the next backup knows of what changed.
    pub hints: ChangeHints,
    /// What a restore does about content that is damaged.
    pub damaged: Damaged,
    /// Added to the clock, in seconds: each backup is a second after the one before.
    clock: std::cell::Cell<i64>,
}

/// Small regions and chunks, so that small disks have trees of several levels.
pub fn small_cut() -> CutParameters {
    let cut = CutParameters {
        region_bytes: 64 * 1024,
        granule_bytes: 4096,
        chunk_bytes_min: 512,
        chunk_bytes_average: 1024,
        chunk_bytes_max: 4096,
        block_bytes: Some(4096),
    };
    cut.check().unwrap();
    cut
}

impl World {
    /// A new repository with the parameters of real ones.
    pub fn new(disks: &[&str], encrypted: bool) -> Self {
        Self::with_cut(disks, encrypted, CutParameters::with_average(16 * 1024).unwrap())
    }

    /// A new repository that cuts small.
    pub fn small(disks: &[&str], encrypted: bool) -> Self {
        Self::with_cut(disks, encrypted, small_cut())
    }

    /// A new repository.
    pub fn with_cut(disks: &[&str], encrypted: bool, cut: CutParameters) -> Self {
        let fs = RealFileSystem::shared();
        let world = Self::without_repository(disks, encrypted);
        world.init_on(&fs, cut).unwrap();
        world
    }

    /// Only the folder and the key.
    pub fn without_repository(disks: &[&str], encrypted: bool) -> Self {
        Self::in_folder(tempfile::tempdir().unwrap(), disks, encrypted)
    }

    /// As [`World::without_repository`], in memory where that can be had: sweeps sync hundreds of
    /// thousands of times, and what they prove does not depend on the medium.
    pub fn in_memory(disks: &[&str], encrypted: bool) -> Self {
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        Self::in_folder(folder.unwrap(), disks, encrypted)
    }

    fn in_folder(folder: tempfile::TempDir, disks: &[&str], encrypted: bool) -> Self {
        let fs = RealFileSystem::shared();
        let secret = encrypted.then(|| {
            let path = folder.path().join("key");
            std::fs::write(&path, [7; 32]).unwrap();
            Secret::from_key_file(&RealFileSystem, &path).unwrap()
        });
        let disks = disks.iter().map(|disk| (*disk).to_owned()).collect();
        let (target_disks, target_folder) = (None, None);
        Self {
            folder,
            fs,
            disks,
            target_disks,
            target_folder,
            secret,
            workers: 2,
            lock_until: None,
            hints: ChangeHints::default(),
            damaged: Damaged::Fail,
            clock: std::cell::Cell::new(1_700_000_000),
        }
    }

    /// The time of the last backup.
    pub fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::from_second(self.clock.get()).unwrap()
    }

    /// Lets a second pass.
    pub fn tick(&self) {
        self.clock.set(self.clock.get() + 1);
    }

    /// Creates the repository.
    pub fn init_on(&self, fs: &Arc<dyn FileSystem>, cut: CutParameters) -> Result<(), StoreError> {
        let now = self.now();
        let options = InitOptions { cut, secret: self.secret.as_ref(), recovery_key: None, now };
        Repository::init(fs, &self.path("repository"), &options).map(|_| ())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn disk(&self, disk: &str) -> PathBuf {
        self.path(&format!("{disk}.img"))
    }

    pub fn write_disk(&self, disk: &str, content: &[u8]) {
        std::fs::write(self.disk(disk), content).unwrap();
    }

    pub fn repository(&self) -> Repository {
        self.repository_on(&self.fs)
    }

    pub fn repository_on(&self, fs: &Arc<dyn FileSystem>) -> Repository {
        Repository::open(fs, &self.path("repository"), self.secret.as_ref(), 1).unwrap()
    }

    pub fn state_dir(&self) -> PathBuf {
        self.path("state")
    }

    pub fn catalog(&self, repository: &Repository) -> Catalog {
        Catalog::open(&self.state_dir(), repository.header().id).unwrap()
    }

    pub fn backup(&self) -> Result<BackupResult, BackupError> {
        self.backup_on(&self.fs)
    }

    pub fn backup_on(&self, fs: &Arc<dyn FileSystem>) -> Result<BackupResult, BackupError> {
        self.backup_of(fs, "web01", &self.disks, &Progress::default())
    }

    /// Backs up a machine with these disks.
    pub fn backup_of(
        &self,
        fs: &Arc<dyn FileSystem>,
        machine: &str,
        disks: &[String],
        progress: &Progress,
    ) -> Result<BackupResult, BackupError> {
        let repository = Repository::open(fs, &self.path("repository"), self.secret.as_ref(), 1)?;
        let machine = name(machine);
        self.clock.set(self.clock.get() + 1);
        let spec = |disk: &String| {
            let path = self.disk(disk);
            (name(disk), SourceSpec { path, format: None, must_be_device: false, quiesced: false })
        };
        let request = BackupRequest {
            machine: &machine,
            capturer: &Disks::of_files(disks.iter().map(spec)),
            hints: self.hints.clone(),
            definition: Vec::new(),
            lock_until: self.lock_until,
            now: self.now(),
            run: RunId::random().unwrap(),
            workers: self.workers,
            history: None,
        };
        backup(&repository, &self.catalog(&repository), &request, progress)
    }

    pub fn targets(&self, replica: &str) -> Vec<TargetSpec> {
        let replica = self.target_folder.as_deref().unwrap_or(replica);
        let spec = |disk: &String| TargetSpec {
            disk: name(disk),
            path: self.path(&format!("{replica}/{disk}.raw")),
            kind: TargetKind::Image,
        };
        self.target_disks.as_ref().unwrap_or(&self.disks).iter().map(spec).collect()
    }

    pub fn replica_home(&self, replica: &str) -> ReplicaHome {
        let first = self.path(&format!("{replica}/first.raw"));
        let kind = TargetKind::Image;
        ReplicaHome::locate(&self.state_dir(), None, &name(replica), &first, kind)
    }

    pub fn replicate(&self, replica: &str) -> Result<Replicated, ReplayError> {
        self.replicate_on(&self.fs, replica, false)
    }

    pub fn replicate_on(
        &self,
        fs: &Arc<dyn FileSystem>,
        replica: &str,
        adopt: bool,
    ) -> Result<Replicated, ReplayError> {
        let mut session = self.open_replica(fs, replica)?;
        let repository = Repository::open(fs, &self.path("repository"), self.secret.as_ref(), 1)?;
        let machine = name("web01");
        let request = ReplicateRequest {
            machine: &machine,
            targets: self.targets(replica),
            sources: Vec::new(),
            adopt,
            workers: self.workers,
        };
        let catalog = self.catalog(&repository);
        replicate(&mut session, &repository, &catalog, &request, &Progress::default())
    }

    /// Takes a replica's lock; an interrupted update is finished then.
    pub fn open_replica(
        &self,
        fs: &Arc<dyn FileSystem>,
        replica: &str,
    ) -> Result<ReplicaSession, ReplayError> {
        let targets = self.targets(replica);
        ReplicaSession::open(fs, self.replica_home(replica), &name(replica), &targets)
    }

    pub fn replica_disk(&self, replica: &str, disk: &str) -> Vec<u8> {
        std::fs::read(self.path(&format!("{replica}/{disk}.raw"))).unwrap()
    }

    pub fn points(&self) -> Vec<Point> {
        let repository = self.repository();
        let catalog = self.catalog(&repository);
        catalog.sync(&repository).unwrap();
        catalog.points(Some(&name("web01"))).unwrap()
    }

    /// Restores a point to `folder` and gives it back.
    pub fn restore(&self, point: &Point, folder: &str) -> Result<PathBuf, RestoreError> {
        self.restore_on(&self.fs, point, folder)
    }

    pub fn restore_on(
        &self,
        fs: &Arc<dyn FileSystem>,
        point: &Point,
        folder: &str,
    ) -> Result<PathBuf, RestoreError> {
        let repository = Repository::open(fs, &self.path("repository"), self.secret.as_ref(), 1)?;
        let catalog = self.catalog(&repository);
        catalog.sync(&repository)?;
        let to = self.path(folder);
        std::fs::create_dir_all(&to).unwrap();
        let options = RestoreOptions {
            disk: None,
            to: to.clone(),
            force: true,
            protected: Vec::new(),
            workers: self.workers,
            damaged: self.damaged,
        };
        let plan = plan_restore(fs.as_ref(), &repository, &catalog, point, &options)?;
        restore(fs, &repository, &catalog, &plan, &options, &Progress::default())?;
        Ok(to)
    }

    pub fn restored(&self, point: &Point, disk: &str) -> Vec<u8> {
        let folder = self.restore(point, "restored").unwrap();
        std::fs::read(folder.join(format!("{disk}.raw"))).unwrap()
    }

    /// Removes a point as pruning does.
    pub fn remove_point(&self, id: PointId) {
        self.remove_points(&[id]);
    }

    /// Removes points as pruning does, whatever needs them.
    pub fn remove_points(&self, points: &[PointId]) {
        let repository = self.repository();
        let points = points.iter().copied().collect();
        let time = self.now();
        let (machine, run) = (name("web01"), RunId::random().unwrap());
        let what = Removed { machine: &machine, points: &points, time, run };
        remove_points(&repository, &self.catalog(&repository), &what).unwrap();
    }

    /// Returns the space that no point needs.
    pub fn gc(&self) -> Result<GcOutcome, GcError> {
        self.gc_on(&self.fs)
    }

    pub fn gc_on(&self, fs: &Arc<dyn FileSystem>) -> Result<GcOutcome, GcError> {
        let repository = Repository::open(fs, &self.path("repository"), self.secret.as_ref(), 1)?;
        let now = jiff::Timestamp::from_second(self.clock.get()).unwrap();
        let request = GcRequest { fill_percent: 75, now, run: RunId::random().unwrap() };
        collect(&repository, &self.catalog(&repository), &request, &Progress::default())
    }

    /// Bytes of all packs.
    pub fn pack_bytes(&self) -> u64 {
        self.repository().list_packs().unwrap().iter().map(|(_, bytes)| bytes).sum()
    }

    /// The live catalog must equal one that is built anew from the repository.
    pub fn check_catalog(&self) {
        let live = self.catalog_contents(&self.state_dir());
        let rebuilt = self.catalog_contents(&self.path("rebuilt"));
        assert_eq!(live, rebuilt, "a catalog rebuilt from the repository equals the live one");
        std::fs::remove_dir_all(self.path("rebuilt")).unwrap();
        let repository = self.repository();
        let second = SecondCatalog::begin(&self.state_dir(), repository.header().id).unwrap();
        second.catalog().sync(&repository).unwrap();
        let compared = self.catalog(&repository).compare(second.catalog()).unwrap();
        assert!(compared.is_equal(), "{compared:?}");
    }

    /// Puts a catalog that is built from the repository in the place of the live one.
    pub fn rebuild_catalog(&self) {
        let repository = self.repository();
        let second = SecondCatalog::begin(&self.state_dir(), repository.header().id).unwrap();
        second.catalog().sync(&repository).unwrap();
        second.replace_live().unwrap();
    }

    /// Files under construction in the repository that nobody works on any more.
    pub fn leftovers(&self) -> Vec<String> {
        let entries = self.fs.list(&self.path("repository/tmp")).unwrap();
        entries.into_iter().map(|entry| entry.name).collect()
    }

    fn catalog_contents(&self, state_dir: &Path) -> CatalogContents {
        let repository = self.repository();
        let catalog = Catalog::open(state_dir, repository.header().id).unwrap();
        let report = catalog.sync(&repository).unwrap();
        assert!(report.damages.is_empty(), "{:?}", report.damages);
        catalog.contents().unwrap()
    }
}

pub use afterimage::testing::noise;

/// Writes a file that is sparse wherever a block of 4 KiB is zero.
pub fn write_sparse(path: &Path, content: &[u8]) {
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::create(path).unwrap();
    file.set_len(content.len() as u64).unwrap();
    let mut at = 0;
    for block in content.chunks(4096) {
        if !afterimage::chunk::is_zero(block) {
            file.write_all_at(block, at).unwrap();
        }
        at += block.len() as u64;
    }
}

/// A file that was changed just now proves nothing by its times; this waits until those before do.
pub fn let_it_settle() {
    std::thread::sleep(std::time::Duration::from_millis(3100));
}

/// Writes to a file as someone else would. Where the clock of the file system is coarse, a write
/// in the same tick as the one before leaves no trace: this one is repeated until it does.
pub fn write_noticed(path: &Path, at: u64, bytes: &[u8]) {
    use std::os::unix::fs::{FileExt, MetadataExt};
    let file = std::fs::File::options().write(true).open(path).unwrap();
    let time = || file.metadata().map(|it| (it.mtime(), it.mtime_nsec())).unwrap();
    let before = time();
    loop {
        file.write_all_at(bytes, at).unwrap();
        if time() != before {
            return;
        }
    }
}

/// Compares without printing megabytes.
pub fn assert_same(found: &[u8], expected: &[u8], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}: length");
    let differs = found.iter().zip(expected).position(|(a, b)| a != b);
    assert!(differs.is_none(), "{what}: differs at byte {differs:?} of {}", found.len());
}

//! A repository, its catalog and one machine with one generated disk, in a folder on a real disk:
//! everything is synced as ever.

use crate::generated::Generated;
use afterimage::backup::{BackupRequest, BackupResult, ChangeHints, backup};
use afterimage::capture::{DiskCapturer, Disks};
use afterimage::catalog::Catalog;
use afterimage::chunk::CutParameters;
use afterimage::destination::{ReplicaHome, TargetKind};
use afterimage::extent::Extent;
use afterimage::fsio::{FileSystem, RealFileSystem};
use afterimage::point::Provenance;
use afterimage::progress::Progress;
use afterimage::replay::{ReplicaSession, ReplicateRequest, Replicated, TargetSpec, replicate};
use afterimage::retain::{GcOutcome, GcRequest, collect};
use afterimage::source::{ChangedList, HandedOver};
use afterimage::store::{InitOptions, PackKind, Repository};
use afterimage::units::{Name, RunId};
use std::cell::Cell;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

/// Seconds between two points.
const POINT_SECONDS: i64 = 60;

pub struct World {
    folder: tempfile::TempDir,
    fs: Arc<dyn FileSystem>,
    pub repository: Repository,
    pub catalog: Catalog,
    machine: Name,
    disk: Name,
    clock: Cell<i64>,
}

impl World {
    /// A new repository that will get about `points` points, the last of them before now.
    pub fn new(folder: tempfile::TempDir, points: u64) -> Self {
        let fs: Arc<dyn FileSystem> = RealFileSystem::shared();
        let root = folder.path().join("repository");
        let now = jiff::Timestamp::now();
        let cut = CutParameters::with_average(16 * 1024).expect("an average that is allowed");
        let options = InitOptions { cut, secret: None, recovery_key: None, now };
        Repository::init(&fs, &root, &options).expect("a new repository");
        let repository = Repository::open(&fs, &root, None, 1).expect("it opens");
        let state = folder.path().join("state");
        let catalog = Catalog::open(&state, repository.header().id).expect("a catalog");
        let name = |text: &str| text.parse().expect("a name");
        let clock = Cell::new(now.as_second() - (points as i64 + 60) * POINT_SECONDS);
        let (machine, disk) = (name("web01"), name("root"));
        Self { folder, fs, repository, catalog, machine, disk, clock }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Backs the disk up; everything is read.
    pub fn backup(&self, disk: &Generated, progress: &Progress) -> BackupResult {
        self.backup_knowing(disk, ChangeHints::default(), progress)
    }

    /// Backs the disk up, of which it is known what changed since the point of `before`.
    pub fn backup_changes(
        &self,
        disk: &Generated,
        before: &BackupResult,
        extents: &[Extent],
        progress: &Progress,
    ) -> BackupResult {
        let list = ChangedList { since: before.point.id, extents: extents.to_vec() };
        let lists = [(self.disk.clone(), HandedOver::List(list))].into();
        let hints =
            ChangeHints { lists, sources: Some(before.sources.clone()), ..ChangeHints::default() };
        let result = self.backup_knowing(disk, hints, progress);
        assert_eq!(result.disks[0].provenance, Provenance::List, "{:?}", result.disks);
        result
    }

    fn backup_knowing(
        &self,
        disk: &Generated,
        hints: ChangeHints,
        progress: &Progress,
    ) -> BackupResult {
        self.clock.set(self.clock.get() + POINT_SECONDS);
        let disks: Vec<(Name, Box<dyn DiskCapturer>)> =
            vec![(self.disk.clone(), Box::new(disk.clone()))];
        let request = BackupRequest {
            machine: &self.machine,
            capturer: &Disks::new(disks),
            hints,
            definition: Vec::new(),
            lock_until: None,
            now: jiff::Timestamp::from_second(self.clock.get()).expect("a time"),
            run: RunId::random().expect("random numbers"),
            workers: workers(),
            history: None,
        };
        backup(&self.repository, &self.catalog, &request, progress).expect("a point")
    }

    /// Brings the replica to the newest point.
    pub fn replicate(&self, progress: &Progress) -> Replicated {
        let (path, kind) = (self.path("replica/root.raw"), TargetKind::Image);
        let replica: Name = "standby".parse().expect("a name");
        let home = ReplicaHome::locate(&self.path("state"), None, &replica, &path, kind);
        let targets = vec![TargetSpec { disk: self.disk.clone(), path, kind }];
        let mut session =
            ReplicaSession::open(&self.fs, home, &replica, &targets).expect("the replica");
        let request = ReplicateRequest {
            machine: &self.machine,
            targets,
            sources: Vec::new(),
            adopt: false,
            workers: workers(),
        };
        replicate(&mut session, &self.repository, &self.catalog, &request, progress)
            .expect("a replica at the newest point")
    }

    /// Gives back what no point needs.
    pub fn collect(&self) -> GcOutcome {
        let (now, run) = (jiff::Timestamp::now(), RunId::random().expect("random numbers"));
        let request = GcRequest { fill_percent: 75, now, run };
        collect(&self.repository, &self.catalog, &request, &Progress::default())
            .expect("a collection")
    }

    /// Bytes of all packs: those of trees, and all.
    pub fn pack_bytes(&self) -> (u64, u64) {
        let known = self.catalog.known_packs().expect("the catalog's packs");
        let sum = |trees: bool| {
            let packs = known.packs.iter().filter(|pack| !trees || pack.kind == PackKind::Tree);
            packs.map(|pack| pack.bytes).sum::<u64>()
        };
        (sum(true), sum(false))
    }

    /// Writes settings, and a disk of this size with nothing in it, for commands.
    pub fn write_settings(&self, disk_bytes: u64, keep: u64) {
        let text = format!(
            "state_dir = \"state\"\n[repository.main]\nurl = \"repository\"\nencryption = \
             \"none\"\n[machine.web01]\nrepository = \"main\"\nkeep = {{ last = {keep} }}\n\
             [[machine.web01.disk]]\nname = \"root\"\nsource = {{ image = \"root.img\" }}\n\
             [replica.standby]\nmachine = \"web01\"\ntrigger = \"manual\"\n\
             [[replica.standby.disk]]\nname = \"root\"\n\
             target = {{ image = \"replica/root.raw\" }}\n"
        );
        std::fs::write(self.path("settings.toml"), text).expect("settings");
        let image = std::fs::File::create(self.path("root.img")).expect("an image");
        image.set_len(disk_bytes).expect("a length");
    }

    /// The program itself, to be run in this world.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_afterimage"));
        command
            .current_dir(self.folder.path())
            .env("AFTERIMAGE_CONFIG", "settings.toml")
            .arg("--json")
            .args(args);
        command
    }
}

/// As many threads as the program itself would use.
pub fn workers() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

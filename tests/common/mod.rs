//! A small world for tests of the engine: a machine's disks, a repository, a replica.
#![allow(dead_code, reason = "each test crate uses its own part")]

use afterimage::backup::{BackupError, BackupRequest, BackupResult, backup};
use afterimage::catalog::{Catalog, CatalogContents};
use afterimage::chunk::CutParameters;
use afterimage::destination::{ReplicaHome, TargetKind};
use afterimage::fsio::{FileSystem, RealFileSystem};
use afterimage::point::{Consistency, Point};
use afterimage::progress::Progress;
use afterimage::recover::{RestoreError, RestoreOptions, plan_restore, restore};
use afterimage::replay::{
    ReplayError, ReplicaSession, ReplicateRequest, Replicated, TargetSpec, replicate,
};
use afterimage::source::SourceSpec;
use afterimage::store::{InitOptions, Repository, Secret};
use afterimage::units::{Name, RunId};
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
    pub disks: Vec<&'static str>,
    pub secret: Option<Secret>,
    pub workers: usize,
}

impl World {
    /// A new repository; `secret_text` makes it an encrypted one.
    pub fn new(disks: &[&'static str], encrypted: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let fs = RealFileSystem::shared();
        let secret = encrypted.then(|| {
            let path = folder.path().join("key");
            std::fs::write(&path, [7; 32]).unwrap();
            Secret::from_key_file(&RealFileSystem, &path).unwrap()
        });
        let options = InitOptions {
            cut: CutParameters::with_average(16 * 1024).unwrap(),
            secret: secret.as_ref(),
            now: jiff::Timestamp::now(),
        };
        Repository::init(&fs, &folder.path().join("repository"), &options).unwrap();
        Self { folder, fs, disks: disks.to_vec(), secret, workers: 2 }
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
        let repository = self.repository_on(fs);
        let machine = name("web01");
        let spec = |disk: &&str| {
            let path = self.disk(disk);
            (name(disk), SourceSpec { path, format: None, must_be_device: false, quiesced: false })
        };
        let request = BackupRequest {
            machine: &machine,
            disks: self.disks.iter().map(spec).collect(),
            definition: Vec::new(),
            consistency: Consistency::Offline,
            now: jiff::Timestamp::now(),
            run: RunId::random().unwrap(),
            workers: self.workers,
        };
        backup(&repository, &self.catalog(&repository), &request, &Progress::default())
    }

    pub fn targets(&self, replica: &str) -> Vec<TargetSpec> {
        let spec = |disk: &&str| TargetSpec {
            disk: name(disk),
            path: self.path(&format!("{replica}/{disk}.raw")),
            kind: TargetKind::Image,
        };
        self.disks.iter().map(spec).collect()
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
        let mut session = ReplicaSession::open(fs, self.replica_home(replica), &name(replica))?;
        let repository = self.repository();
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
        let repository = self.repository();
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
        };
        let plan = plan_restore(self.fs.as_ref(), &repository, &catalog, point, &options)?;
        restore(&self.fs, &repository, &catalog, &plan, &options, &Progress::default())?;
        Ok(to)
    }

    pub fn restored(&self, point: &Point, disk: &str) -> Vec<u8> {
        let folder = self.restore(point, "restored").unwrap();
        std::fs::read(folder.join(format!("{disk}.raw"))).unwrap()
    }

    /// The live catalog must equal one that is built anew from the repository.
    pub fn check_catalog(&self) {
        let live = self.catalog_contents(&self.state_dir());
        let rebuilt = self.catalog_contents(&self.path("rebuilt"));
        assert_eq!(live, rebuilt, "a catalog rebuilt from the repository equals the live one");
        std::fs::remove_dir_all(self.path("rebuilt")).unwrap();
    }

    fn catalog_contents(&self, state_dir: &Path) -> CatalogContents {
        let repository = self.repository();
        let catalog = Catalog::open(state_dir, repository.header().id).unwrap();
        let report = catalog.sync(&repository).unwrap();
        assert!(report.damages.is_empty(), "{:?}", report.damages);
        catalog.contents().unwrap()
    }
}

/// Bytes that do not compress, from a seed (SplitMix64).
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bytes.extend_from_slice(&(word ^ (word >> 31)).to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

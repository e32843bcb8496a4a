//! A repository, a second one, two machines and a replica: files of the engine on a simulated
//! disk, sources and catalogs in a folder of the operating system.

use afterimage::catalog::Catalog;
use afterimage::chunk::CutParameters;
use afterimage::fsio::FileSystem;
use afterimage::store::{Repository, Secret};
use afterimage::testing::disk::SimulatedDisk;
use afterimage::testing::{Random, noise};
use afterimage::units::{Name, PointId};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;
/// Content of each disk of a machine.
pub type Contents = BTreeMap<Name, Vec<u8>>;

pub const MACHINES: [&str; 2] = ["alpha", "beta"];
/// Replicas, and which machine each follows.
pub const REPLICAS: [(&str, usize); 3] = [("standby", 0), ("far-standby", 0), ("beta-standby", 1)];
pub const FIRST: &str = "/r/first";
pub const SECOND: &str = "/r/second";
pub const KEY: &str = "/r/key";
/// Where the disk `root` of the newest point is restored to.
pub const RESTORED_DISK: &str = "/restored/root.raw";
const RESTORED: &str = "/restored";

pub fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// What can be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Init,
    Backup(usize),
    /// A replica, by its number.
    Replicate(usize),
    /// A machine, but for this many of its newest points.
    Prune(usize, u32),
    Gc,
    /// The key of an encrypted repository.
    Rotate,
    /// All points of the first machine, to the second repository.
    Copy,
    /// The newest point of the first machine.
    Restore,
    Verify,
}

/// What was acknowledged.
#[derive(Debug, Clone)]
pub enum Done {
    Made(usize, PointId),
    /// A replica is at a point.
    Synced(usize, PointId),
    Removed(BTreeSet<PointId>),
    Copied(Vec<(PointId, PointId)>),
    Nothing,
}

/// Everything that there is.
#[derive(Debug)]
pub struct Lab {
    pub disk: SimulatedDisk,
    ground: Arc<tempfile::TempDir>,
    /// The computer on which it is done: each has catalogs of its own.
    pub host: usize,
    pub machines: [Contents; 2],
    pub encrypted: bool,
    pub clock: i64,
}

/// Small regions and chunks, so that small disks have trees of several levels.
pub fn small_cut() -> CutParameters {
    CutParameters {
        region_bytes: 32 * 1024,
        granule_bytes: 4096,
        chunk_bytes_min: 512,
        chunk_bytes_average: 2048,
        chunk_bytes_max: 8192,
        block_bytes: Some(4096),
    }
}

fn ground() -> Arc<tempfile::TempDir> {
    Arc::new(tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap())
}

/// Copies the files of a folder to another one, in the place of what is there.
pub fn copy_files(from: &Path, to: &Path) {
    if to.exists() {
        std::fs::remove_dir_all(to).unwrap();
    }
    let Ok(files) = std::fs::read_dir(from) else { return };
    std::fs::create_dir(to).unwrap();
    for file in files {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

impl Lab {
    /// No repository yet.
    pub fn new(seed: u64, encrypted: bool) -> Self {
        let disk = SimulatedDisk::new();
        let standbys = REPLICAS.map(|(replica, _)| format!("/{replica}"));
        for folder in standbys.iter().map(String::as_str).chain(["/r", RESTORED]) {
            disk.create_dir_all(Path::new(folder)).unwrap();
        }
        if encrypted {
            let key = disk.open(Path::new(KEY), afterimage::fsio::OpenMode::CreateNew).unwrap();
            key.write_all_at(&[b'k'; 32], 0).unwrap();
        }
        disk.settle();
        let mut root = noise(seed, 50_000 + (seed as usize % 7) * 1000);
        root[8000..30_000].fill(0);
        let beta = [&root[..20_000], &noise(seed + 1, 9000)].concat();
        let machines = [
            [(name("root"), root), (name("data"), noise(seed + 2, 5001))].into(),
            [(name("root"), beta)].into(),
        ];
        let lab = Self { disk, ground: ground(), host: 0, machines, encrypted, clock: 0 };
        (0..2).for_each(|machine| lab.write_disks(machine));
        lab
    }

    /// The same machines beside another disk. The catalogs are those of this one, or none.
    pub fn with_disk(&self, disk: SimulatedDisk, catalogs: bool) -> Self {
        let lab = Self { disk, ground: ground(), machines: self.machines.clone(), ..*self };
        (0..2).for_each(|machine| lab.write_disks(machine));
        if catalogs {
            copy_files(&self.state_dir(), &lab.state_dir());
        }
        lab
    }

    /// The same as another computer sees it.
    pub fn on_host(&self, host: usize) -> Self {
        let (disk, ground) = (self.disk.clone(), Arc::clone(&self.ground));
        Self { disk, ground, host, machines: self.machines.clone(), ..*self }
    }

    /// Another disk beside the same sources and catalogs: to look at what it holds.
    pub fn beside(&self, disk: SimulatedDisk) -> Self {
        let ground = Arc::clone(&self.ground);
        Self { disk, ground, machines: self.machines.clone(), ..*self }
    }

    /// An independent copy of all of it.
    pub fn copy(&self) -> Self {
        self.with_disk(self.disk.copy(), true)
    }

    pub fn fs(&self) -> Arc<dyn FileSystem> {
        Arc::new(self.disk.clone())
    }

    pub fn state_dir(&self) -> PathBuf {
        self.ground.path().join(format!("state-{}", self.host))
    }

    pub fn source(&self, machine: usize, disk: &Name) -> PathBuf {
        self.ground.path().join(format!("{}-{disk}.img", MACHINES[machine]))
    }

    fn write_disks(&self, machine: usize) {
        for (disk, content) in &self.machines[machine] {
            std::fs::write(self.source(machine, disk), content).unwrap();
        }
    }

    /// A machine goes on: new content, zeros, content of the other machine, another size.
    pub fn change(&mut self, machine: usize, random: &mut Random) {
        let other = self.machines[1 - machine][&name("root")].clone();
        for content in self.machines[machine].values_mut() {
            if random.chance(20) {
                let len = content.len() + 4096 - random.below(6000) as usize;
                content.resize(len.max(600), 0);
            }
            let count = (500 + random.below(9000) as usize).min(content.len());
            let at = random.below((content.len() - count) as u64 + 1) as usize;
            let bytes = match random.below(4) {
                0 => vec![0; count],
                1 => other.iter().copied().cycle().take(count).collect(),
                _ => noise(random.word(), count),
            };
            content[at..at + count].copy_from_slice(&bytes);
        }
        self.write_disks(machine);
    }

    /// A machine holds something else.
    pub fn hold(&mut self, machine: usize, contents: Contents) {
        self.machines[machine] = contents;
        self.write_disks(machine);
    }

    pub fn time(&self) -> jiff::Timestamp {
        jiff::Timestamp::from_second(1_700_000_000 + self.clock).unwrap()
    }

    pub fn secret(&self, fs: &Arc<dyn FileSystem>) -> Result<Option<Secret>> {
        match self.encrypted {
            true => Ok(Some(Secret::from_key_file(fs.as_ref(), Path::new(KEY))?)),
            false => Ok(None),
        }
    }

    pub fn repository(&self, fs: &Arc<dyn FileSystem>) -> Result<Repository> {
        Ok(Repository::open(fs, Path::new(FIRST), self.secret(fs)?.as_ref(), 1)?)
    }

    pub fn second(&self, fs: &Arc<dyn FileSystem>) -> Result<Repository> {
        Ok(Repository::open(fs, Path::new(SECOND), None, 1)?)
    }

    pub fn catalog(&self, repository: &Repository) -> Result<Catalog> {
        Ok(Catalog::open(&self.state_dir(), repository.header().id)?)
    }

    pub fn open(&self, fs: &Arc<dyn FileSystem>) -> Result<(Repository, Catalog)> {
        let repository = self.repository(fs)?;
        let catalog = self.catalog(&repository)?;
        Ok((repository, catalog))
    }
}

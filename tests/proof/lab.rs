//! A repository, a second one, two machines and a replica: files of the engine on a simulated
//! disk, sources and catalogs in a folder of the operating system.

use afterimage::backup::{BackupRequest, backup};
use afterimage::catalog::Catalog;
use afterimage::chunk::CutParameters;
use afterimage::destination::{Damaged, ReplicaHome, TargetKind};
use afterimage::fsio::FileSystem;
use afterimage::point::Consistency;
use afterimage::progress::Progress;
use afterimage::recover::{RestoreOptions, plan_restore, restore};
use afterimage::replay::{ReplicaSession, ReplicateRequest, TargetSpec, replicate};
use afterimage::retain::{GcRequest, Plan, PruneRequest, ReplicaPlace, collect, plan_prune, prune};
use afterimage::scrub::{Scope, VerifyRequest, verify_repository};
use afterimage::source::SourceSpec;
use afterimage::store::{
    Doubt, IndexTrust, InitOptions, Keyring, Own, Repository, Secret, rotate_in_place,
};
use afterimage::testing::disk::SimulatedDisk;
use afterimage::testing::{Random, noise};
use afterimage::transfer::{CopyRequest, Side, copy_points};
use afterimage::units::{Keep, Name, PointId, RunId};
use jiff::tz::TimeZone;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;
/// Content of each disk of a machine.
pub type Contents = BTreeMap<Name, Vec<u8>>;

pub const MACHINES: [&str; 2] = ["alpha", "beta"];
pub const FIRST: &str = "/r/first";
pub const SECOND: &str = "/r/second";
const KEY: &str = "/r/key";
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
    /// The first machine's replica.
    Replicate,
    /// The first machine, but for this many of its newest points.
    Prune(u32),
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
    Removed(BTreeSet<PointId>),
    Copied(Vec<(PointId, PointId)>),
    Nothing,
}

/// Everything that there is.
#[derive(Debug)]
pub struct Lab {
    pub disk: SimulatedDisk,
    ground: tempfile::TempDir,
    pub machines: [Contents; 2],
    pub encrypted: bool,
    pub clock: i64,
}

/// Small regions and chunks, so that small disks have trees of several levels.
fn small_cut() -> CutParameters {
    CutParameters {
        region_bytes: 32 * 1024,
        granule_bytes: 4096,
        chunk_bytes_min: 512,
        chunk_bytes_average: 2048,
        chunk_bytes_max: 8192,
    }
}

fn ground() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

impl Lab {
    /// No repository yet.
    pub fn new(seed: u64, encrypted: bool) -> Self {
        let disk = SimulatedDisk::new().unwrap();
        for folder in ["/r", "/standby", RESTORED] {
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
        let lab = Self { disk, ground: ground(), machines, encrypted, clock: 0 };
        (0..2).for_each(|machine| lab.write_disks(machine));
        lab
    }

    /// The same machines beside another disk. The catalogs are those of this one, or none.
    pub fn with_disk(&self, disk: SimulatedDisk, catalogs: bool) -> Self {
        let (machines, encrypted, clock) = (self.machines.clone(), self.encrypted, self.clock);
        let lab = Self { disk, ground: ground(), machines, encrypted, clock };
        (0..2).for_each(|machine| lab.write_disks(machine));
        if catalogs && let Ok(files) = std::fs::read_dir(self.state_dir()) {
            std::fs::create_dir(lab.state_dir()).unwrap();
            for file in files {
                let file = file.unwrap();
                std::fs::copy(file.path(), lab.state_dir().join(file.file_name())).unwrap();
            }
        }
        lab
    }

    /// An independent copy of all of it.
    pub fn copy(&self) -> Self {
        self.with_disk(self.disk.copy().unwrap(), true)
    }

    pub fn fs(&self) -> Arc<dyn FileSystem> {
        Arc::new(self.disk.clone())
    }

    pub fn state_dir(&self) -> PathBuf {
        self.ground.path().join("state")
    }

    fn source(&self, machine: usize, disk: &Name) -> PathBuf {
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

    fn open(&self, fs: &Arc<dyn FileSystem>) -> Result<(Repository, Catalog)> {
        let repository = self.repository(fs)?;
        let catalog = self.catalog(&repository)?;
        Ok((repository, catalog))
    }

    /// Does it by way of `fs`, which is the lab's disk, or something before it.
    pub fn act(&self, fs: &Arc<dyn FileSystem>, action: Action) -> Result<Done> {
        match action {
            Action::Init => self.init(fs),
            Action::Backup(machine) => self.backup(fs, machine),
            Action::Replicate => self.replicate(fs),
            Action::Prune(last) => self.prune(fs, last),
            Action::Gc => self.gc(fs),
            Action::Rotate => self.rotate(fs),
            Action::Copy => self.copy_points(fs),
            Action::Restore => self.restore(fs),
            Action::Verify => self.verify(fs),
        }
    }

    /// Both repositories, as far as they are not there yet.
    fn init(&self, fs: &Arc<dyn FileSystem>) -> Result<Done> {
        for (root, secret) in [(FIRST, self.secret(fs)?), (SECOND, None)] {
            let root = Path::new(root);
            let (cut, secret, now) = (small_cut(), secret.as_ref(), self.time());
            cut.check()?;
            if fs.stat(&root.join("repository.json"))?.is_none() {
                let options = InitOptions { cut, secret, recovery_key: None, now };
                Repository::init(fs, root, &options)?;
            }
        }
        Ok(Done::Nothing)
    }

    fn backup(&self, fs: &Arc<dyn FileSystem>, machine: usize) -> Result<Done> {
        let (repository, catalog) = self.open(fs)?;
        let spec = |disk: &Name| {
            let path = self.source(machine, disk);
            let spec = SourceSpec { path, format: None, must_be_device: false, quiesced: false };
            (disk.clone(), spec)
        };
        let request = BackupRequest {
            machine: &name(MACHINES[machine]),
            disks: self.machines[machine].keys().map(spec).collect(),
            definition: Vec::new(),
            consistency: Consistency::Offline,
            now: self.time(),
            lock_until: None,
            run: RunId::random()?,
            workers: 1,
        };
        let done = backup(&repository, &catalog, &request, &Progress::default())?;
        Ok(Done::Made(machine, done.point.id))
    }

    fn targets(&self) -> Vec<TargetSpec> {
        let spec = |disk: &Name| TargetSpec {
            disk: disk.clone(),
            path: Self::image(disk),
            kind: TargetKind::Image,
        };
        self.machines[0].keys().map(spec).collect()
    }

    pub fn image(disk: &Name) -> PathBuf {
        Path::new("/standby").join(format!("{disk}.raw"))
    }

    pub fn home() -> ReplicaHome {
        let (first, kind) = (Self::image(&name("data")), TargetKind::Image);
        ReplicaHome::locate(Path::new("/state"), None, &name("standby"), &first, kind)
    }

    /// Takes the replica's lock; an interrupted update is finished then, without the repository.
    pub fn open_replica(&self, fs: &Arc<dyn FileSystem>) -> Result<ReplicaSession> {
        Ok(ReplicaSession::open(fs, Self::home(), &name("standby"), &self.targets())?)
    }

    fn replicate(&self, fs: &Arc<dyn FileSystem>) -> Result<Done> {
        let mut session = self.open_replica(fs)?;
        let (repository, catalog) = self.open(fs)?;
        let request = ReplicateRequest {
            machine: &name(MACHINES[0]),
            targets: self.targets(),
            sources: Vec::new(),
            adopt: false,
            workers: 1,
        };
        replicate(&mut session, &repository, &catalog, &request, &Progress::default())?;
        Ok(Done::Nothing)
    }

    /// What a prune would remove.
    pub fn plan_prune(&self, fs: &Arc<dyn FileSystem>, last: u32) -> Result<BTreeSet<PointId>> {
        let (repository, catalog) = self.open(fs)?;
        self.with_prune(last, |request| {
            Ok(plan_prune(fs.as_ref(), &repository, &catalog, request).map(|plan| plan.going())?)
        })
    }

    fn with_prune<T>(
        &self,
        last: u32,
        act: impl FnOnce(&PruneRequest<'_>) -> Result<T>,
    ) -> Result<T> {
        let was_fed = self.disk.content(&Self::home().superblock()).is_some();
        let place = ReplicaPlace { replica: name("standby"), home: Self::home(), was_fed };
        act(&PruneRequest {
            machine: &name(MACHINES[0]),
            keep: &Keep { last, ..Keep::default() },
            zone: &TimeZone::UTC,
            lock_days: 0,
            replicas: &[place],
            recorded: None,
            now: self.time(),
        })
    }

    fn prune(&self, fs: &Arc<dyn FileSystem>, last: u32) -> Result<Done> {
        let (repository, catalog) = self.open(fs)?;
        self.with_prune(last, |request| {
            let plan: Plan = plan_prune(fs.as_ref(), &repository, &catalog, request)?;
            let (run, progress, going) = (RunId::random()?, Progress::default(), plan.going());
            let done = prune(fs.as_ref(), &repository, &catalog, request, &going, run, &progress)?;
            Ok(Done::Removed(done.removed))
        })
    }

    fn gc(&self, fs: &Arc<dyn FileSystem>) -> Result<Done> {
        let (repository, catalog) = self.open(fs)?;
        let request = GcRequest { fill_percent: 75, now: self.time(), run: RunId::random()? };
        collect(&repository, &catalog, &request, &Progress::default())?;
        Ok(Done::Nothing)
    }

    fn rotate(&self, fs: &Arc<dyn FileSystem>) -> Result<Done> {
        let (path, root) = (Path::new(KEY), Path::new(FIRST));
        let secret = Secret::from_key_file(fs.as_ref(), path)?;
        let mut keyring = Keyring::open(fs, root, &secret, IndexTrust::Needed)?;
        let _lease = keyring.repository().lock_shared("exchanging the key")?;
        let own = Own { secret: Some(&secret), key_file: Some(path) };
        let settled = keyring.settle(own, Doubt::Refuse)?;
        rotate_in_place(&mut keyring, path, settled, self.time())?;
        Ok(Done::Nothing)
    }

    fn copy_points(&self, fs: &Arc<dyn FileSystem>) -> Result<Done> {
        let (from, theirs) = self.open(fs)?;
        let to = self.second(fs)?;
        let ours = self.catalog(&to)?;
        let (machine, run) = (name(MACHINES[0]), RunId::random()?);
        let request = CopyRequest { machine: &machine, only: None, run, workers: 1 };
        let from = Side { repository: &from, catalog: &theirs };
        let to = Side { repository: &to, catalog: &ours };
        let done = copy_points(from, to, &request, &Progress::default())?;
        if let Some((point, error)) = done.unreadable.first() {
            return Err(format!("point {} is not read: {error}", point.id.short()).into());
        }
        let sequences = theirs.points(Some(&machine))?.into_iter();
        let theirs: BTreeMap<_, _> =
            sequences.map(|point| (point.manifest.sequence, point.id)).collect();
        let pair = |point: &afterimage::point::Point| {
            Some((point.id, *theirs.get(&point.manifest.sequence)?))
        };
        Ok(Done::Copied(done.copied.iter().filter_map(pair).collect()))
    }

    fn restore(&self, fs: &Arc<dyn FileSystem>) -> Result<Done> {
        let (repository, catalog) = self.open(fs)?;
        let _lease = repository.lock_for_reading("restoring")?;
        catalog.sync(&repository)?;
        let newest = catalog.newest_point(&name(MACHINES[0]))?;
        let Some(point) = newest else { return Ok(Done::Nothing) };
        let options = RestoreOptions {
            disk: Some(name("root")),
            to: PathBuf::from(RESTORED_DISK),
            force: true,
            protected: Vec::new(),
            workers: 1,
            damaged: Damaged::Fail,
        };
        let plan = plan_restore(fs.as_ref(), &repository, &catalog, &point, &options)?;
        restore(fs, &repository, &catalog, &plan, &options, &Progress::default())?;
        Ok(Done::Nothing)
    }

    fn verify(&self, fs: &Arc<dyn FileSystem>) -> Result<Done> {
        let (repository, catalog) = self.open(fs)?;
        let request = VerifyRequest { scope: Scope::All, workers: 1 };
        let verdict = verify_repository(&repository, &catalog, &request, &Progress::default())?;
        match verdict.is_good() && verdict.unchecked.is_empty() {
            true => Ok(Done::Nothing),
            false => Err(format!("{:?}, {:?}", verdict.findings, verdict.unchecked).into()),
        }
    }
}

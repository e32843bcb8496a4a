//! A repository, machines and a replica in one folder, and what can be done to them through any
//! file system.

use afterimage::backup::{BackupRequest, ChangeHints, backup};
use afterimage::capture::Disks;
use afterimage::catalog::{Catalog, SourcesAt};
use afterimage::destination::{Damaged, ReplicaHome, TargetKind};
use afterimage::extent::{Extent, push_joined};
use afterimage::fsio::{FileSystem, RealFileSystem};
use afterimage::point::Point;
use afterimage::progress::Progress;
use afterimage::recover::{RestoreOptions, plan_restore, restore};
use afterimage::replay::{ReplicaSession, ReplicateRequest, TargetSpec, replicate};
use afterimage::retain::{
    GcOutcome, GcRequest, PruneRequest, Removed, ReplicaPlace, collect, plan_prune, prune,
    remove_points,
};
use afterimage::scrub::{Scope, VerifyRequest, verify_repository};
use afterimage::source::{ChangedList, HandedOver, SourceSpec};
use afterimage::store::{InitOptions, Repository};
use afterimage::units::{Keep, Name, PointId, RunId};
use jiff::tz::TimeZone;
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

pub type Result<T> = std::result::Result<T, Box<dyn Error>>;
pub const MACHINES: [&str; 2] = ["alpha", "beta"];

pub fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// Everything lies in this folder.
#[derive(Debug, Clone)]
pub struct Lab {
    pub folder: PathBuf,
    backed_up: Arc<Mutex<BackedUp>>,
}

/// What backups in this lab left, for the next ones to build upon.
#[derive(Debug, Default)]
struct BackedUp {
    contents: BTreeMap<PointId, Vec<u8>>,
    sources: BTreeMap<usize, SourcesAt>,
}

impl Lab {
    pub fn new(folder: &Path) -> Self {
        let lab = Self { folder: folder.to_owned(), backed_up: Arc::default() };
        let now = lab.time(0);
        let options =
            InitOptions { cut: crate::common::small_cut(), secret: None, recovery_key: None, now };
        Repository::init(&RealFileSystem::shared(), &lab.root(), &options).unwrap();
        lab
    }

    pub fn root(&self) -> PathBuf {
        self.folder.join("repository")
    }

    pub fn time(&self, clock: i64) -> jiff::Timestamp {
        jiff::Timestamp::from_second(1_700_000_000 + clock).unwrap()
    }

    pub fn disk(&self, machine: usize) -> PathBuf {
        self.folder.join(MACHINES[machine])
    }

    pub fn image(&self) -> PathBuf {
        self.folder.join("standby/root.raw")
    }

    pub fn open(&self, fs: &Arc<dyn FileSystem>) -> Result<(Repository, Catalog)> {
        let repository = Repository::open(fs, &self.root(), None, 1)?;
        let catalog = Catalog::open(&self.folder.join("state"), repository.header().id)?;
        Ok((repository, catalog))
    }

    pub fn backup(&self, fs: &Arc<dyn FileSystem>, machine: usize, clock: i64) -> Result<Point> {
        let (repository, catalog) = self.open(fs)?;
        let path = self.disk(machine);
        let spec =
            SourceSpec { path: path.clone(), format: None, must_be_device: false, quiesced: false };
        let content = std::fs::read(&path)?;
        let request = BackupRequest {
            machine: &name(MACHINES[machine]),
            capturer: &Disks::of_files([(name("root"), spec)]),
            hints: self.hints(&catalog, machine, &content, clock)?,
            definition: Vec::new(),
            now: self.time(clock),
            lock_until: None,
            run: RunId::random()?,
            workers: 1,
            history: None,
        };
        let done = backup(&repository, &catalog, &request, &Progress::default())?;
        let mut backed_up = self.backed_up.lock().unwrap();
        backed_up.contents.insert(done.point.id, content);
        backed_up.sources.insert(machine, done.sources);
        Ok(done.point)
    }

    /// Two of three backups know what changed since the newest point, and what could be relied on
    /// when the last one was made here.
    fn hints(
        &self,
        catalog: &Catalog,
        machine: usize,
        content: &[u8],
        clock: i64,
    ) -> Result<ChangeHints> {
        let backed_up = self.backed_up.lock().unwrap();
        let mut hints = ChangeHints::default();
        let newest = catalog.newest_point(&name(MACHINES[machine]))?.map(|point| point.id);
        let before = newest.and_then(|id| Some((id, backed_up.contents.get(&id)?)));
        let Some((since, before)) = before.filter(|_| clock % 3 != 0) else { return Ok(hints) };
        let changed = (0..content.len()).filter(|at| before.get(*at) != content.get(*at));
        let extents = changed.map(|at| Extent::between(at as u64, at as u64 + 1));
        let mut list = Vec::new();
        extents.for_each(|extent| push_joined(&mut list, extent));
        let list = ChangedList { since, extents: list };
        hints.lists.insert(name("root"), HandedOver::List(list));
        hints.sources = backed_up.sources.get(&machine).cloned();
        Ok(hints)
    }

    pub fn remove(&self, fs: &Arc<dyn FileSystem>, points: &[(usize, PointId)]) -> Result<()> {
        let (repository, catalog) = self.open(fs)?;
        let _lease = repository.lock_shared("removing points")?;
        for (index, machine) in MACHINES.iter().enumerate() {
            let points = points.iter().filter(|(of, _)| *of == index).map(|(_, id)| *id).collect();
            let (machine, run) = (name(machine), RunId::random()?);
            let what = Removed { machine: &machine, points: &points, time: self.time(0), run };
            if !points.is_empty() {
                remove_points(&repository, &catalog, &what)?;
            }
        }
        Ok(())
    }

    /// Prunes the first machine, which has a replica, by the rule that keeps the newest points.
    pub fn prune(
        &self,
        fs: &Arc<dyn FileSystem>,
        last: u32,
        clock: i64,
    ) -> Result<BTreeSet<PointId>> {
        let (repository, catalog) = self.open(fs)?;
        let kind = TargetKind::Image;
        let replica = name("standby");
        let home =
            ReplicaHome::locate(&self.folder.join("state"), None, &replica, &self.image(), kind);
        let was_fed = self.image().exists();
        let request = PruneRequest {
            machine: &name(MACHINES[0]),
            keep: &Keep { last, ..Keep::default() },
            zone: &TimeZone::UTC,
            lock_days: 0,
            replicas: &[ReplicaPlace { replica, home, was_fed }],
            recorded: None,
            now: self.time(clock),
        };
        let plan = plan_prune(fs.as_ref(), &repository, &catalog, &request)?;
        let (run, progress) = (RunId::random()?, Progress::default());
        let (fs, going) = (fs.as_ref(), plan.going());
        let pruned = prune(fs, &repository, &catalog, &request, &going, run, &progress)?;
        Ok(pruned.removed)
    }

    /// Every byte.
    pub fn verify(&self, fs: &Arc<dyn FileSystem>) -> Result<()> {
        let (repository, catalog) = self.open(fs)?;
        let request = VerifyRequest { scope: Scope::All, workers: 1 };
        let verdict = verify_repository(&repository, &catalog, &request, &Progress::default())?;
        match verdict.is_good() && verdict.unchecked.is_empty() {
            true => Ok(()),
            false => Err(format!("{:?}, {:?}", verdict.findings, verdict.unchecked).into()),
        }
    }

    pub fn gc(&self, fs: &Arc<dyn FileSystem>, clock: i64) -> Result<GcOutcome> {
        let (repository, catalog) = self.open(fs)?;
        let now = self.time(clock);
        let request = GcRequest { fill_percent: 75, now, run: RunId::random()? };
        Ok(collect(&repository, &catalog, &request, &Progress::default())?)
    }

    pub fn replicate(&self, fs: &Arc<dyn FileSystem>) -> Result<()> {
        let spec = TargetSpec { disk: name("root"), path: self.image(), kind: TargetKind::Image };
        let (targets, state) = (vec![spec], self.folder.join("state"));
        let replica = name("standby");
        let home = ReplicaHome::locate(&state, None, &replica, &self.image(), TargetKind::Image);
        let mut session = ReplicaSession::open(fs, home, &replica, &targets)?;
        let (repository, catalog) = self.open(fs)?;
        let machine = name(MACHINES[0]);
        let request = ReplicateRequest {
            machine: &machine,
            targets,
            sources: Vec::new(),
            adopt: false,
            workers: 1,
        };
        replicate(&mut session, &repository, &catalog, &request, &Progress::default())?;
        Ok(())
    }

    pub fn restored(&self, fs: &Arc<dyn FileSystem>, point: &Point) -> Result<Vec<u8>> {
        let (repository, catalog) = self.open(fs)?;
        let _lease = repository.lock_for_reading("restoring")?;
        catalog.sync(&repository)?;
        let options = RestoreOptions {
            disk: Some(name("root")),
            to: self.folder.join(format!("restored-{}", RunId::random()?)),
            force: true,
            protected: Vec::new(),
            workers: 1,
            damaged: Damaged::Fail,
        };
        let plan = plan_restore(fs.as_ref(), &repository, &catalog, point, &options)?;
        restore(fs, &repository, &catalog, &plan, &options, &Progress::default())?;
        let found = std::fs::read(&options.to)?;
        std::fs::remove_file(&options.to)?;
        Ok(found)
    }
}

/// Whether a lock that is waited for is held right now: nothing else can begin in this moment.
pub fn is_beginning(lab: &Lab) -> bool {
    let path = lab.root().join("locks/sweep.lock");
    std::fs::File::open(path).is_ok_and(|file| file.try_lock().is_err())
}

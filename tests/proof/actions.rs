//! What is done in a lab: each action as a command of the program does it, but for the settings.

use crate::lab::{
    Action, Done, FIRST, KEY, Lab, MACHINES, REPLICAS, RESTORED_DISK, Result, SECOND, name,
    small_cut,
};
use afterimage::backup::{BackupRequest, ChangeHints, backup};
use afterimage::capture::Disks;
use afterimage::destination::{Damaged, ReplicaHome, TargetKind};
use afterimage::fsio::FileSystem;
use afterimage::progress::Progress;
use afterimage::recover::{RestoreOptions, plan_restore, restore};
use afterimage::replay::{ReplicaSession, ReplicateRequest, Replicated, TargetSpec, replicate};
use afterimage::retain::{GcRequest, Plan, PruneRequest, ReplicaPlace, collect, plan_prune, prune};
use afterimage::scrub::{Scope, VerifyRequest, verify_repository};
use afterimage::source::SourceSpec;
use afterimage::store::{
    Doubt, IndexTrust, InitOptions, Keyring, Own, Repository, Secret, rotate_in_place,
};
use afterimage::transfer::{CopyRequest, Side, copy_points};
use afterimage::units::{Keep, Name, PointId, RunId};
use jiff::tz::TimeZone;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

impl Lab {
    /// Does it by way of `fs`, which is the lab's disk, or something before it.
    pub fn act(&self, fs: &Arc<dyn FileSystem>, action: Action) -> Result<Done> {
        match action {
            Action::Init => self.init(fs),
            Action::Backup(machine) => self.backup(fs, machine),
            Action::Replicate(replica) => self.replicate(fs, replica),
            Action::Prune(machine, last) => self.prune(fs, machine, last),
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
            capturer: &Disks::of_files(self.machines[machine].keys().map(spec)),
            hints: ChangeHints::default(),
            definition: Vec::new(),
            now: self.time(),
            lock_until: None,
            run: RunId::random()?,
            workers: 1,
            history: None,
        };
        let done = backup(&repository, &catalog, &request, &Progress::default())?;
        Ok(Done::Made(machine, done.point.id))
    }

    fn targets(&self, replica: usize) -> Vec<TargetSpec> {
        let spec = |disk: &Name| TargetSpec {
            disk: disk.clone(),
            path: Self::image(replica, disk),
            kind: TargetKind::Image,
        };
        self.machines[REPLICAS[replica].1].keys().map(spec).collect()
    }

    pub fn image(replica: usize, disk: &Name) -> PathBuf {
        Path::new("/").join(REPLICAS[replica].0).join(disk.as_str()).join("image.raw")
    }

    pub fn home(replica: usize) -> ReplicaHome {
        let (first, kind) = (Self::image(replica, &name("data")), TargetKind::Image);
        ReplicaHome::locate(Path::new("/state"), None, &name(REPLICAS[replica].0), &first, kind)
    }

    /// Takes the replica's lock; an interrupted update is finished then, without the repository.
    pub fn open_replica(&self, fs: &Arc<dyn FileSystem>, replica: usize) -> Result<ReplicaSession> {
        let (home, of) = (Self::home(replica), name(REPLICAS[replica].0));
        Ok(ReplicaSession::open(fs, home, &of, &self.targets(replica))?)
    }

    fn replicate(&self, fs: &Arc<dyn FileSystem>, replica: usize) -> Result<Done> {
        let mut session = self.open_replica(fs, replica)?;
        let (repository, catalog) = self.open(fs)?;
        let request = ReplicateRequest {
            machine: &name(MACHINES[REPLICAS[replica].1]),
            targets: self.targets(replica),
            sources: Vec::new(),
            adopt: false,
            workers: 1,
        };
        let progress = Progress::default();
        Ok(match replicate(&mut session, &repository, &catalog, &request, &progress)? {
            Replicated::Skipped { at: to }
            | Replicated::Seeded { to }
            | Replicated::Repaired { to, .. }
            | Replicated::Replayed { to, .. } => Done::Synced(replica, to.id),
        })
    }

    /// What a prune would remove.
    pub fn plan_prune(
        &self,
        fs: &Arc<dyn FileSystem>,
        machine: usize,
        last: u32,
    ) -> Result<BTreeSet<PointId>> {
        let (repository, catalog) = self.open(fs)?;
        self.with_prune(machine, last, |request| {
            Ok(plan_prune(fs.as_ref(), &repository, &catalog, request).map(|plan| plan.going())?)
        })
    }

    fn with_prune<T>(
        &self,
        machine: usize,
        last: u32,
        act: impl FnOnce(&PruneRequest<'_>) -> Result<T>,
    ) -> Result<T> {
        let place = |replica: usize| {
            let home = Self::home(replica);
            let was_fed = self.disk.content(&home.superblock()).is_some();
            ReplicaPlace { replica: name(REPLICAS[replica].0), home, was_fed }
        };
        let follow = |replica: &usize| REPLICAS[*replica].1 == machine;
        act(&PruneRequest {
            machine: &name(MACHINES[machine]),
            keep: &Keep { last, ..Keep::default() },
            zone: &TimeZone::UTC,
            lock_days: 0,
            replicas: &(0..REPLICAS.len()).filter(follow).map(place).collect::<Vec<_>>(),
            recorded: None,
            now: self.time(),
        })
    }

    fn prune(&self, fs: &Arc<dyn FileSystem>, machine: usize, last: u32) -> Result<Done> {
        let (repository, catalog) = self.open(fs)?;
        self.with_prune(machine, last, |request| {
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

//! Bringing a point back: what will be written is decided first, shown, and done then.

use super::find::{Found, find_in};
use super::open::{OpenRepository, workers};
use super::run::{About, Done, RunResult, execute};
use super::{OperationError, damage};
use crate::catalog::{RunKind, RunStatus};
use crate::destination::Damaged;
use crate::fsio::{FileStat, FileSystem, RealFileSystem};
use crate::point::Point;
use crate::progress::Progress;
use crate::recover::{
    self, Missing, PointChoice, RestoreError, RestoreOptions, RestorePlan, choose_point,
};
use crate::report::{MissingDisk, PlanLine, PointAt, PointLine};
use crate::settings::Settings;
use crate::store::{Lease, StoreError};
use crate::units::{Name, format_bytes, format_count};
use jiff::tz::TimeZone;
use std::path::PathBuf;

/// What to restore, as a user says it.
#[derive(Debug, Clone)]
pub struct RestoreRequest {
    /// The machine. It need not be in the settings any more.
    pub machine: String,
    /// The repository of the settings that it comes from, if not the machine's own: one that
    /// points were copied to.
    pub repository: Option<String>,
    /// Only this disk.
    pub disk: Option<Name>,
    /// Which point: `latest`, digits of its id, `#12` or a time.
    pub point: String,
    /// The zone of a time that names none.
    pub zone: TimeZone,
    /// A folder, or with one disk a file or device.
    pub to: PathBuf,
    /// Existing files are replaced, devices overwritten.
    pub force: bool,
    /// What cannot be read is left out and listed, instead of ending the restore.
    pub skip_damaged: bool,
}

/// A restore that was planned and can be done. Meanwhile nothing is removed from the repository.
#[derive(Debug)]
pub struct PreparedRestore<'s> {
    settings: &'s Settings,
    open: OpenRepository,
    repository: Name,
    point: Point,
    options: RestoreOptions,
    plan: RestorePlan,
    _shared: Option<Lease>,
}

/// Chooses the point and decides what will be written where. Nothing is written.
///
/// # Errors
/// When no point is meant, or something must not be written to.
pub fn prepare_restore<'s>(
    settings: &'s Settings,
    request: &RestoreRequest,
) -> Result<PreparedRestore<'s>, OperationError> {
    let choice = PointChoice::parse(&request.point, &request.zone).map_err(RestoreError::from)?;
    let place = request.repository.as_deref();
    let Found { repository, open, machine, points, damages } =
        find_in(settings, &request.machine, place)?;
    // A machine whose only manifests are damaged must not be told that it was never backed up.
    if let (true, Some(damage)) = (points.is_empty(), damages.into_iter().next()) {
        return Err(StoreError::from(damage).into());
    }
    let point = choose_point(&points, &machine, &choice).map_err(RestoreError::from)?.clone();
    let shared = open.repository.lock_for_reading(&format!("restore of {machine}"))?;
    // From here on nothing that it can see is removed; what it saw before may be.
    open.catalog.sync(&open.repository)?;
    let fs = RealFileSystem::shared();
    let options = RestoreOptions {
        disk: request.disk.clone(),
        to: request.to.clone(),
        force: request.force,
        protected: protected(settings, fs.as_ref()),
        workers: workers(settings),
        damaged: if request.skip_damaged { Damaged::Skip } else { Damaged::Fail },
    };
    let plan =
        recover::plan_restore(fs.as_ref(), &open.repository, &open.catalog, &point, &options)
            .map_err(|error| damage::with_points(&open, error.into()))?;
    Ok(PreparedRestore { settings, open, repository, point, options, plan, _shared: shared })
}

impl PreparedRestore<'_> {
    /// The point that will be brought back.
    pub fn point(&self) -> PointLine {
        PointLine::new(&self.repository, &self.point)
    }

    /// What will be written where.
    pub fn plan(&self) -> Vec<PlanLine> {
        let fs = RealFileSystem;
        let items = self.plan.items.iter();
        items
            .map(|item| PlanLine {
                name: item.name.clone(),
                size_bytes: item.tree.size_bytes,
                path: item.path.display().to_string(),
                // What cannot be looked at is taken for something of value.
                overwrites: !matches!(fs.stat(&item.path), Ok(None)),
            })
            .collect()
    }

    /// Does it.
    ///
    /// # Errors
    /// Nothing incomplete has its final name.
    pub fn run(mut self, progress: &Progress) -> RunResult {
        // Since the user was asked, a disk may have become another file.
        self.options.protected = protected(self.settings, &RealFileSystem);
        let about = About::machine(RunKind::Restore, &self.point.manifest.machine);
        execute(self.settings, about, progress, |_| {
            let (open, fs) = (&self.open, RealFileSystem::shared());
            let restored = recover::restore(
                &fs,
                &open.repository,
                &open.catalog,
                &self.plan,
                &self.options,
                progress,
            );
            let restored = restored.map_err(|error| damage::with_points(open, error.into()))?;
            let mut done = Done::completed(PointAt::from(&self.point));
            let paths: Vec<String> =
                restored.paths.iter().map(|path| path.display().to_string()).collect();
            done.detail = Some(format!("wrote {}", paths.join(", ")));
            tell_missing(&restored.missing, &mut done);
            Ok(done)
        })
    }
}

/// What is missing makes the run incomplete, and is told.
fn tell_missing(missing: &[Missing], done: &mut Done) {
    if missing.is_empty() {
        return;
    }
    done.status = RunStatus::Incomplete;
    let bytes: u64 = missing.iter().map(Missing::bytes).sum();
    done.reason = Some(format!("{} could not be read and are zeros", format_bytes(bytes)));
    for disk in missing {
        let map = match &disk.map {
            Some(path) => format!("the map of them is {}", path.display()),
            None => "a device has no map beside it: `--json` lists them".to_owned(),
        };
        done.warnings.push(format!(
            "disk {}: {} in {} could not be read and are zeros; {map}",
            disk.disk,
            format_bytes(disk.bytes()),
            format_count(disk.ranges.len() as u64, "range")
        ));
        done.missing.push(MissingDisk {
            disk: disk.disk.clone(),
            missing_bytes: disk.bytes(),
            ranges: disk.ranges.iter().map(|&range| range.into()).collect(),
        });
    }
}

/// All sources and all targets of the settings that are there, with what they are.
fn protected(settings: &Settings, fs: &dyn FileSystem) -> Vec<(FileStat, String)> {
    let sources = settings.machines.values().flat_map(|machine| {
        let disks = machine.disks.iter();
        disks.filter_map(|disk| {
            let what = format!("the source of disk {} of machine {}", disk.name, machine.name);
            Some((disk.source.file()?.path.clone(), what))
        })
    });
    let targets = settings.replicas.values().flat_map(|replica| {
        let disks = replica.disks.iter();
        disks.map(|disk| {
            (disk.target.clone(), format!("disk {} of replica {}", disk.name, replica.name))
        })
    });
    let there = |(path, what): (PathBuf, String)| Some((fs.stat(&path).ok().flatten()?, what));
    sources.chain(targets).filter_map(there).collect()
}

//! Bringing a replica to the newest point.

use super::error::known;
use super::run::{About, Done, RunResult, execute, now};
use super::{OperationError, capture, damage, direct, open};
use crate::catalog::{CatalogError, History, RunKind, RunStatus};
use crate::destination::{PointRef, ReplicaHome, TargetKind};
use crate::fsio::{FileStat, FileSystem, RealFileSystem, existing_folder};
use crate::progress::Progress;
use crate::replay::{
    self, DirectRequest, ReplayError, ReplicaSession, ReplicateRequest, Replicated, TargetSpec,
};
use crate::settings::{
    MachineSettings, PlaceKind, ReplicaDiskSettings, ReplicaMode, ReplicaSettings, Settings,
};
use crate::units::{Name, RunId, format_bytes};
use std::collections::BTreeSet;

/// Brings a replica to the newest point of its machine. With `adopt`, what is in occupied targets
/// may be overwritten.
///
/// An update that a crash interrupted is finished first, for which the repository is not needed.
///
/// # Errors
/// The replica stays at exactly one point, or `seeding`, and the next replication goes on.
pub fn replicate(
    settings: &Settings,
    replica: &Name,
    adopt: bool,
    progress: &Progress,
) -> RunResult {
    let machine = settings.replicas.get(replica).map(|replica| replica.machine.clone());
    let about = About::replica(RunKind::Replicate, replica, machine);
    execute(settings, about, progress, |run| {
        run_replicate(settings, (replica, run), adopt, progress)
    })
}

fn run_replicate(
    settings: &Settings,
    (replica, run): (&Name, RunId),
    adopt: bool,
    progress: &Progress,
) -> Result<Done, OperationError> {
    let (_, place) = known(settings, "replica", &settings.replicas, replica.as_str())?;
    let (machine, source) = known(settings, "machine", &settings.machines, place.machine.as_str())?;
    let (fs, home) = (RealFileSystem::shared(), home(settings, place));
    // Before the session, which makes a folder beside the first target.
    check_outside_repositories(settings, place)?;
    if !adopt {
        check_not_lost(settings, fs.as_ref(), place, &home)?;
    }
    let mut session = ReplicaSession::open(&fs, home, replica, &targets(place))?;
    if place.mode == ReplicaMode::Direct {
        let capturer = capture::capturer(settings, source, Some(replica), run)?;
        let request = DirectRequest {
            machine,
            capturer: capturer.as_ref(),
            targets: targets(place),
            sources: sources(settings, fs.as_ref()),
            distrusted: distrusted(settings, source)?,
            full_read_every: source.full_read_every,
            adopt,
            now: now(),
            run,
            workers: open::workers(settings),
        };
        let done = replay::replicate_directly(&mut session, &request, progress)?;
        let mut distrust = direct::note_distrust(settings, machine, &done.untold);
        let mut done = direct::describe(done, session.redone);
        done.warnings.append(&mut distrust);
        return Ok(done);
    }
    let open = open::open_repository(settings, &source.repository)?;
    let request = ReplicateRequest {
        machine,
        targets: targets(place),
        sources: sources(settings, fs.as_ref()),
        adopt,
        workers: open::workers(settings),
    };
    let replicated =
        replay::replicate(&mut session, &open.repository, &open.catalog, &request, progress)
            .map_err(|error| damage::with_points(&open, error.into()))?;
    let mut done = describe(replicated, session.redone);
    done.warnings = session.damages.iter().map(|found| damage::describe(&open, found)).collect();
    Ok(done)
}

/// A repository holds only what afterimage puts there, whichever of the settings it is, and by
/// whatever name a target leads into it.
fn check_outside_repositories(
    settings: &Settings,
    replica: &ReplicaSettings,
) -> Result<(), ReplayError> {
    let in_files = |disk: &&ReplicaDiskSettings| disk.target_kind != PlaceKind::Export;
    for disk in replica.disks.iter().filter(in_files) {
        let folder = existing_folder(&disk.target);
        let folder = folder.canonicalize().unwrap_or(folder);
        for repository in settings.repositories.values() {
            let root = repository.path.canonicalize().unwrap_or(repository.path.clone());
            if folder.starts_with(&root) {
                let (disk, path) = (disk.name.clone(), disk.target.clone());
                return Err(ReplayError::TargetInRepository { disk, path, repository: root });
            }
        }
    }
    Ok(())
}

/// A replica that was fed has a superblock. Where there is none, its file system is most likely not
/// mounted, and a first copy would fill the one below.
fn check_not_lost(
    settings: &Settings,
    fs: &dyn FileSystem,
    place: &ReplicaSettings,
    home: &ReplicaHome,
) -> Result<(), OperationError> {
    let path = home.superblock();
    if fs.stat(&path)?.is_some() || !was_fed(&History::open(&settings.state_dir)?, place)? {
        return Ok(());
    }
    Err(ReplayError::SuperblockGone { replica: place.name.clone(), path }.into())
}

/// Disks of a machine whose source was found to tell of too few changes.
fn distrusted(
    settings: &Settings,
    machine: &MachineSettings,
) -> Result<BTreeSet<Name>, CatalogError> {
    let tracking = History::open(&settings.state_dir)?.tracking(&machine.name)?;
    let found = tracking.into_iter().filter(|(_, tracking)| tracking.distrust.is_some());
    Ok(found.map(|(disk, _)| disk).collect())
}

/// Whether the history knows that a replica was brought to a point.
pub(super) fn was_fed(history: &History, place: &ReplicaSettings) -> Result<bool, CatalogError> {
    history.has_completed(RunKind::Replicate, &place.machine, Some(&place.name))
}

fn describe(replicated: Replicated, redone: bool) -> Done {
    let label = |at: &PointRef| format!("#{} {}", at.sequence.0, at.id.short());
    let (at, detail) = match &replicated {
        Replicated::Skipped { at } if redone => (at, String::new()),
        Replicated::Skipped { at } => {
            let mut done = Done::completed((*at).into());
            done.status = RunStatus::Skipped;
            done.reason = Some(format!("it is at the newest point, {}", label(at)));
            return done;
        }
        Replicated::Seeded { to } => (to, "first copy".to_owned()),
        Replicated::Repaired { to, reason, differing_bytes } => {
            let differing = format_bytes(*differing_bytes);
            (to, format!("all was compared, {differing} differed and were repaired: {reason}"))
        }
        Replicated::Replayed { from, to } => (to, format!("from point {}", label(from))),
    };
    let mut details = Vec::new();
    if redone {
        details.push("an interrupted update was finished first".to_owned());
    }
    if !detail.is_empty() {
        details.push(detail);
    }
    let mut done = Done::completed((*at).into());
    done.detail = Some(details.join("; "));
    done
}

/// Where a replica's own files are.
pub(super) fn home(settings: &Settings, replica: &ReplicaSettings) -> ReplicaHome {
    // The settings have at least one disk; without any there is no image to be beside of.
    let first = replica.disks.first();
    let target = first.map_or(settings.state_dir.as_path(), |disk| disk.target.as_path());
    let kind = first.map_or(TargetKind::Device, |disk| kind(disk.target_kind));
    let journal_dir = replica.journal_dir.as_deref();
    ReplicaHome::locate(&settings.state_dir, journal_dir, &replica.name, target, kind)
}

fn targets(replica: &ReplicaSettings) -> Vec<TargetSpec> {
    let disks = replica.disks.iter();
    disks
        .map(|disk| TargetSpec {
            disk: disk.name.clone(),
            path: disk.target.clone(),
            kind: kind(disk.target_kind),
        })
        .collect()
}

fn kind(kind: PlaceKind) -> TargetKind {
    match kind {
        PlaceKind::Image => TargetKind::Image,
        PlaceKind::Device => TargetKind::Device,
        PlaceKind::Export => TargetKind::Export,
    }
}

/// All sources of all machines that are there now.
fn sources(settings: &Settings, fs: &dyn FileSystem) -> Vec<FileStat> {
    let disks = settings.machines.values().flat_map(|machine| &machine.disks);
    disks.filter_map(|disk| fs.stat(&disk.source.file()?.path).ok().flatten()).collect()
}

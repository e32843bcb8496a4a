//! Replaying a machine straight onto its replica, without a repository in between: a capture is
//! taken, what changed since the capture that the replica is at goes through the same journal, and
//! the same superblock says where the replica is.
//!
//! The order of durable steps is that of a replay from backups. What the next capture can build
//! upon is stored in the superblock together with the state, so that the two never differ; only
//! when the replica is clean again may the capture let go of what came before.
//!
//! Invariant: where it is not known what changed since the capture that the replica is at, all of
//! it is compared.

mod copy;
mod delta;
mod plan;

pub use plan::{DirectPlan, plan_direct};

use super::room::Room;
use super::seed::{self, Beginning};
use super::session::{ReplicaSession, TargetSpec, disk_records};
use super::update::{self, Commit};
use super::{Observed, ReplayError, Replicated};
use crate::capture::{Bases, Captured, Capturer};
use crate::destination::{
    DirectFeed, NO_REPOSITORY, PointRef, ReplicaRecord, State, Target, TargetKind,
};
use crate::extent::Extent;
use crate::fsio::{FileStat, boot_id, existing_folder};
use crate::progress::Progress;
use crate::source::{Changed, Source, Untold};
use crate::units::{Name, PointId, RunId, Sequence};
use delta::DiskDelta;
use plan::CapturedSize;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

/// What to replicate straight from its machine, and where to.
#[derive(Debug)]
pub struct DirectRequest<'a> {
    /// The machine.
    pub machine: &'a Name,
    /// How its disks are captured.
    pub capturer: &'a dyn Capturer,
    /// The replica's disks.
    pub targets: Vec<TargetSpec>,
    /// Files and devices that any disk is read from: never written to.
    pub sources: Vec<FileStat>,
    /// Disks of which it is not believed what is told of their changes.
    pub distrusted: BTreeSet<Name>,
    /// How long ago everything may have been compared for the last time; for ever, where this is
    /// `None`. What was told of changes is then held against what is found.
    pub full_read_every: Option<Duration>,
    /// What is in occupied targets may be overwritten.
    pub adopt: bool,
    /// The time now.
    pub now: jiff::Timestamp,
    /// The run.
    pub run: RunId,
    /// Threads that read, compare and write.
    pub workers: usize,
}

/// What a direct replication did.
#[derive(Debug)]
pub struct DirectlyReplicated {
    /// As of a replication from backups; the points are captures.
    pub replicated: Replicated,
    /// What the user should know of the capture, in words.
    pub notes: Vec<String>,
    /// Disks of which too few changes were told.
    pub untold: Vec<(Name, Untold)>,
}

/// Brings a replica to what its machine holds now.
///
/// # Errors
/// The replica stays at exactly one point, or `seeding`, and the next replication goes on.
pub fn replicate_directly(
    session: &mut ReplicaSession,
    request: &DirectRequest<'_>,
    progress: &Progress,
) -> Result<DirectlyReplicated, ReplayError> {
    update::check_not_promoted(session)?;
    update::check_sources(session, &request.targets, &request.sources)?;
    progress.step("capture the disks");
    let mut captured = request.capturer.capture(&noted(session))?;
    let mut untold = Vec::new();
    let replicated = replay(session, request, captured.as_ref(), &mut untold, progress)?;
    let mut notes = captured.notes();
    // Of a capture that the replica did not come to, nothing is built upon.
    if !matches!(replicated, Replicated::Skipped { .. }) {
        notes.extend(captured.point_is_durable());
    }
    Ok(DirectlyReplicated { replicated, notes, untold })
}

/// What is known of the capture that the replica is at.
fn noted(session: &ReplicaSession) -> Bases {
    let direct = session.record().and_then(|record| record.direct.as_ref());
    direct.map(DirectFeed::known).unwrap_or_default()
}

fn replay(
    session: &mut ReplicaSession,
    request: &DirectRequest<'_>,
    captured: &dyn Captured,
    untold: &mut Vec<(Name, Untold)>,
    progress: &Progress,
) -> Result<Replicated, ReplayError> {
    let disks = captured.disks();
    let names: Vec<&Name> = disks.iter().map(|(name, _)| *name).collect();
    let (mut targets, changed) = update::open_unchanged(session, &request.targets)?;
    let as_it_was = !targets.is_empty() && changed.is_none();
    if !as_it_was {
        // They are opened anew, as what they are now.
        targets.clear();
    }
    let occupied = update::occupied_targets(session, &request.targets, &names)?;
    let foreign =
        if as_it_was { None } else { plan::first_foreign(session, &request.targets, &disks)? };
    let paths: Vec<(Name, PathBuf)> =
        request.targets.iter().map(|spec| (spec.disk.clone(), spec.path.clone())).collect();
    let observed = Observed {
        record: session.record(),
        disks: &paths,
        occupied: &occupied,
        unfinished: session.unfinished.as_deref(),
        changed: changed.as_ref(),
        foreign: foreign.as_deref(),
        adopt: request.adopt,
    };
    let sizes: Vec<CapturedSize<'_>> =
        disks.iter().map(|(name, source)| (*name, source.size_bytes())).collect();
    let to = capture_ref(session, request);
    let mut told = None;
    let reason = match plan_direct(&observed, request.machine, &sizes)? {
        DirectPlan::Seed => {
            copy_all(session, request, captured, (to, None), progress)?;
            return Ok(Replicated::Seeded { to });
        }
        DirectPlan::Repair { reason } => reason,
        DirectPlan::Replay { from } => match changes(session, request, captured)? {
            Ok(deltas) if is_due(session, request) => {
                told = Some(deltas);
                "it was time to compare everything".to_owned()
            }
            Ok(deltas) if deltas.iter().all(DiskDelta::is_empty) => {
                return Ok(Replicated::Skipped { at: from });
            }
            Ok(deltas) => {
                apply_changes(session, captured, (from, to), &deltas, &targets, request, progress)?;
                return Ok(Replicated::Replayed { from, to });
            }
            Err(reason) => reason,
        },
    };
    drop(targets);
    let (differing_bytes, found) =
        copy_all(session, request, captured, (to, told.as_deref()), progress)?;
    *untold = found;
    Ok(Replicated::Repaired { to, reason, differing_bytes })
}

/// The name of this capture as a point. No manifest has it: it is the digest of something else.
fn capture_ref(session: &ReplicaSession, request: &DirectRequest<'_>) -> PointRef {
    let digest = Sha256::new()
        .chain_update(b"afterimage capture")
        .chain_update(request.run.0)
        .chain_update(request.machine.as_str());
    let before = session.record().filter(|record| record.direct.is_some());
    let sequence = before.map_or(0, |record| record.state.point().sequence.0);
    PointRef {
        id: PointId(digest.finalize().into()),
        sequence: Sequence(sequence.saturating_add(1)),
        time: request.now,
    }
}

/// What the superblock says of this capture, from when the replica begins to come to it.
fn feed(captured: &dyn Captured, to: PointRef, compared: jiff::Timestamp) -> DirectFeed {
    let mut bases = captured.bases(to.time);
    let fits = serde_json::to_vec(&bases).is_ok_and(|json| json.len() <= BASES_BYTES_MAX);
    if !fits {
        // Then everything is compared next time.
        bases.clear();
    }
    DirectFeed { capture: to.id, compared, boot_id: boot_id(), bases }
}

/// A slot of a superblock has 64 KiB for all that it holds.
const BASES_BYTES_MAX: usize = 24 * 1024;

/// Whether everything is to be compared, to see whether the machine tells of all changes.
fn is_due(session: &ReplicaSession, request: &DirectRequest<'_>) -> bool {
    let last = session.record().and_then(|record| Some(record.direct.as_ref()?.compared));
    let (Some(every), Some(last)) = (request.full_read_every, last) else { return false };
    // A clock that was set back proves nothing.
    request.now < last || request.now.duration_since(last).unsigned_abs() >= every
}

/// Where each disk differs from the capture that the replica is at; `Err` with why that is not
/// known.
fn changes(
    session: &ReplicaSession,
    request: &DirectRequest<'_>,
    captured: &dyn Captured,
) -> Result<Result<Vec<DiskDelta>, String>, ReplayError> {
    let noted = noted(session);
    let mut deltas = Vec::new();
    for (name, source) in captured.disks() {
        if request.distrusted.contains(name) {
            return Ok(Err(format!("what is told of the changes of disk {name} is not believed")));
        }
        let Some(base) = noted.get(name) else {
            return Ok(Err(format!("nothing is known of the changes of disk {name}")));
        };
        match captured.changed_since(name, base).map_err(|e| ReplayError::source(name, e))? {
            Changed::Known(changed) => match DiskDelta::new(name, changed, source.size_bytes()) {
                Some(delta) => deltas.push(delta),
                None => return Ok(Err(format!("what was told of disk {name} makes no sense"))),
            },
            Changed::Unknown(why) => {
                let why = why.unwrap_or_else(|| "what changed is not known".to_owned());
                return Ok(Err(format!("disk {name}: {why}")));
            }
        }
    }
    Ok(Ok(deltas))
}

/// Stages what differs, commits it and redoes it.
fn apply_changes(
    session: &mut ReplicaSession,
    captured: &dyn Captured,
    (from, to): (PointRef, PointRef),
    deltas: &[DiskDelta],
    targets: &[Target],
    request: &DirectRequest<'_>,
    progress: &Progress,
) -> Result<(), ReplayError> {
    let Some(record) = session.record().cloned() else { return Ok(()) };
    let sources: Vec<&dyn Source> = captured.disks().iter().map(|(_, source)| *source).collect();
    let staging = delta::Staging { deltas, sources: &sources, targets };
    let mut room = Room::default();
    let fs = session.fs.clone();
    room.add(fs.as_ref(), session.home.folder(), staging.journal_bytes()?)?;
    room.check(fs.as_ref(), "the journal")?;
    progress.step("write the journal");
    let staged = staging.stage(session, &record, (from.id, to.id), progress)?;
    let done = check_growth(session, targets, &staged.growth_bytes)
        .and_then(|()| check_unchanged(captured));
    if let Err(error) = done {
        session.home.discard_journal(fs.as_ref())?;
        return Err(error);
    }
    progress.add_changed(staged.data_bytes);
    let compared = record.direct.as_ref().map_or(request.now, |direct| direct.compared);
    let direct = Some(feed(captured, to, compared));
    let commit = Commit { from, to, journal: staged.journal, direct };
    update::commit(session, record, targets, commit, progress)
}

fn check_growth(
    session: &ReplicaSession,
    targets: &[Target],
    growth_bytes: &[u64],
) -> Result<(), ReplayError> {
    let (fs, mut room) = (session.fs.as_ref(), Room::default());
    for (target, growth_bytes) in targets.iter().zip(growth_bytes) {
        if target.kind() == TargetKind::Image {
            room.add(fs, &existing_folder(target.path()), *growth_bytes)?;
        }
    }
    room.check(fs, "what the images gain")
}

fn check_unchanged(captured: &dyn Captured) -> Result<(), ReplayError> {
    for (name, source) in captured.disks() {
        source.check_unchanged().map_err(|error| ReplayError::source(name, error))?;
    }
    Ok(())
}

/// Brings all disks to the capture, whatever their targets hold, and returns how many bytes
/// differed, and which of them nothing had `told` of. The replica is `seeding` meanwhile.
fn copy_all(
    session: &mut ReplicaSession,
    request: &DirectRequest<'_>,
    captured: &dyn Captured,
    (to, told): (PointRef, Option<&[DiskDelta]>),
    progress: &Progress,
) -> Result<(u64, Vec<(Name, Untold)>), ReplayError> {
    let disks = captured.disks();
    let of = |name: &Name| request.targets.iter().find(|spec| &spec.disk == name).cloned();
    let specs: Vec<TargetSpec> = disks.iter().filter_map(|(name, _)| of(name)).collect();
    check_room(session, &specs, &disks)?;
    let existing = specs
        .iter()
        .map(|spec| seed::open_existing(session, spec))
        .collect::<Result<Vec<_>, _>>()?;
    let places = specs.iter().zip(&existing);
    let places = places.map(|(spec, target)| seed::place(spec, target.as_ref()));
    let beginning = Beginning {
        repository: session.record().map_or(NO_REPOSITORY, |record| record.repository),
        machine: request.machine,
        to,
        direct: Some(feed(captured, to, request.now)),
        disks: places.collect::<Result<_, _>>()?,
    };
    let record = seed::begin(session, beginning)?;
    for (_, source) in &disks {
        progress.add_total(source.size_bytes());
    }
    let (mut differing_bytes, mut untold) = (0, Vec::new());
    let mut targets = Vec::with_capacity(specs.len());
    let places = specs.iter().zip(&disks).zip(existing).enumerate();
    for (number, ((spec, (name, source)), existing)) in places {
        let (target, is_fresh) = seed::ready(session, spec, existing, source.size_bytes())?;
        let told = told.and_then(|told| told.get(number)).map(DiskDelta::extents);
        let (disk, source) = (*name, *source);
        progress.step(format!("copy disk {disk}"));
        let copy = copy::Copy { disk, source, target: &target, is_fresh, told, progress };
        let copied = copy.run(request.workers)?;
        differing_bytes += copied.differing_bytes;
        if copied.untold.bytes > 0 {
            untold.push((disk.clone(), copied.untold));
        }
        target.sync().map_err(|e| ReplayError::target(&spec.disk, e))?;
        targets.push(target);
    }
    check_unchanged(captured)?;
    let sizes: Vec<u64> = disks.iter().map(|(_, source)| source.size_bytes()).collect();
    let disks = disk_records(&record, &targets, &sizes)?;
    let mut direct = record.direct.clone();
    // Whatever becomes of this run's record, nothing is built upon what told too little.
    for (disk, _) in &untold {
        direct.iter_mut().for_each(|direct| drop(direct.bases.remove(disk)));
    }
    if let Some(superblock) = &mut session.superblock {
        let state = State::Clean { point: to };
        superblock.store(ReplicaRecord { state, disks, direct, ..record })?;
    }
    Ok((differing_bytes, untold))
}

/// Refuses a copy that cannot fit, before anything is touched.
fn check_room(
    session: &ReplicaSession,
    specs: &[TargetSpec],
    disks: &[(&Name, &dyn Source)],
) -> Result<(), ReplayError> {
    let mut room = Room::default();
    for (spec, (name, source)) in specs.iter().zip(disks) {
        if spec.kind == TargetKind::Device {
            continue;
        }
        let whole = Extent::between(0, source.size_bytes());
        let data = source.data_extents(whole).map_err(|error| ReplayError::source(name, error))?;
        let data_bytes: u64 = data.iter().map(Extent::len).sum();
        let has = session.fs.stat(&spec.path)?.map_or(0, |stat| stat.allocated_bytes);
        let folder = existing_folder(&spec.path);
        room.add(session.fs.as_ref(), &folder, data_bytes.saturating_sub(has))?;
    }
    room.check(session.fs.as_ref(), "the copy")
}

//! Backing a machine up: all its disks at one instant become one recovery point.
//!
//! The order of durable steps, each of which must be done before the next: the machine's lease;
//! packs, each one complete; every pack referred to exists; the lock that keeps the point, if it is to
//! have one; the manifest, whose rename is the only commit; the catalog; the history, which notes what
//! the next capture can build upon; only now what the one before it was built upon may go.

mod base;
mod changes;
mod disk;
mod error;
mod file;
mod streamed;
mod touched;
mod untold;

pub use base::{ChangeHints, DiskRead};
pub use error::BackupError;

use crate::capture::{Captured, Capturer};
use crate::catalog::{Catalog, CatalogError, Distrust, History, SourcesAt};
use crate::fsio::{FileLock, boot_id};
use crate::point::{
    Consistency, DiskEntry, FileEntry, Hold, HoldKind, Manifest, Point, Provenance, RegionContext,
    commit_hold, prepare_point,
};
use crate::progress::Progress;
use crate::source::{Source, Untold};
use crate::store::{Damage, Lease, PackRecord, PackSink, Repository, StoreError};
use crate::units::{
    Breakage, DiskId, MachineId, Name, RepositoryId, RunId, Sequence, TreeName, is_broken,
};
use base::{Base, Bases};
use disk::Built;
use file::MemorySource;
use std::path::PathBuf;
use untold::Claim;

/// What to back up.
#[derive(Debug)]
pub struct BackupRequest<'a> {
    /// The machine.
    pub machine: &'a Name,
    /// How its disks are captured.
    pub capturer: &'a dyn Capturer,
    /// Where they may have changed, as far as that is known. What is not known is read.
    pub hints: ChangeHints,
    /// Files of its definition that travel in the point, under their file names.
    pub definition: Vec<(Name, PathBuf)>,
    /// Until when the new point cannot be removed; `None` for no lock.
    pub lock_until: Option<jiff::Timestamp>,
    /// The time now.
    pub now: jiff::Timestamp,
    /// The run.
    pub run: RunId,
    /// Threads that read, cut and compress.
    pub workers: usize,
    /// Where it is noted what the next backup can build upon; `None`: nowhere.
    pub history: Option<&'a History>,
}

/// What a backup did.
#[derive(Debug)]
pub struct BackupResult {
    /// The new point.
    pub point: Point,
    /// How each disk was read.
    pub disks: Vec<DiskRead>,
    /// What the capture leaves to build upon: for the hints of the next backup.
    pub sources: SourcesAt,
    /// What the user should know of the capture, in words.
    pub notes: Vec<String>,
    /// Damage that was met in the repository on the way; it did not stop the backup. What was
    /// missing was stored again; an object that is damaged in its pack may be part of the new
    /// point too.
    pub damages: Vec<Damage>,
    /// Why the catalog does not know the point, which is durable all the same; the next run
    /// brings the catalog up to date.
    pub not_noted: Option<CatalogError>,
}

/// Backs a machine up. When this returns, the point is durable.
///
/// # Errors
/// No error leaves a point behind, except one of the very last step, which makes the point's
/// name durable; what was written so far is found again or reclaimed.
pub fn backup(
    repository: &Repository,
    catalog: &Catalog,
    request: &BackupRequest<'_>,
    progress: &Progress,
) -> Result<BackupResult, BackupError> {
    let _lease = take_lease(repository, request.machine)?;
    progress.step("look into the repository");
    let report = catalog.sync(repository)?;
    let parent = catalog.newest_point(request.machine)?;
    // Before anything is relied on: what is lost meanwhile must show.
    let loss_mark = catalog.loss_mark()?;
    let bases = Bases::new(repository, catalog, request, parent.as_ref());
    progress.step("capture the disks");
    let mut captured = request.capturer.capture(bases.noted())?;
    for (_, source) in captured.disks() {
        progress.add_total(source.size_bytes());
    }
    let sink = CountingSink { catalog, progress };
    let writer = repository.writer(&sink, request.run)?;
    let regions = RegionContext { repository, known: catalog, writer: &writer, progress };
    let context = Context { regions, catalog, workers: request.workers };
    let BackedUp { disks, mut read, claims } =
        back_up_disks(&context, captured.as_ref(), parent.as_ref(), bases)?;
    progress.step("complete the packs");
    let definition = back_up_definition(&context, request, captured.definition())?;
    if !is_broken(Breakage::PointBeforePacks) {
        writer.flush()?;
    }
    for (disk, source) in captured.disks() {
        source.check_unchanged().map_err(|error| BackupError::source(disk, error))?;
    }
    let mut damages = report.damages;
    if !is_broken(Breakage::PointBeforePacks) {
        damages.extend(changes::count(&context, &disks, parent.as_ref())?);
        check_claims(&context, captured.as_ref(), &claims, (&disks, &mut read))?;
    }
    if let Some(pack) = catalog.vanished_pack(repository)? {
        return Err(BackupError::PackVanished { pack });
    }
    progress.check()?;
    let last = catalog.last_sequence(request.machine)?.map_or(0, |last| last.0);
    // A point whose manifest cannot be read now may be one of this machine, and has a number. Those
    // of points that are missing are known.
    let is_unread = |damage: &&Damage| match damage {
        Damage::Manifest { point, .. } => !report.missing.contains(point),
        _ => false,
    };
    let last = Sequence(last + damages.iter().filter(is_unread).count() as u64);
    let content = (captured.consistency(), disks, definition);
    progress.step("commit the point");
    let manifest = manifest(repository, request, (parent.as_ref(), last), content)?;
    let point = commit(&context, request, manifest)?;
    if is_broken(Breakage::PointBeforePacks) {
        writer.flush()?;
    }
    let not_noted = catalog.add_point(&point).err();
    let disks = captured.bases(request.now);
    let sources = SourcesAt { point: point.id, loss_mark, boot_id: boot_id(), disks };
    let notes = settle(repository.header().id, request, captured.as_mut(), (&sources, &read));
    Ok(BackupResult { point, disks: read, sources, notes, damages, not_noted })
}

/// Notes what the next capture can build upon, and lets go of what came before. Where it cannot be
/// noted, nothing was left to build upon, and what came before is for the next run to clear.
fn settle(
    repository: RepositoryId,
    request: &BackupRequest<'_>,
    captured: &mut dyn Captured,
    (sources, read): (&SourcesAt, &[DiskRead]),
) -> Vec<String> {
    let mut notes = captured.notes();
    let Some(history) = request.history else { return notes };
    // First what is not believed any more: else the next backup would build upon it.
    let noted = note_tracking(history, request, read)
        .and_then(|()| history.note_sources(repository, request.machine, sources));
    match noted {
        Ok(()) => notes.extend(captured.point_is_durable()),
        Err(error) => notes.push(format!("the next backup reads everything: {error}")),
    }
    notes
}

/// Notes which disks were read in full, and of which too little was told.
fn note_tracking(
    history: &History,
    request: &BackupRequest<'_>,
    read: &[DiskRead],
) -> Result<(), CatalogError> {
    for disk in read.iter().filter(|disk| disk.provenance == Provenance::FullRead) {
        let mut tracking = request.hints.tracking.get(&disk.disk).cloned().unwrap_or_default();
        tracking.full_read = Some(request.now);
        if disk.untold.bytes > 0 {
            tracking.distrust = Some(Distrust::new(request.now, &disk.untold));
        }
        history.note_tracking(request.machine, &disk.disk, &tracking)?;
    }
    Ok(())
}

/// Holds what was told of disks that were read in full against what was read.
fn check_claims(
    context: &Context<'_>,
    captured: &dyn Captured,
    claims: &[Claim],
    (disks, read): (&[DiskEntry], &mut [DiskRead]),
) -> Result<(), BackupError> {
    let sources = captured.disks();
    for Claim { disk, base } in claims {
        let (Some(source), Some(entry)) = (sources.get(*disk), disks.get(*disk)) else { continue };
        match untold::find(context, *source, base, &entry.tree()) {
            Ok(found) => read[*disk].untold = found,
            // The point before cannot be read to the end: that is found and told elsewhere.
            Err(BackupError::Store(StoreError::Damaged(_) | StoreError::Unknown { .. })) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// What all parts of a backup need.
struct Context<'a> {
    regions: RegionContext<'a>,
    catalog: &'a Catalog,
    workers: usize,
}

/// Tells the catalog of new packs, and counts their bytes.
struct CountingSink<'a> {
    catalog: &'a Catalog,
    progress: &'a Progress,
}

impl PackSink for CountingSink<'_> {
    fn pack_written(&self, record: &PackRecord) -> Result<(), StoreError> {
        self.progress.add_stored(record.bytes);
        self.catalog.pack_written(record)
    }
}

fn take_lease(repository: &Repository, machine: &Name) -> Result<(Lease, FileLock), BackupError> {
    let shared = repository.lock_shared(&format!("backup of {machine}"))?;
    Ok((shared, repository.lock_machine(machine, "backup")?))
}

/// The disks of a new point.
#[derive(Default)]
struct BackedUp {
    disks: Vec<DiskEntry>,
    /// How each was read.
    read: Vec<DiskRead>,
    /// What was told of those that were read in full all the same.
    claims: Vec<Claim>,
}

fn back_up_disks(
    context: &Context<'_>,
    captured: &dyn Captured,
    parent: Option<&Point>,
    mut bases: Bases<'_>,
) -> Result<BackedUp, BackupError> {
    let mut done = BackedUp::default();
    for (name, source) in captured.disks() {
        context.regions.progress.step(format!("read disk {name}"));
        let (root, how, told) = back_up_disk(context, captured, (name, source), &mut bases)?;
        done.claims.extend(told.map(|base| Claim { disk: done.disks.len(), base }));
        let known = parent.and_then(|point| point.manifest.disk(name)).map(|disk| disk.id);
        let id = known.map_or_else(DiskId::random, Ok).map_err(StoreError::Random)?;
        let (size_bytes, provenance) = (source.size_bytes(), how.provenance);
        done.disks.push(DiskEntry { name: name.clone(), id, size_bytes, root, provenance });
        done.read.push(how);
    }
    Ok(done)
}

fn back_up_disk(
    context: &Context<'_>,
    captured: &dyn Captured,
    (name, source): (&Name, &dyn Source),
    bases: &mut Bases<'_>,
) -> Result<(Option<TreeName>, DiskRead, Option<Base>), BackupError> {
    let read = |provenance, in_full_because| {
        let untold = Untold::default();
        DiskRead { disk: name.clone(), provenance, in_full_because, untold }
    };
    let mut told = None;
    let reason = match bases.of(captured, name, source)? {
        Ok(base) if bases.is_due(name) => {
            told = Some(base);
            None
        }
        Ok(base) => match disk::back_up(context, name, source, Built::On(&base)) {
            // The base cannot be read: that costs time, not the new point.
            Err(BackupError::Store(
                error @ (StoreError::Damaged(_) | StoreError::Unknown { .. }),
            )) => {
                note_damage(context, &error)?;
                bases.distrust();
                Some(format!("the point before cannot be built upon: {error}"))
            }
            done => return Ok((done?, read(base.provenance(), None), None)),
        },
        Err(reason) => reason,
    };
    let root = disk::back_up(context, name, source, Built::Anew(bases.trusted(name)?))?;
    Ok((root, read(Provenance::FullRead, reason), told))
}

/// An object that was found damaged counts as unknown from now on, so that it is stored again.
fn note_damage(context: &Context<'_>, error: &StoreError) -> Result<(), CatalogError> {
    match error {
        StoreError::Damaged(Damage::Object { pack, object, .. }) => {
            context.catalog.note_damaged(&[(*object, *pack)])
        }
        _ => Ok(()),
    }
}

fn back_up_definition(
    context: &Context<'_>,
    request: &BackupRequest<'_>,
    captured: &[(Name, Vec<u8>)],
) -> Result<Vec<FileEntry>, BackupError> {
    let mut entries: Vec<FileEntry> = Vec::new();
    let named = request.definition.iter().map(|(name, path)| (name, MemorySource::read(path)));
    let captured = captured.iter().map(|(name, bytes)| (name, Ok(MemorySource::new(bytes))));
    for (name, content) in named.chain(captured) {
        // What the settings name goes before what was found.
        if entries.iter().any(|entry| &entry.name == name) {
            continue;
        }
        let content = content?;
        let root = disk::back_up(context, name, &content, Built::Anew(None))?;
        entries.push(FileEntry { name: name.clone(), size_bytes: content.size_bytes(), root });
    }
    Ok(entries)
}

/// Makes the point durable; its lock first, so that no acknowledged point is without it.
fn commit(
    context: &Context<'_>,
    request: &BackupRequest<'_>,
    manifest: Manifest,
) -> Result<Point, StoreError> {
    let (repository, session) = (context.regions.repository, context.regions.writer.session());
    let prepared = prepare_point(repository, manifest)?;
    if let Some(until) = request.lock_until {
        let hold = Hold {
            point: prepared.id(),
            kind: HoldKind::Lock { until },
            created: request.now,
            run: request.run,
            host: crate::fsio::LockHolder::this_process("").host,
        };
        commit_hold(repository, session, &hold)?;
    }
    prepared.commit(repository, session)
}

/// The manifest of a point that follows its parent and the last sequence that is known.
fn manifest(
    repository: &Repository,
    request: &BackupRequest<'_>,
    (parent, last): (Option<&Point>, Sequence),
    (consistency, disks, definition): (Consistency, Vec<DiskEntry>, Vec<FileEntry>),
) -> Result<Manifest, BackupError> {
    let known = parent.map(|point| point.manifest.machine_id);
    Ok(Manifest {
        repository: repository.header().id,
        machine: request.machine.clone(),
        machine_id: known.map_or_else(MachineId::random, Ok).map_err(StoreError::Random)?,
        sequence: Sequence(last.0 + 1),
        parent: parent.map(|point| point.id),
        time: request.now,
        consistency,
        disks,
        definition,
        run: request.run,
        host: crate::fsio::LockHolder::this_process("").host,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    })
}

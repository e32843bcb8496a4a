//! Repairing a repository: what is damaged is brought back from copies of its files, healed from
//! wherever the same content still is, and only then set apart.
//!
//! The order of durable steps: whole files that are good elsewhere are copied in; what is still
//! good in damaged packs, and what was healed, goes to new packs; when these are durable, damaged
//! files are moved to `quarantine/`; the catalog forgets them. Nothing is deleted, and until the
//! move everything that could be read can be read. So a repair that is cut short at any moment
//! can be begun again.
//!
//! Content is put only under the name that it hashes to: whatever a source holds can do no harm.

mod copies;
mod heal;
mod quarantine;
mod salvage;
mod tree_source;

pub use tree_source::TreeSource;

use super::VerifyError;
use super::finding::{FindingKind, Verdict};
use super::repository::{Scope, VerifyRequest, examine};
use crate::catalog::{Catalog, DocumentFolder};
use crate::fsio::{FileLock, LockHolder, LockMode};
use crate::point::{Removal, commit_removal};
use crate::progress::Progress;
use crate::source::Source;
use crate::store::{Layout, PackWriter, Repository, StoreError, WriterSession};
use crate::units::{Name, ObjectName, PackName, PointId, RunId};
use heal::Healer;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::PathBuf;

/// Rounds of healing: each one may show what lies below a node that the one before brought back.
const ROUNDS_MAX: usize = 10;

/// A disk that may hold what is missing.
pub struct HealSource<'a> {
    /// What it is, for messages.
    pub what: String,
    /// The machine and disk that it is of: what they lack is looked for at the same place first.
    pub of: (Name, Name),
    /// Opens it, when it is needed.
    pub open: Box<dyn Fn() -> Result<Box<dyn Source + 'a>, String> + 'a>,
}

impl std::fmt::Debug for HealSource<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.what)
    }
}

/// How to repair a repository.
#[derive(Debug)]
pub struct RepairRequest<'a, 's> {
    /// The run.
    pub run: RunId,
    /// The time now.
    pub now: jiff::Timestamp,
    /// Threads that read.
    pub workers: usize,
    /// Folders with copies of the repository's files.
    pub copies: &'a [PathBuf],
    /// Disks that may hold what is missing.
    pub sources: &'a [HealSource<'s>],
}

/// What a repair did.
#[derive(Debug, Default)]
pub struct RepairReport {
    /// What was damaged.
    pub before: Verdict,
    /// What still is, when anything was done.
    pub after: Option<Verdict>,
    /// Files that were copied in.
    pub copied: Vec<String>,
    /// Objects that had no good copy and have one now.
    pub healed: usize,
    /// Good objects that were taken out of damaged packs.
    pub salvaged: usize,
    /// Files that were set apart.
    pub set_apart: Vec<String>,
    /// What could not be used, and why.
    pub notes: Vec<String>,
}

/// Verifies a repository and repairs what is damaged. `agree` is asked after the verification,
/// before anything is changed.
///
/// # Errors
/// Busy while anything else uses the repository; and when something cannot be read or written:
/// then nothing that was good is lost, and the repair can be begun again.
pub fn repair(
    repository: &Repository,
    catalog: &Catalog,
    request: &RepairRequest<'_, '_>,
    progress: &Progress,
    agree: &mut dyn FnMut(&Verdict) -> bool,
) -> Result<RepairReport, VerifyError> {
    let holder = Layout::holder("a repair of the repository");
    let lock = repository.layout().repository_lock();
    let fs = repository.file_system().as_ref();
    let _alone = FileLock::try_take(fs, &lock, LockMode::Exclusive, &holder)?;
    let mut repair =
        Repair { repository, catalog, request, progress, report: RepairReport::default() };
    let before = repair.examine_all()?;
    repair.report.before = before.clone();
    if before.is_good() || !agree(&before) {
        return Ok(repair.report);
    }
    let damaged = repair.copy_in(before)?;
    repair.heal(&damaged)?;
    repair.set_apart(&damaged)?;
    let mut after = repair.walk()?;
    after.good_packs = damaged.good_packs;
    repair.report.after = Some(after);
    Ok(repair.report)
}

struct Repair<'a, 's> {
    repository: &'a Repository,
    catalog: &'a Catalog,
    request: &'a RepairRequest<'a, 's>,
    progress: &'a Progress,
    report: RepairReport,
}

impl Repair<'_, '_> {
    fn examine_all(&self) -> Result<Verdict, VerifyError> {
        let request = VerifyRequest { scope: Scope::All, workers: self.request.workers };
        examine(self.repository, self.catalog, &request, self.progress)
    }

    /// What points lack now, without reading packs again.
    fn walk(&self) -> Result<Verdict, VerifyError> {
        let last_read = BTreeMap::new();
        let scope = Scope::Sample { percent: 0, last_read: &last_read };
        let request = VerifyRequest { scope, workers: self.request.workers };
        examine(self.repository, self.catalog, &request, self.progress)
    }

    /// Brings back whole files; gives back what is still damaged then.
    fn copy_in(&mut self, before: Verdict) -> Result<Verdict, VerifyError> {
        if self.request.copies.is_empty() {
            return Ok(before);
        }
        let session = self.repository.begin_writing(self.request.run)?;
        for folder in self.request.copies {
            let copied =
                copies::copy_in(self.repository, &session, folder, &before, self.progress)?;
            self.report.copied.extend(copied);
        }
        drop(session);
        if self.report.copied.is_empty() { Ok(before) } else { self.examine_all() }
    }

    /// Puts what is still good in damaged packs, and what was found elsewhere, into new packs.
    fn heal(&mut self, damaged: &Verdict) -> Result<(), VerifyError> {
        let packs: Vec<PackName> = damaged
            .findings
            .iter()
            .filter(|it| it.kind == FindingKind::Pack)
            .filter_map(|it| it.pack)
            .collect();
        let mut wanted = damaged.wanted.clone();
        let mut regions = damaged.regions.clone();
        if packs.is_empty() && wanted.is_empty() {
            return Ok(());
        }
        let writer = self.repository.writer(self.catalog, self.request.run)?;
        let salvaged = salvage::salvage(
            self.repository,
            self.catalog,
            &writer,
            &packs,
            &damaged.forgotten,
            self.progress,
        )?;
        self.report.salvaged = salvaged.len();
        wanted.retain(|name| !salvaged.contains(name));
        writer.flush()?;
        for _ in 0..ROUNDS_MAX {
            let healed = self.heal_once(&writer, &mut wanted, &regions)?;
            writer.flush()?;
            if healed == 0 {
                break;
            }
            let now = self.walk()?;
            (wanted, regions) = (now.wanted, now.regions);
            if wanted.is_empty() {
                break;
            }
        }
        Ok(())
    }

    fn heal_once(
        &mut self,
        writer: &PackWriter<'_>,
        wanted: &mut HashSet<ObjectName>,
        regions: &BTreeMap<(Name, Name), std::collections::BTreeSet<u64>>,
    ) -> Result<usize, VerifyError> {
        let mut healer = Healer::new(self.repository, writer, std::mem::take(wanted))?;
        // The same place of the same disk is the most likely one.
        for hints in [true, false] {
            for source in self.request.sources {
                if healer.is_done() {
                    break;
                }
                self.progress.check()?;
                let here = regions.get(&source.of);
                if hints && here.is_none() {
                    continue;
                }
                let read = (source.open)().and_then(|open| match (hints, here) {
                    (true, Some(regions)) => healer.regions(open.as_ref(), regions, self.progress),
                    _ => healer.whole(open.as_ref(), self.progress),
                });
                if let Err(reason) = read {
                    self.note(format!("{}: {reason}", source.what));
                }
                healer.take_error()?;
            }
        }
        self.report.healed += healer.healed();
        Ok(healer.healed())
    }

    /// Moves what is damaged out of the way.
    fn set_apart(&mut self, damaged: &Verdict) -> Result<(), VerifyError> {
        let session = self.repository.begin_writing(self.request.run)?;
        for finding in &damaged.findings {
            if matches!(finding.kind, FindingKind::Header | FindingKind::Key) {
                let (file, reason) = (&finding.file, &finding.reason);
                self.note(format!("{file}: {reason}; bring it back from a copy of the repository"));
            }
            let is_file = matches!(
                finding.kind,
                FindingKind::Pack
                    | FindingKind::Manifest
                    | FindingKind::Document
                    | FindingKind::Foreign
            );
            if is_file && quarantine::set_apart(self.repository, &session, finding)? {
                self.forget_document(&finding.file)?;
                self.report.set_apart.push(finding.file.clone());
            }
        }
        // What is gone is forgotten, with what was noted of it.
        let missing = self.catalog.sync(self.repository)?.missing;
        self.give_up(&session, &missing)
    }

    /// It was set apart, and is not lost besides.
    fn forget_document(&self, file: &str) -> Result<(), VerifyError> {
        let Some((folder, name)) = file.split_once('/') else { return Ok(()) };
        let folder = DocumentFolder::ALL.into_iter().find(|it| it.name() == folder);
        if let (Some(folder), Ok(name)) = (folder, name.parse()) {
            self.catalog.forget_document(folder, name)?;
        }
        Ok(())
    }

    /// Points whose manifests are gone for good: a record says so to all catalogs, which would
    /// otherwise tell of them for ever, and to collections, which would never run again.
    fn give_up(
        &mut self,
        session: &WriterSession,
        missing: &BTreeSet<PointId>,
    ) -> Result<(), VerifyError> {
        let mut lost: BTreeMap<Name, BTreeSet<PointId>> = BTreeMap::new();
        for point in self.catalog.known_points()? {
            if missing.contains(&point.id) {
                let (machine, number) = (&point.manifest.machine, point.manifest.sequence.0);
                self.note(format!(
                    "{machine} #{number} ({}) is lost: its manifest is gone, and what only it \
                     needs will be collected",
                    point.id.short()
                ));
                lost.entry(machine.clone()).or_default().insert(point.id);
            }
        }
        for (machine, points) in lost {
            let host = LockHolder::this_process("").host;
            let (time, run) = (self.request.now, self.request.run);
            let removal = Removal { machine, points: points.clone(), time, run, host };
            commit_removal(self.repository, session, &removal)?;
            points.iter().try_for_each(|id| self.catalog.acknowledge_missing(*id))?;
        }
        Ok(())
    }

    fn note(&mut self, note: String) {
        if !self.report.notes.contains(&note) {
            self.report.notes.push(note);
        }
    }
}

/// Whether an object cannot be had, which is for others to tell.
fn is_damage(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::Damaged(_) | StoreError::Unknown { .. } | StoreError::Misplaced { .. }
    )
}

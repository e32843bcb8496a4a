//! Verifying a repository: its packs byte by byte, its other files, and that each point finds
//! everything that it needs.
//!
//! The order: what the catalog remembers; the packs; what of them is known to be damaged; the
//! trees of all points, each shared part once; then, of the points that are harmed, which bytes.
//! Backups may go on meanwhile: what appears later is not looked at.

use super::audit::{audit, quarantined};
use super::before::Before;
use super::book::Book;
use super::finding::{Finding, FindingKind, HarmedDisk, PointVerdict, Verdict};
use super::packs::{Inspected, inspect, sample};
use super::{VerifyError, content, documents};
use crate::catalog::Catalog;
use crate::point::{Lost, Point, Survey, TreeRef, load_point};
use crate::progress::Progress;
use crate::store::{Damage, Location, ObjectIndex, Repository, StoreError};
use crate::units::{Name, ObjectName, PackName, PointId};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// What is verified.
#[derive(Debug, Clone, Copy)]
pub enum Scope<'a> {
    /// Every byte.
    All,
    /// Part of the packs, those that were not read for the longest time first; of all points,
    /// whether they find what they need.
    Sample {
        /// How much of the packs' bytes.
        percent: u32,
        /// When packs were last read whole.
        last_read: &'a BTreeMap<PackName, Timestamp>,
    },
    /// What one point needs, every byte.
    Point(PointId),
}

/// How to verify a repository.
#[derive(Debug, Clone, Copy)]
pub struct VerifyRequest<'a> {
    /// What is verified.
    pub scope: Scope<'a>,
    /// Threads that read.
    pub workers: usize,
}

/// Verifies a repository. Damaged copies of objects are noted in the catalog, so that the next
/// backup stores their content again; what was noted of packs that are good is taken back.
///
/// # Errors
/// When it could not be looked at. Damage is no error.
pub fn verify_repository(
    repository: &Repository,
    catalog: &Catalog,
    request: &VerifyRequest<'_>,
    progress: &Progress,
) -> Result<Verdict, VerifyError> {
    let _lease = repository.lock_for_reading("verification of the repository")?;
    examine(repository, catalog, request, progress)
}

/// As [`verify_repository`], by a caller that has a lock.
pub(super) fn examine(
    repository: &Repository,
    catalog: &Catalog,
    request: &VerifyRequest<'_>,
    progress: &Progress,
) -> Result<Verdict, VerifyError> {
    let before = Before::take(repository, catalog)?;
    // Before the packs: a point that appears meanwhile may need packs that are not looked at.
    let ids = match request.scope {
        Scope::Point(id) => vec![id],
        Scope::All | Scope::Sample { .. } => repository.list_points()?,
    };
    let report = catalog.sync(repository)?;
    let mut examination = Examination {
        repository,
        catalog,
        progress,
        workers: request.workers,
        book: Book::default(),
        verdict: Verdict::default(),
        gone: HashSet::new(),
    };
    examination.remember(before, request.scope);
    examination.packs(request.scope)?;
    for damage in &report.damages {
        examination.met(damage)?;
    }
    let mut gone = Vec::new();
    if !matches!(request.scope, Scope::Point(_)) {
        let mut findings = audit(repository)?;
        gone = documents::compare(repository, catalog, &mut findings)?;
        for finding in findings {
            examination.book.add(finding);
        }
        let (fs, layout) = (repository.file_system().as_ref(), repository.layout());
        examination.verdict.quarantined = quarantined(fs, layout)?;
    }
    examination.noted_earlier()?;
    examination.blame_forgotten();
    let points = examination.load(&ids)?;
    if let (Scope::Point(_), [point]) = (request.scope, points.as_slice()) {
        let damages = content::read_point(repository, catalog, point, request.workers, progress)?;
        examination.verdict.bytes_read = progress.counts().read;
        for damage in &damages {
            if let Some(index) = examination.met(damage)? {
                examination.book.confirm(index);
            }
        }
    }
    if let (Scope::Point(id), true, true) =
        (request.scope, points.is_empty(), examination.verdict.points.is_empty())
    {
        examination.verdict.unchecked.push(format!("point {} was removed meanwhile", id.short()));
    }
    examination.survey(points)?;
    if matches!(request.scope, Scope::Point(_)) {
        examination.book.only_relevant();
    }
    for document in gone {
        catalog.forget_document(document.folder, document.name)?;
    }
    Ok(examination.close())
}

struct Examination<'a> {
    repository: &'a Repository,
    catalog: &'a Catalog,
    progress: &'a Progress,
    workers: usize,
    book: Book,
    verdict: Verdict,
    /// Packs that vanished since the catalog was brought up to date.
    gone: HashSet<PackName>,
}

impl Examination<'_> {
    /// What was there when the catalog was last brought up to date.
    fn remember(&mut self, before: Before, scope: Scope<'_>) {
        for pack in &before.packs {
            self.book.pack(FindingKind::LostPack, *pack, "it is gone");
        }
        self.verdict.forgotten = before.objects;
        for point in before.points {
            if matches!(scope, Scope::Point(id) if id != point.id) {
                continue;
            }
            let reason = "it is gone, and nobody removed it";
            self.book.add(Finding::point(FindingKind::LostPoint, point.id, reason));
            self.verdict.points.push(PointVerdict {
                id: point.id,
                point: Some(point),
                unreadable: Some(reason.to_owned()),
                harmed: Vec::new(),
            });
        }
    }

    fn packs(&mut self, scope: Scope<'_>) -> Result<(), VerifyError> {
        if matches!(scope, Scope::Point(_)) {
            return Ok(());
        }
        let all = self.repository.list_packs()?;
        self.verdict.bytes_total = all.iter().map(|(_, bytes)| bytes).sum();
        let chosen = match scope {
            Scope::All => all,
            Scope::Sample { percent, last_read } => sample(&all, last_read, percent),
            Scope::Point(_) => return Ok(()),
        };
        self.verdict.bytes_read = chosen.iter().map(|(_, bytes)| bytes).sum();
        let found = inspect(self.repository, &chosen, self.workers, self.progress)?;
        for (pack, reason) in &found.unchecked {
            self.verdict.unchecked.push(format!("pack {}: {reason}", pack.short()));
        }
        self.note(&found)?;
        self.verdict.good_packs = found.good;
        Ok(())
    }

    /// Enters what was found in packs, here and in the catalog.
    fn note(&mut self, found: &Inspected) -> Result<(), VerifyError> {
        let noted: HashSet<PackName> =
            self.catalog.damaged_copies()?.into_iter().map(|(_, pack)| pack).collect();
        for pack in found.good.iter().filter(|pack| noted.contains(pack)) {
            self.catalog.clear_damaged(*pack)?;
        }
        let of = |(pack, _): &(PackName, _)| *pack;
        let asked: Vec<PackName> =
            found.damaged.iter().map(of).chain(found.missing.iter().copied()).collect();
        let mut known: HashMap<PackName, Vec<Location>> = HashMap::new();
        for place in self.catalog.objects_in(&asked)? {
            known.entry(place.pack).or_default().push(place);
        }
        let mut copies = Vec::new();
        for (pack, damage) in &found.damaged {
            let index = self.book.pack(FindingKind::Pack, *pack, &damage.reason);
            let good: HashSet<(ObjectName, u32)> =
                damage.good.iter().map(|place| (place.entry.name, place.offset)).collect();
            let known = known.remove(pack).unwrap_or_default();
            if known.is_empty() && damage.good.is_empty() && damage.damaged.is_empty() {
                self.book.unlisted(index);
            }
            let bad = known.iter().filter(|it| !good.contains(&(it.entry.name, it.offset)));
            for place in bad.chain(&damage.damaged) {
                self.book.blame(place.entry.name, index);
                copies.push((place.entry.name, *pack));
            }
            // What was noted before, and was found to be good now, is taken back.
            self.catalog.clear_damaged(*pack)?;
        }
        for pack in &found.missing {
            let index = self.book.pack(FindingKind::LostPack, *pack, "it vanished meanwhile");
            let known = known.remove(pack).unwrap_or_default();
            known.iter().for_each(|place| self.book.blame(place.entry.name, index));
            self.gone.insert(*pack);
        }
        Ok(self.catalog.note_damaged(&copies)?)
    }

    /// Enters damage that was met when something was read.
    fn met(&mut self, damage: &Damage) -> Result<Option<usize>, VerifyError> {
        let index = match damage {
            Damage::Pack { pack, reason } => {
                let index = self.book.pack(FindingKind::Pack, *pack, reason);
                if self.catalog.objects_in(&[*pack])?.is_empty() {
                    self.book.unlisted(index);
                }
                index
            }
            Damage::Object { pack, object, reason } => {
                let reason = format!("an object in it is damaged: {reason}");
                let index = self.book.pack(FindingKind::Pack, *pack, &reason);
                self.book.blame(*object, index);
                self.catalog.note_damaged(&[(*object, *pack)])?;
                index
            }
            Damage::Tree { object, reason } => {
                let file = format!("object {}", object.short());
                let index = self.book.add(Finding::new(FindingKind::Tree, file, *reason));
                self.book.blame(*object, index);
                index
            }
            // The manifests are read anyway.
            Damage::Manifest { .. } | Damage::Document { .. } => return Ok(None),
        };
        Ok(Some(index))
    }

    /// What lay in packs that are gone or have another length.
    fn blame_forgotten(&mut self) {
        for place in &self.verdict.forgotten {
            if let Some(index) = self.book.of_pack(place.pack) {
                self.book.blame(place.entry.name, index);
            }
        }
    }

    /// Damage in packs that were not read this time.
    fn noted_earlier(&mut self) -> Result<(), VerifyError> {
        for (object, pack) in self.catalog.damaged_copies()? {
            let reason = "an earlier verification found damage in it";
            let index = self.book.pack(FindingKind::Pack, pack, reason);
            self.book.blame(object, index);
        }
        Ok(())
    }

    /// Reads manifests; those that are damaged are entered.
    fn load(&mut self, ids: &[PointId]) -> Result<Vec<Point>, VerifyError> {
        let mut points = Vec::with_capacity(ids.len());
        let remembered: HashMap<PointId, Point> =
            self.catalog.points(None)?.into_iter().map(|point| (point.id, point)).collect();
        for id in ids {
            let reason = match load_point(self.repository, *id) {
                Ok(point) => {
                    points.push(point);
                    continue;
                }
                Err(StoreError::Damaged(Damage::Manifest { reason, .. })) => reason,
                Err(StoreError::File(error)) => {
                    self.verdict.unchecked.push(format!("point {}: {error}", id.short()));
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let path = self.repository.layout().point(*id);
            let is_there = self.repository.file_system().stat(&path)?.is_some();
            let told = self.verdict.points.iter().any(|point| point.id == *id);
            // Removed meanwhile, by whoever may.
            if !is_there || told {
                continue;
            }
            self.book.add(Finding::point(FindingKind::Manifest, *id, reason.clone()));
            let point = remembered.get(id).cloned();
            let (unreadable, harmed) = (Some(reason), Vec::new());
            self.verdict.points.push(PointVerdict { id: *id, point, unreadable, harmed });
        }
        Ok(points)
    }

    /// Objects of which no good copy is left, of those that any finding is about.
    fn lost(&self) -> Result<Lost, VerifyError> {
        let damaged: HashSet<(ObjectName, PackName)> =
            self.catalog.damaged_copies()?.into_iter().collect();
        let mut lost = Lost::default();
        for object in self.book.objects() {
            let copies = self.catalog.copies(object)?;
            let is_good = |place: &Location| {
                !damaged.contains(&(object, place.pack)) && !self.gone.contains(&place.pack)
            };
            // What the catalog knows of no pack is found out by whoever looks for it.
            if !copies.is_empty() && !copies.iter().any(is_good) {
                lost.objects.insert(object);
            }
        }
        Ok(lost)
    }

    fn survey(&mut self, points: Vec<Point>) -> Result<(), VerifyError> {
        let lost = self.lost()?;
        let mut survey = Survey::new(self.repository, self.catalog, &lost)?;
        let mut harmed = BTreeSet::new();
        for point in &points {
            self.progress.check()?;
            for tree in point.manifest.trees() {
                if !survey.is_whole(&tree)? {
                    harmed.insert(point.id);
                }
            }
        }
        for damage in survey.damages().to_vec() {
            if let Some(index) = self.met(&damage)? {
                self.book.confirm(index);
            }
        }
        for point in points {
            self.progress.check()?;
            let disks = match harmed.contains(&point.id) {
                true => self.harms(&mut survey, &point)?,
                false => Vec::new(),
            };
            let (id, unreadable) = (point.id, None);
            self.verdict.points.push(PointVerdict {
                id,
                point: Some(point),
                unreadable,
                harmed: disks,
            });
        }
        Ok(())
    }

    /// What of a point cannot be read.
    fn harms(
        &mut self,
        survey: &mut Survey<'_>,
        point: &Point,
    ) -> Result<Vec<HarmedDisk>, VerifyError> {
        let region_bytes = u64::from(self.repository.header().cut.region_bytes);
        let manifest = &point.manifest;
        let disks = manifest.disks.iter().map(|disk| (disk.name.clone(), disk.tree()));
        let files = manifest.definition.iter().map(|file| (file.name.clone(), file.tree()));
        let parts: Vec<(Name, TreeRef)> = disks.chain(files).collect();
        let mut harmed = Vec::new();
        for (name, tree) in parts {
            let mut disk = HarmedDisk::new(name.clone());
            let mut lacking: Vec<ObjectName> = Vec::new();
            let regions = self.verdict.regions.entry((manifest.machine.clone(), name)).or_default();
            survey.harms(&tree, &mut |range, object| {
                disk.add(range);
                lacking.push(object);
                let end = range.end().div_ceil(region_bytes);
                // Of what a lost node covers, the first region is enough of a hint.
                regions.extend((range.start() / region_bytes..end).take(256));
            })?;
            for object in lacking {
                self.verdict.wanted.insert(object);
                if !self.book.is_blamed(object) {
                    self.blame_packs_of(object)?;
                }
                self.book.needed(object, point.id);
            }
            if disk.damaged_bytes > 0 {
                harmed.push(disk);
            }
        }
        Ok(harmed)
    }

    /// An object that was met in a pack of which only is known that it is damaged.
    fn blame_packs_of(&mut self, object: ObjectName) -> Result<(), VerifyError> {
        for place in self.catalog.copies(object)? {
            if let Some(index) = self.book.of_pack(place.pack) {
                self.book.blame(object, index);
            }
        }
        Ok(())
    }

    fn close(self) -> Verdict {
        let (findings, warnings) = self.book.close();
        let mut verdict = Verdict { findings, ..self.verdict };
        verdict.warnings.extend(warnings);
        let key = |it: &PointVerdict| {
            let manifest = it.point.as_ref().map(|point| &point.manifest);
            (manifest.map(|m| (m.machine.clone(), m.sequence)), it.id)
        };
        verdict.points.sort_by_key(key);
        verdict
    }
}

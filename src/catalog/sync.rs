//! Bringing the catalog up to what the repository holds.

use super::{Catalog, CatalogError};
use crate::point::{load_point, removed_among};
use crate::progress::Progress;
use crate::store::{CurrentList, Damage, Repository, StoreError};
use crate::units::{Breakage, PackName, PointId, RepositoryId, is_broken};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// For how long the lengths of packs that were asked for hold, in milliseconds; 0: not at all.
static LENGTHS_HOLD_MS: AtomicU64 = AtomicU64::new(0);
/// When they were asked for, by repository.
static LENGTHS_ASKED: Mutex<BTreeMap<RepositoryId, Instant>> = Mutex::new(BTreeMap::new());

/// From now on a sync asks for the lengths of all packs only when the last one of this process that
/// did is so long ago; meanwhile only names are compared. For a process that syncs all the time.
pub fn let_pack_lengths_hold(duration: Duration) {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    LENGTHS_HOLD_MS.store(millis, Ordering::Relaxed);
}

/// Whether lengths that were asked for still hold; if not, they count as asked for now.
fn lengths_hold(repository: RepositoryId) -> bool {
    let hold = Duration::from_millis(LENGTHS_HOLD_MS.load(Ordering::Relaxed));
    let mut asked = LENGTHS_ASKED.lock().unwrap_or_else(PoisonError::into_inner);
    let holds = asked.get(&repository).is_some_and(|asked| asked.elapsed() < hold);
    if !holds {
        asked.insert(repository, Instant::now());
    }
    holds
}

/// The packs that are there, with their lengths.
fn present_packs(
    repository: &Repository,
    known: &BTreeMap<PackName, u64>,
) -> Result<BTreeMap<PackName, u64>, CatalogError> {
    if lengths_hold(repository.header().id) {
        let mut present = BTreeMap::new();
        for name in repository.pack_names()? {
            let bytes = match known.get(&name) {
                Some(bytes) => Some(*bytes),
                None => repository.pack_bytes(name)?,
            };
            present.extend(bytes.map(|bytes| (name, bytes)));
        }
        return Ok(present);
    }
    Ok(repository.list_packs()?.into_iter().collect())
}

/// What changed in the catalog, and what could not be read.
#[derive(Debug, Default)]
pub struct SyncReport {
    /// How many packs there are.
    pub packs: usize,
    /// What they take, in bytes.
    pub packs_bytes: u64,
    /// Packs that were new to the catalog.
    pub packs_added: usize,
    /// Packs that are no longer in the repository, or have another length than they had.
    pub packs_gone: usize,
    /// Points that were new to the catalog.
    pub points_added: usize,
    /// Points that were removed from the repository on purpose.
    pub points_gone: usize,
    /// Points that are no longer in the repository, and nothing says that they were removed. They
    /// are among the damages too, at every sync, until they are back or it is acknowledged that
    /// they are lost.
    pub missing: BTreeSet<PointId>,
    /// What is damaged; it is not in the catalog.
    pub damages: Vec<Damage>,
}

impl SyncReport {
    /// How many packs and points came or went.
    pub fn changes(&self) -> usize {
        self.packs_added + self.packs_gone + self.points_added + self.points_gone
    }
}

impl Catalog {
    /// Makes the catalog know exactly the packs and points that are in `repository` and can be
    /// read. Packs are immutable, so only the names that differ are looked into. Whatever old
    /// copy of a catalog is brought back, this makes it right; so does it build one anew.
    ///
    /// Invariant: the catalog knows only names that are durable. A writer that was killed, or is
    /// not done yet, leaves names that a power cut still takes; what refers to them would be lost
    /// with them.
    ///
    /// # Errors
    /// When the repository cannot be listed or the database fails. Damaged packs and points are
    /// no error: they are left out and reported.
    pub fn sync(&self, repository: &Repository) -> Result<SyncReport, CatalogError> {
        self.sync_watched(repository, &Progress::default())
    }

    /// As [`Catalog::sync`], with counters: the bytes of packs that were new, of which little is
    /// read. What was done when it is stopped stays.
    ///
    /// # Errors
    /// As [`Catalog::sync`], and when it is stopped.
    pub fn sync_watched(
        &self,
        repository: &Repository,
        progress: &Progress,
    ) -> Result<SyncReport, CatalogError> {
        let mut report = SyncReport::default();
        // Before the packs are listed: a pack of a list that counts now may be gone by then, but
        // one that was gone already is in no list.
        let condemned = repository.condemned();
        // What is known first, then what is there: what another process adds to both meanwhile
        // must not look as if it were gone.
        let mut known = self.point_ids()?;
        let known_packs = self.packs()?;
        // Points first: a point that appears meanwhile refers to packs that are there already.
        let points: BTreeSet<PointId> = repository.list_points()?.into_iter().collect();
        self.sync_packs(repository, known_packs, &mut report, progress)?;
        self.sync_condemned(condemned, &mut report)?;
        if !points.is_subset(&known) && !is_broken(Breakage::FoundNamesUnsynced) {
            repository.sync_found(&repository.layout().points())?;
        }
        for &id in &points {
            if known.remove(&id) {
                continue;
            }
            match load_point(repository, id) {
                Ok(point) => {
                    self.add_point(&point)?;
                    report.points_added += 1;
                }
                Err(StoreError::Damaged(damage)) => report.damages.push(damage),
                Err(error) => return Err(error.into()),
            }
        }
        known.extend(self.missing_points()?.difference(&points));
        self.part_with(repository, known, &mut report)?;
        Ok(report)
    }

    fn sync_condemned(
        &self,
        current: Result<CurrentList, StoreError>,
        report: &mut SyncReport,
    ) -> Result<(), CatalogError> {
        match current {
            Ok(current) => self.set_condemned(&current.packs()),
            Err(StoreError::Damaged(damage)) => {
                report.damages.push(damage.clone());
                self.forbid_new_references(damage);
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Forgets those of `gone` that were removed on purpose, and keeps the others as missing.
    fn part_with(
        &self,
        repository: &Repository,
        gone: BTreeSet<PointId>,
        report: &mut SyncReport,
    ) -> Result<(), CatalogError> {
        if gone.is_empty() {
            return Ok(());
        }
        // After the list of points: a record is durable before the first of its points goes.
        let (removed, damages) = removed_among(repository, &gone)?;
        let (on_purpose, lost): (Vec<PointId>, Vec<PointId>) =
            gone.into_iter().partition(|id| removed.contains(id));
        if !on_purpose.is_empty() {
            self.forget_points(&on_purpose)?;
        }
        report.points_gone = on_purpose.len();
        for id in lost {
            self.note_missing(id)?;
            let reason = "it is missing, and nothing says that it was removed; bring it back from \
                          a copy of the repository, or run `afterimage repair`";
            report.damages.push(Damage::Manifest { point: id, reason: reason.to_owned() });
            report.missing.insert(id);
        }
        if !report.missing.is_empty() {
            // Only then it matters what they would have said.
            report.damages.extend(damages);
        }
        Ok(())
    }

    /// The last look before a commit: a pack that the catalog promises and that is no longer there.
    ///
    /// # Errors
    /// When the repository cannot be listed or the database fails.
    pub fn vanished_pack(&self, repository: &Repository) -> Result<Option<PackName>, CatalogError> {
        // The catalog first: a pack that another run adds to both meanwhile is not missing.
        // A condemned one may go: nothing new refers to it.
        let condemned = self.condemned()?;
        let mut promised = self.packs()?;
        promised.retain(|pack, _| !condemned.contains(pack));
        let present = repository.pack_names()?;
        Ok(promised.into_keys().find(|pack| !present.contains(pack)))
    }

    fn sync_packs(
        &self,
        repository: &Repository,
        known: BTreeMap<PackName, u64>,
        report: &mut SyncReport,
        progress: &Progress,
    ) -> Result<(), CatalogError> {
        let present = present_packs(repository, &known)?;
        report.packs = present.len();
        report.packs_bytes = present.values().sum();
        // A length that changed is damage: the file's name covers every byte.
        let gone: Vec<PackName> = known
            .iter()
            .filter(|(name, bytes)| present.get(name) != Some(bytes))
            .map(|(name, _)| *name)
            .collect();
        self.forget_packs(&gone)?;
        report.packs_gone = gone.len();
        let is_new = |(name, bytes): &(PackName, u64)| known.get(name) != Some(bytes);
        let new: Vec<(PackName, u64)> = present.into_iter().filter(is_new).collect();
        let folders: BTreeSet<u8> = new.iter().map(|(name, _)| name.0[0]).collect();
        if !is_broken(Breakage::FoundNamesUnsynced) {
            let layout = repository.layout();
            folders.iter().try_for_each(|it| repository.sync_found(&layout.pack_folder(*it)))?;
        }
        progress.add_total(new.iter().map(|(_, bytes)| bytes).sum());
        for (name, bytes) in new {
            progress.check()?;
            progress.add_done(bytes);
            match repository.read_pack_record(name) {
                Ok(record) => {
                    self.add_pack(&record)?;
                    report.packs_added += 1;
                }
                Err(StoreError::Damaged(damage)) => report.damages.push(damage),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

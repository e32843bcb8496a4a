//! Removing condemned packs, after marks were made anew.
//!
//! Invariant: a pack is unlinked only when a walk over all points, begun after every writer that
//! had not seen it condemned was gone, met none of its objects; or each one it met was read, and
//! found to be what its name says, in a pack that stays.

use super::mark::Marking;
use super::{GcError, GcOutcome, GcRequest, publish};
use crate::catalog::Catalog;
use crate::progress::Progress;
use crate::store::{Location, ObjectReader, Repository, Stage, StoreError};
use crate::units::{Breakage, ObjectName, PackName, is_broken};
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// Removes the packs of the list that counts, as far as nothing needs them. `false`: older work is
/// still going on, a later collection goes on from here.
pub(super) fn remove(
    repository: &Repository,
    catalog: &Catalog,
    request: &GcRequest,
    outcome: &mut GcOutcome,
    progress: &Progress,
) -> Result<bool, GcError> {
    let current = repository.condemned()?;
    if repository.has_older_leases(&current)? {
        return Ok(false);
    }
    let lease = repository.lock_shared("garbage collection")?;
    if !is_broken(Breakage::ManifestsUnsynced) {
        // A point whose removal is not durable would come back without its packs.
        repository.sync_found(&repository.layout().points())?;
    }
    let marking = Marking::begin(repository, catalog)?;
    let mut going = current.packs();
    let needed = match is_broken(Breakage::NoSecondMark) {
        true => BTreeSet::new(),
        false => rescue(repository, catalog, &marking, &going, progress)?,
    };
    outcome.rescued_packs += needed.len() as u64;
    going.retain(|pack| !needed.contains(pack));
    if going.is_empty() {
        publish(repository, request, Stage::Idle, BTreeSet::new(), &current)?;
        return Ok(true);
    }
    let is_confirmed = current.stage() == Stage::Confirmed && needed.is_empty();
    if !is_confirmed && !is_broken(Breakage::Unconfirmed) {
        // A reader may have come since the packs were condemned, for a point that an older writer
        // made and that is pruned by now: nobody begins with them from here on.
        publish(repository, request, Stage::Confirmed, going.clone(), &current)?;
    }
    drop(lease);
    let current = repository.condemned()?;
    if repository.has_older_leases(&current)? {
        return Ok(false);
    }
    let _lease = repository.lock_shared("garbage collection")?;
    unlink(repository, catalog, &going, outcome, progress)?;
    publish(repository, request, Stage::Idle, BTreeSet::new(), &current)?;
    Ok(true)
}

/// The packs among `condemned` that a point needs after all, or that cannot be read.
fn rescue(
    repository: &Repository,
    catalog: &Catalog,
    marking: &Marking<'_>,
    condemned: &BTreeSet<PackName>,
    progress: &Progress,
) -> Result<BTreeSet<PackName>, GcError> {
    let packs: Vec<PackName> = condemned.iter().copied().collect();
    let mut rescued = BTreeSet::new();
    // Eight bytes of each name: two names that share them only keep a pack for longer.
    let mut at_risk: Vec<(u64, u32)> = Vec::new();
    for (index, &name) in packs.iter().enumerate() {
        progress.check()?;
        if !exists(repository, name)? {
            continue;
        }
        match repository.read_pack_record(name) {
            Ok(record) => {
                at_risk.extend(record.entries.iter().map(|e| (prefix(e.name), index as u32)));
            }
            Err(StoreError::Damaged(_)) => {
                rescued.insert(name);
            }
            Err(error) => return Err(error.into()),
        }
    }
    at_risk.sort_unstable();
    let mut needed: HashSet<ObjectName> = HashSet::new();
    marking.walk(progress, &mut |name| {
        let key = prefix(name);
        let at = at_risk.partition_point(|(other, _)| *other < key);
        if at_risk.get(at).is_some_and(|(other, _)| *other == key) {
            needed.insert(name);
        }
    })?;
    let lost = without_copy(repository, catalog, condemned, needed, progress)?;
    for name in lost {
        let key = prefix(name);
        let from = at_risk.partition_point(|(other, _)| *other < key);
        let same = at_risk[from..].iter().take_while(|(other, _)| *other == key);
        rescued.extend(same.map(|(_, index)| packs[*index as usize]));
    }
    Ok(rescued)
}

/// Those of `needed` that cannot be read from any pack that stays. A trailer only says what was
/// written once: the copy that is to be the last one is read before the other one goes.
fn without_copy(
    repository: &Repository,
    catalog: &Catalog,
    condemned: &BTreeSet<PackName>,
    needed: HashSet<ObjectName>,
    progress: &Progress,
) -> Result<Vec<ObjectName>, GcError> {
    let staying = |name| -> Result<Vec<Location>, GcError> {
        let mut copies = catalog.reliable_copies(name)?;
        copies.retain(|copy| !condemned.contains(&copy.pack));
        Ok(copies)
    };
    // Read in the order in which they lie.
    let mut by_pack: BTreeMap<PackName, Vec<(u32, ObjectName)>> = BTreeMap::new();
    let mut lost = Vec::new();
    for name in needed {
        match staying(name)?.first() {
            Some(copy) => by_pack.entry(copy.pack).or_default().push((copy.offset, name)),
            None => lost.push(name),
        }
    }
    let mut reader = repository.reader(catalog)?;
    for (_, mut names) in by_pack {
        names.sort_unstable();
        for (_, name) in names {
            progress.check()?;
            if !can_be_read(&mut reader, &staying(name)?, progress)? {
                lost.push(name);
            }
        }
    }
    Ok(lost)
}

/// Whether one of these copies of an object is good.
fn can_be_read(
    reader: &mut ObjectReader<'_>,
    copies: &[Location],
    progress: &Progress,
) -> Result<bool, StoreError> {
    for copy in copies {
        match reader.object_at(copy) {
            Ok(content) => {
                progress.add_read(content.len() as u64);
                return Ok(true);
            }
            Err(StoreError::Damaged(_) | StoreError::Misplaced { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

fn prefix(name: ObjectName) -> u64 {
    let (words, _) = name.0.as_chunks::<8>();
    words.first().map_or(0, |word| u64::from_le_bytes(*word))
}

fn exists(repository: &Repository, pack: PackName) -> Result<bool, StoreError> {
    Ok(repository.file_system().stat(&repository.layout().pack(pack))?.is_some())
}

fn unlink(
    repository: &Repository,
    catalog: &Catalog,
    going: &BTreeSet<PackName>,
    outcome: &mut GcOutcome,
    progress: &Progress,
) -> Result<(), GcError> {
    let (fs, layout) = (repository.file_system().as_ref(), repository.layout());
    for &pack in going {
        progress.check()?;
        let path = layout.pack(pack);
        let Some(stat) = fs.stat(&path).map_err(StoreError::from)? else { continue };
        fs.remove_file(&path).map_err(StoreError::from)?;
        outcome.removed_packs += 1;
        outcome.freed_bytes += stat.len_bytes;
    }
    let folders: BTreeSet<u8> = going.iter().map(|pack| pack.0[0]).collect();
    for folder in folders {
        fs.sync_dir(&layout.pack_folder(folder)).map_err(StoreError::from)?;
    }
    let gone: Vec<PackName> = going.iter().copied().collect();
    Ok(catalog.forget_packs(&gone)?)
}

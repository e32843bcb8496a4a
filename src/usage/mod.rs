//! What each machine and each point costs: bytes that only it needs, bytes that it shares, and
//! what removing it would free.
//!
//! The points of a machine are gone through in order, and a count for each object says how often
//! the current point refers to it. From one point to the next only what differs is read, so a
//! tree object is expanded once when it comes into use and once when it goes out of it. From when
//! it came and went follows whose it is.
//!
//! Objects are known by the first eight bytes of their names: 40 bytes of memory for each. That
//! two objects are taken for one is unlikely (one chance in 40,000 among thirty million), and
//! makes a number here wrong, nothing else: nothing is ever removed on the word of this module.

mod live;
mod objects;

use crate::catalog::{Catalog, CatalogError};
use crate::point::{Point, TreeReader};
use crate::progress::{Cancelled, Progress};
use crate::store::{ObjectReader, Repository, StoreError};
use crate::units::{MachineId, Name, PointId, Sequence};
use live::Live;
use objects::{Objects, Owner};
use std::collections::BTreeSet;

/// What something needs of a repository, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amounts {
    /// Size of all disks and files, of all points together.
    pub logical: u64,
    /// What of that is data, not holes.
    pub data: u64,
    /// Chunks that are needed, each counted once, before compression.
    pub chunks: u64,
    /// The same as they are stored.
    pub chunks_stored: u64,
    /// Leaves and nodes that are needed, as they are stored.
    pub trees_stored: u64,
    /// What of the stored bytes nothing else needs: what removing it would free.
    pub unique: u64,
}

impl Amounts {
    /// Stored bytes that are needed.
    pub fn stored(&self) -> u64 {
        self.chunks_stored + self.trees_stored
    }

    /// Stored bytes that something else needs too.
    pub fn shared(&self) -> u64 {
        self.stored().saturating_sub(self.unique)
    }

    /// How many times less chunks there are than data.
    pub fn dedup_ratio(&self) -> f64 {
        ratio(self.data, self.chunks)
    }

    /// How many times less the chunks take stored.
    pub fn compression_ratio(&self) -> f64 {
        ratio(self.chunks, self.chunks_stored)
    }
}

fn ratio(before: u64, after: u64) -> f64 {
    if after == 0 { 1.0 } else { before as f64 / after as f64 }
}

/// What a machine costs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineUsage {
    /// Its name.
    pub machine: Name,
    /// How many points it has.
    pub points: usize,
    /// All of them together.
    pub amounts: Amounts,
}

/// What a point costs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PointUsage {
    /// Its name.
    pub id: PointId,
    /// Its machine.
    pub machine: Name,
    /// Its position in the machine's history.
    pub sequence: Sequence,
    /// The instant that it holds.
    pub time: jiff::Timestamp,
    /// What it needs.
    pub amounts: Amounts,
}

/// What a repository holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// All points together; nothing of it is unique.
    pub amounts: Amounts,
    /// All packs.
    pub packs: u64,
    /// Stored bytes that no point needs, and further copies of the same objects.
    pub garbage: u64,
    /// Headers and trailers of packs.
    pub overhead: u64,
    /// Chunks that points refer to and no pack holds.
    pub missing: u64,
    /// Each machine.
    pub machines: Vec<MachineUsage>,
    /// Each point, by machine, the oldest first.
    pub points: Vec<PointUsage>,
}

/// Why costs are not known.
#[derive(Debug, thiserror::Error)]
pub enum UsageError {
    /// The repository failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The user stopped it.
    #[error("stopped on request")]
    Cancelled(#[from] Cancelled),
}

/// Finds out what each machine and point of `repository` costs. The catalog is up to date, and
/// the caller holds the repository's lock.
///
/// # Errors
/// When a tree cannot be read to its end.
pub fn measure(
    repository: &Repository,
    catalog: &Catalog,
    progress: &Progress,
) -> Result<Usage, UsageError> {
    let points = catalog.points(None)?;
    points.iter().for_each(|point| progress.add_total(logical_bytes(point)));
    let mut live = Live::new(Objects::load(catalog)?);
    let mut reader = repository.reader(catalog)?;
    let mut usage = Usage::default();
    let mut machines: Vec<(MachineId, MachineUsage)> = Vec::new();
    let mut before: Option<&Point> = None;
    for point in &points {
        progress.check()?;
        let manifest = &point.manifest;
        let key = (&manifest.machine, manifest.machine_id);
        if machines.last().is_none_or(|(id, last)| (&last.machine, *id) != key) {
            end_machine(&mut live, &mut reader, before.take())?;
            live.next_machine();
            let machine = manifest.machine.clone();
            let new = MachineUsage { machine, points: 0, amounts: Amounts::default() };
            machines.push((manifest.machine_id, new));
        }
        let data = add(&mut live, &mut reader, point)?;
        if let Some(before) = before {
            remove(&mut live, &mut reader, before)?;
        }
        live.next_point();
        let logical = logical_bytes(point);
        let amounts = Amounts { logical, data, ..live.current() };
        if let Some((_, machine)) = machines.last_mut() {
            machine.points += 1;
            let seen = live.seen_by_machine();
            let (logical, data) = (machine.amounts.logical + logical, machine.amounts.data + data);
            machine.amounts = Amounts { logical, data, ..seen };
        }
        usage.points.push(PointUsage {
            id: point.id,
            machine: manifest.machine.clone(),
            sequence: manifest.sequence,
            time: manifest.time,
            amounts,
        });
        before = Some(point);
        progress.add_done(logical);
    }
    end_machine(&mut live, &mut reader, before)?;
    usage.machines = machines.into_iter().map(|(_, machine)| machine).collect();
    conclude(&mut usage, &live);
    usage.packs = catalog.packs()?.into_values().sum();
    usage.overhead = usage.packs.saturating_sub(live.objects().stored());
    Ok(usage)
}

/// What removing the points `removed` would free once space is collected, in bytes, if nothing
/// else changes. Points that are not in the repository change nothing.
///
/// # Errors
/// When a tree cannot be read to its end.
pub fn freed_by(
    repository: &Repository,
    catalog: &Catalog,
    removed: &BTreeSet<PointId>,
) -> Result<u64, UsageError> {
    let (gone, kept): (Vec<Point>, Vec<Point>) =
        catalog.points(None)?.into_iter().partition(|point| removed.contains(&point.id));
    let mut live = Live::new(Objects::load(catalog)?);
    let mut reader = repository.reader(catalog)?;
    for point in &kept {
        add(&mut live, &mut reader, point)?;
    }
    let needed = live.current().stored();
    for point in &gone {
        add(&mut live, &mut reader, point)?;
    }
    Ok(live.current().stored() - needed)
}

fn logical_bytes(point: &Point) -> u64 {
    point.manifest.trees().map(|tree| tree.size_bytes).fold(0, u64::saturating_add)
}

/// Counts what a point refers to, and gives back how much data it has.
fn add(live: &mut Live, reader: &mut ObjectReader<'_>, point: &Point) -> Result<u64, UsageError> {
    for tree in point.manifest.trees() {
        TreeReader::new(reader).visit(&tree, &mut live.adding())?;
    }
    Ok(live.take_data())
}

fn remove(live: &mut Live, reader: &mut ObjectReader<'_>, point: &Point) -> Result<(), UsageError> {
    for tree in point.manifest.trees() {
        TreeReader::new(reader).visit(&tree, &mut live.removing())?;
    }
    Ok(())
}

fn end_machine(
    live: &mut Live,
    reader: &mut ObjectReader<'_>,
    last: Option<&Point>,
) -> Result<(), UsageError> {
    last.map_or(Ok(()), |last| remove(live, reader, last))
}

/// Whose each object is, once all points were gone through.
fn conclude(usage: &mut Usage, live: &Live) {
    usage.amounts = live.seen_by_anyone();
    usage.amounts.logical = usage.machines.iter().map(|machine| machine.amounts.logical).sum();
    usage.amounts.data = usage.machines.iter().map(|machine| machine.amounts.data).sum();
    usage.missing = live.missing();
    usage.garbage = live.objects().duplicates();
    for (owner, stored) in live.objects().owners() {
        match owner {
            Owner::Nobody => usage.garbage += stored,
            Owner::Point { point, machine } => {
                add_unique(usage.points.get_mut(point as usize).map(|it| &mut it.amounts), stored);
                add_unique(machine_amounts(usage, machine), stored);
            }
            Owner::Machine(machine) => add_unique(machine_amounts(usage, machine), stored),
            Owner::Several => {}
        }
    }
}

fn machine_amounts(usage: &mut Usage, machine: u32) -> Option<&mut Amounts> {
    usage.machines.get_mut(machine as usize).map(|it| &mut it.amounts)
}

fn add_unique(amounts: Option<&mut Amounts>, stored: u64) {
    if let Some(amounts) = amounts {
        amounts.unique += stored;
    }
}

//! Which points are missing, and from which of those that both have each can be built: pure
//! functions.

use super::{CopyRequest, TransferError};
use crate::point::Point;
use crate::units::{MachineId, PointId, Sequence};
use jiff::Timestamp;
use std::collections::BTreeMap;

/// A point of the first repository and the same one in the second.
pub(super) type Pair = (Point, Point);

/// What there is to do.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Points to copy, the oldest first.
    pub missing: Vec<Point>,
    /// Points that both have.
    pub pairs: Vec<Pair>,
    /// How many of the points asked for need no copy.
    pub already: usize,
}

/// By what a point is the same one in two repositories.
fn identity(point: &Point) -> (MachineId, Sequence, Timestamp) {
    (point.manifest.machine_id, point.manifest.sequence, point.manifest.time)
}

fn sizes(point: &Point) -> BTreeMap<&str, u64> {
    point.manifest.disks.iter().map(|disk| (disk.name.as_str(), disk.size_bytes)).collect()
}

/// Compares the points of one machine in both repositories.
///
/// # Errors
/// When they are not points of one machine, or its histories went apart.
pub(super) fn plan(
    theirs: &[Point],
    ours: &[Point],
    request: &CopyRequest<'_>,
) -> Result<Plan, TransferError> {
    let machine = request.machine;
    let machine_id = |point: &Point| point.manifest.machine_id;
    if let Some(first) = theirs.first()
        && theirs.iter().chain(ours).any(|point| machine_id(point) != machine_id(first))
    {
        return Err(TransferError::OtherMachine { machine: machine.clone() });
    }
    let mut known: BTreeMap<Sequence, &Point> = BTreeMap::new();
    known.extend(ours.iter().map(|point| (point.manifest.sequence, point)));
    let mut plan = Plan::default();
    for point in theirs {
        let asked = request.only.is_none_or(|only| only == point.id);
        match known.get(&point.manifest.sequence) {
            Some(same) if identity(same) == identity(point) && sizes(same) == sizes(point) => {
                plan.already += usize::from(asked);
                plan.pairs.push((point.clone(), (*same).clone()));
            }
            Some(other) if asked => {
                return Err(TransferError::Diverged {
                    machine: machine.clone(),
                    sequence: point.manifest.sequence,
                    theirs: point.manifest.time,
                    ours: other.manifest.time,
                });
            }
            None if asked => plan.missing.push(point.clone()),
            _ => {}
        }
    }
    plan.missing.sort_by_key(|point| (point.manifest.sequence, point.id));
    if let Some(pair) =
        plan.missing.windows(2).find(|pair| pair[0].manifest.sequence == pair[1].manifest.sequence)
    {
        return Err(TransferError::Diverged {
            machine: machine.clone(),
            sequence: pair[0].manifest.sequence,
            theirs: pair[0].manifest.time,
            ours: pair[1].manifest.time,
        });
    }
    match (plan.missing.is_empty() && plan.already == 0, request.only) {
        (true, Some(point)) => Err(TransferError::PointGone { machine: machine.clone(), point }),
        _ => Ok(plan),
    }
}

/// The pair that shares most with `point`, as far as that can be told: the last one before it,
/// otherwise the first one after it.
pub(super) fn choose_base<'p>(pairs: &'p [Pair], point: &Point) -> Option<&'p Pair> {
    let sequence = |pair: &&Pair| pair.0.manifest.sequence;
    let before = pairs.iter().filter(|pair| sequence(pair) < point.manifest.sequence);
    let after = pairs.iter().filter(|pair| sequence(pair) > point.manifest.sequence);
    before.max_by_key(sequence).or_else(|| after.min_by_key(sequence))
}

/// What the point `theirs` of the first repository is called in the second.
pub(super) fn counterpart(pairs: &[Pair], theirs: PointId) -> Option<PointId> {
    pairs.iter().find(|pair| pair.0.id == theirs).map(|pair| pair.1.id)
}

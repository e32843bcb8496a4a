//! Which packs are worth removing: a survey of all packs, and a pure choice among them.

use super::GcError;
use super::filter::NameFilter;
use super::mark::Marking;
use crate::catalog::{Catalog, KnownPack};
use crate::progress::Progress;
use crate::store::PackKind;
use std::collections::BTreeMap;

/// Packs smaller than this are put together once there are many of them.
const SMALL_BYTES: u64 = 1024 * 1024;
/// So many small packs of one kind are many.
const SMALL_MANY: usize = 64;

/// A pack and what of it is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PackUse {
    pub pack: KnownPack,
    /// Bytes of all its objects.
    pub object_bytes: u64,
    /// How many objects it has.
    pub objects: u64,
    /// Bytes of those that points need, and that no other pack is counted for.
    pub live_bytes: u64,
}

impl PackUse {
    fn dead_bytes(&self) -> u64 {
        self.object_bytes - self.live_bytes
    }

    /// Whether less of it is needed than `fill_percent`.
    fn is_sparse(&self, fill_percent: u8) -> bool {
        self.live_bytes * 100 < self.object_bytes * u64::from(fill_percent)
    }
}

/// All packs, with what of them is needed. What names the filter is mistaken about count as needed.
pub(super) fn survey(
    marking: &Marking<'_>,
    catalog: &Catalog,
    salt: u64,
    progress: &Progress,
) -> Result<(Vec<PackUse>, NameFilter), GcError> {
    let known = catalog.known_packs()?;
    let mut live = NameFilter::new(catalog.count_objects()? as u64, salt);
    marking.walk(progress, &mut |name| live.insert(name))?;
    let begin =
        |pack: &KnownPack| PackUse { pack: *pack, object_bytes: 0, objects: 0, live_bytes: 0 };
    let mut packs: Vec<PackUse> = known.packs.iter().map(begin).collect();
    catalog.census(&known, &mut |name, copies| {
        for copy in copies {
            packs[copy.pack].object_bytes += u64::from(copy.stored_len);
            packs[copy.pack].objects += 1;
        }
        // One copy is enough: the oldest good one. Of damaged copies one counts too: it may be all
        // that there is to repair from.
        let chosen = copies.iter().find(|copy| copy.is_good).or(copies.first());
        if let Some(copy) = chosen.filter(|_| live.contains(name)) {
            packs[copy.pack].live_bytes += u64::from(copy.stored_len);
        }
    })?;
    Ok((packs, live))
}

/// What may be spent on one round.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Packs of which less is needed are rewritten, in percent.
    pub fill_percent: u8,
    /// Bytes that may be written anew.
    pub rewrite_bytes_max: u64,
    /// Objects of the packs chosen: their names are held in memory later.
    pub objects_max: u64,
}

/// The packs that a round condemns, the emptiest first, and whether more are left for another
/// round.
pub(super) fn choose(packs: &[PackUse], limits: Limits) -> (Vec<PackUse>, bool) {
    let mut small: BTreeMap<PackKind, usize> = BTreeMap::new();
    for pack in packs.iter().filter(|pack| pack.pack.bytes < SMALL_BYTES) {
        *small.entry(pack.pack.kind).or_default() += 1;
    }
    let is_one_of_many = |pack: &PackUse| {
        pack.pack.bytes < SMALL_BYTES
            && small.get(&pack.pack.kind).is_some_and(|&count| count >= SMALL_MANY)
    };
    let mut wanted: Vec<PackUse> = packs
        .iter()
        .filter(|pack| pack.is_sparse(limits.fill_percent) || is_one_of_many(pack))
        .copied()
        .collect();
    // Those without a need first, then those that give most for what is written; a name decides
    // between equals, so that two runs choose alike.
    wanted.sort_by(|a, b| {
        let (left, right) = (
            u128::from(a.live_bytes) * u128::from(b.object_bytes),
            u128::from(b.live_bytes) * u128::from(a.object_bytes),
        );
        left.cmp(&right)
            .then_with(|| b.dead_bytes().cmp(&a.dead_bytes()))
            .then_with(|| a.pack.name.cmp(&b.pack.name))
    });
    let (mut rewrite_bytes, mut objects) = (0, 0);
    let fits = |pack: &&PackUse| {
        rewrite_bytes += pack.live_bytes;
        let first = objects == 0;
        objects += pack.objects;
        rewrite_bytes <= limits.rewrite_bytes_max && (first || objects <= limits.objects_max)
    };
    let chosen: Vec<PackUse> = wanted.iter().take_while(fits).copied().collect();
    let more = chosen.len() < wanted.len();
    (chosen, more)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::PackName;

    fn pack(byte: u8, object_bytes: u64, live_bytes: u64) -> PackUse {
        let name = PackName([byte; 32]);
        let pack = KnownPack { name, kind: PackKind::Data, bytes: object_bytes + 200 };
        PackUse { pack, object_bytes, objects: 10, live_bytes }
    }

    fn names(packs: &[PackUse], limits: Limits) -> (Vec<u8>, bool) {
        let (chosen, more) = choose(packs, limits);
        (chosen.iter().map(|pack| pack.pack.name.0[0]).collect(), more)
    }

    const LIMITS: Limits =
        Limits { fill_percent: 75, rewrite_bytes_max: u64::MAX, objects_max: u64::MAX };
    const MIB: u64 = 1024 * 1024;

    #[test]
    fn the_emptiest_go_first_and_full_ones_stay() {
        let packs = [
            pack(1, 8 * MIB, 8 * MIB),
            pack(2, 8 * MIB, 4 * MIB),
            pack(3, 8 * MIB, 0),
            pack(4, 8 * MIB, 6 * MIB),
            pack(5, 8 * MIB, MIB),
            pack(6, 16 * MIB, 0),
        ];
        assert_eq!(names(&packs, LIMITS), (vec![6, 3, 5, 2], false));
        assert_eq!(
            names(&packs, Limits { rewrite_bytes_max: MIB, ..LIMITS }),
            (vec![6, 3, 5], true)
        );
        assert_eq!(names(&packs, Limits { rewrite_bytes_max: 0, ..LIMITS }), (vec![6, 3], true));
        assert_eq!(names(&packs, Limits { objects_max: 20, ..LIMITS }), (vec![6, 3], true));
        assert_eq!(names(&packs, Limits { objects_max: 1, ..LIMITS }), (vec![6], true));
    }

    #[test]
    fn many_small_packs_are_put_together_and_a_few_are_not() {
        let few: Vec<PackUse> = (1..60).map(|byte| pack(byte, 1000, 1000)).collect();
        assert_eq!(names(&few, LIMITS), (vec![], false));
        let many: Vec<PackUse> = (1..=64).map(|byte| pack(byte, 1000, 1000)).collect();
        assert_eq!(names(&many, LIMITS).0.len(), 64);
    }
}

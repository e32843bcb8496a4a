//! Where two clones of one image may differ: wherever they do not lie in the same blocks.
//!
//! A block that a clone refers to stays allocated, and nobody writes to it: a write to the image
//! goes to another one. So two clones hold the same wherever they lie at the same address.

use super::mapping::{Extents, Mapping, Segments};
use crate::extent::{Extent, joined, push_joined};
use std::fs::File;
use std::io;

/// More places are not listed, to bound memory.
const EXTENTS_MAX: usize = 4 * 1024 * 1024;

/// Where the clone in `new` may differ from the one in `old`, within the size of `new`; `None` when
/// that is in too many places.
///
/// Both are looked at twice, and what differs either time counts. A file system that moves blocks at
/// the same time may give the address of a block to another one just between the moments at which
/// the one clone and the other were asked about; not twice.
///
/// # Errors
/// When the file system does not tell.
pub(super) fn differences(old: &File, new: &File) -> io::Result<Option<Vec<Extent>>> {
    let sizes = (old.metadata()?.len(), new.metadata()?.len());
    let Some(mut first) = pass(old, new, sizes)? else { return Ok(None) };
    let Some(second) = pass(old, new, sizes)? else { return Ok(None) };
    first.extend(second);
    Ok(Some(joined(first)))
}

fn pass<E: Extents>(old: E, new: E, sizes: (u64, u64)) -> io::Result<Option<Vec<Extent>>> {
    let mut old = Segments::new(old, sizes.0);
    let mut new = Segments::new(new, sizes.1);
    let mut list = Vec::new();
    let mut before = old.next()?;
    while let Some(part) = new.next()? {
        let mut start = part.range.start();
        while start < part.range.end() {
            let Some(was) = before else {
                // Past the end of the old one.
                push_joined(&mut list, Extent::between(start, part.range.end()));
                break;
            };
            let end = part.range.end().min(was.range.end());
            if !is_same(was.from(start).mapping, part.from(start).mapping) {
                push_joined(&mut list, Extent::between(start, end));
            }
            start = end;
            if was.range.end() <= start {
                before = old.next()?;
            }
        }
        if list.len() > EXTENTS_MAX {
            return Ok(None);
        }
    }
    Ok(Some(list))
}

/// Whether the same content is certain.
fn is_same(old: Mapping, new: Mapping) -> bool {
    old != Mapping::Doubtful && old == new
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::MappedExtent;

    const SHARED: u32 = 0x2000;
    const UNWRITTEN: u32 = 0x800;

    #[derive(Clone)]
    struct Told(Vec<MappedExtent>);

    impl Extents for Told {
        fn from(&mut self, start: u64) -> io::Result<Vec<MappedExtent>> {
            let later = self.0.iter().filter(|it| it.logical + it.len_bytes > start);
            Ok(later.take(1).copied().collect())
        }
    }

    fn told(extents: &[(u64, u64, u64, u32)]) -> Told {
        let extent = |&(logical, physical, len_bytes, flags): &_| MappedExtent {
            logical,
            physical,
            len_bytes,
            flags,
        };
        Told(extents.iter().map(extent).collect())
    }

    fn differing(old: &Told, new: &Told, sizes: (u64, u64)) -> Vec<(u64, u64)> {
        let list = pass(old.clone(), new.clone(), sizes).unwrap().unwrap();
        list.iter().map(|extent| (extent.start(), extent.end())).collect()
    }

    #[test]
    fn what_lies_at_another_address_differs() {
        let old = told(&[(0, 1000, 100, SHARED), (200, 5000, 100, SHARED)]);
        let new = told(&[
            (0, 1000, 40, SHARED),
            (40, 9000, 10, SHARED),
            (50, 1050, 50, SHARED),
            (200, 5000, 100, SHARED | 1),
        ]);
        assert_eq!(differing(&old, &old, (300, 300)), []);
        assert_eq!(differing(&old, &new, (300, 300)), [(40, 50)]);
        assert_eq!(differing(&new, &old, (300, 300)), [(40, 50)]);
        // The same blocks, but moved within the file.
        let moved = told(&[(10, 1000, 90, SHARED), (200, 5000, 100, SHARED)]);
        assert_eq!(differing(&old, &moved, (300, 300)), [(0, 100)]);
    }

    #[test]
    fn holes_and_unwritten_extents_differ_from_everything_but_themselves() {
        let stored = told(&[(0, 1000, 100, SHARED)]);
        let unwritten = told(&[(0, 1000, 100, SHARED | UNWRITTEN)]);
        let hole = told(&[]);
        let kinds = [stored, unwritten, hole];
        for (from, old) in kinds.iter().enumerate() {
            for (to, new) in kinds.iter().enumerate() {
                let expected = if from == to { vec![] } else { vec![(0, 100)] };
                assert_eq!(differing(old, new, (100, 100)), expected, "{from} {to}");
            }
        }
    }

    #[test]
    fn what_is_in_doubt_differs_from_itself() {
        for flags in [0, SHARED | 2, SHARED | 4, SHARED | 8, SHARED | 0x100, SHARED | 0x200] {
            let both = told(&[(0, 1000, 100, flags)]);
            assert_eq!(differing(&both, &both, (100, 100)), [(0, 100)], "{flags:#x}");
        }
    }

    #[test]
    fn what_a_grown_image_gained_differs_and_a_shrunken_one_ends() {
        let both = told(&[(0, 1000, 100, SHARED)]);
        assert_eq!(differing(&both, &both, (60, 150)), [(60, 150)]);
        assert_eq!(differing(&both, &both, (150, 60)), []);
        assert_eq!(differing(&both, &both, (0, 60)), [(0, 60)]);
    }
}

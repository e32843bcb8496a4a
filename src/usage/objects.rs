//! All objects of a repository, each with what must be known of it: 40 bytes.

use crate::catalog::{Catalog, CatalogError};
use crate::units::ObjectName;

/// Who needs an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// No point.
    Nobody,
    /// One point only, by its number, and the number of its machine.
    Point { point: u32, machine: u32 },
    /// Several points of one machine, by its number.
    Machine(u32),
    /// Points of several machines.
    Several,
}

impl Owner {
    /// The owner of what belongs to both.
    fn joined(self, other: Self) -> Self {
        match (self.machine(), other.machine()) {
            (None, _) if self == Self::Nobody => other,
            (_, None) if other == Self::Nobody => self,
            (Some(a), Some(b)) if a == b => Self::Machine(a),
            _ => Self::Several,
        }
    }

    fn machine(self) -> Option<u32> {
        match self {
            Self::Point { machine, .. } | Self::Machine(machine) => Some(machine),
            Self::Nobody | Self::Several => None,
        }
    }
}

/// An object.
#[derive(Debug, Clone, Copy)]
pub(super) struct Object {
    /// First bytes of its name.
    key: u64,
    pub stored: u32,
    pub plain: u32,
    /// How often the current point refers to it.
    pub count: u32,
    /// The point with which it came into use.
    pub since: u32,
    /// One more than the number of the last machine that used it.
    pub seen_by: u32,
    owner: Owner,
}

const _: () = assert!(size_of::<Object>() == 40);

impl Object {
    /// It was in use by the points `since..until` of `machine`.
    pub fn used(&mut self, until: u32, machine: u32) {
        let owner = match until.saturating_sub(self.since) {
            1 => Owner::Point { point: self.since, machine },
            _ => Owner::Machine(machine),
        };
        self.owner = self.owner.joined(owner);
    }
}

/// All objects, sorted by their keys.
#[derive(Debug, Default)]
pub(super) struct Objects {
    all: Vec<Object>,
    duplicates: u64,
}

impl Objects {
    /// Everything that the catalog knows, with one scan of it.
    pub fn load(catalog: &Catalog) -> Result<Self, CatalogError> {
        let mut objects = Self { all: Vec::with_capacity(catalog.count_objects()?), duplicates: 0 };
        catalog.census(&catalog.known_packs()?, &mut |name, copies| {
            let [first, further @ ..] = copies else { return };
            objects.duplicates +=
                further.iter().map(|copy| u64::from(copy.stored_len)).sum::<u64>();
            objects.all.push(Object {
                key: key(name),
                stored: first.stored_len,
                plain: first.plain_len,
                count: 0,
                since: 0,
                seen_by: 0,
                owner: Owner::Nobody,
            });
        })?;
        Ok(objects)
    }

    /// Where an object stands.
    pub fn find(&self, name: ObjectName) -> Option<usize> {
        self.all.binary_search_by_key(&key(name), |object| object.key).ok()
    }

    pub fn get_mut(&mut self, index: usize) -> Option<&mut Object> {
        self.all.get_mut(index)
    }

    /// Bytes of further copies.
    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// Bytes of all objects, with further copies.
    pub fn stored(&self) -> u64 {
        self.duplicates + self.all.iter().map(|object| u64::from(object.stored)).sum::<u64>()
    }

    /// Whose each object is, and its stored bytes.
    pub fn owners(&self) -> impl Iterator<Item = (Owner, u64)> + '_ {
        self.all.iter().map(|object| (object.owner, u64::from(object.stored)))
    }
}

/// Big-endian, so that keys are in the order of names.
fn key(name: ObjectName) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&name.0[..8]);
    u64::from_be_bytes(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_need_belongs_to_what_they_have_in_common() {
        let point = |point, machine| Owner::Point { point, machine };
        let nobody = Owner::Nobody;
        for (a, b, both) in [
            (nobody, point(3, 1), point(3, 1)),
            (point(3, 1), nobody, point(3, 1)),
            (point(3, 1), point(4, 1), Owner::Machine(1)),
            (Owner::Machine(1), point(4, 1), Owner::Machine(1)),
            (Owner::Machine(1), point(4, 2), Owner::Several),
            (Owner::Several, point(4, 2), Owner::Several),
            (Owner::Several, nobody, Owner::Several),
            (nobody, nobody, nobody),
        ] {
            assert_eq!(a.joined(b), both, "{a:?} {b:?}");
            assert_eq!(b.joined(a), both, "{b:?} {a:?}");
        }
    }
}

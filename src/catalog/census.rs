//! One pass over all that the catalog knows, for those who weigh what is needed.

use super::index::key;
use super::objects::digest;
use super::part::{Part, lengths};
use super::{Catalog, CatalogError};
use crate::store::PackKind;
use crate::units::{ObjectName, PackName};
use rusqlite::Connection;
use std::collections::HashMap;

/// Objects that one pass over all packs holds in memory: 84 MB.
const OBJECTS_A_PASS: usize = 1_500_000;

/// A pack, as a census counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownPack {
    /// Its name.
    pub name: PackName,
    /// What it holds.
    pub kind: PackKind,
    /// Length of its file, in bytes.
    pub bytes: u64,
}

/// One copy of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copy {
    /// Index of its pack among those that [`Catalog::known_packs`] gave.
    pub pack: usize,
    /// Bytes in the pack.
    pub stored_len: u32,
    /// Bytes once decoded.
    pub plain_len: u32,
    /// Whether a new point may refer to it.
    pub is_good: bool,
}

/// The packs of a catalog at one moment, which a census refers to.
#[derive(Debug)]
pub struct KnownPacks {
    /// The packs, the oldest first.
    pub packs: Vec<KnownPack>,
}

impl Catalog {
    /// All packs, the one that was noted first coming first.
    ///
    /// # Errors
    /// When the database fails.
    pub fn known_packs(&self) -> Result<KnownPacks, CatalogError> {
        self.database.read(|connection| {
            let mut all =
                connection.prepare("SELECT no, name, kind, bytes FROM pack ORDER BY no")?;
            let mut rows = all.query([])?;
            let mut known = KnownPacks { packs: Vec::new() };
            while let Some(row) = rows.next()? {
                let kind = PackKind::from_byte(row.get(2)?)
                    .ok_or(rusqlite::Error::IntegralValueOutOfRange(2, 0))?;
                let (name, bytes) = (PackName(digest(row, 1)?), row.get(3)?);
                known.packs.push(KnownPack { name, kind, bytes });
            }
            Ok(known)
        })
    }

    /// Visits each object with all its copies in `known`, the oldest first, in the order of names.
    /// Memory does not depend on how many there are: it goes through all packs once for each
    /// range of names.
    ///
    /// # Errors
    /// When the database fails.
    pub fn census(
        &self,
        known: &KnownPacks,
        visit: &mut dyn FnMut(ObjectName, &[Copy]),
    ) -> Result<(), CatalogError> {
        let avoided = self.avoided();
        let count = self.count_objects()?;
        let passes = count.div_ceil(OBJECTS_A_PASS).max(1);
        let mut found = Vec::with_capacity((count / passes).saturating_mul(17) / 16);
        let index: HashMap<PackName, usize> =
            known.packs.iter().enumerate().map(|(at, pack)| (pack.name, at)).collect();
        self.database.read(|connection| {
            let snapshot = connection.unchecked_transaction()?;
            for pass in 0..passes as u64 {
                // Names are digests: those of one range are about as many as those of another.
                let is_wanted = |name| {
                    let place = u128::from(key(name)) * passes as u128;
                    place >> 64 == u128::from(pass)
                };
                copies_of(&snapshot, &index, is_wanted, &mut found)?;
                for (name, copy) in &mut found {
                    copy.is_good = !avoided.holds(*name, known.packs[copy.pack].name);
                }
                let mut copies: Vec<Copy> = Vec::new();
                for same in found.chunk_by(|a, b| a.0 == b.0) {
                    copies.clear();
                    copies.extend(same.iter().map(|(_, copy)| *copy));
                    visit(same[0].0, &copies);
                }
            }
            Ok(())
        })
    }
}

/// The copies of objects whose names are wanted, in the order of names, then of packs. A pack that
/// was noted since is not weighed.
fn copies_of(
    connection: &Connection,
    packs: &HashMap<PackName, usize>,
    is_wanted: impl Fn(ObjectName) -> bool,
    found: &mut Vec<(ObjectName, Copy)>,
) -> rusqlite::Result<()> {
    found.clear();
    let mut all = connection.prepare("SELECT no, pack, entries FROM part ORDER BY no")?;
    let mut rows = all.query([])?;
    while let Some(row) = rows.next()? {
        let part = Part::of_row(row)?;
        let Some(&pack) = packs.get(&part.pack) else { continue };
        for (name, rest) in part.entries().filter(|(name, _)| is_wanted(*name)) {
            let (stored_len, plain_len) = lengths(rest);
            found.push((name, Copy { pack, stored_len, plain_len, is_good: true }));
        }
    }
    found.sort_unstable_by_key(|(name, copy)| (*name, copy.pack));
    Ok(())
}

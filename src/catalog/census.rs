//! One pass over all that the catalog knows, for those who weigh what is needed.

use super::objects::digest;
use super::{Catalog, CatalogError};
use crate::store::PackKind;
use crate::units::{ObjectName, PackName};
use std::collections::HashMap;

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
    index: HashMap<i64, usize>,
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
            let mut known = KnownPacks { packs: Vec::new(), index: HashMap::new() };
            while let Some(row) = rows.next()? {
                let kind = PackKind::from_byte(row.get(2)?)
                    .ok_or(rusqlite::Error::IntegralValueOutOfRange(2, 0))?;
                known.index.insert(row.get(0)?, known.packs.len());
                let (name, bytes) = (PackName(digest(row, 1)?), row.get(3)?);
                known.packs.push(KnownPack { name, kind, bytes });
            }
            Ok(known)
        })
    }

    /// Visits each object with all its copies in `known`, in the order of names. Memory does not
    /// depend on how many there are.
    ///
    /// # Errors
    /// When the database fails.
    pub fn census(
        &self,
        known: &KnownPacks,
        visit: &mut dyn FnMut(ObjectName, &[Copy]),
    ) -> Result<(), CatalogError> {
        let avoided = self.avoided();
        self.database.read(|connection| {
            let mut all = connection
                .prepare("SELECT name, pack, stored, plain FROM object ORDER BY name, pack")?;
            let mut rows = all.query([])?;
            let mut object: Option<ObjectName> = None;
            let mut copies: Vec<Copy> = Vec::new();
            while let Some(row) = rows.next()? {
                let name = ObjectName(digest(row, 0)?);
                if object != Some(name) {
                    if let Some(done) = object.replace(name) {
                        visit(done, &copies);
                    }
                    copies.clear();
                }
                let no = row.get(1)?;
                // A pack that was noted since is not weighed.
                if let Some(&pack) = known.index.get(&no) {
                    let is_good = !avoided.holds(name, known.packs[pack].name);
                    let (stored_len, plain_len) = (row.get(2)?, row.get(3)?);
                    copies.push(Copy { pack, stored_len, plain_len, is_good });
                }
            }
            if let Some(last) = object {
                visit(last, &copies);
            }
            Ok(())
        })
    }
}

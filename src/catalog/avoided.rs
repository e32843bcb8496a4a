//! Copies of objects that lie in a pack and must not be relied on: the pack is condemned, or the
//! copy is damaged.

use super::generation::bump;
use super::objects::digest;
use super::{Catalog, CatalogError};
use crate::store::{Damage, StoreError};
use crate::units::{Breakage, ObjectName, PackName, is_broken};
use std::collections::{BTreeSet, HashSet};
use std::sync::{PoisonError, RwLockReadGuard};

/// Copies of objects that new points must not refer to. Both are few. Packs have their names here,
/// not their numbers in the database: when another process forgets a pack, its number is given to
/// the next one.
#[derive(Debug, Default)]
pub(super) struct Avoided {
    /// Packs that are about to be removed.
    condemned: HashSet<PackName>,
    /// Objects that do not decode, with their packs.
    damaged: HashSet<(ObjectName, PackName)>,
    /// Why it is not known which packs are condemned: nothing at all can be relied on.
    unknown: Option<Damage>,
}

impl Avoided {
    pub fn holds(&self, name: ObjectName, pack: PackName) -> bool {
        let is_condemned = self.condemned.contains(&pack) && !is_broken(Breakage::CondemnedIsKnown);
        is_condemned || self.damaged.contains(&(name, pack))
    }

    /// Whether new points may refer to anything.
    pub fn check_known(&self) -> Result<(), CatalogError> {
        match &self.unknown {
            None => Ok(()),
            Some(damage) => Err(StoreError::from(damage.clone()).into()),
        }
    }
}

impl Catalog {
    pub(super) fn avoided(&self) -> RwLockReadGuard<'_, Avoided> {
        self.avoided.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes exactly `condemned` the packs that are about to be removed.
    ///
    /// # Errors
    /// When the database fails.
    pub fn set_condemned(&self, condemned: &BTreeSet<PackName>) -> Result<(), CatalogError> {
        if self.condemned()? != *condemned {
            self.database.write(|transaction| {
                transaction.execute("UPDATE pack SET condemned = 0 WHERE condemned != 0", [])?;
                let mut set =
                    transaction.prepare_cached("UPDATE pack SET condemned = 1 WHERE name = ?1")?;
                for name in condemned {
                    set.execute([&name.0[..]])?;
                }
                Ok(())
            })?;
        }
        self.load_avoided()?;
        self.avoided.write().unwrap_or_else(PoisonError::into_inner).unknown = None;
        Ok(())
    }

    /// From now until the list of condemned packs is known again, nothing can be asked that a new
    /// point would rely on.
    pub(super) fn forbid_new_references(&self, reason: Damage) {
        self.avoided.write().unwrap_or_else(PoisonError::into_inner).unknown = Some(reason);
    }

    /// The packs that are about to be removed.
    ///
    /// # Errors
    /// When the database fails.
    pub fn condemned(&self) -> Result<BTreeSet<PackName>, CatalogError> {
        self.database.read(|connection| {
            let mut all = connection.prepare("SELECT name FROM pack WHERE condemned != 0")?;
            all.query_map([], |row| Ok(PackName(digest(row, 0)?)))?.collect()
        })
    }

    /// Notes copies of objects that do not decode: from now on they count as unknown, so that the
    /// next backup that meets their content stores it again.
    ///
    /// # Errors
    /// When the database fails.
    pub fn note_damaged(&self, copies: &[(ObjectName, PackName)]) -> Result<(), CatalogError> {
        self.database.write(|transaction| {
            let mut note = transaction.prepare_cached(
                "INSERT OR IGNORE INTO damaged SELECT ?1, no FROM pack WHERE name = ?2",
            )?;
            for (object, pack) in copies {
                note.execute([&object.0[..], &pack.0[..]])?;
            }
            bump(transaction)
        })?;
        self.load_avoided()
    }

    /// Takes back what was noted of `pack`: all of it was read and found good.
    ///
    /// # Errors
    /// When the database fails.
    pub fn clear_damaged(&self, pack: PackName) -> Result<(), CatalogError> {
        let cleared = self.database.write(|transaction| {
            transaction.execute(
                "DELETE FROM damaged WHERE pack = (SELECT no FROM pack WHERE name = ?1)",
                [&pack.0[..]],
            )
        })?;
        if cleared > 0 { self.load_avoided() } else { Ok(()) }
    }

    /// The copies of objects that are known not to decode.
    ///
    /// # Errors
    /// When the database fails.
    pub fn damaged_copies(&self) -> Result<Vec<(ObjectName, PackName)>, CatalogError> {
        self.database.read(|connection| {
            let mut all = connection.prepare(
                "SELECT damaged.name, pack.name FROM damaged JOIN pack ON pack.no = damaged.pack
                 ORDER BY pack.name, damaged.name",
            )?;
            let rows = all.query_map([], |row| {
                Ok((ObjectName(digest(row, 0)?), PackName(digest(row, 1)?)))
            })?;
            rows.collect()
        })
    }

    /// Reads what is to be avoided; that the condemned packs are not known stays so.
    pub(super) fn load_avoided(&self) -> Result<(), CatalogError> {
        let condemned = self.condemned()?.into_iter().collect();
        let damaged = self.damaged_copies()?.into_iter().collect();
        let mut avoided = self.avoided.write().unwrap_or_else(PoisonError::into_inner);
        (avoided.condemned, avoided.damaged) = (condemned, damaged);
        Ok(())
    }
}

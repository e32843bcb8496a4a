//! Looking objects up: whether and where they lie.

use super::avoided::Avoided;
use super::index::{Memory, generation};
use super::part::{Part, Rest};
use super::{Catalog, CatalogError};
use crate::store::{KnownObjects, Location, ObjectIndex, StoreError};
use crate::units::ObjectName;
use rusqlite::Connection;
use std::sync::{PoisonError, RwLockReadGuard};

/// Parts that a batch keeps at hand: what is asked for together was mostly stored together.
const AT_HAND_MAX: usize = 4;
/// Snapshots that turn out older than what others have read meanwhile, in a row.
const OLDER_MAX: u32 = 1000;

impl Catalog {
    /// Which of `names` lie in a pack where a new point may rely on them, in the order asked: a
    /// copy in a condemned pack, or one that is damaged, counts as a miss.
    ///
    /// # Errors
    /// When the database fails.
    pub fn contains(&self, names: &[ObjectName]) -> Result<Vec<bool>, CatalogError> {
        let avoided = self.avoided();
        avoided.check_known()?;
        self.look(|look| {
            names.iter().map(|name| Ok(look.good(*name, &avoided)?.is_some())).collect()
        })
    }

    /// The places of an object where a new point may rely on it, as far as is known: not in a
    /// condemned pack, and not damaged.
    ///
    /// # Errors
    /// When the database fails.
    pub fn reliable_copies(&self, name: ObjectName) -> Result<Vec<Location>, CatalogError> {
        let avoided = self.avoided();
        let (good, _) = self.look(|look| look.copies(name, &avoided))?;
        Ok(good)
    }

    /// Runs `work` with one snapshot of the database and what memory holds of the same one.
    fn look<T>(
        &self,
        mut work: impl FnMut(&mut Look<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, CatalogError> {
        self.database.read(|connection| {
            let mut older = 0;
            loop {
                let snapshot = connection.unchecked_transaction()?;
                let generation = generation(&snapshot)?;
                let memory = self.memory();
                if memory.generation == Some(generation) {
                    let (connection, memory) = (&*snapshot, &*memory);
                    return work(&mut Look { connection, memory, at_hand: Vec::new() });
                }
                let is_older = memory.generation > Some(generation);
                drop(memory);
                older = if is_older { older + 1 } else { 0 };
                if is_older && older < OLDER_MAX {
                    // Another thread has seen a later one; so does the next snapshot.
                    continue;
                }
                let mut memory = self.memory.write().unwrap_or_else(PoisonError::into_inner);
                if older >= OLDER_MAX {
                    // The database itself was set back.
                    *memory = Memory::default();
                }
                if memory.generation < Some(generation) {
                    memory.refresh(&snapshot, generation)?;
                }
            }
        })
    }

    fn memory(&self) -> RwLockReadGuard<'_, Memory> {
        self.memory.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One batch of look-ups.
struct Look<'c> {
    connection: &'c Connection,
    memory: &'c Memory,
    /// Parts where something was found, the last one first, and the entry after it.
    at_hand: Vec<(Part, usize)>,
}

impl Look<'_> {
    /// A place of an object that can be relied on: what stands there, in the first part at hand.
    fn good(&mut self, name: ObjectName, avoided: &Avoided) -> rusqlite::Result<Option<Rest>> {
        let find = |(at, (part, next)): (usize, &(Part, usize))| {
            let (entry, rest) = part.look_for(name, *next)?;
            (!avoided.holds(name, part.pack)).then_some((at, entry, rest))
        };
        if let Some((at, entry, rest)) = self.at_hand.iter().enumerate().find_map(find) {
            self.at_hand[at].1 = entry + 1;
            self.at_hand[..=at].rotate_right(1);
            return Ok(Some(rest));
        }
        for no in self.memory.find(self.connection, name)? {
            let Some(part) = Part::find(self.connection, no)? else { continue };
            let Some((entry, rest)) = part.look_for(name, 0) else { continue };
            if !avoided.holds(name, part.pack) {
                self.at_hand.truncate(AT_HAND_MAX - 1);
                self.at_hand.insert(0, (part, entry + 1));
                return Ok(Some(rest));
            }
        }
        Ok(None)
    }

    fn best(&mut self, name: ObjectName, avoided: &Avoided) -> rusqlite::Result<Option<Location>> {
        if let Some(rest) = self.good(name, avoided)? {
            let first = self.at_hand.first();
            return first.map(|(part, _)| part.location(name, rest)).transpose();
        }
        // Whatever lies in a pack is better than nothing: a reader finds out.
        let (_, poor) = self.copies(name, avoided)?;
        Ok(poor.into_iter().next())
    }

    /// All places of an object: those that can be relied on, and the others.
    fn copies(
        &self,
        name: ObjectName,
        avoided: &Avoided,
    ) -> rusqlite::Result<(Vec<Location>, Vec<Location>)> {
        let (mut good, mut poor) = (Vec::new(), Vec::new());
        for no in self.memory.find(self.connection, name)? {
            let Some(part) = Part::find(self.connection, no)? else { continue };
            let Some((_, rest)) = part.look_for(name, 0) else { continue };
            let location = part.location(name, rest)?;
            let is_poor = avoided.holds(name, part.pack);
            if is_poor { poor.push(location) } else { good.push(location) }
        }
        Ok((good, poor))
    }
}

impl ObjectIndex for Catalog {
    fn locate(&self, names: &[ObjectName]) -> Result<Vec<Option<Location>>, StoreError> {
        let avoided = self.avoided();
        let best = |look: &mut Look<'_>| {
            names.iter().map(|name| look.best(*name, &avoided)).collect::<Result<_, _>>()
        };
        Ok(self.look(best)?)
    }

    fn copies(&self, name: ObjectName) -> Result<Vec<Location>, StoreError> {
        let avoided = self.avoided();
        let (mut copies, poor) = self.look(|look| look.copies(name, &avoided))?;
        copies.extend(poor);
        Ok(copies)
    }
}

impl KnownObjects for Catalog {
    fn contains(&self, names: &[ObjectName]) -> Result<Vec<bool>, StoreError> {
        Ok(Self::contains(self, names)?)
    }
}

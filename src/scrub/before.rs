//! What the catalog remembers of what is no longer there: [`Catalog::sync`] forgets it.

use super::VerifyError;
use crate::catalog::Catalog;
use crate::point::{Point, removed_among};
use crate::store::{Location, Repository};
use crate::units::PackName;
use std::collections::{BTreeMap, BTreeSet};

/// Packs and points that are gone since the catalog was last brought up to date.
#[derive(Debug, Default)]
pub(super) struct Before {
    /// Packs that are gone.
    pub packs: Vec<PackName>,
    /// What lay in them, and in packs that have another length now.
    pub objects: Vec<Location>,
    /// Points that are gone.
    pub points: Vec<Point>,
}

impl Before {
    pub fn take(repository: &Repository, catalog: &Catalog) -> Result<Self, VerifyError> {
        // What is known first, then what is there: what another process adds to both meanwhile
        // must not look as if it were gone.
        // A condemned pack may go at any moment: no point needs it.
        let condemned = catalog.condemned()?;
        let mut known = catalog.packs()?;
        known.retain(|pack, _| !condemned.contains(pack));
        let known_points = catalog.known_points()?;
        let points: BTreeSet<_> = repository.list_points()?.into_iter().collect();
        let present: BTreeMap<_, _> = repository.list_packs()?.into_iter().collect();
        let changed: Vec<PackName> = known
            .iter()
            .filter(|(name, bytes)| present.get(name) != Some(bytes))
            .map(|(name, _)| *name)
            .collect();
        let objects = catalog.objects_in(&changed)?;
        let packs = changed.into_iter().filter(|name| !present.contains_key(name)).collect();
        let mut gone = known_points;
        gone.retain(|point| !points.contains(&point.id));
        // What was removed on purpose is no loss.
        let (removed, _) = removed_among(repository, &gone.iter().map(|it| it.id).collect())?;
        gone.retain(|point| !removed.contains(&point.id));
        Ok(Self { packs, objects, points: gone })
    }
}

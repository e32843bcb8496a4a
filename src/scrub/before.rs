//! What the catalog remembers of what is no longer there: [`Catalog::sync`] forgets it.

use super::VerifyError;
use crate::catalog::Catalog;
use crate::point::Point;
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
        let known = catalog.packs()?;
        let known_points = catalog.points(None)?;
        let points: BTreeSet<_> = repository.list_points()?.into_iter().collect();
        let present: BTreeMap<_, _> = repository.list_packs()?.into_iter().collect();
        let changed: Vec<PackName> = known
            .iter()
            .filter(|(name, bytes)| present.get(name) != Some(bytes))
            .map(|(name, _)| *name)
            .collect();
        let objects = catalog.objects_in(&changed)?;
        let packs = changed.into_iter().filter(|name| !present.contains_key(name)).collect();
        let points = known_points.into_iter().filter(|point| !points.contains(&point.id)).collect();
        Ok(Self { packs, objects, points })
    }
}

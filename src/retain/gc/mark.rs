//! Marking: every object that any point refers to.

use super::GcError;
use crate::catalog::Catalog;
use crate::point::{Reach, load_point};
use crate::progress::Progress;
use crate::store::{Repository, StoreError};
use crate::units::{ObjectName, PointId};

/// The points of a repository at one moment, and a catalog that knows every pack they refer to.
#[derive(Debug)]
pub(super) struct Marking<'a> {
    repository: &'a Repository,
    catalog: &'a Catalog,
    points: Vec<PointId>,
}

impl<'a> Marking<'a> {
    /// Looks at the points that there are now. A point that is made later is the matter of the
    /// lease that its writer holds.
    ///
    /// # Errors
    /// [`GcError::Unreadable`] when anything in the repository cannot be read: it may be what says
    /// that something else is needed.
    pub fn begin(repository: &'a Repository, catalog: &'a Catalog) -> Result<Self, GcError> {
        // The points before the packs: what a point refers to was there before it.
        let points = repository.list_points()?;
        let report = catalog.sync(repository)?;
        match report.damages.into_iter().next() {
            None => Ok(Self { repository, catalog, points }),
            Some(damage) => Err(GcError::Unreadable { damage }),
        }
    }

    /// How many points there are.
    pub fn points(&self) -> usize {
        self.points.len()
    }

    /// Visits every object that a point refers to, at least once.
    ///
    /// # Errors
    /// [`GcError::Unreadable`] at the first thing that cannot be read.
    pub fn walk(
        &self,
        progress: &Progress,
        visit: &mut dyn FnMut(ObjectName),
    ) -> Result<(), GcError> {
        let mut reach = Reach::new(self.repository, self.catalog)?;
        for &id in &self.points {
            progress.check()?;
            match load_point(self.repository, id) {
                Ok(point) => reach.visit(&point, visit)?,
                // Pruned meanwhile: it needs nothing any more.
                Err(StoreError::Damaged(_)) if self.is_gone(id)? => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn is_gone(&self, id: PointId) -> Result<bool, GcError> {
        let path = self.repository.layout().point(id);
        let stat = self.repository.file_system().stat(&path).map_err(StoreError::from)?;
        Ok(stat.is_none())
    }
}

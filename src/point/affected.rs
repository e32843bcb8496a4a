//! Which points a damage touches.

use super::manifest::load_point;
use super::survey::{Lost, Survey};
use crate::store::{Damage, ObjectIndex, Repository, StoreError};
use crate::units::PointId;

/// A damage and the points that it touches.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DamageReport {
    /// Points that need what is damaged.
    pub points: Vec<PointId>,
    /// Points whose manifests cannot be read at all.
    pub unreadable: Vec<PointId>,
}

/// Finds all points that need something from the damaged pack, or the damaged object itself. A
/// point whose tree cannot be read to its end counts as touched.
///
/// # Errors
/// When the repository cannot be listed.
pub fn affected_points(
    repository: &Repository,
    index: &dyn ObjectIndex,
    damage: &Damage,
) -> Result<DamageReport, StoreError> {
    let mut lost = Lost::default();
    match damage {
        Damage::Object { object, .. } | Damage::Tree { object, .. } => {
            lost.objects.insert(*object);
        }
        Damage::Pack { pack, .. } => {
            lost.packs.insert(*pack);
        }
        Damage::Manifest { .. } | Damage::Document { .. } => {}
    }
    let mut survey = Survey::new(repository, index, &lost)?;
    let mut report = DamageReport::default();
    for id in repository.list_points()? {
        let Ok(point) = load_point(repository, id) else {
            report.unreadable.push(id);
            continue;
        };
        let mut is_whole = true;
        for tree in point.manifest.trees() {
            is_whole &= survey.is_whole(&tree).unwrap_or(false);
        }
        if !is_whole {
            report.points.push(id);
        }
    }
    Ok(report)
}

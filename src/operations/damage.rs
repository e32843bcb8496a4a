//! What a damage means: which points need what is damaged.

use super::error::Root;
use super::{OpenRepository, OperationError};
use crate::point::{affected_points, load_point};
use crate::store::{Damage, StoreError};
use crate::units::PointId;

/// Points that a message lists one by one.
const POINTS_LISTED_MAX: usize = 10;

/// Adds the points that are affected to an error that comes of a damaged or lost part of the
/// repository. Any other error stays as it is.
pub(super) fn with_points(open: &OpenRepository, error: OperationError) -> OperationError {
    let damage = match error.root() {
        Root::Store(StoreError::Damaged(damage)) => damage.clone(),
        Root::Store(StoreError::Unknown { name }) => {
            Damage::Tree { object: *name, reason: "it lies in no pack" }
        }
        _ => return error,
    };
    match points(open, &damage) {
        Some(points) => OperationError::Damaged { error: Box::new(error), points },
        None => error,
    }
}

/// `damage` in words, with the points that need what is damaged.
pub(super) fn describe(open: &OpenRepository, damage: &Damage) -> String {
    match points(open, damage) {
        Some(points) => format!("{damage}; points affected: {points}"),
        None => damage.to_string(),
    }
}

/// The points that need what is damaged, in words; `None` when there is nothing to add.
fn points(open: &OpenRepository, damage: &Damage) -> Option<String> {
    // The message of a damaged manifest names its point already; documents hold no content.
    if matches!(damage, Damage::Manifest { .. } | Damage::Document { .. }) {
        return None;
    }
    // Finding them is a service: that it fails must not hide the damage.
    let report = affected_points(&open.repository, &open.catalog, damage).ok()?;
    let mut texts = labels(open, &report.points);
    let unreadable = report.unreadable.iter();
    texts.extend(unreadable.map(|id| format!("{} (its manifest is damaged)", id.short())));
    Some(match texts.len() {
        0 => "none".to_owned(),
        count @ ..=POINTS_LISTED_MAX => texts[..count].join(", "),
        count => {
            let more = count - POINTS_LISTED_MAX;
            format!("{} and {more} more", texts[..POINTS_LISTED_MAX].join(", "))
        }
    })
}

/// `web01 #3 (ab12cd34ef56)` for each, by machine, the oldest first.
fn labels(open: &OpenRepository, ids: &[PointId]) -> Vec<String> {
    let mut points: Vec<_> =
        ids.iter().filter_map(|id| load_point(&open.repository, *id).ok()).collect();
    points.sort_by(|a, b| {
        let key = |point: &crate::point::Point| point.manifest.sequence;
        (&a.manifest.machine, key(a), a.id).cmp(&(&b.manifest.machine, key(b), b.id))
    });
    let label = |point: &crate::point::Point| {
        let manifest = &point.manifest;
        format!("{} #{} ({})", manifest.machine, manifest.sequence.0, point.id.short())
    };
    points.iter().map(label).collect()
}

//! Records of points that were removed on purpose. Each is durable before the first of its points
//! goes, so a point that is gone without being in one was lost.

use super::document::DocumentKind;
use crate::store::{Damage, Repository, StoreError, WriterSession};
use crate::units::{Name, PointId, RemovalId, RunId};
use jiff::Timestamp;
use std::collections::BTreeSet;

const KIND: DocumentKind = DocumentKind { magic: b"AIGONE\0\0", word: "record of removed points" };

/// Points that were removed on purpose. One that is there all the same was not removed in the
/// end: an interruption came in between.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Removal {
    /// The machine.
    pub machine: Name,
    /// The points.
    pub points: BTreeSet<PointId>,
    /// When.
    pub time: Timestamp,
    /// The run that removed them.
    pub run: RunId,
    /// Its host.
    pub host: String,
}

/// Makes a record durable. Only then its points may be removed.
///
/// # Errors
/// When it cannot be written.
pub fn commit_removal(
    repository: &Repository,
    session: &WriterSession,
    removal: &Removal,
) -> Result<RemovalId, StoreError> {
    KIND.commit(repository, session, &repository.layout().removed(), removal).map(RemovalId)
}

/// Which of `points` stand in a record, and the records that cannot be read.
///
/// # Errors
/// When the records cannot be listed.
pub fn removed_among(
    repository: &Repository,
    points: &BTreeSet<PointId>,
) -> Result<(BTreeSet<PointId>, Vec<Damage>), StoreError> {
    let (mut removed, mut damages) = (BTreeSet::new(), Vec::new());
    for found in KIND.list::<Removal>(repository, &repository.layout().removed())? {
        match found {
            Ok((_, removal)) => removed.extend(removal.points.intersection(points)),
            Err(damage) => damages.push(damage),
        }
    }
    Ok((removed, damages))
}

//! What would be removed of a machine, from what the repository and its replicas hold now.

use super::RetainError;
use super::policy::{Candidate, Decision, FuturePoint, Protection, decide, is_future};
use super::replicas::{Locking, ReplicaNeeds, ReplicaPlace, needs};
use crate::catalog::Catalog;
use crate::fsio::FileSystem;
use crate::point::{Holds, Point, list_holds};
use crate::store::{Damage, Repository, StoreError};
use crate::units::{Keep, Name, PointId};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// The points of a repository and what holds them, at one moment.
///
/// Whoever removes by it looks at the replicas *after* it was taken: what a replica then begins to
/// follow is the newest point of that time or a later one, which this either has as the newest or
/// does not have at all.
#[derive(Debug)]
pub(super) struct Snapshot {
    points: Vec<Point>,
    pub holds: Holds,
    /// What is damaged or missing in the repository.
    pub damages: Vec<Damage>,
}

/// What becomes of each point of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The decisions, the oldest point first.
    pub decisions: Vec<Decision>,
    /// What is damaged or missing in the repository.
    pub damages: Vec<Damage>,
}

impl Plan {
    /// The points that go.
    pub fn going(&self) -> BTreeSet<PointId> {
        self.decisions.iter().filter(|it| !it.is_kept()).map(|it| it.point.id).collect()
    }
}

/// Decides what becomes of each point of a machine. Nothing is changed or locked.
///
/// # Errors
/// When a doubt forbids to remove anything.
pub fn plan_prune(
    fs: &dyn FileSystem,
    repository: &Repository,
    catalog: &Catalog,
    request: &PruneRequest<'_>,
) -> Result<Plan, RetainError> {
    let snapshot = Snapshot::take(repository, catalog)?;
    let (needs, _) = needs(fs, request.machine, request.replicas, Locking::None)?;
    let decisions = snapshot.decide(request, &needs)?;
    Ok(Plan { decisions, damages: snapshot.damages })
}

/// What is asked of one machine.
#[derive(Debug)]
pub struct PruneRequest<'a> {
    /// The machine.
    pub machine: &'a Name,
    /// The rules.
    pub keep: &'a Keep,
    /// The zone of their calendar.
    pub zone: &'a TimeZone,
    /// For how many days the settings lock points now.
    pub lock_days: u32,
    /// Its replicas.
    pub replicas: &'a [ReplicaPlace],
    /// The latest instant that the history knows.
    pub recorded: Option<Timestamp>,
    /// The time now.
    pub now: Timestamp,
}

impl Snapshot {
    /// Brings the catalog up to date and reads what holds points.
    ///
    /// # Errors
    /// [`RetainError::Hold`] when a pin or lock cannot be read.
    pub fn take(repository: &Repository, catalog: &Catalog) -> Result<Self, RetainError> {
        let damages = catalog.sync(repository)?.damages;
        let points = catalog.points(None)?;
        // After the points: the lock that is made with a point is there before the point is.
        let holds = list_holds(repository).map_err(|error| match error {
            StoreError::Damaged(damage) => {
                RetainError::Hold { damage, folder: repository.layout().holds() }
            }
            other => other.into(),
        })?;
        Ok(Self { points, holds, damages })
    }

    /// Decides on all points of a machine.
    ///
    /// # Errors
    /// When the clock cannot be right: it is behind a point of any machine, or behind the history.
    pub fn decide(
        &self,
        request: &PruneRequest<'_>,
        replicas: &[ReplicaNeeds],
    ) -> Result<Vec<Decision>, RetainError> {
        let now = request.now;
        if let Some(recorded) = request.recorded
            && is_future(recorded, now)
        {
            return Err(RetainError::ClockWentBack { recorded, now });
        }
        if let Some(point) = self.points.iter().find(|point| is_future(point.manifest.time, now)) {
            let (machine, point) = (point.manifest.machine.clone(), candidate(point));
            return Err(RetainError::FuturePoint { machine, point, now });
        }
        let of_machine = |point: &&Point| &point.manifest.machine == request.machine;
        let points: Vec<Candidate> = self.points.iter().filter(of_machine).map(candidate).collect();
        let protected = self.protected(&points, request.lock_days, replicas);
        decide(&points, request.keep, &protected, request.zone, now).map_err(|found| {
            let FuturePoint { point, now } = *found;
            RetainError::FuturePoint { machine: request.machine.clone(), point, now }
        })
    }

    fn protected(
        &self,
        points: &[Candidate],
        lock_days: u32,
        replicas: &[ReplicaNeeds],
    ) -> BTreeMap<PointId, BTreeSet<Protection>> {
        let of = |point: &Candidate| {
            let mut all = BTreeSet::new();
            for needs in replicas {
                let replica = || needs.replica.clone();
                if needs.points.contains(&point.id) {
                    all.insert(Protection::SyncPoint { replica: replica() });
                } else if needs.in_use_from.is_some_and(|from| point.sequence >= from) {
                    all.insert(Protection::InUse { replica: replica() });
                }
            }
            let pins = self.holds.pins(point.id);
            all.extend(pins.map(|(_, _, note)| Protection::Pinned { note: note.map(Into::into) }));
            // Lowering the number of days later does not unlock what was locked, raising it
            // locks what is there.
            let stored = self.holds.locked_until(point.id);
            let until = stored.max(lock_until(point.time, lock_days));
            all.extend(until.map(|until| Protection::Locked { until }));
            all
        };
        points.iter().map(|point| (point.id, of(point))).collect()
    }
}

/// Until when a point of `time` is locked that is locked for so many days, of 24 hours each.
pub fn lock_until(time: Timestamp, days: u32) -> Option<Timestamp> {
    let span = SignedDuration::from_hours(24 * i64::from(days));
    (days > 0).then(|| time.checked_add(span).unwrap_or(Timestamp::MAX))
}

fn candidate(point: &Point) -> Candidate {
    let manifest = &point.manifest;
    Candidate { id: point.id, sequence: manifest.sequence, time: manifest.time }
}

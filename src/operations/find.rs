//! Where the points of a machine are.

use super::error::known;
use super::open::{OpenRepository, open_repository};
use super::{OperationError, PointsReport, damage, points};
use crate::catalog::History;
use crate::point::Point;
use crate::report::PointLine;
use crate::settings::Settings;
use crate::store::Damage;
use crate::units::Name;

/// The points of a machine, and where they were found.
pub(super) struct Found {
    pub repository: Name,
    pub open: OpenRepository,
    pub machine: Name,
    /// The oldest first.
    pub points: Vec<Point>,
    /// What is damaged in the repository; points whose manifests are, are not among `points`.
    pub damages: Vec<Damage>,
}

/// The machine's repository by the settings. A machine that is no longer there may still have
/// points in any of the repositories.
pub(super) fn find(settings: &Settings, machine: &str) -> Result<Found, OperationError> {
    let unknown = match known(settings, "machine", &settings.machines, machine) {
        Ok((machine, place)) => return look(settings, &place.repository, machine),
        Err(error) => error,
    };
    let Ok(machine) = machine.parse::<Name>() else { return Err(unknown) };
    for repository in settings.repositories.keys() {
        // One that cannot be opened has nothing to say to a name that may be misspelt.
        if let Ok(found) = look(settings, repository, &machine)
            && !found.points.is_empty()
        {
            return Ok(found);
        }
    }
    Err(unknown)
}

/// As [`find`], or in one repository of the settings, whatever they say about the machine.
pub(super) fn find_in(
    settings: &Settings,
    machine: &str,
    repository: Option<&str>,
) -> Result<Found, OperationError> {
    let Some(repository) = repository else { return find(settings, machine) };
    let (repository, _) = known(settings, "repository", &settings.repositories, repository)?;
    match machine.parse::<Name>() {
        Ok(machine) => look(settings, repository, &machine),
        // It is refused, with the nearest name.
        Err(_) => find(settings, machine),
    }
}

fn look(settings: &Settings, repository: &Name, machine: &Name) -> Result<Found, OperationError> {
    let open = open_repository(settings, repository)?;
    let damages = open.catalog.sync(&open.repository)?.damages;
    let points = open.catalog.points(Some(machine))?;
    let (repository, machine) = (repository.clone(), machine.clone());
    Ok(Found { repository, open, machine, points, damages })
}

/// The points of one machine, which need not be in the settings any more.
///
/// # Errors
/// When nobody knows the machine, or its repository cannot be opened or listed.
pub fn machine_points(settings: &Settings, machine: &str) -> Result<PointsReport, OperationError> {
    let found = find(settings, machine)?;
    let lines = point_lines(settings, &found.repository, &found.open, &found.points);
    let warnings = found.damages.iter().map(|one| damage::describe(&found.open, one));
    let mut report = PointsReport { points: lines, warnings: warnings.collect() };
    points::add_holds(settings, &found.open, &mut report.points, &mut report.warnings);
    Ok(report)
}

/// What is told of points, with what their last verifications say.
pub(super) fn point_lines(
    settings: &Settings,
    repository: &Name,
    open: &OpenRepository,
    points: &[Point],
) -> Vec<PointLine> {
    let id = open.repository.header().id;
    // A history that cannot be read is told by `status`.
    let verified = History::open(&settings.state_dir)
        .and_then(|history| history.verified_points(id))
        .unwrap_or_default();
    let line =
        |point: &Point| PointLine::new(repository, point).with_verified(verified.get(&point.id));
    points.iter().map(line).collect()
}

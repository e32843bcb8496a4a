//! The local catalog: building it anew, and holding it against the repository.

use super::error::known;
use super::open::{OpenRepository, open_catalog, open_place, open_repository, problem};
use super::reasons::CatalogProblem;
use super::{OperationError, damage};
use crate::catalog::{
    Catalog, CatalogError, Comparison, History, RunStatus, SecondCatalog, SyncReport,
    check_local_folder,
};
use crate::fsio::{FileLock, LockMode, RealFileSystem};
use crate::point::Point;
use crate::progress::Progress;
use crate::report::{Action, Summary};
use crate::settings::Settings;
use crate::store::{Layout, StoreError};
use crate::units::{Name, ObjectName, PackName, PointId, RepositoryId};
use jiff::Timestamp;
use std::collections::BTreeSet;
use std::path::Path;

/// How often a comparison begins anew when the repository changed meanwhile.
const TRIES: u32 = 5;

/// Builds the catalog of a repository anew, from the repository alone, and puts it in the place of
/// the one that is there, whatever that is.
///
/// # Errors
/// Busy while anything else uses the repository. Until the new one is complete, the old one stays.
/// Damaged packs and points are no error: they are left out, and the summary, then `incomplete`,
/// names them.
pub fn catalog_rebuild(
    settings: &Settings,
    name: &Name,
    progress: &Progress,
) -> Result<Summary, OperationError> {
    let started = Timestamp::now();
    let (name, place) = known(settings, "repository", &settings.repositories, name.as_str())?;
    let state_dir = &settings.state_dir;
    check_local_folder(state_dir)?;
    let fs = RealFileSystem::shared();
    let repository = open_place(&fs, place)?;
    // Whoever works with the old catalog would go on in a file that no longer has a name.
    let holder = Layout::holder("rebuilding the catalog");
    let lock = repository.layout().repository_lock();
    let _alone = FileLock::try_take(fs.as_ref(), &lock, LockMode::Exclusive, &holder)
        .map_err(StoreError::from)?;
    let id = repository.header().id;
    let second = SecondCatalog::begin(state_dir, id)?;
    let old = Old::read(state_dir, id)?;
    // Before anything is in it: an older copy of the new one is to be found out, too.
    second.catalog().raise_generation(old.generation + 1)?;
    let mut report = second.catalog().sync_watched(&repository, progress)?;
    second.catalog().note_damaged(&old.damaged)?;
    // Also those that are there and damaged: of them the old catalog must not be believed.
    let there: BTreeSet<PointId> = repository.list_points()?.into_iter().collect();
    let gone: Vec<Point> = old.points.into_iter().filter(|it| !there.contains(&it.id)).collect();
    if !gone.is_empty() {
        // The old catalog is the only one that knows of them: this one finds them missing too,
        // unless they were removed.
        gone.iter().try_for_each(|point| second.catalog().add_point(point))?;
        report.damages = second.catalog().sync(&repository)?.damages;
    }
    second.replace_live()?;
    let open = open_catalog(settings, name, repository)?;
    let status = match report.damages.is_empty() {
        true => RunStatus::Completed,
        false => RunStatus::Incomplete,
    };
    let mut summary = Summary::new(Action::CatalogRebuild, status, started);
    summary.repository = Some(name.clone());
    summary.detail =
        Some(format!("packs: {}, points: {}", report.packs_added, report.points_added));
    summary.warnings = report.damages.iter().map(|found| damage::describe(&open, found)).collect();
    Ok(summary)
}

/// What the catalog that is there, or was, knows and the repository does not; as far as that can
/// be found out.
#[derive(Debug, Default)]
struct Old {
    /// How far it has come.
    generation: u64,
    /// Copies of objects that do not decode. To forget one means to rely on it again.
    damaged: Vec<(ObjectName, PackName)>,
    /// All points that it knows.
    points: Vec<Point>,
}

impl Old {
    /// What can never be read counts as nothing. What only cannot be read now is an error: else
    /// the new catalog would come after the old one and know less.
    fn read(state_dir: &Path, id: RepositoryId) -> Result<Self, CatalogError> {
        let mut old = Self::default();
        // Opening it would create it.
        if Catalog::path(state_dir, id).exists()
            && let Some(catalog) = readable(Catalog::open(state_dir, id))?
        {
            old.generation = readable(catalog.generation())?.unwrap_or(0);
            old.damaged = readable(catalog.damaged_copies())?.unwrap_or_default();
            old.points = readable(catalog.known_points())?.unwrap_or_default();
        }
        let seen = History::open(state_dir).and_then(|history| history.generation(id));
        old.generation = old.generation.max(readable(seen)?.unwrap_or(0));
        Ok(old)
    }
}

/// `None`: it is damaged.
fn readable<T>(read: Result<T, CatalogError>) -> Result<Option<T>, CatalogError> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_passing() => Err(error),
        Err(_) => Ok(None),
    }
}

/// Builds a second catalog from the repository alone and compares it with the live one, which is
/// brought up to date before, as every command does.
///
/// # Errors
/// [`CatalogProblem::Differs`] when they differ.
pub fn catalog_check(
    settings: &Settings,
    name: &Name,
    progress: &Progress,
) -> Result<Summary, OperationError> {
    let started = Timestamp::now();
    let open = open_repository(settings, name)?;
    let _lease = open.repository.lock_for_reading("checking the catalog")?;
    let unfit = |problem| OperationError::CatalogUnfit {
        repository: name.clone(),
        path: Catalog::path(&settings.state_dir, open.repository.header().id),
        problem,
    };
    let checked = check(settings, &open, progress).map_err(|error| match problem(&error) {
        Some(problem) => unfit(problem),
        None => error.into(),
    });
    let Checked { comparison, first, damages, is_settled } = checked?;
    if !comparison.is_equal() && is_settled {
        let texts: Vec<String> = comparison.listed.iter().map(ToString::to_string).collect();
        let listed = texts.join(", ");
        return Err(unfit(CatalogProblem::Differs { count: comparison.count, listed }));
    }
    let status = match damages.damages.is_empty() && is_settled {
        true => RunStatus::Completed,
        false => RunStatus::Incomplete,
    };
    let mut summary = Summary::new(Action::CatalogCheck, status, started);
    summary.repository = Some(name.clone());
    let mut detail = match is_settled {
        true => "catalog equals the repository".to_owned(),
        false => "the repository kept changing, run this again later".to_owned(),
    };
    if first.changes() > 0 {
        let changes = first.changes();
        detail += &format!(", with {changes} packs and points that came or went just before");
    }
    summary.detail = Some(detail);
    let told = damages.damages.iter().map(|found| damage::describe(&open, found));
    summary.warnings = told.collect();
    Ok(summary)
}

/// What a check found.
struct Checked {
    comparison: Comparison,
    /// What the live catalog had to be brought up to date with.
    first: SyncReport,
    /// The last synchronisation of the new one, with all damages.
    damages: SyncReport,
    /// Whether nothing changed while the two were compared.
    is_settled: bool,
}

fn check(
    settings: &Settings,
    open: &OpenRepository,
    progress: &Progress,
) -> Result<Checked, CatalogError> {
    let first = open.catalog.sync(&open.repository)?;
    if let Some(problem) = open.catalog.integrity()?.into_iter().next() {
        let path = Catalog::path(&settings.state_dir, open.repository.header().id);
        return Err(CatalogError::Damaged { path, reason: problem });
    }
    let second = SecondCatalog::begin(&settings.state_dir, open.repository.header().id)?;
    let mut tries = TRIES;
    loop {
        let damages = second.catalog().sync_watched(&open.repository, progress)?;
        progress.check()?;
        open.catalog.sync(&open.repository)?;
        let before = open.catalog.generation()?;
        let comparison = open.catalog.compare(second.catalog())?;
        tries -= 1;
        // What another command added meanwhile is no difference.
        let late = second.catalog().sync(&open.repository)?;
        let changed = open.catalog.generation()? != before || late.changes() > 0;
        let is_settled = comparison.is_equal() || !changed;
        if is_settled || tries == 0 {
            return Ok(Checked { comparison, first, damages, is_settled });
        }
    }
}

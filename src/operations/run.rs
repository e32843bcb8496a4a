//! A run: its identity, its durable record, and the summary that comes of it.

use super::{OperationError, with_reasons};
use crate::catalog::{
    CatalogError, History, RunKind, RunLock, RunOrigin, RunOutcome, RunRecord, RunStatus,
};
use crate::destination::PointRef;
use crate::point::Point;
use crate::progress::Progress;
use crate::report::{DifferingDisk, ExitCode, MissingDisk, PointAt, RunEnd, Summary};
use crate::settings::Settings;
use crate::store::StoreError;
use crate::units::{Name, RunId};
use jiff::Timestamp;
use std::time::Instant;

/// A run that failed: why, and what it would have been.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct FailedRun {
    /// The reason.
    pub error: OperationError,
    /// The run, with the status `failed`.
    pub summary: Summary,
}

impl FailedRun {
    /// What the process exits with because of it.
    pub fn exit_code(&self) -> ExitCode {
        self.error.exit_code()
    }

    /// Whether doing the same again may help. `progress` is that of the run.
    pub fn may_retry(&self, progress: &Progress) -> bool {
        may_retry(&self.error, progress)
    }
}

/// How a run ended.
pub type RunResult = Result<Summary, Box<FailedRun>>;

/// How a run ended, as whoever asked for it is told: the same whoever did it.
pub fn run_end(result: RunResult) -> RunEnd {
    match result {
        Ok(summary) => {
            let exit = match summary.status {
                RunStatus::Incomplete => ExitCode::Incomplete,
                _ => ExitCode::Done,
            };
            RunEnd { summary: Box::new(summary), exit, error: None }
        }
        Err(failed) => {
            let FailedRun { error, summary } = *failed;
            let exit = error.exit_code();
            let error = match &summary.reason {
                // Who stopped it, which the error does not know.
                Some(reason) if exit == ExitCode::Interrupted => reason.clone(),
                _ => with_reasons(&error),
            };
            RunEnd { summary: Box::new(summary), exit, error: Some(error) }
        }
    }
}

/// What a run is about.
#[derive(Debug, Clone)]
pub(super) struct About {
    pub kind: RunKind,
    pub repository: Option<Name>,
    pub machine: Option<Name>,
    pub replica: Option<Name>,
}

impl About {
    /// A run on a whole repository.
    pub fn repository(kind: RunKind, repository: &Name) -> Self {
        Self { kind, repository: Some(repository.clone()), machine: None, replica: None }
    }

    /// A run on something that turns out not to be there.
    pub fn anything(kind: RunKind) -> Self {
        Self { kind, repository: None, machine: None, replica: None }
    }

    /// A run on a machine.
    pub fn machine(kind: RunKind, machine: &Name) -> Self {
        Self { kind, repository: None, machine: Some(machine.clone()), replica: None }
    }

    /// A run on a replica, of a machine that the settings may not know.
    pub fn replica(kind: RunKind, replica: &Name, machine: Option<Name>) -> Self {
        Self { kind, repository: None, machine, replica: Some(replica.clone()) }
    }
}

/// What a run did. Without an `error`, all of it.
#[derive(Debug)]
pub(super) struct Done {
    pub status: RunStatus,
    pub point: Option<PointAt>,
    pub reason: Option<String>,
    pub detail: Option<String>,
    pub warnings: Vec<String>,
    pub bytes_freed: Option<u64>,
    pub differing: Vec<DifferingDisk>,
    pub points_removed: Option<usize>,
    pub points_kept: Option<usize>,
    pub missing: Vec<MissingDisk>,
    /// Of a run that was done to the end, but found what it should not.
    pub error: Option<OperationError>,
}

impl Done {
    /// A run that ended so, and of which there is nothing more to tell.
    pub fn new(status: RunStatus) -> Self {
        Self {
            status,
            point: None,
            reason: None,
            detail: None,
            warnings: Vec::new(),
            bytes_freed: None,
            differing: Vec::new(),
            points_removed: None,
            points_kept: None,
            missing: Vec::new(),
            error: None,
        }
    }

    pub fn completed(point: PointAt) -> Self {
        Self { point: Some(point), ..Self::new(RunStatus::Completed) }
    }

    /// There was nothing to do.
    pub fn skipped(reason: &str) -> Self {
        Self { reason: Some(reason.to_owned()), ..Self::new(RunStatus::Skipped) }
    }

    /// A run that was stopped tells who wanted that.
    fn say_who_stopped_it(&mut self, progress: &Progress) {
        let is_stopped =
            self.error.as_ref().is_some_and(|it| it.exit_code() == ExitCode::Interrupted);
        if let (true, Some(reason)) = (is_stopped, progress.stop_reason()) {
            self.reason = Some(format!("{}; nothing was acknowledged", reason.text));
        }
    }

    fn failed(error: OperationError) -> Self {
        let reason = Some(error.to_string());
        Self { reason, error: Some(error), ..Self::new(RunStatus::Failed) }
    }
}

impl From<PointRef> for PointAt {
    fn from(at: PointRef) -> Self {
        Self { point: at.id, sequence: at.sequence, time: at.time }
    }
}

impl From<&Point> for PointAt {
    fn from(point: &Point) -> Self {
        let manifest = &point.manifest;
        Self { point: point.id, sequence: manifest.sequence, time: manifest.time }
    }
}

/// The time now, in whole seconds: what people are shown is what they may type to choose a point.
pub(super) fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

/// Does `work` as a run: with a record of it from the beginning, which says how it ended. The run
/// has the identity that `progress` knows, if any: then there may be a record that says why.
pub(super) fn execute(
    settings: &Settings,
    about: About,
    progress: &Progress,
    work: impl FnOnce(RunId) -> Result<Done, OperationError>,
) -> RunResult {
    let (started, clock) = (Timestamp::now(), Instant::now());
    let id = match progress.run().map_or_else(RunId::random, Ok) {
        Ok(id) => id,
        Err(error) => {
            let error = OperationError::Store(StoreError::Random(error));
            let done = Done::failed(error);
            return conclude(Summary::new(about.kind.into(), done.status, started), done);
        }
    };
    let mut diary = Diary::open(settings, running(id, &about, started));
    // Without a record that it began, a run that was queued would be done again after a crash.
    let refused = if progress.run().is_some() { diary.failed.take() } else { None };
    let mut done = match refused {
        Some(error) => Done::failed(error.into()),
        None => work(id).unwrap_or_else(Done::failed),
    };
    done.say_who_stopped_it(progress);
    let mut summary = Summary::new(about.kind.into(), done.status, started);
    summary.run = Some(id);
    summary.repository = about.repository;
    summary.machine = about.machine;
    summary.replica = about.replica;
    summary.counts = progress.counts();
    summary.duration_s = clock.elapsed().as_secs_f64();
    summary.warnings = std::mem::take(&mut done.warnings);
    diary.end(&summary, &done, progress);
    summary.warnings.splice(0..0, diary.warnings);
    conclude(summary, done)
}

fn conclude(mut summary: Summary, done: Done) -> RunResult {
    summary.point = done.point.map(|at| at.point);
    summary.sequence = done.point.map(|at| at.sequence);
    summary.reason = done.reason;
    summary.detail = done.detail;
    summary.bytes_freed = done.bytes_freed;
    summary.differing = done.differing;
    summary.points_removed = done.points_removed;
    summary.points_kept = done.points_kept;
    summary.missing = done.missing;
    match done.error {
        None => Ok(summary),
        Some(error) => Err(Box::new(FailedRun { error, summary })),
    }
}

fn running(id: RunId, about: &About, started: Timestamp) -> RunRecord {
    let About { kind, repository, machine, replica } = about.clone();
    let (origin, outcome) = (RunOrigin::default(), RunOutcome::open(RunStatus::Running));
    RunRecord { id, kind, repository, machine, replica, started, origin, outcome }
}

/// Whether doing the same again may help. What somebody stopped is not wanted, unless it was only
/// put off.
fn may_retry(error: &OperationError, progress: &Progress) -> bool {
    match error.exit_code() {
        ExitCode::Interrupted => progress.stop_reason().is_some_and(|it| it.is_postponed),
        _ => !error.is_permanent(),
    }
}

/// The record of one run in the history, as far as that can be written.
struct Diary {
    history: Option<History>,
    record: RunRecord,
    warnings: Vec<String>,
    /// Why there is no record of its beginning.
    failed: Option<CatalogError>,
    /// Tells others that the run is under way.
    _lock: Option<RunLock>,
}

impl Diary {
    fn open(settings: &Settings, record: RunRecord) -> Self {
        let mut diary =
            Self { history: None, record, warnings: Vec::new(), failed: None, _lock: None };
        let begun = diary.begin(settings).and_then(|(history, lock)| {
            history.put(&diary.record)?;
            Ok((history, lock))
        });
        match begun {
            Ok((history, lock)) => (diary.history, diary._lock) = (Some(history), Some(lock)),
            Err(error) => {
                diary.warn(&error);
                diary.failed = Some(error);
            }
        }
        diary
    }

    fn begin(&mut self, settings: &Settings) -> Result<(History, RunLock), CatalogError> {
        let history = History::open(&settings.state_dir)?;
        // Whoever queued it has written why.
        if let Some(queued) = history.run(self.record.id)? {
            self.record.origin = queued.origin;
        }
        let lock = RunLock::take(&settings.state_dir, self.record.id)?;
        Ok((history, lock))
    }

    fn end(&mut self, summary: &Summary, done: &Done, progress: &Progress) {
        let exit = match (&done.error, done.status) {
            (Some(error), _) => error.exit_code(),
            (None, RunStatus::Incomplete) => ExitCode::Incomplete,
            (None, _) => ExitCode::Done,
        };
        let may_retry = done.error.as_ref().is_some_and(|error| may_retry(error, progress));
        self.record.outcome = RunOutcome {
            status: done.status,
            ended: Some(summary.ended),
            point: done.point.map(|at| at.point),
            counts: summary.counts,
            reason: done.reason.clone().or_else(|| done.error.as_ref().map(ToString::to_string)),
            detail: done.detail.clone(),
            exit: Some(exit.into()),
            may_retry,
            warnings: summary.warnings.clone(),
            steps: progress.steps(),
        };
        self.write();
    }

    fn write(&mut self) {
        let Some(history) = &self.history else { return };
        if let Err(error) = history.put(&self.record) {
            self.warn(&error);
        }
    }

    fn warn(&mut self, error: &dyn std::error::Error) {
        self.warnings.push(format!("there is no complete record of this run: {error}"));
        self.history = None;
    }
}

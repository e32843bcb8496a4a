//! One run, on a thread of its own, and how it ends.

use super::core::Core;
use super::events::Subject;
use super::lock;
use super::runs::summary;
use crate::catalog::{RunOutcome, RunRecord, RunStatus};
use crate::notify::{of_broken_run, of_run};
use crate::operations::{RunResult, Task, perform, run_end, stand_back};
use crate::progress::Progress;
use crate::report::{EventKind, ExitCode, RunEnd, Summary};
use crate::settings::Settings;
use crate::units::RunId;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// A run that begins.
#[derive(Debug)]
pub(super) struct Job {
    pub run: RunId,
    pub task: Task,
    /// Those that were in force when it began hold to its end.
    pub settings: Arc<Settings>,
    pub progress: Arc<Progress>,
}

/// Whatever becomes of the thread, the run does not count as under way any more.
struct UnderWay<'c> {
    core: &'c Arc<Core>,
    run: RunId,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.core.state);
        state.queue.ended(self.run);
        state.entries.remove(&self.run);
        drop(state);
        self.core.changed.notify_all();
        self.core.dispatch();
    }
}

impl Core {
    /// Does a run from its beginning to its end.
    pub(super) fn work(self: &Arc<Self>, job: &Job) {
        if let Err(error) = stand_back(&job.settings.daemon) {
            tracing::warn!(run = %job.run, "it does not stand back from others: {error}");
        }
        let tell = |message| self.tell(job.run, message);
        self.work_by(job, || perform(&job.settings, &job.task, &job.progress, &tell));
    }

    fn work_by(self: &Arc<Self>, job: &Job, perform: impl FnOnce() -> RunResult) {
        let under_way = UnderWay { core: self, run: job.run };
        let state = lock(&self.state);
        let Some(entry) = state.entries.get(&job.run) else { return };
        let (live, queued) = (entry.live(None), entry.record.clone());
        drop(state);
        tracing::info!(run = %job.run, "{} begins", live.work);
        self.events.push(Subject::from(&live), EventKind::Started(live));
        let result = catch_unwind(AssertUnwindSafe(perform));
        let trigger = queued.origin.trigger;
        let (record, end, found) = match result {
            Ok(result) => {
                // Of what it says, the end keeps only words.
                let retried = of_run(&job.task, trigger, &result, true);
                let last = of_run(&job.task, trigger, &result, false);
                let failed = result.as_ref().err();
                let may_retry = failed.is_some_and(|failed| failed.may_retry(&job.progress));
                let end = run_end(result);
                let record = self.settle(queued, &end, may_retry, &job.progress);
                let is_retried = self.is_retried(&job.task, &record);
                (record, end, if is_retried { retried } else { last })
            }
            Err(panic) => {
                let end = panicked(&queued, job, &*panic);
                let text = end.error.as_deref().unwrap_or_default();
                let found = of_broken_run(&job.task, end.summary.run, text);
                (self.settle(queued, &end, false, &job.progress), end, vec![found])
            }
        };
        self.observer.run_ended(found);
        // Who hears of its end may ask for the next run at once.
        drop(under_way);
        self.tell_end(&record, &job.task, end);
    }

    /// The record of the end, which is durable after this if the history can be written.
    fn settle(
        &self,
        queued: RunRecord,
        end: &RunEnd,
        may_retry: bool,
        progress: &Progress,
    ) -> RunRecord {
        if let Ok(Some(record)) = self.history.run(queued.id)
            && !record.outcome.status.is_open()
        {
            return record;
        }
        // It could not be written, or the run never came to that.
        let summary = &end.summary;
        let mut record = queued;
        record.started = summary.started;
        record.outcome = RunOutcome {
            ended: Some(summary.ended),
            point: summary.point,
            counts: summary.counts,
            reason: end.error.clone().or_else(|| summary.reason.clone()),
            detail: summary.detail.clone(),
            exit: Some(end.exit.into()),
            may_retry,
            warnings: summary.warnings.clone(),
            steps: progress.steps(),
            ..RunOutcome::open(summary.status)
        };
        self.write_end(record.clone());
        record
    }
}

/// A run that met a defect.
fn panicked(queued: &RunRecord, job: &Job, panic: &(dyn Any + Send)) -> RunEnd {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
    let error = format!(
        "a defect of afterimage ended this run: {text}; nothing was acknowledged, run the same \
         again, and report this"
    );
    let summary = Summary {
        status: RunStatus::Failed,
        counts: job.progress.counts(),
        reason: Some(error.clone()),
        ..summary(queued)
    };
    RunEnd { summary: Box::new(summary), exit: ExitCode::Failed, error: Some(error) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::History;
    use crate::daemon::core::{Entry, limits};
    use crate::daemon::runs::queued;
    use std::path::Path;

    const SETTINGS: &str = r#"
        state_dir = "state"
        [repository.main]
        url = "repository"
        encryption = "none"
    "#;

    #[test]
    fn a_panic_ends_its_run_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let file: &Path = &folder.path().join("afterimage.toml");
        let settings = Settings::parse(SETTINGS, file).unwrap();
        let history = History::open(&settings.state_dir).unwrap();
        let core = Arc::new(Core::new(settings, history, "a".to_owned()));
        let settings = core.settings();
        let task = Task::Gc { repository: "main".parse().unwrap() };
        let begin = |id| {
            let run = RunId([id; 16]);
            let now = jiff::Timestamp::now();
            let record = queued(&settings, run, &task, Default::default(), now);
            core.history.put(&record).unwrap();
            core.enqueue(vec![Entry::waiting(record, task.clone())]);
            let progress = Arc::new(Progress::of_run(run));
            let mut state = lock(&core.state);
            assert_eq!(state.queue.take(&limits(&settings), |_| true), [run]);
            state.entries.get_mut(&run).unwrap().progress = Some(Arc::clone(&progress));
            Job { run, task: task.clone(), settings: Arc::clone(&settings), progress }
        };
        let job = begin(1);
        core.work_by(&job, || panic!("a wheel came off"));
        let record = core.history.run(job.run).unwrap().unwrap();
        assert_eq!(record.outcome.status, RunStatus::Failed);
        let reason = record.outcome.reason.unwrap();
        assert!(reason.contains("a wheel came off") && reason.contains("report"), "{reason}");
        let events = core.events.page(0, 10).events;
        let ended = events.iter().any(|event| matches!(event.what, EventKind::Ended(_)));
        assert!(ended, "{events:?}");
        // What it had alone is free again.
        let next = begin(2);
        core.work(&next);
        let record = core.history.run(next.run).unwrap().unwrap();
        assert_eq!(record.outcome.exit, Some(ExitCode::NoRepository.into()));
        assert!(core.live().is_empty());
    }
}

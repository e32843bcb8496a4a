//! What the faces ask, answered.

use super::core::Core;
use super::planning::pause_line;
use super::supervisor::Supervisor;
use super::{DaemonError, DaemonHandle, EventPage, RunPage, lock};
use crate::catalog::{History, Pause, RunFilter, is_running};
use crate::metrics::render;
use crate::operations::Task;
use crate::report::{
    DaemonStatus, DueLine, LiveRun, NotifyTestLine, ObjectiveLine, PauseLine, ReloadReport,
    RepositoryStatus, RunDetail, RunLine,
};
use crate::settings::Settings;
use crate::units::RunId;
use jiff::Timestamp;
use std::sync::Arc;
use tokio::sync::watch;

#[derive(Debug)]
pub(super) struct Handle {
    pub core: Arc<Core>,
    pub supervisor: Arc<Supervisor>,
}

impl Handle {
    /// Whether a run is under way, here or in a command line.
    fn is_running(&self, settings: &Settings, run: RunId) -> bool {
        lock(&self.core.state).entries.contains_key(&run) || is_running(&settings.state_dir, run)
    }
}

impl Core {
    pub fn status(&self) -> DaemonStatus {
        let loaded = lock(&self.loaded).clone();
        let state = lock(&self.state);
        let (running, queued) = (state.queue.running_count(), state.queue.waiting_count());
        let clock_doubt = state.prune_held.clone();
        drop(state);
        DaemonStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            instance: self.events.instance().to_owned(),
            pid: std::process::id(),
            started: self.started,
            settings_file: loaded.settings.file.display().to_string(),
            settings_fingerprint: loaded.settings.fingerprint.to_string(),
            settings_loaded: loaded.at,
            reload_error: loaded.reload_error,
            running,
            queued,
            pauses: self.pauses(),
            clock_doubt,
            problems: self.problems.list(),
        }
    }

    /// What is paused now.
    pub fn pauses(&self) -> Vec<PauseLine> {
        let now = Timestamp::now();
        // What is wrong with the history is told elsewhere.
        let pauses = self.history.pauses().unwrap_or_default();
        let pauses = pauses.into_iter().filter(|it| it.until.is_none_or(|until| until > now));
        pauses.map(pause_line).collect()
    }
}

impl DaemonHandle for Handle {
    fn settings(&self) -> Arc<Settings> {
        self.core.settings()
    }

    fn history(&self) -> &History {
        &self.core.history
    }

    fn status(&self) -> DaemonStatus {
        self.core.status()
    }

    fn live(&self) -> Vec<LiveRun> {
        self.core.live()
    }

    fn submit(&self, task: Task, by: &str) -> Result<RunId, DaemonError> {
        self.core.submit(task, by)
    }

    fn runs(&self, filter: &RunFilter, limit: usize) -> Result<RunPage, DaemonError> {
        let settings = self.core.settings();
        // One more shows whether there are more.
        let mut records = self.core.history.runs(filter, limit.saturating_add(1))?;
        let more = records.len() > limit;
        records.truncate(limit);
        let next = records.last().filter(|_| more).map(|last| last.started);
        let line = |record| RunLine::new(record, |run| self.is_running(&settings, run));
        Ok(RunPage { runs: records.iter().map(line).collect(), next })
    }

    fn run(&self, id: RunId) -> Result<Option<RunDetail>, DaemonError> {
        let settings = self.core.settings();
        let limits = super::core::limits(&settings);
        // Before the history: a run that ends meanwhile is in that with its end.
        let live = lock(&self.core.state).live(id, &limits);
        let Some(record) = self.core.history.run(id)? else { return Ok(None) };
        let mut detail = RunDetail::new(&record, |run| self.is_running(&settings, run));
        detail.live = live.filter(|_| record.outcome.status.is_open());
        Ok(Some(detail))
    }

    fn cancel(&self, id: RunId, by: &str) -> Result<(), DaemonError> {
        self.core.cancel(id, by)
    }

    fn events(&self, after: u64, max: usize) -> EventPage {
        self.core.events.page(after, max)
    }

    fn newest_event(&self) -> watch::Receiver<u64> {
        self.core.events.newest()
    }

    fn objectives(&self) -> Result<Vec<ObjectiveLine>, DaemonError> {
        Ok(self.core.observer.seen().objectives)
    }

    fn repositories_seen(&self) -> Option<Vec<RepositoryStatus>> {
        self.core.observer.repositories()
    }

    fn schedule(&self) -> Vec<DueLine> {
        self.core.due_lines()
    }

    fn pauses(&self) -> Vec<PauseLine> {
        self.core.pauses()
    }

    fn pause(
        &self,
        subject: &str,
        note: Option<String>,
        until: Option<Timestamp>,
        by: &str,
    ) -> Result<(), DaemonError> {
        let (subject, by) = (subject.to_owned(), by.to_owned());
        self.core.pause(&Pause { subject, note, until, since: Timestamp::now(), by })
    }

    fn resume(&self, subject: &str, by: &str) -> Result<bool, DaemonError> {
        self.core.resume(subject, by)
    }

    fn reload(&self, by: &str) -> Result<ReloadReport, DaemonError> {
        self.supervisor.reloading();
        let report = self.core.reload(by);
        self.supervisor.ready();
        report
    }

    fn trust_clock(&self, by: &str) -> Result<(), DaemonError> {
        self.core.trust_clock(by);
        Ok(())
    }

    fn notify_test(&self, channel: Option<&str>) -> Result<Vec<NotifyTestLine>, DaemonError> {
        self.core.notify_test(channel)
    }

    fn metrics(&self) -> Result<String, DaemonError> {
        let facts = self.core.metrics_facts(self.core.status()).ok_or_else(|| {
            DaemonError::Unavailable("the daemon has only begun to look at everything".to_owned())
        })?;
        Ok(render(&facts))
    }
}

//! What the daemon before left behind.

use super::check::{check, key};
use super::core::{Core, Entry};
use super::service::Word;
use crate::catalog::{
    CatalogError, RunOutcome, RunRecord, RunStatus, RunTrigger, is_running, sweep_run_locks,
};
use crate::notify::of_broken_run;
use crate::operations::Task;
use crate::report::ExitCode;
use jiff::Timestamp;

impl Core {
    /// Ends runs that were cut off, and queues again what waited. Only who holds the daemon's lock
    /// may do this: nobody else queues runs. Returns the records of what was cut off.
    ///
    /// # Errors
    /// When the history fails.
    pub(super) fn recover(&self) -> Result<Vec<RunRecord>, CatalogError> {
        let settings = self.settings();
        sweep_run_locks(&settings.state_dir)?;
        let (mut entries, mut cut_off) = (Vec::new(), Vec::new());
        for record in self.history.unfinished()? {
            match record.outcome.status {
                RunStatus::Queued => match task_of(&settings, &record) {
                    Ok(task) => entries.push(Entry::waiting(record, task)),
                    Err(why) => {
                        tracing::warn!(run = %record.id, "a run that waited is given up: {why}");
                        self.end_unfinished(&record, why, false)?;
                    }
                },
                // A command line may run it.
                _ if is_running(&settings.state_dir, record.id) => {}
                _ => cut_off.extend(self.end_cut_off(&record)?),
            }
        }
        // The planner begins nothing of which a run waits already.
        let scheduled = entries.iter().filter(|it| it.record.origin.trigger != RunTrigger::Manual);
        scheduled.for_each(|it| self.inbox.put(key(&it.task).map(Word::Queued)));
        self.enqueue(entries);
        Ok(cut_off)
    }

    /// Tells of runs that were cut off, if they were begun by themselves and are not tried again.
    pub(super) fn tell_of_cut_off(&self, records: &[RunRecord]) {
        let settings = self.settings();
        let told = records.iter().filter_map(|record| {
            let task = task_of(&settings, record).ok()?;
            let is_told = record.origin.trigger != RunTrigger::Manual;
            let reason = record.outcome.reason.as_deref().unwrap_or_default();
            (is_told && !self.is_retried(&task, record))
                .then(|| of_broken_run(&task, Some(record.id), reason))
        });
        self.observer.run_ended(told.collect());
    }

    fn end_cut_off(&self, record: &RunRecord) -> Result<Option<RunRecord>, CatalogError> {
        // Its end is written before its lock goes: what the history says now holds.
        let now = self.history.run(record.id)?;
        if now.is_none_or(|now| now.outcome.status != RunStatus::Running) {
            return Ok(None);
        }
        let why = "cut off: its process died; nothing was acknowledged, and the next run goes on";
        tracing::warn!(run = %record.id, kind = record.kind.word(), "a run was {why}");
        self.end_unfinished(record, why.to_owned(), true).map(Some)
    }

    fn end_unfinished(
        &self,
        record: &RunRecord,
        reason: String,
        may_retry: bool,
    ) -> Result<RunRecord, CatalogError> {
        let mut record = record.clone();
        record.outcome = RunOutcome {
            ended: Some(Timestamp::now().max(record.started)),
            reason: Some(reason),
            exit: Some(ExitCode::Failed.into()),
            may_retry,
            status: RunStatus::Failed,
            ..record.outcome
        };
        self.history.put(&record)?;
        Ok(record)
    }
}

/// What a run was to do, if that is still wanted.
fn task_of(settings: &crate::settings::Settings, record: &RunRecord) -> Result<Task, String> {
    let task = record.origin.task.clone().ok_or("its record does not say what it was to do")?;
    let task: Task = serde_json::from_value(task)
        .map_err(|error| format!("what it was to do is not understood: {error}"))?;
    check(settings, &task).map_err(|error| error.to_string())?;
    Ok(task)
}

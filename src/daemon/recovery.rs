//! What the daemon before left behind.

use super::check::{check, key};
use super::core::{Core, Entry};
use super::service::Word;
use crate::catalog::{
    CatalogError, RunOutcome, RunRecord, RunStatus, RunTrigger, is_running, sweep_run_locks,
};
use crate::operations::Task;
use crate::report::ExitCode;
use jiff::Timestamp;

impl Core {
    /// Ends runs that were cut off, and queues again what waited. Only who holds the daemon's lock
    /// may do this: nobody else queues runs.
    ///
    /// # Errors
    /// When the history fails.
    pub(super) fn recover(&self) -> Result<(), CatalogError> {
        let settings = self.settings();
        sweep_run_locks(&settings.state_dir)?;
        let mut entries = Vec::new();
        for record in self.history.unfinished()? {
            match record.outcome.status {
                RunStatus::Queued => match resumed(&settings, &record) {
                    Ok(task) => entries.push(Entry::waiting(record, task)),
                    Err(why) => {
                        tracing::warn!(run = %record.id, "a run that waited is given up: {why}");
                        self.end_unfinished(record, why, false)?;
                    }
                },
                // A command line may run it.
                _ if is_running(&settings.state_dir, record.id) => {}
                _ => self.end_cut_off(record)?,
            }
        }
        // The planner begins nothing of which a run waits already.
        let scheduled = entries.iter().filter(|it| it.record.origin.trigger != RunTrigger::Manual);
        scheduled.for_each(|it| self.inbox.put(key(&it.task).map(Word::Queued)));
        self.enqueue(entries);
        Ok(())
    }

    fn end_cut_off(&self, record: RunRecord) -> Result<(), CatalogError> {
        // Its end is written before its lock goes: what the history says now holds.
        let now = self.history.run(record.id)?;
        if now.is_none_or(|now| now.outcome.status != RunStatus::Running) {
            return Ok(());
        }
        let why = "cut off: its process died; nothing was acknowledged, and the next run goes on";
        tracing::warn!(run = %record.id, kind = record.kind.word(), "a run was {why}");
        self.end_unfinished(record, why.to_owned(), true)
    }

    fn end_unfinished(
        &self,
        mut record: RunRecord,
        reason: String,
        may_retry: bool,
    ) -> Result<(), CatalogError> {
        record.outcome = RunOutcome {
            ended: Some(Timestamp::now().max(record.started)),
            reason: Some(reason),
            exit: Some(ExitCode::Failed.into()),
            may_retry,
            status: RunStatus::Failed,
            ..record.outcome
        };
        self.history.put(&record)
    }
}

/// What a run that waited was to do, if that is still wanted.
fn resumed(settings: &crate::settings::Settings, record: &RunRecord) -> Result<Task, String> {
    let task = record.origin.task.clone().ok_or("its record does not say what it was to do")?;
    let task: Task = serde_json::from_value(task)
        .map_err(|error| format!("what it was to do is not understood: {error}"))?;
    check(settings, &task).map_err(|error| error.to_string())?;
    Ok(task)
}

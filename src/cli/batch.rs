//! Several runs of one command: one that fails does not stop the others.

use super::App;
use super::executor::Executor;
use super::failure::Failure;
use super::text;
use crate::catalog::RunStatus;
use crate::operations::{RunResult, Task};
use crate::progress::Progress;
use crate::report::{Action, ExitCode, Message, RunEnd, Summary, Tally};
use jiff::Timestamp;

/// The runs of one command so far.
pub(super) struct Batch<'a> {
    app: &'a App,
    executor: &'a Executor,
    kind: Action,
    started: Timestamp,
    tally: Tally,
    /// What each run would make the process exit with.
    codes: Vec<ExitCode>,
    /// Whether each message must say which of several runs it is about.
    several: bool,
    total: Summary,
}

impl<'a> Batch<'a> {
    /// Up to `planned` runs of a command that is `kind`, which this process does itself.
    pub fn new(app: &'a App, kind: Action, planned: usize) -> Self {
        Self::with(app, &Executor::Here, kind, planned)
    }

    /// Up to `planned` runs of a command that is `kind`, done by `executor`.
    pub fn with(app: &'a App, executor: &'a Executor, kind: Action, planned: usize) -> Self {
        let started = Timestamp::now();
        let total = Summary::new(kind, RunStatus::Completed, started);
        let (tally, codes, several) = (Tally::default(), Vec::new(), planned != 1);
        Self { app, executor, kind, started, tally, codes, several, total }
    }

    /// Does a task, and tells how it ended. After the user asked to stop, nothing begins any more.
    pub fn run(&mut self, task: &Task) {
        let executor = self.executor;
        self.conclude(task, |app| executor.perform(app, task));
    }

    /// Does a task within this process by `work`, which may know more than the task says, such as
    /// what the user agreed to.
    pub fn run_here(&mut self, task: &Task, work: impl FnOnce(&Progress) -> RunResult) {
        self.conclude(task, |app| Ok(Some(Executor::here(app, task.describe(), work))));
    }

    /// Tells how `work` ended; `None`: it goes on without being watched.
    fn conclude(
        &mut self,
        task: &Task,
        work: impl FnOnce(&App) -> Result<Option<RunEnd>, Failure>,
    ) {
        if self.app.interrupt.requested() {
            self.codes.push(ExitCode::Interrupted);
            return;
        }
        let started = Timestamp::now();
        match work(self.app) {
            Ok(None) => self.codes.push(ExitCode::Interrupted),
            Ok(Some(RunEnd { summary, exit, error: None })) => {
                self.tell(&summary);
                self.count(&summary, exit);
            }
            Ok(Some(RunEnd { summary, exit, error: Some(error) })) => {
                let mut failure = Failure::new(exit, error);
                if self.several && failure.code != ExitCode::Interrupted {
                    failure.message = format!("{}: {}", task.subject(), failure.message);
                }
                self.tell_failed(&failure, &summary);
                self.count(&summary, failure.code);
            }
            Err(failure) => {
                let mut summary = Summary::new(task.kind().into(), RunStatus::Failed, started);
                summary.machine = task.machine(&self.app.settings).and_then(|it| it.parse().ok());
                self.add_failed(task.subject(), failure, summary);
            }
        }
    }

    /// A run that was done otherwise.
    pub fn add(&mut self, summary: &Summary) {
        self.tell(summary);
        let code = match summary.status {
            RunStatus::Incomplete => ExitCode::Incomplete,
            _ => ExitCode::Done,
        };
        self.count(summary, code);
    }

    /// A run that was done otherwise, and failed.
    pub fn add_failed(&mut self, subject: &str, mut failure: Failure, mut summary: Summary) {
        summary.reason = Some(failure.message.clone());
        if self.several {
            failure.message = format!("{subject}: {}", failure.message);
        }
        self.tell_failed(&failure, &summary);
        self.count(&summary, failure.code);
    }

    /// The end of the command: the summary of all runs, where there was not just one.
    pub fn end(self) -> ExitCode {
        let status = self.tally.status();
        let code = self.code();
        if self.several {
            let mut summary = Summary::new(self.kind, status, self.started);
            summary.counts = self.total.counts;
            summary.runs = Some(self.tally);
            if code == ExitCode::Interrupted {
                summary.status = RunStatus::Incomplete;
            }
            self.app.output.sentence(&text::tally(&summary));
            self.app.output.message(&Message::Summary(summary));
        }
        code
    }

    fn code(&self) -> ExitCode {
        if self.codes.contains(&ExitCode::Interrupted) {
            return ExitCode::Interrupted;
        }
        match (self.tally.status(), self.codes.as_slice()) {
            // When all failed for the same reason, that is the reason.
            (RunStatus::Failed, [first, rest @ ..]) if rest.iter().all(|code| code == first) => {
                *first
            }
            (RunStatus::Failed, _) => ExitCode::Failed,
            (RunStatus::Incomplete, _) => ExitCode::Incomplete,
            _ => ExitCode::Done,
        }
    }

    fn tell(&self, summary: &Summary) {
        self.app.output.sentence(&text::summary(summary));
        if let Some(key) = &summary.recovery_key {
            self.app.output.result(&text::recovery_key(key));
        }
        self.finish_telling(summary);
    }

    fn tell_failed(&self, failure: &Failure, summary: &Summary) {
        self.app.output.error(failure);
        self.finish_telling(summary);
    }

    fn finish_telling(&self, summary: &Summary) {
        for warning in &summary.warnings {
            self.app.output.warning(warning);
        }
        self.app.output.message(&Message::Summary(summary.clone()));
    }

    fn count(&mut self, summary: &Summary, code: ExitCode) {
        self.tally.count(summary.status);
        self.codes.push(code);
        self.total.counts.add(&summary.counts);
    }
}

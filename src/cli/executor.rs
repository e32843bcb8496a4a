//! Who does runs: this process, or the daemon. What comes of a run is told in the same way.

use super::App;
use super::failure::Failure;
use super::output::complain;
use super::verify::tell;
use super::watch::Watch;
use super::watcher::RunWatcher;
use crate::client::{Client, ClientError, Followed};
use crate::operations::{RunResult, Task, perform, run_end};
use crate::progress::Progress;
use crate::report::{DaemonStatus, RunEnd};
use crate::settings::Settings;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Who does the runs of a command.
#[derive(Debug)]
pub(super) enum Executor {
    /// This process.
    Here,
    /// The daemon.
    Daemon(DaemonRuns),
}

/// Runs that the daemon does.
#[derive(Debug)]
pub(super) struct DaemonRuns {
    client: Client,
    /// What the user should know of it, until it is told.
    warning: Mutex<Option<String>>,
}

impl Executor {
    /// The daemon, where one works with these settings, or else this process.
    pub fn choose(settings: &Settings, no_daemon: bool) -> Result<Self, Failure> {
        if no_daemon {
            return Ok(Self::Here);
        }
        let client = Client::new(settings.daemon.socket.clone());
        match client.status() {
            Ok(status) => {
                let warning = Mutex::new(agree(settings, &status)?);
                Ok(Self::Daemon(DaemonRuns { client, warning }))
            }
            Err(ClientError::NoDaemon { .. }) => Ok(Self::Here),
            Err(error) => Err(error.into()),
        }
    }

    /// Does a task to its end; `None` when the user left it to the daemon.
    pub fn perform(&self, app: &App, task: &Task) -> Result<Option<RunEnd>, Failure> {
        match self {
            Self::Here => Ok(Some(Self::here(app, task.describe(), |progress| {
                perform(&app.settings, task, progress, &|message| tell(app, &message))
            }))),
            Self::Daemon(runs) => runs.perform(app, task),
        }
    }

    /// Does `run`, which is `work` (`backup of web01`), within this process.
    pub fn here(app: &App, work: String, run: impl FnOnce(&Progress) -> RunResult) -> RunEnd {
        app.interrupt.work(|progress| {
            let _watch = Watch::of(&app.output, work, progress);
            run_end(run(progress))
        })
    }
}

impl DaemonRuns {
    fn perform(&self, app: &App, task: &Task) -> Result<Option<RunEnd>, Failure> {
        let run = self.client.submit(task)?;
        let followed = app.interrupt.work(|progress| {
            let mut watcher = RunWatcher::new(app, run, task.describe(), progress);
            self.client.follow(run, &mut watcher)
        })?;
        match followed {
            Followed::Ended(mut end) => {
                let warning = self.warning.lock().unwrap_or_else(PoisonError::into_inner).take();
                end.summary.warnings.splice(0..0, warning);
                Ok(Some(end))
            }
            Followed::Left => {
                complain(&super::watcher::left(run));
                Ok(None)
            }
        }
    }
}

/// Whether the daemon works with the settings that this command was given. Returns what the user
/// should know all the same.
///
/// # Errors
/// When it works with another file, and with other settings.
fn agree(settings: &Settings, status: &DaemonStatus) -> Result<Option<String>, Failure> {
    if status.settings_fingerprint == settings.fingerprint.to_string() {
        return Ok(None);
    }
    let real = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let (file, theirs) = (settings.file.display(), &status.settings_file);
    if real(&settings.file) != real(Path::new(theirs)) {
        return Err(Failure::usage(format!(
            "the daemon at {} works with {theirs}, not with {file}; name that file with \
             `--config`, or add `--no-daemon`",
            settings.daemon.socket.display()
        )));
    }
    Ok(Some(format!(
        "{file} was changed since the daemon read it, and the old settings were used; run \
         `afterimage daemon reload`"
    )))
}

//! Other settings while the daemon runs: all of them, or none.

use super::check::check;
use super::core::{Core, demand};
use super::plan::plan;
use super::{DaemonError, events::Subject, lock};
use crate::operations::{limit_bandwidth, with_reasons};
use crate::report::{EventKind, ExitCode, ReloadReport, SettingsLine};
use crate::settings::{Problem, Settings, SettingsError};
use crate::units::{Name, RunId};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What only counts after a restart, or why the settings cannot count.
pub type TakenOver = Result<Vec<String>, String>;

/// Somebody whom other settings concern.
pub(super) struct OnReload(pub Box<dyn Fn(&Settings) -> TakenOver + Send>);

impl std::fmt::Debug for OnReload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OnReload")
    }
}

impl Core {
    /// Reads the settings file again.
    ///
    /// # Errors
    /// When it is wrong; then nothing changed.
    pub(super) fn reload(self: &Arc<Self>, by: &str) -> Result<ReloadReport, DaemonError> {
        // One at a time; the others wait.
        let others = lock(&self.on_reload);
        let old = self.settings();
        let new = match Settings::load(&old.file) {
            Ok(new) => new,
            Err(error) => {
                let message = with_reasons(&error);
                return Err(self.kept(by, message, problems(error)));
            }
        };
        let plan = match plan(&new) {
            Ok(plan) => plan,
            Err(error) => return Err(self.kept(by, with_reasons(&error), Vec::new())),
        };
        let mut needs_restart = Vec::new();
        let new = keep_in_place(&old, new, &mut needs_restart);
        // Before they count: what these cannot take, nobody gets.
        for other in others.iter() {
            match (other.0)(&new) {
                Ok(more) => needs_restart.extend(more),
                Err(why) => return Err(self.kept(by, why, Vec::new())),
            }
        }
        let changes = changes(&old, &new);
        // What is due meanwhile is decided by one or the other, not by both.
        let mut planning = lock(&self.planning);
        let fingerprint = new.fingerprint.to_string();
        let new = Arc::new(new);
        {
            let mut loaded = lock(&self.loaded);
            loaded.settings = Arc::clone(&new);
            loaded.at = Timestamp::now();
            loaded.reload_error = None;
        }
        if let Some(planning) = planning.as_mut() {
            planning.reload(plan);
        }
        drop(planning);
        limit_bandwidth(&new.limits, &self.throttle);
        self.fit_waiting(&new);
        drop(others);
        tracing::info!(by, "other settings are in force: {}", list(&changes));
        if !needs_restart.is_empty() {
            tracing::warn!("only counts after a restart: {}", needs_restart.join(", "));
        }
        self.events.push(Subject::default(), EventKind::Reloaded);
        self.observer.reloaded();
        self.inbox.poke();
        self.dispatch();
        Ok(ReloadReport { settings_fingerprint: fingerprint, changes, needs_restart })
    }

    /// The old ones stay.
    fn kept(&self, by: &str, message: String, problems: Vec<SettingsLine>) -> DaemonError {
        tracing::error!(by, "the settings stay as they are: {message}");
        lock(&self.loaded).reload_error = Some(message.clone());
        DaemonError::Settings { message, problems }
    }

    /// What waits uses what the new settings say, or is given up because they do not know it.
    fn fit_waiting(&self, settings: &Settings) {
        let waiting: Vec<RunId> = lock(&self.state).queue.waiting().collect();
        for run in waiting {
            let mut state = lock(&self.state);
            let Some(entry) = state.entries.get(&run).filter(|it| it.progress.is_none()) else {
                continue;
            };
            match check(settings, &entry.task) {
                Ok(()) => {
                    let demand = demand(settings, &entry.task);
                    state.queue.change(run, demand);
                }
                Err(error) => self.end_waiting(state, run, error.to_string(), ExitCode::Failed),
            }
        }
    }
}

fn problems(error: SettingsError) -> Vec<SettingsLine> {
    let SettingsError::Invalid(errors) = error else { return Vec::new() };
    let line = |it: Problem| SettingsLine {
        line: it.line,
        column: it.column,
        message: it.message,
        hint: it.hint,
    };
    errors.problems.into_iter().map(line).collect()
}

/// What cannot change while the daemon runs stays as it is.
fn keep_in_place(old: &Settings, mut new: Settings, needs_restart: &mut Vec<String>) -> Settings {
    if new.state_dir != old.state_dir {
        needs_restart.push(format!("state_dir, which stays {}", old.state_dir.display()));
        new.state_dir = old.state_dir.clone();
    }
    if new.daemon.socket != old.daemon.socket {
        needs_restart.push(format!("daemon.socket, which stays {}", old.daemon.socket.display()));
        new.daemon.socket = old.daemon.socket.clone();
    }
    new
}

/// What is different, in words.
fn changes(old: &Settings, new: &Settings) -> Vec<String> {
    let mut changes = Vec::new();
    compare("repository", &old.repositories, &new.repositories, &mut changes);
    compare("machine", &old.machines, &new.machines, &mut changes);
    compare("replica", &old.replicas, &new.replicas, &mut changes);
    let parts = [
        ("daemon", old.daemon != new.daemon),
        ("limits", old.limits != new.limits),
        ("api", old.api != new.api),
        ("notify", old.notify != new.notify),
    ];
    let changed = parts.into_iter().filter(|(_, is_changed)| *is_changed);
    changes.extend(changed.map(|(part, _)| format!("{part} changed")));
    changes
}

fn compare<T: PartialEq>(
    kind: &str,
    old: &BTreeMap<Name, T>,
    new: &BTreeMap<Name, T>,
    changes: &mut Vec<String>,
) {
    for (name, settings) in new {
        match old.get(name) {
            None => changes.push(format!("{kind} {name} is new")),
            Some(before) if before != settings => changes.push(format!("{kind} {name} changed")),
            Some(_) => {}
        }
    }
    let gone = old.keys().filter(|name| !new.contains_key(*name));
    changes.extend(gone.map(|name| format!("{kind} {name} is gone")));
}

/// Changes that are listed in a line of the log.
const LISTED_MAX: usize = 20;

fn list(changes: &[String]) -> String {
    let more = changes.len().saturating_sub(LISTED_MAX);
    let listed = changes.iter().take(LISTED_MAX).cloned().collect::<Vec<_>>().join(", ");
    match (listed.is_empty(), more) {
        (true, _) => "nothing is different".to_owned(),
        (false, 0) => listed,
        (false, more) => format!("{listed}, and {more} more"),
    }
}

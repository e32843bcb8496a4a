//! Commands to the daemon: what runs next, pauses, settings, its clock.

use super::App;
use super::daemon_args::{DaemonCommand, PauseArgs, Paused, PausedArgs};
use super::failure::Failure;
use super::times::{Side, instant};
use super::{daemon_tables, daemon_text, text};
use crate::catalog::RunStatus;
use crate::client::{Client, ClientError};
use crate::operations::known;
use crate::report::{
    Action, DaemonStatus, DueLine, ExitCode, Message, ObjectiveLine, ReloadReport,
    RepositoryStatus, Summary,
};
use crate::settings::Settings;
use jiff::Timestamp;

/// How many of the next runs are shown beside other things.
const NEXT_SHOWN: usize = 5;

fn client(settings: &Settings) -> Client {
    Client::new(settings.daemon.socket.clone())
}

fn end(app: &App, action: Action, started: Timestamp, warnings: Vec<String>) -> ExitCode {
    for warning in &warnings {
        app.output.warning(warning);
    }
    let mut summary = Summary::new(action, RunStatus::Completed, started);
    summary.warnings = warnings;
    app.output.message(&Message::Summary(summary));
    ExitCode::Done
}

/// Shows what runs next by itself.
pub(super) fn schedule(app: &App) -> Result<ExitCode, Failure> {
    let started = Timestamp::now();
    let lines = client(&app.settings).schedule()?;
    match lines.is_empty() {
        true => app.output.sentence("nothing runs by itself; the settings have no schedule"),
        false => app.output.result(&daemon_tables::due(&lines)),
    }
    for line in lines {
        app.output.message(&Message::Due(line));
    }
    Ok(end(app, Action::Schedule, started, Vec::new()))
}

/// Keeps something from beginning by itself.
pub(super) fn pause(app: &App, args: &PauseArgs) -> Result<ExitCode, Failure> {
    let started = Timestamp::now();
    let subject = subject(app, &args.paused)?;
    let until = args.until.as_deref().map(|typed| instant(typed, Side::After)).transpose()?;
    let client = client(&app.settings);
    client.pause(&subject, args.note.as_deref(), until)?;
    let how_long = match until {
        Some(until) => format!("until {}", text::time(until)),
        None => format!("until `afterimage resume {subject}`"),
    };
    app.output.sentence(&format!("{subject}: paused {how_long}; runs under way go on"));
    for line in client.pauses()? {
        app.output.message(&Message::Pause(line));
    }
    Ok(end(app, Action::Pause, started, Vec::new()))
}

/// Lets it begin again.
pub(super) fn resume(app: &App, args: &PausedArgs) -> Result<ExitCode, Failure> {
    let started = Timestamp::now();
    let subject = subject(app, args)?;
    let client = client(&app.settings);
    let told = match client.resume(&subject)? {
        true => "resumed",
        false => "was not paused",
    };
    app.output.sentence(&format!("{subject}: {told}"));
    let pauses = client.pauses()?;
    for line in &pauses {
        app.output.sentence(&format!("still paused: {}", daemon_text::pause(line)));
    }
    for line in pauses {
        app.output.message(&Message::Pause(line));
    }
    Ok(end(app, Action::Resume, started, Vec::new()))
}

/// As the daemon is told: `all`, `machine web01`.
fn subject(app: &App, args: &PausedArgs) -> Result<String, Failure> {
    let settings = &app.settings;
    let Some(name) = args.name.as_deref() else {
        return match args.what {
            Paused::All => Ok("all".to_owned()),
            _ => Err(Failure::usage("name the machine, the replica or the repository, too")),
        };
    };
    match args.what {
        Paused::All => Err(Failure::usage("`all` has no name; leave it out")),
        Paused::Machine => {
            known(settings, "machine", &settings.machines, name)?;
            Ok(format!("machine {name}"))
        }
        Paused::Replica => {
            known(settings, "replica", &settings.replicas, name)?;
            Ok(format!("replica {name}"))
        }
        Paused::Repository => {
            known(settings, "repository", &settings.repositories, name)?;
            Ok(format!("repository {name}"))
        }
    }
}

/// Commands to the daemon itself.
pub(super) fn daemon(app: &App, command: &DaemonCommand) -> Result<ExitCode, Failure> {
    let started = Timestamp::now();
    match command {
        DaemonCommand::Reload => {
            let report = client(&app.settings).reload()?;
            app.output.sentence(&daemon_text::reload(&report));
            let ReloadReport { needs_restart, .. } = report;
            let warnings = needs_restart
                .into_iter()
                .map(|what| format!("{what} counts only after `systemctl restart afterimage`"));
            Ok(end(app, Action::Daemon, started, warnings.collect()))
        }
        DaemonCommand::TrustClock => {
            client(&app.settings).trust_clock()?;
            app.output.sentence("the daemon believes the clock from now on");
            Ok(end(app, Action::Daemon, started, Vec::new()))
        }
        DaemonCommand::Status => {
            let state = State::ask(&client(&app.settings))?;
            let warnings = state.warnings();
            app.output.result(&state.describe());
            state.tell(app);
            Ok(end(app, Action::Daemon, started, warnings))
        }
    }
}

/// The daemon, and what it knows of all machines.
pub(super) struct State {
    daemon: DaemonStatus,
    next: Vec<DueLine>,
    objectives: Vec<ObjectiveLine>,
}

impl State {
    fn ask(client: &Client) -> Result<Self, ClientError> {
        let daemon = client.status()?;
        let mut next = client.schedule()?;
        // What is not known, last.
        next.sort_by_key(|line| (line.next.is_none(), line.next));
        Ok(Self { daemon, next, objectives: client.objectives()? })
    }

    /// The repositories as the daemon saw them last, as far as there is one that serves this user: it
    /// lists them often, and they may be large.
    pub fn repositories(settings: &Settings, no_daemon: bool) -> Vec<RepositoryStatus> {
        let asked = (!no_daemon).then(|| client(settings).repositories_seen());
        // Whatever else there is to tell of the daemon, asking for its state tells.
        asked.and_then(Result::ok).unwrap_or_default()
    }

    /// As far as there is a daemon that serves this user; else a warning, where it should.
    pub fn of(settings: &Settings, no_daemon: bool) -> Result<Option<Self>, String> {
        if no_daemon {
            return Ok(None);
        }
        match Self::ask(&client(settings)) {
            Ok(state) => Ok(Some(state)),
            Err(ClientError::NoDaemon { .. } | ClientError::Forbidden { .. }) => Ok(None),
            Err(error) => Err(Failure::from(error).message),
        }
    }

    /// What the user should know of it.
    pub fn warnings(&self) -> Vec<String> {
        let DaemonStatus { reload_error, clock_doubt, problems, .. } = &self.daemon;
        let reload = reload_error
            .as_ref()
            .map(|error| format!("the daemon works with older settings: {error}"));
        let clock = clock_doubt.as_ref().map(|doubt| {
            format!(
                "the daemon does not believe the clock: {doubt}; if it is right, run `afterimage \
                 daemon trust-clock`"
            )
        });
        reload.into_iter().chain(clock).chain(problems.iter().cloned()).collect()
    }

    /// In a few lines, for people.
    pub fn describe(&self) -> String {
        let mut parts = vec![daemon_text::daemon(&self.daemon)];
        let soon: Vec<DueLine> =
            self.next.iter().filter(|line| line.next.is_some()).take(NEXT_SHOWN).cloned().collect();
        if !soon.is_empty() {
            parts.push(daemon_tables::due(&soon));
        }
        if !self.objectives.is_empty() {
            parts.push(daemon_tables::objectives(&self.objectives));
        }
        parts.join("\n\n")
    }

    /// For programs.
    pub fn tell(self, app: &App) {
        app.output.message(&Message::Daemon(self.daemon));
        for line in self.next {
            app.output.message(&Message::Due(line));
        }
        for line in self.objectives {
            app.output.message(&Message::Objective(line));
        }
    }
}

//! The daemon in the foreground, and the signals that it listens to.

use super::failure::{Failure, with_reasons};
use super::log;
use super::output::{Output, complain};
use crate::api::{ApiServer, Limits};
use crate::audit::{AuditEntry, AuditLog, AuditOutcome, Rotation};
use crate::catalog::RunStatus;
use crate::daemon::{Daemon, DaemonHandle, Stopper};
use crate::fsio::RealFileSystem;
use crate::report::{Action, ExitCode, Message, Summary};
use crate::settings::Settings;
use crate::sys;
use anyhow::Context;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How long runs may go on by themselves when the daemon is to stop; after that they are asked to.
const GRACE: Duration = Duration::from_secs(10);
/// How long whoever asked something may wait for the answer then.
const ANSWERS: Duration = Duration::from_secs(5);

/// Enough that threads seldom wait for each other; each keeps the most that was ever taken from it.
const MEMORY_POOLS: u16 = 2;

/// Runs until a signal ends it.
pub(super) fn run(config: &Path, output: &Output) -> Result<ExitCode, Failure> {
    let started = jiff::Timestamp::now();
    sys::share_memory_pools(MEMORY_POOLS);
    let settings = Settings::load(config)?;
    log::choose(settings.daemon.log);
    // Before anything is begun: a signal must not find half a daemon.
    let signals = Signals::new([SIGHUP, SIGINT, SIGTERM]).context("cannot listen to signals")?;
    let daemon = Daemon::start(settings)
        .map_err(|error| Failure::new(error.exit_code(), with_reasons(&error)))?;
    let audit = Arc::new(AuditLog::new(
        &RealFileSystem::shared(),
        &daemon.handle().settings().state_dir,
        Rotation::default(),
    ));
    let server = Arc::new(serve(&daemon, &audit)?);
    let watched = Arc::downgrade(&server);
    daemon.on_reload(move |settings| {
        let more = watched.upgrade().map(|server| reload(&server, settings)).transpose()?;
        log::choose(settings.daemon.log);
        Ok(more.unwrap_or_default())
    });
    let (handle, stopper) = (daemon.handle(), daemon.stopper());
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || listen(signals, &handle, &audit, &stopper))
        .context("cannot start a thread")?;
    tracing::info!("the daemon is ready");
    daemon.ready();
    let lost = daemon.wait(GRACE);
    if let Some(server) = Arc::into_inner(server) {
        daemon.runtime().block_on(server.stop(ANSWERS));
    }
    drop(daemon);
    if let Some(thread) = lost {
        let message =
            format!("the daemon stopped: a defect ended its thread {thread}; report this");
        return Err(Failure::new(ExitCode::Failed, message));
    }
    tracing::info!("the daemon stopped");
    output.message(&Message::Summary(Summary::new(Action::Daemon, RunStatus::Completed, started)));
    Ok(ExitCode::Done)
}

/// Serves the socket, and the address of the settings.
fn serve(daemon: &Daemon, audit: &Arc<AuditLog>) -> Result<ApiServer, Failure> {
    let socket = daemon.socket().listener().context("cannot serve the daemon's socket")?;
    let server = ApiServer::start(socket, daemon.handle(), Arc::clone(audit), Limits::default());
    let server = daemon.runtime().block_on(server);
    let server = server.map_err(|error| Failure::new(ExitCode::Failed, with_reasons(&error)))?;
    if let Some(address) = server.address() {
        tracing::info!(%address, "the API listens");
    }
    Ok(server)
}

/// Tells the server of other settings. Returns what only counts after a restart, or why it cannot
/// take them.
fn reload(server: &ApiServer, settings: &Settings) -> Result<Vec<String>, String> {
    server.reload(settings).map_err(|error| with_reasons(&error))
}

/// Reads the settings again. The change stands in the audit log before it is made; where it cannot,
/// it is not made.
fn reload_audited(handle: &Arc<dyn DaemonHandle>, audit: &AuditLog) {
    let entry = AuditEntry::new("signal", "reload of the settings", AuditOutcome::Asked);
    if let Err(error) = audit.record(jiff::Timestamp::now(), &entry) {
        tracing::error!("the settings are not read again: {}", with_reasons(&error));
        return;
    }
    // What it says is in the log, and in the daemon's state.
    drop(handle.reload("SIGHUP"));
}

fn listen(
    mut signals: Signals,
    handle: &Arc<dyn DaemonHandle>,
    audit: &AuditLog,
    stopper: &Stopper,
) {
    let mut is_stopping = false;
    for signal in signals.forever() {
        match signal {
            SIGHUP => reload_audited(handle, audit),
            _ if is_stopping => {
                complain("afterimage: stopped at once");
                std::process::exit(i32::from(u8::from(ExitCode::Interrupted)));
            }
            _ => {
                is_stopping = true;
                tracing::info!("stopping; a second signal stops it at once");
                stopper.stop();
            }
        }
    }
}

//! The daemon in the foreground, and the signals that it listens to.

use super::failure::{Failure, with_reasons};
use super::log;
use super::output::{Output, complain};
use crate::catalog::RunStatus;
use crate::daemon::{Daemon, DaemonHandle, Stopper};
use crate::report::{Action, ExitCode, Message, Summary};
use crate::settings::Settings;
use anyhow::Context;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How long runs may go on by themselves when the daemon is to stop; after that they are asked to.
const GRACE: Duration = Duration::from_secs(10);

/// Runs until a signal ends it.
pub(super) fn run(config: &Path, output: &Output) -> Result<ExitCode, Failure> {
    let started = jiff::Timestamp::now();
    let settings = Settings::load(config)?;
    log::choose(settings.daemon.log);
    // Before anything is begun: a signal must not find half a daemon.
    let signals = Signals::new([SIGHUP, SIGINT, SIGTERM]).context("cannot listen to signals")?;
    let daemon = Daemon::start(settings)
        .map_err(|error| Failure::new(error.exit_code(), with_reasons(&error)))?;
    daemon.on_reload(|settings| {
        log::choose(settings.daemon.log);
        Vec::new()
    });
    let (handle, stopper) = (daemon.handle(), daemon.stopper());
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || listen(signals, &handle, &stopper))
        .context("cannot start a thread")?;
    tracing::info!("the daemon is ready");
    daemon.ready();
    daemon.wait(GRACE);
    drop(daemon);
    tracing::info!("the daemon stopped");
    output.message(&Message::Summary(Summary::new(Action::Daemon, RunStatus::Completed, started)));
    Ok(ExitCode::Done)
}

fn listen(mut signals: Signals, handle: &Arc<dyn DaemonHandle>, stopper: &Stopper) {
    let mut is_stopping = false;
    for signal in signals.forever() {
        match signal {
            // What it says is in the log, and in the daemon's state.
            SIGHUP => drop(handle.reload("SIGHUP")),
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

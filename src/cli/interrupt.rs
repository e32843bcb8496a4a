//! Ctrl-C and SIGTERM: the first one asks the run to stop at the next safe place, the second one
//! ends the process at once. So does the first one while nothing runs.

use super::output::complain;
use super::prompt;
use crate::progress::Progress;
use crate::report::ExitCode;
use anyhow::Context;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io::IsTerminal;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[derive(Debug, Default)]
struct Current {
    progress: Option<Arc<Progress>>,
    requested: bool,
}

/// The wish of the user to stop.
#[derive(Debug, Clone, Default)]
pub(super) struct Interrupt {
    current: Arc<Mutex<Current>>,
}

impl Interrupt {
    /// Listens to signals from now on.
    pub fn install() -> anyhow::Result<Self> {
        let interrupt = Self::default();
        let mut signals =
            Signals::new([SIGINT, SIGTERM]).context("cannot listen to Ctrl-C and SIGTERM")?;
        let listener = interrupt.clone();
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                for _ in signals.forever() {
                    listener.on_signal();
                }
            })
            .context("cannot start a thread")?;
        Ok(interrupt)
    }

    /// Does `work` with counters of its own, which a signal cancels.
    pub fn work<T>(&self, work: impl FnOnce(&Arc<Progress>) -> T) -> T {
        let progress = Arc::new(Progress::default());
        {
            let mut current = self.lock();
            if current.requested {
                progress.cancel();
            }
            current.progress = Some(Arc::clone(&progress));
        }
        let result = work(&progress);
        self.lock().progress = None;
        result
    }

    /// Whether the user asked to stop.
    pub fn requested(&self) -> bool {
        self.lock().requested
    }

    fn on_signal(&self) {
        let mut current = self.lock();
        match &current.progress {
            Some(progress) if !current.requested => {
                progress.cancel();
                current.requested = true;
                // A bar, or the `^C` of the terminal, stands on the line already.
                let line_end = if std::io::stderr().is_terminal() { "\n" } else { "" };
                complain(&format!(
                    "{line_end}afterimage: stopping; press Ctrl-C again to stop at once"
                ));
            }
            _ => {
                prompt::show_typing();
                complain("afterimage: stopped");
                std::process::exit(i32::from(u8::from(ExitCode::Interrupted)));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

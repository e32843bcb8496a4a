//! Ctrl-C and SIGTERM: the first one asks the run to stop at the next safe place, the second one
//! ends the process at once. So does the first one while nothing runs. While a run of the daemon
//! is watched on a terminal, the first Ctrl-C is a question, and a second one leaves the run.

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
    question: Option<Question>,
}

/// What Ctrl-C shall mean is asked by whoever watches.
#[derive(Debug)]
struct Question {
    /// What is told when the process ends without an answer.
    left: String,
    asked: Asked,
}

/// Whether Ctrl-C was pressed, and not answered yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// No.
    No,
    /// Yes, and this is the first look at it.
    First,
    /// Yes, as was told before.
    Still,
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
                for signal in signals.forever() {
                    listener.on_signal(signal);
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
        let mut current = self.lock();
        (current.progress, current.question) = (None, None);
        drop(current);
        result
    }

    /// Until the end of the present work, Ctrl-C does not cancel it: [`Interrupt::asked`] tells
    /// of it. A second one ends the process, which says `left`.
    pub fn ask_first(&self, left: String) {
        self.lock().question = Some(Question { left, asked: Asked::No });
    }

    /// Whether Ctrl-C was pressed and not answered yet.
    pub fn asked(&self) -> Asked {
        let mut current = self.lock();
        let Some(question) = &mut current.question else { return Asked::No };
        let asked = question.asked;
        if asked == Asked::First {
            question.asked = Asked::Still;
        }
        asked
    }

    /// The answer is to go on.
    pub fn go_on(&self) {
        if let Some(question) = &mut self.lock().question {
            question.asked = Asked::No;
        }
    }

    /// The answer is to stop: nothing begins any more, and the present work is cancelled.
    pub fn stop(&self) {
        let mut current = self.lock();
        current.requested = true;
        if let Some(question) = &mut current.question {
            question.asked = Asked::No;
        }
        if let Some(progress) = &current.progress {
            progress.cancel();
        }
    }

    /// Whether the user asked to stop.
    pub fn requested(&self) -> bool {
        self.lock().requested
    }

    fn on_signal(&self, signal: i32) {
        let mut guard = self.lock();
        let current = &mut *guard;
        let requested = current.requested;
        match (&current.progress, &mut current.question) {
            (Some(_), Some(question)) if !requested && signal == SIGINT => match question.asked {
                Asked::No => question.asked = Asked::First,
                Asked::First | Asked::Still => end(&format!("\n{}", question.left)),
            },
            (Some(_), Some(question)) if requested => end(&format!("\n{}", question.left)),
            (Some(progress), _) if !requested => {
                progress.cancel();
                current.requested = true;
                // A bar, or the `^C` of the terminal, stands on the line already.
                let line_end = if std::io::stderr().is_terminal() { "\n" } else { "" };
                complain(&format!(
                    "{line_end}afterimage: stopping; press Ctrl-C again to stop at once"
                ));
            }
            _ => end("afterimage: stopped"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends the process at once.
fn end(why: &str) -> ! {
    prompt::show_typing();
    complain(why);
    std::process::exit(i32::from(u8::from(ExitCode::Interrupted)))
}

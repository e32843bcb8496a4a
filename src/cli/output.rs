//! Where everything that is told goes: results to standard output, the rest to standard error.
//!
//! Invariant: a reader that goes away never stops the work, and nothing here panics.

use super::args::GlobalArgs;
use super::failure::Failure;
use crate::report::{ErrorReport, ExitCode, Message};
use crate::units::printable;
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

/// The output of a command.
#[derive(Debug)]
pub(super) struct Output {
    pub json: bool,
    pub quiet: bool,
    /// Why standard output takes nothing any more.
    broken: Mutex<Option<io::Error>>,
}

impl Output {
    pub fn new(global: &GlobalArgs) -> Self {
        Self { json: global.json, quiet: global.quiet, broken: Mutex::default() }
    }

    /// What was asked for, for people.
    pub fn result(&self, text: &str) {
        if !self.json {
            // It may tell names of files, hosts and notes that somebody else chose.
            self.print(&printable(text));
        }
    }

    /// What is made for other programs as it is, such as a script.
    pub fn raw(&self, text: &str) {
        self.print(text);
    }

    /// A sentence about what was done, for people who did not ask for silence.
    pub fn sentence(&self, text: &str) {
        if !self.quiet {
            self.result(text);
        }
    }

    /// A line for programs.
    pub fn message(&self, message: &Message) {
        if !self.json {
            return;
        }
        match serde_json::to_string(message) {
            Ok(text) => self.print(&text),
            Err(error) => self.note_broken(io::Error::other(error)),
        }
    }

    /// A warning for people; programs find it in the summary.
    pub fn warning(&self, text: &str) {
        if !self.json {
            complain(&printable(&format!("afterimage: warning: {text}")));
        }
    }

    /// An error.
    pub fn error(&self, failure: &Failure) {
        if self.json {
            Self::error_as_json(failure);
        } else if failure.problems.is_empty() {
            complain(&printable(&format!("afterimage: {}", failure.message)));
        } else {
            // Each problem begins with its own place: FILE:LINE:COLUMN.
            complain(&printable(&failure.message));
        }
    }

    /// An error for programs.
    pub fn error_as_json(failure: &Failure) {
        let report = ErrorReport {
            code: failure.code,
            message: failure.message.clone(),
            problems: failure.problems.clone(),
        };
        if let Ok(text) = serde_json::to_string(&Message::ExitError(report)) {
            complain(&text);
        }
    }

    /// What the process exits with, `code` unless the output was lost.
    pub fn end(&self, code: ExitCode) -> ExitCode {
        let broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner).take();
        match broken {
            // Whoever closed the pipe has seen enough.
            Some(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                complain(&format!("afterimage: cannot write to standard output: {error}"));
                if code == ExitCode::Done { ExitCode::Failed } else { code }
            }
            _ => code,
        }
    }

    fn print(&self, text: &str) {
        let mut broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
        if broken.is_some() {
            return;
        }
        let mut line = text.trim_end_matches('\n').to_owned();
        line.push('\n');
        let mut out = io::stdout().lock();
        if let Err(error) = out.write_all(line.as_bytes()).and_then(|()| out.flush()) {
            *broken = Some(error);
        }
    }

    fn note_broken(&self, error: io::Error) {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }
}

/// A line on standard error. There is nobody left to tell that it failed.
pub(super) fn complain(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", text.trim_end());
}

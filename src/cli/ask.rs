//! Asking before something is lost.

use super::App;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{BufRead, IsTerminal, Write};

/// Whether there is somebody to ask.
pub(super) fn can_ask(app: &App) -> bool {
    !app.output.json && std::io::stdin().is_terminal()
}

/// Shows what would be done; whether the answer is "yes".
pub(super) fn says_yes(plan: &str) -> bool {
    let mut terminal = std::io::stderr().lock();
    // Whoever cannot see the question cannot answer it with "yes".
    let _ = write!(terminal, "{plan}\ntype \"yes\" to go on: ");
    let _ = terminal.flush();
    drop(terminal);
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    read.is_ok() && answer.trim() == "yes"
}

/// Whether a question can be seen.
pub(super) fn can_show() -> bool {
    std::io::stderr().is_terminal()
}

/// What Ctrl-C shall mean for a run that the daemon does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Choice {
    Stop,
    Leave,
    GoOn,
}

/// Asks what Ctrl-C shall mean.
pub(super) fn show_choice() {
    let mut terminal = std::io::stderr().lock();
    // Whoever cannot see the question can press Ctrl-C again.
    let _ = write!(
        terminal,
        "\nstop the run (s), leave it running in the daemon (l), go on watching (Enter)? "
    );
    let _ = terminal.flush();
}

/// The answer, once there is one.
pub(super) fn choice() -> Option<Choice> {
    let stdin = std::io::stdin();
    let mut polled = [PollFd::new(&stdin, PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    if !matches!(poll(&mut polled, Some(&now)), Ok(1..)) {
        return None;
    }
    let mut answer = String::new();
    match stdin.lock().read_line(&mut answer) {
        // The terminal went away; the run need not.
        Ok(0) | Err(_) => Some(Choice::Leave),
        Ok(_) => match answer.trim() {
            "s" => Some(Choice::Stop),
            "l" => Some(Choice::Leave),
            "" => Some(Choice::GoOn),
            _ => {
                show_choice();
                None
            }
        },
    }
}

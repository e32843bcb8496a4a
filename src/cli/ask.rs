//! Asking before something is lost.

use super::App;
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

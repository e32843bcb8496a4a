//! Typing something that must not be seen.

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::sync::{Mutex, PoisonError};
use zeroize::Zeroizing;

/// Longer texts are no keys.
const TYPED_BYTES_MAX: u64 = 64 * 1024;

/// How the terminal was before what is typed was hidden.
static HIDDEN: Mutex<Option<Termios>> = Mutex::new(None);

/// Reads a line from the terminal without showing it; where standard input is none, all of it.
///
/// # Errors
/// When standard input cannot be read.
pub(super) fn secret(question: &str) -> io::Result<Zeroizing<String>> {
    let stdin = io::stdin();
    let mut text = Zeroizing::new(String::new());
    if !stdin.is_terminal() {
        stdin.lock().take(TYPED_BYTES_MAX).read_to_string(&mut text)?;
        return Ok(text);
    }
    let mut terminal = io::stderr();
    // Whoever cannot see the question can still answer it.
    let _ = write!(terminal, "{question}: ");
    let _ = terminal.flush();
    hide_typing()?;
    let read = stdin.lock().take(TYPED_BYTES_MAX).read_line(&mut text);
    show_typing();
    // The line end that was typed was hidden too.
    let _ = writeln!(terminal);
    read.map(|_| text)
}

fn hide_typing() -> io::Result<()> {
    let before = tcgetattr(io::stdin())?;
    let mut hidden = before.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    *HIDDEN.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
    Ok(tcsetattr(io::stdin(), OptionalActions::Flush, &hidden)?)
}

/// Shows again what is typed. Called before the process ends in the middle of a question, too.
pub(super) fn show_typing() {
    let before = HIDDEN.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(before) = before {
        // There is nothing left to do for a terminal that went away.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &before);
    }
}

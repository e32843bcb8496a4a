//! Texts from outside, in messages.

use std::borrow::Cow;
use std::fmt::Write;

/// Longest text from outside that a message holds, in characters.
const READABLE_CHARS_MAX: usize = 300;

/// Controls, and what turns the direction of writing.
fn disturbs(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn push(shown: &mut String, c: char) {
    if disturbs(c) {
        // A string takes whatever is written to it.
        let _ = write!(shown, "{}", c.escape_default());
    } else {
        shown.push(c);
    }
}

/// A text that may hold anything, as part of a message: controls are escaped, so that it disturbs
/// no terminal and stays on its line, and an endless one ends.
pub fn readable(text: impl std::fmt::Display) -> String {
    let text = text.to_string();
    let mut shown = String::with_capacity(text.len().min(READABLE_CHARS_MAX));
    for (count, c) in text.chars().enumerate() {
        if count == READABLE_CHARS_MAX {
            shown.push('…');
            break;
        }
        push(&mut shown, c);
    }
    shown
}

/// A whole message for a terminal: it keeps its lines, and nothing else controls the terminal.
pub fn printable(text: &str) -> Cow<'_, str> {
    let is_kept = |c: char| c == '\n' || c == '\t' || !disturbs(c);
    if text.chars().all(is_kept) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_kept(c) { shown.push(c) } else { push(&mut shown, c) }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_from_outside_disturbs_no_terminal_and_ends() {
        assert_eq!(readable("unknown field `Größe`"), "unknown field `Größe`");
        assert_eq!(readable("a\u{1b}[2J\nb\u{202e}"), "a\\u{1b}[2J\\nb\\u{202e}");
        assert_eq!(readable("x".repeat(10_000)).chars().count(), READABLE_CHARS_MAX + 1);
    }

    #[test]
    fn a_message_keeps_its_lines_and_nothing_else_of_a_terminal() {
        assert_eq!(printable("a\n\tb ü"), "a\n\tb ü");
        assert_eq!(printable("a\n\u{1b}[2J\r"), "a\n\\u{1b}[2J\\r");
    }
}

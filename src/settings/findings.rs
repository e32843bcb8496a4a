//! Collects everything that is found wrong while a file is read, so that it is reported at once.

use std::collections::BTreeSet;

use super::page::{Page, Span};
use super::problem::Problem;

/// Most problems that are kept: a file that is no settings file must not fill the memory.
const PROBLEMS_MAX: usize = 200;

/// Longest text from the file that a message quotes, in characters.
const QUOTE_CHARS_MAX: usize = 80;

/// A text from the file in double quotes, escaped and shortened, so that it can neither disturb
/// a terminal nor make an endless message.
pub(super) fn quoted(text: &str) -> String {
    match text.char_indices().nth(QUOTE_CHARS_MAX) {
        Some((end, _)) => format!("{:?}", format!("{}…", &text[..end])),
        None => format!("{text:?}"),
    }
}

/// A key from the file in backticks; escaped and shortened like [`quoted`].
pub(super) fn ticked(key: &str) -> String {
    let text = quoted(key);
    let bare = !key.is_empty()
        && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
    let inner = if bare { &text[1..text.len() - 1] } else { text.as_str() };
    format!("`{inner}`")
}

#[derive(Debug)]
struct Finding {
    at: Span,
    message: String,
    hint: Option<String>,
}

/// The problems found so far.
#[derive(Debug)]
pub(super) struct Findings<'t> {
    page: &'t Page<'t>,
    found: Vec<Finding>,
    left_out: usize,
    /// Parts of the file could not be understood: what seems to be absent may be there.
    incomplete: bool,
    /// Lines with broken syntax; what was read from them means nothing.
    broken_lines: BTreeSet<usize>,
    /// From this line on, nothing was understood.
    lost_from_line: usize,
    /// Parts of the text that are shown nowhere.
    hidden: Vec<Span>,
}

impl<'t> Findings<'t> {
    pub(super) fn new(page: &'t Page<'t>) -> Self {
        Self {
            page,
            found: Vec::new(),
            left_out: 0,
            incomplete: false,
            broken_lines: BTreeSet::new(),
            lost_from_line: usize::MAX,
            hidden: Vec::new(),
        }
    }

    /// Line of an offset, from 1.
    pub(super) fn line(&self, at: &Span) -> usize {
        self.page.line(at.start)
    }

    /// What stands at `at` may be a secret: no excerpt shows it.
    pub(super) fn hide(&mut self, at: &Span) {
        self.hidden.push(at.clone());
    }

    /// Something is wrong at `at`.
    pub(super) fn wrong(&mut self, at: &Span, message: impl Into<String>) {
        self.add(at, message.into(), None);
    }

    /// Something is wrong at `at`, and `hint` says what to do.
    pub(super) fn wrong_hint(
        &mut self,
        at: &Span,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.add(at, message.into(), Some(hint.into()));
    }

    /// Something that should be in the file is not. Not reported when parts of the file could
    /// not be understood, because it may well be there.
    pub(super) fn absent(
        &mut self,
        at: &Span,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        if !self.incomplete {
            self.add(at, message.into(), Some(hint.into()));
        }
    }

    /// From here on, [`Self::absent`] reports nothing.
    pub(super) fn set_incomplete(&mut self) {
        self.incomplete = true;
    }

    /// The syntax is broken at `at`; only the first such place of a line is reported.
    pub(super) fn broken(&mut self, at: &Span, message: impl Into<String>, hint: Option<String>) {
        let line = self.line(at);
        self.add(at, message.into(), hint);
        self.broken_lines.insert(line);
        self.incomplete = true;
    }

    /// Nothing from the line of `at` on was understood.
    pub(super) fn lost(&mut self, at: &Span) {
        self.lost_from_line = self.lost_from_line.min(self.line(at));
        self.incomplete = true;
    }

    fn add(&mut self, at: &Span, message: String, hint: Option<String>) {
        let line = self.line(at);
        if line >= self.lost_from_line || self.broken_lines.contains(&line) {
            return;
        }
        if self.found.len() < PROBLEMS_MAX {
            self.found.push(Finding { at: at.clone(), message, hint });
        } else {
            self.left_out += 1;
        }
    }

    /// Whether parts of the file could not be checked.
    pub(super) fn is_incomplete(&self) -> bool {
        self.incomplete
    }

    /// Whether nothing is wrong.
    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// The problems, sorted by position, and how many were left out.
    pub(super) fn into_problems(mut self) -> (Vec<Problem>, usize) {
        self.found.sort_by_key(|finding| (finding.at.start, finding.at.end));
        let page = self.page;
        let problems = self.found.into_iter().map(|finding| {
            let (line, column) = page.position(finding.at.start);
            let excerpt = page.excerpt(&finding.at, &self.hidden);
            Problem { line, column, message: finding.message, hint: finding.hint, excerpt }
        });
        (problems.collect(), self.left_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_escaped_and_short() {
        assert_eq!(quoted("a\u{1b}[31m\u{202e}"), r#""a\u{1b}[31m\u{202e}""#);
        assert_eq!(quoted(&"x".repeat(1000)).chars().count(), QUOTE_CHARS_MAX + 3);
        assert_eq!(ticked("state_dir"), "`state_dir`");
        assert_eq!(ticked("a b"), "`\"a b\"`");
        assert_eq!(ticked(""), "`\"\"`");
    }
}

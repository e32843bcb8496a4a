//! The text of the file as people see it: lines, columns and excerpts.

use std::ops::Range;

/// Part of the text, in bytes from its start.
pub(super) type Span = Range<usize>;

/// Place of what the file does not say: its beginning.
pub(super) const NOWHERE: Span = 0..0;

/// Longest excerpt of one line, in characters.
const EXCERPT_CHARS_MAX: usize = 100;
/// Characters kept before the marked place when a line is cut.
const EXCERPT_CHARS_BEFORE: usize = 40;

/// A text and where its lines begin.
#[derive(Debug)]
pub(super) struct Page<'t> {
    text: &'t str,
    /// Offsets in bytes; never empty, begins with the offset of the first line.
    line_starts: Vec<usize>,
}

impl<'t> Page<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        // A byte order mark is no character of the first line.
        let first = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
        let others = text.match_indices('\n').map(|(at, _)| at + 1);
        Self { text, line_starts: std::iter::once(first).chain(others).collect() }
    }

    /// Number of the line that holds `offset`, from 1.
    pub(super) fn line(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= offset).max(1)
    }

    /// Line and column of `offset`, both from 1, the column in characters.
    pub(super) fn position(&self, offset: usize) -> (usize, usize) {
        let line = self.line(offset);
        let (start, text) = self.line_text(line);
        let within = text.floor_char_boundary(offset.saturating_sub(start));
        (line, text[..within].chars().count() + 1)
    }

    /// The line that holds the start of `span`, and under it a line that marks the span.
    /// Characters that could disturb a terminal, and all that is `hidden`, are replaced; a long line
    /// is cut.
    pub(super) fn excerpt(&self, span: &Span, hidden: &[Span]) -> String {
        let (line, column) = self.position(span.start);
        let (start, text) = self.line_text(line);
        let skip = match text.chars().nth(EXCERPT_CHARS_MAX) {
            Some(_) => (column - 1).saturating_sub(EXCERPT_CHARS_BEFORE),
            None => 0,
        };
        let line_end = start + text.len();
        let hidden: Vec<&Span> =
            hidden.iter().filter(|span| span.start < line_end && start < span.end).collect();
        let shown_as = |(at, c): (usize, char)| {
            let is_hidden = hidden.iter().any(|span| span.contains(&(start + at)));
            if is_hidden { '*' } else { printable(c) }
        };
        let mut rest = text.char_indices().skip(skip);
        let mut shown = String::from(if skip > 0 { "…" } else { "" });
        shown.extend(rest.by_ref().take(EXCERPT_CHARS_MAX).map(shown_as));
        if rest.next().is_some() {
            shown.push('…');
        }

        let before = column - 1 - skip + usize::from(skip > 0);
        let end = text.floor_char_boundary(span.end.saturating_sub(start));
        let marked = match text.get(text.floor_char_boundary(span.start.saturating_sub(start))..end)
        {
            Some(part) => part.chars().take(EXCERPT_CHARS_MAX).count(),
            None => 0,
        };
        let room = shown.chars().count().saturating_sub(before);
        format!("{shown}\n{}{}", " ".repeat(before), "^".repeat(marked.min(room).max(1)))
    }

    /// Offset and text of a line, without its end.
    fn line_text(&self, line: usize) -> (usize, &'t str) {
        let start = self.line_starts[line - 1];
        let end = self.line_starts.get(line).copied().unwrap_or(self.text.len());
        (start, self.text[start..end].trim_end_matches(['\n', '\r']))
    }
}

fn printable(c: char) -> char {
    match c {
        '\t' => ' ',
        '"' | '\'' | '\\' => c,
        // More than one character means that it has to be escaped to be seen.
        _ if c.escape_debug().len() > 1 => char::REPLACEMENT_CHARACTER,
        _ => c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters_and_lines_end_in_either_way() {
        let page = Page::new("a = 1\r\nü = \"é\" # x\n\nlast");
        assert_eq!(page.position(0), (1, 1));
        assert_eq!(page.position(7), (2, 1));
        assert_eq!(page.position(12), (2, 5));
        assert_eq!(page.excerpt(&(12..16), &[]), "ü = \"é\" # x\n    ^^^");
        assert_eq!(page.excerpt(&(21..21), &[]), "\n^");
        assert_eq!(page.position(1000), (4, 5));
    }

    #[test]
    fn a_byte_order_mark_takes_no_column() {
        assert_eq!(Page::new("\u{feff}a = 1").position(3), (1, 1));
        assert_eq!(Page::new("\u{feff}a = 1").position(0), (1, 1));
    }

    #[test]
    fn an_excerpt_shows_nothing_that_is_hidden() {
        let page = Page::new("first\nurl = \"é\", x = 1");
        assert_eq!(
            page.excerpt(&(18..19), std::slice::from_ref(&(12..16))),
            "url = ***, x = 1\n           ^"
        );
    }

    #[test]
    fn an_excerpt_is_short_and_harmless() {
        let long = format!("{} = \u{1b}[31m{}", "k".repeat(300), "v".repeat(300));
        let excerpt = Page::new(&long).excerpt(&(303..900), &[]);
        assert!(!excerpt.contains('\u{1b}'), "{excerpt}");
        assert!(excerpt.lines().all(|line| line.chars().count() <= EXCERPT_CHARS_MAX + 2));
        assert!(excerpt.contains("= \u{fffd}[31mvvv"), "{excerpt}");
    }
}

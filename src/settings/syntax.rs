//! Errors of the TOML parser, in words that say what to type.

use toml::de::{DeTable, Error};

use super::findings::{Findings, quoted};
use super::page::{NOWHERE, Span};

/// A message of the parser and what it is turned into.
struct Rule {
    /// Part of the parser's message.
    marks: &'static str,
    /// Whether the parser can not be trusted with what follows the error.
    derails: bool,
    message: &'static str,
    hint: &'static str,
}

const fn rule(
    marks: &'static str,
    derails: bool,
    message: &'static str,
    hint: &'static str,
) -> Rule {
    Rule { marks, derails, message, hint }
}

/// The first rule that fits is taken.
const RULES: [Rule; 18] = [
    rule(
        "duplicate key",
        false,
        "this name was given before in the same table",
        "join the two, or give one of them another name",
    ),
    rule(
        "invalid multi-line",
        true,
        "the text that began with three quotes does not end",
        "end it with three quotes of the same kind",
    ),
    rule(
        "invalid basic string",
        false,
        "the text is not closed with `\"`, or holds a control character",
        "write text as \"text\", on one line",
    ),
    rule(
        "invalid literal string",
        false,
        "the text is not closed with `'`, or holds a control character",
        "write text as 'text', on one line",
    ),
    rule(
        "missing escaped value",
        false,
        "`\\` is followed by something that it cannot stand before",
        "write `\\\\` for one backslash, or put the text in single quotes",
    ),
    rule(
        "unexpected leading zero",
        false,
        "a number cannot begin with 0",
        "leave out the zero, or write an octal number as 0o17",
    ),
    rule(
        "invalid comment character",
        false,
        "a comment holds a control character",
        "remove the control character",
    ),
    rule(
        "unexpected key or value",
        false,
        "there is more on this line than one key and its value",
        "put each `key = value` on a line of its own",
    ),
    rule(
        "unclosed table",
        true,
        "the header is not closed with `]`",
        "write [machine.web01], or [[machine.web01.disk]] for each disk",
    ),
    rule(
        "unclosed array table",
        true,
        "the header is not closed with `]]`",
        "write [[machine.web01.disk]]",
    ),
    rule(
        "unclosed inline table",
        true,
        "a table that began with `{` does not end",
        "write { key = \"value\" }",
    ),
    rule(
        "unclosed array",
        true,
        "an array that began with `[` does not end",
        "write [\"one\", \"two\"]",
    ),
    rule(
        "missing key for inline table",
        true,
        "a table that began with `{` above is not closed with `}`",
        "write { key = \"value\" }",
    ),
    rule(
        "missing comma between key-value pairs",
        true,
        "`,` is missing before this, or `}` at the end of a table before it",
        "write { key = \"value\", other = \"value\" }",
    ),
    rule(
        "missing comma between array elements",
        true,
        "`,` is missing before this, or `]` at the end of an array before it",
        "write [\"one\", \"two\"]",
    ),
    rule(
        "unquoted keys cannot be empty",
        true,
        "a name is missing here",
        "write key = \"value\", or a header such as [machine.web01]",
    ),
    rule(
        "key with no value",
        true,
        "`=` and a value are missing here",
        "write key = \"value\"; a comment begins with `#`",
    ),
    rule(
        "invalid key-value pair",
        true,
        "a key is missing here",
        "write key = \"value\"; a comment begins with `#`",
    ),
];

/// Reports the parser's errors, up to the first one that makes the parser lose its way.
fn report(text: &str, mut errors: Vec<Error>, findings: &mut Findings<'_>) {
    errors.sort_by_key(|error| span_of(error).start);
    // On the line where the parser loses its way, its other errors are causes or consequences;
    // the first one of the line stands for all of them.
    let derailing = errors.iter().find(|error| derails(error.message()));
    let lost_line = derailing.map(|error| findings.line(&span_of(error)));
    // Under a header that was given before, everything seems to be given before.
    let mut repeated_until = 0;
    for error in &errors {
        let at = span_of(error);
        if lost_line.is_some_and(|lost| findings.line(&at) > lost) {
            break;
        }
        if error.message().contains("duplicate key") {
            if at.start < repeated_until {
                continue;
            }
            repeated_until = end_of_headed(text, at.start);
        }
        let (message, hint) = explain(text, error);
        findings.broken(&at, message, hint);
    }
    if let Some(error) = derailing {
        let unclosed = ["inline table", "array", "key-value pairs"];
        if unclosed.iter().any(|marks| error.message().contains(marks)) {
            // It began anywhere above, and what was read of it is not what was meant.
            findings.lost(&NOWHERE);
        } else {
            findings.lost(&span_of(error));
        }
    }
}

/// Where the next header begins, if `offset` is in a header; otherwise `offset`.
fn end_of_headed(text: &str, offset: usize) -> usize {
    let line_start = text[..offset].rfind('\n').map_or(0, |at| at + 1);
    if !text[line_start..].starts_with('[') {
        return offset;
    }
    text[offset..].find("\n[").map_or(text.len(), |at| offset + at)
}

fn span_of(error: &Error) -> Span {
    error.span().unwrap_or(0..0)
}

fn rule_for(message: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| message.contains(rule.marks))
}

fn derails(message: &str) -> bool {
    // Of a message that is not known here, assume the worst.
    rule_for(message).map_or(!is_local(message), |rule| rule.derails)
}

/// Whether a message without a rule is about one value or key.
fn is_local(message: &str) -> bool {
    ["must be quoted", "invalid unquoted key", "invalid float", "invalid integer", "invalid number"]
        .iter()
        .any(|marks| message.contains(marks))
}

fn explain(text: &str, error: &Error) -> (String, Option<String>) {
    let message = error.message();
    let found = error.span().and_then(|span| text.get(span)).unwrap_or_default();
    let is_word = found.starts_with(|c: char| c.is_alphabetic());
    if message.contains("must be quoted") || (message.contains("invalid float") && is_word) {
        return unquoted(found);
    }
    if message.contains("invalid unquoted key") {
        let hint = "names hold letters, digits, `_` and `-`; `key = value` has an equals sign, a \
                    comment begins with `#`";
        return (format!("{} cannot be part of a name", quoted(found)), Some(hint.to_owned()));
    }
    match rule_for(message) {
        Some(rule) => (rule.message.to_owned(), Some(rule.hint.to_owned())),
        None => (format!("this is not TOML: {message}"), None),
    }
}

fn unquoted(found: &str) -> (String, Option<String>) {
    let bare = found.trim_matches(['"', '\'', '“', '”', '„', '‘', '’']);
    match bare {
        "" => {
            let hint = "write key = \"text\", key = 5 or key = true".to_owned();
            ("a value is missing here".to_owned(), Some(hint))
        }
        "yes" | "on" | "True" | "TRUE" => {
            (format!("{} is not a value", quoted(found)), Some("write true".to_owned()))
        }
        "no" | "off" | "False" | "FALSE" => {
            (format!("{} is not a value", quoted(found)), Some("write false".to_owned()))
        }
        _ => {
            let quote = if bare.contains('\\') { '\'' } else { '"' };
            let hint = if bare.chars().all(|c| !c.is_control() && c != quote) && bare.len() <= 80 {
                format!("write {quote}{bare}{quote}")
            } else {
                "write \"text\"".to_owned()
            };
            ("text must stand in straight quotes".to_owned(), Some(hint))
        }
    }
}

/// Parses `text`, reports what is wrong with its syntax, and returns what could be read.
pub(super) fn read<'t>(text: &'t str, findings: &mut Findings<'_>) -> DeTable<'t> {
    let (table, errors) = DeTable::parse_recoverable(text);
    report(text, errors, findings);
    table.into_inner()
}

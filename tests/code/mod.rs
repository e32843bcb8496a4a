//! Rust source as the checks of this repository's own rules read it: a small scanner, no parser.
#![allow(dead_code, reason = "each test crate uses its own part")]

use std::path::{Path, PathBuf};

/// A source file with what the rules do not look at blanked out. Lines stay where they are.
#[derive(Debug)]
pub struct SourceFile {
    /// Path from the repository's root.
    pub path: PathBuf,
    /// As it is written.
    pub text: String,
    /// Without the content of comments, texts and characters.
    pub code: String,
    /// `code` without what is compiled for tests only; nothing in files that are only tests.
    pub product_code: String,
}

impl SourceFile {
    /// Scans `text`, which stands in the file `path`.
    pub fn new(path: PathBuf, text: String) -> Self {
        let code = blank_texts(&text);
        let product_code =
            if is_test_file(&path) { String::new() } else { blank_test_items(&code) };
        Self { path, text, code, product_code }
    }

    /// Path and line of a byte of the code, for messages.
    pub fn place(&self, at: usize) -> String {
        let line = self.code[..at].matches('\n').count() + 1;
        format!("{}:{line}", self.path.display())
    }

    /// The module just below the crate's root that the file belongs to: `store` of
    /// `src/store/pack.rs`; `None` for files that are no part of the library's modules.
    pub fn module(&self) -> Option<String> {
        let first = self.path.strip_prefix("src").ok()?.components().next()?;
        let name = first.as_os_str().to_str()?;
        let name = name.strip_suffix(".rs").unwrap_or(name);
        (!matches!(name, "lib" | "main")).then(|| name.to_owned())
    }
}

/// Files `tests.rs`, and those in folders of these names, hold only tests, benchmarks or parts
/// for them.
fn is_test_file(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == "tests.rs")
        || path.iter().any(|part| ["tests", "testing", "benches"].iter().any(|name| part == *name))
}

/// All Rust files below `folder`, a path from the repository's root.
pub fn read_all(folder: &str) -> Vec<SourceFile> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    let mut folders = vec![root.join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                files.push(SourceFile::new(path.strip_prefix(root).unwrap().to_owned(), text));
            }
        }
    }
    assert!(!files.is_empty(), "{folder} holds no Rust files");
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

/// Replaces the content of comments, texts and characters by spaces.
pub fn blank_texts(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let after_word = code.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let len = match first {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => block_comment_len(rest),
            '"' => quoted_len(rest),
            'r' | 'b' | 'c' if !after_word => prefixed_text_len(rest),
            '\'' => character_len(rest),
            _ => 0,
        };
        if len == 0 {
            code.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            blank(&rest[..len], &mut code);
            rest = &rest[len..];
        }
    }
    code
}

fn blank(text: &str, code: &mut String) {
    text.bytes().for_each(|byte| code.push(if byte == b'\n' { '\n' } else { ' ' }));
}

fn block_comment_len(text: &str) -> usize {
    let mut depth = 0;
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match &bytes[at..bytes.len().min(at + 2)] {
            b"/*" => (depth, at) = (depth + 1, at + 2),
            b"*/" => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

/// Length of a text that begins with its quotation mark.
fn quoted_len(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Length of a text such as `b"…"`, `r#"…"#` or `br"…"`; 0 when it is none.
fn prefixed_text_len(text: &str) -> usize {
    let letters = text.bytes().take_while(|byte| matches!(byte, b'r' | b'b' | b'c')).count();
    let (prefix, rest) = text.split_at(letters.min(2));
    if !prefix.contains('r') {
        return if rest.starts_with('"') { prefix.len() + quoted_len(rest) } else { 0 };
    }
    let hashes = rest.bytes().take_while(|byte| *byte == b'#').count();
    if !rest[hashes..].starts_with('"') {
        return 0;
    }
    let end = format!("\"{}", "#".repeat(hashes));
    let begin = prefix.len() + hashes + 1;
    text[begin..].find(&end).map_or(text.len(), |at| begin + at + end.len())
}

/// Length of a character; 0 for a lifetime.
fn character_len(text: &str) -> usize {
    let rest = &text[1..];
    if let Some(escaped) = rest.strip_prefix('\\') {
        let skip = escaped.chars().next().map_or(0, char::len_utf8);
        return escaped[skip..].find('\'').map_or(text.len(), |at| 2 + skip + at + 1);
    }
    let len = rest.chars().next().map_or(0, char::len_utf8);
    if rest[len..].starts_with('\'') { 1 + len + 1 } else { 0 }
}

/// Blanks every item that stands behind `#[cfg(test)]`.
pub fn blank_test_items(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut product = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(at) = rest.find(MARK) {
        product.push_str(&rest[..at]);
        let len = MARK.len() + item_len(&rest[at + MARK.len()..]);
        blank(&rest[at..at + len], &mut product);
        rest = &rest[at + len..];
    }
    product.push_str(rest);
    product
}

/// Length of an item: up to its `;`, or to the end of its braces.
fn item_len(code: &str) -> usize {
    let mut depth = 0_u32;
    for (at, byte) in code.bytes().enumerate() {
        match byte {
            b'{' | b'(' | b'[' => depth += 1,
            b'}' | b')' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 && matches!(byte, b';' | b'}') {
            return at + 1;
        }
    }
    code.len()
}

/// Places where `word` stands as a word of its own.
pub fn words(code: &str, word: &str) -> Vec<usize> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word)
        .filter(|(at, _)| {
            !code[..*at].ends_with(is_part) && !code[at + word.len()..].starts_with(is_part)
        })
        .map(|(at, _)| at)
        .collect()
}

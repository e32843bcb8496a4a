//! The chain of lines, over bytes alone.

use super::entry::{AuditLine, LineDigest, NO_LINE, Removed, digest};

/// Longest piece that a crash can leave, in bytes, with the pieces of repairs that were cut off too.
const TORN_BYTES_MAX: usize = 64 * 1024;

/// Where a chain is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Link {
    /// Number of the last line; 0 before the first.
    pub sequence: u64,
    /// Its digest.
    pub digest: LineDigest,
}

impl Link {
    /// Before the first line.
    pub const BEGIN: Self = Self { sequence: 0, digest: NO_LINE };
}

/// The first line that breaks the chain.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct BrokenLine {
    /// Its file.
    pub file: String,
    /// Its place in the file, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub reason: String,
}

/// What [`check_lines`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinesVerdict {
    /// Lines that are in order.
    pub lines: u64,
    /// Pieces of lines that a crash left, each told of by the line after it.
    pub torn: u64,
    /// Bytes after the last line that are no whole line.
    pub rest_bytes: u64,
    /// Where it breaks: the place from 1, and what is wrong.
    pub broken: Option<(u64, String)>,
}

/// Walks along lines.
#[derive(Debug)]
pub(super) struct Walk {
    /// The last good line; `None`: whatever comes first is believed.
    pub at: Option<Link>,
    /// The line that the first one of all follows.
    pub follows: Option<Link>,
    /// The newest removal that a line tells of.
    pub removed: Option<Removed>,
    /// What was found so far.
    pub verdict: LinesVerdict,
    place: u64,
}

impl Walk {
    pub fn new(at: Option<Link>) -> Self {
        let verdict = LinesVerdict { lines: 0, torn: 0, rest_bytes: 0, broken: None };
        Self { at, follows: at, removed: None, verdict, place: 0 }
    }

    /// Walks along the lines of one more file, up to the first that breaks the chain. Bytes after
    /// the last line are fine only where `may_be_torn`: in the file that is written to.
    pub fn file(&mut self, bytes: &[u8], may_be_torn: bool, mut each: impl FnMut(&AuditLine)) {
        self.place = 0;
        let mut position = 0;
        while position < bytes.len() {
            let (line, end) = line_at(bytes, position);
            self.place += 1;
            let (parsed, line, end) = match self.check(line) {
                Ok(parsed) => (parsed, line, end),
                Err(reason) => match self.behind_torn(bytes, position) {
                    Some(found) => found,
                    None if may_be_torn && is_torn(bytes, position) => {
                        self.verdict.rest_bytes = (bytes.len() - position) as u64;
                        return;
                    }
                    None => {
                        self.verdict.broken = Some((self.place, reason));
                        return;
                    }
                },
            };
            self.accept(&parsed, line);
            each(&parsed);
            position = end;
        }
    }

    fn accept(&mut self, parsed: &AuditLine, line: &[u8]) {
        let before = parsed.sequence.saturating_sub(1);
        self.follows.get_or_insert(Link { sequence: before, digest: parsed.before });
        self.at = Some(Link { sequence: parsed.sequence, digest: digest(line) });
        self.removed = parsed.removed.or(self.removed);
        self.verdict.lines += 1;
    }

    /// The line, if it is the next one.
    fn check(&self, line: &[u8]) -> Result<AuditLine, String> {
        let parsed = AuditLine::parse(line).ok_or("it is no line of the log")?;
        if parsed.torn.is_some() {
            return Err("it tells of a piece of a line that is not there".to_owned());
        }
        self.check_link(&parsed)?;
        Ok(parsed)
    }

    fn check_link(&self, parsed: &AuditLine) -> Result<(), String> {
        let Some(at) = self.at else { return check_first(parsed) };
        if Some(parsed.sequence) != at.sequence.checked_add(1) {
            return Err(format!("its number is {}, after {}", parsed.sequence, at.sequence));
        }
        if parsed.before != at.digest {
            return Err("the line before it is not the one that it followed".to_owned());
        }
        Ok(())
    }

    /// The line that tells of the bytes from `position` as what a crash left, with its end.
    fn behind_torn<'a>(
        &mut self,
        bytes: &'a [u8],
        position: usize,
    ) -> Option<(AuditLine, &'a [u8], usize)> {
        let mut start = position;
        let mut skipped = 0;
        while start < bytes.len() && start - position <= TORN_BYTES_MAX {
            let (line, end) = line_at(bytes, start);
            let parsed = AuditLine::parse(line);
            if let Some((parsed, torn)) = parsed.and_then(|it| it.torn.map(|torn| (it, torn)))
                && torn.bytes == (start - position) as u64
                && start > position
                && torn.sha256 == digest(&bytes[position..start])
                && self.check_link(&parsed).is_ok()
            {
                self.verdict.torn += 1;
                self.place += skipped;
                return Some((parsed, line, end));
            }
            skipped += 1;
            start = end;
        }
        None
    }
}

fn check_first(parsed: &AuditLine) -> Result<(), String> {
    match (parsed.sequence, parsed.before == NO_LINE) {
        (0, _) => Err("its number is 0".to_owned()),
        (1, false) => Err("it is the first, but follows another one".to_owned()),
        _ => Ok(()),
    }
}

/// The line at `position` without its newline, and where the next one begins. A whole line whose
/// newline a crash took is one, too.
fn line_at(bytes: &[u8], position: usize) -> (&[u8], usize) {
    let rest = &bytes[position..];
    match rest.iter().position(|byte| *byte == b'\n') {
        Some(len) => (&rest[..len], position + len + 1),
        None => (rest, bytes.len()),
    }
}

/// Whether the bytes from `position` may be what a crash left: one write, of which any part came to
/// the medium. Such a piece holds no line of the log.
fn is_torn(bytes: &[u8], position: usize) -> bool {
    let rest = &bytes[position..];
    rest.len() <= TORN_BYTES_MAX && last_line(rest, Link::BEGIN).1 == 0
}

/// Where to go on in a file that is written to: the last whole line, which may be anywhere, and the
/// position right after it. What is behind that is torn.
pub(super) fn last_line(bytes: &[u8], before: Link) -> (Link, usize) {
    let (mut at, mut after) = (before, 0);
    let mut position = 0;
    while position < bytes.len() {
        let (line, end) = line_at(bytes, position);
        if let Some(parsed) = AuditLine::parse(line) {
            at = Link { sequence: parsed.sequence, digest: digest(line) };
            after = end;
        }
        position = end;
    }
    (at, after)
}

/// Whether the lines of one whole log are in order.
pub fn check_lines(bytes: &[u8]) -> LinesVerdict {
    let mut walk = Walk::new(Some(Link::BEGIN));
    walk.file(bytes, true, |_| {});
    walk.verdict
}

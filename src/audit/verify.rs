//! Reading the log: all of it, to check its chain, or a part.

use super::chain::{BrokenLine, Link, Walk};
use super::entry::{AuditLine, LineDigest};
use super::log::{AuditLog, READ_BYTES_MAX};
use super::{AuditError, files};
use crate::fsio::read_whole;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};

/// What a verification of the log found.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct AuditVerdict {
    /// Files that were read.
    pub files: u64,
    /// Lines that are in order.
    pub lines: u64,
    /// Number of the first line that is still there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<u64>,
    /// Number of the last line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<u64>,
    /// SHA-256 of the last line. Kept elsewhere, it tells later whether all lines up to this one
    /// are the same as now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<LineDigest>,
    /// Pieces of lines that a crash left, which were never acknowledged.
    pub torn: u64,
    /// Bytes at the end that a crash left, of which the next line will tell.
    pub rest_bytes: u64,
    /// The first line that breaks the chain; nothing behind it was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broken: Option<BrokenLine>,
}

/// Checks the chain of all lines.
///
/// # Errors
/// When a file cannot be read. A broken chain is no error: the verdict tells of it.
pub fn verify(log: &AuditLog) -> Result<AuditVerdict, AuditError> {
    let mut verdict = AuditVerdict {
        files: 0,
        lines: 0,
        first: None,
        last: None,
        digest: None,
        torn: 0,
        rest_bytes: 0,
        broken: None,
    };
    let mut walk = Walk::new(None);
    let broken = |path: &Path, line, reason| {
        Some(BrokenLine { file: path.display().to_string(), line, reason })
    };
    let paths = paths(log)?;
    for (index, (named, path)) in paths.iter().enumerate() {
        let bytes = read_whole(log.fs(), path, READ_BYTES_MAX)?;
        let first = walk.at.map_or(*named, |at| at.sequence.checked_add(1));
        if named.is_some_and(|named| Some(named) != first) {
            let reason = "the lines before it are missing".to_owned();
            verdict.broken = broken(path, 1, reason);
            break;
        }
        verdict.files += 1;
        walk.file(&bytes, index + 1 == paths.len(), |_| {});
        if let Some((line, reason)) = walk.verdict.broken.take() {
            verdict.broken = broken(path, line, reason);
            break;
        }
    }
    verdict.lines = walk.verdict.lines;
    verdict.torn = walk.verdict.torn;
    verdict.rest_bytes = walk.verdict.rest_bytes;
    verdict.first = walk.follows.map(|link| link.sequence.saturating_add(1));
    verdict.last = walk.at.map(|at| at.sequence);
    verdict.digest = walk.at.map(|at| at.digest);
    if verdict.broken.is_none()
        && let Some(reason) = missing_at_the_beginning(&walk)
    {
        let path = paths.first().map_or(log.folder(), |(_, path)| path);
        verdict.broken = broken(path, 1, reason);
    }
    Ok(verdict)
}

/// All files in the order of their lines, with the number of the first line where the name tells.
fn paths(log: &AuditLog) -> Result<Vec<(Option<u64>, PathBuf)>, AuditError> {
    let rotated = files::list_rotated(log.fs(), log.folder())?;
    let mut paths: Vec<_> = rotated.into_iter().map(|(first, path)| (Some(first), path)).collect();
    let current = files::current(log.folder());
    if log.fs().stat(&current)?.is_some() {
        paths.push((None, current));
    }
    Ok(paths)
}

/// Why the first line that is there should not be the first.
fn missing_at_the_beginning(walk: &Walk) -> Option<String> {
    let follows = walk.follows.filter(|link| *link != Link::BEGIN)?;
    let told = walk.removed;
    let is_told = told.is_some_and(|removed| {
        let same = removed.through != follows.sequence || removed.sha256 == follows.digest;
        removed.through >= follows.sequence && same
    });
    (!is_told).then(|| "the lines before it are missing, and no line tells why".to_owned())
}

/// At most `limit` lines with numbers below `before`, the newest ones, the oldest of them first.
/// Nothing is checked.
///
/// # Errors
/// When a file cannot be read.
pub fn read_lines(
    log: &AuditLog,
    before: Option<u64>,
    limit: usize,
) -> Result<Vec<AuditLine>, AuditError> {
    let mut newest: VecDeque<AuditLine> = VecDeque::new();
    // Backwards, a file at a time, until there are enough.
    for (named, path) in paths(log)?.into_iter().rev() {
        if named.zip(before).is_some_and(|(named, before)| named >= before) {
            continue;
        }
        let bytes = read_whole(log.fs(), &path, READ_BYTES_MAX)?;
        let room = limit.saturating_sub(newest.len());
        let mut found = VecDeque::new();
        for parsed in bytes.split(|byte| *byte == b'\n').filter_map(AuditLine::parse) {
            if room > 0 && before.is_none_or(|before| parsed.sequence < before) {
                if found.len() == room {
                    found.pop_front();
                }
                found.push_back(parsed);
            }
        }
        found.append(&mut newest);
        newest = found;
        if newest.len() >= limit {
            break;
        }
    }
    Ok(newest.into())
}

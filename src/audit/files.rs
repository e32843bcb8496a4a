//! Names of the log's files.

use crate::fsio::{FileKind, FileSystem, Result};
use std::path::{Path, PathBuf};

/// The file that is written to.
pub(super) fn current(folder: &Path) -> PathBuf {
    folder.join("audit.jsonl")
}

/// The lock that whoever writes holds.
pub(super) fn lock(folder: &Path) -> PathBuf {
    folder.join("audit.lock")
}

/// A full file whose first line has this number.
pub(super) fn rotated(folder: &Path, first: u64) -> PathBuf {
    // Twenty digits, so that the order of the names is the order of the lines.
    folder.join(format!("audit-{first:020}.jsonl"))
}

/// Full files in the order of their lines, each with the number of its first.
pub(super) fn list_rotated(fs: &dyn FileSystem, folder: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs.list(folder)? {
        let digits = entry.name.strip_prefix("audit-").and_then(|it| it.strip_suffix(".jsonl"));
        let Some(digits) = digits.filter(|digits| digits.len() == 20) else { continue };
        if entry.kind == FileKind::File
            && let Ok(first) = digits.parse::<u64>()
        {
            found.push((first, folder.join(&entry.name)));
        }
    }
    found.sort();
    Ok(found)
}

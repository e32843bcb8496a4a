//! Verification without any key: each file that is named by its content has that content, and the
//! key slots are those of their index.

use super::VerifyError;
use super::audit::{
    Hashed, check_all_documents, foreign_files, hash_file, quarantined, tell_slots,
};
use super::finding::{Finding, FindingKind, Verdict};
use crate::fsio::{FileKind, FileSystem};
use crate::progress::Progress;
use crate::store::{Layout, check_slots};
use crate::units::{PackName, PointId};
use crate::workers::in_parallel;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// What a verification without keys found.
#[derive(Debug, Clone, Default)]
pub struct FilesVerdict {
    /// What is damaged. Which points need it cannot be told.
    pub findings: Vec<Finding>,
    /// Files that were read.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Files that were set apart earlier, and their bytes.
    pub quarantined: (usize, u64),
}

impl From<FilesVerdict> for Verdict {
    fn from(found: FilesVerdict) -> Self {
        let FilesVerdict { findings, bytes, quarantined, .. } = found;
        Self { findings, bytes_read: bytes, bytes_total: bytes, quarantined, ..Self::default() }
    }
}

/// A file that is named by the SHA-256 of its bytes.
enum Named {
    Pack(PackName),
    Point(PointId),
}

/// Hashes all packs, manifests and other documents of the repository in `layout`, and holds the key
/// slots against their index, without any key and without a catalog.
///
/// # Errors
/// When it cannot be listed or read to the end.
pub fn verify_files(
    fs: &dyn FileSystem,
    layout: &Layout,
    workers: usize,
    progress: &Progress,
) -> Result<FilesVerdict, VerifyError> {
    let files = list(fs, layout)?;
    let bytes = files.iter().map(|(_, _, bytes)| bytes).sum();
    progress.add_total(bytes);
    let mut findings = Vec::new();
    let count = files.len();
    let found: Mutex<Vec<Finding>> = Mutex::default();
    in_parallel(
        workers,
        |send| {
            let mut files = files.into_iter();
            while files.next().is_some_and(|(named, path, _)| send((named, path))) {}
            Ok::<(), VerifyError>(())
        },
        || Ok(()),
        |(), (named, path)| {
            let found_in = check(fs, &named, &path, progress)?;
            found.lock().unwrap_or_else(PoisonError::into_inner).extend(found_in);
            Ok(())
        },
    )?;
    findings.append(&mut found.into_inner().unwrap_or_else(PoisonError::into_inner));
    check_all_documents(fs, layout, &mut findings)?;
    tell_slots(check_slots(fs, layout, None)?, &mut findings);
    foreign_files(fs, layout, &mut findings)?;
    findings.sort_by(|a, b| (a.kind, &a.file).cmp(&(b.kind, &b.file)));
    Ok(FilesVerdict { findings, files: count, bytes, quarantined: quarantined(fs, layout)? })
}

fn list(fs: &dyn FileSystem, layout: &Layout) -> Result<Vec<(Named, PathBuf, u64)>, VerifyError> {
    let mut files = Vec::new();
    for entry in fs.list(&layout.points())? {
        if let Ok(id) = entry.name.parse::<PointId>() {
            files.push((Named::Point(id), layout.point(id), entry.len_bytes));
        }
    }
    for folder in fs.list(&layout.packs())? {
        if folder.kind != FileKind::Directory {
            continue;
        }
        for entry in fs.list(&layout.packs().join(&folder.name))? {
            let pack = entry.name.parse::<PackName>().ok();
            let path = layout.packs().join(&folder.name).join(&entry.name);
            if let Some(name) = pack.filter(|name| layout.pack(*name) == path) {
                files.push((Named::Pack(name), path, entry.len_bytes));
            }
        }
    }
    Ok(files)
}

fn check(
    fs: &dyn FileSystem,
    named: &Named,
    path: &Path,
    progress: &Progress,
) -> Result<Option<Finding>, VerifyError> {
    let mut on_bytes = |bytes| {
        progress.add_done(bytes);
        progress.add_read(bytes);
        Ok(progress.check()?)
    };
    let expected = match named {
        Named::Pack(name) => name.0,
        Named::Point(id) => id.0,
    };
    let reason = match hash_file(fs, path, &mut on_bytes)? {
        Hashed::Bytes(hash) if hash == expected => return Ok(None),
        // Removed meanwhile by whoever may.
        Hashed::Gone => return Ok(None),
        Hashed::Bytes(_) => "its content does not match its name".to_owned(),
        Hashed::Unreadable(reason) => reason,
    };
    Ok(Some(match named {
        Named::Pack(name) => Finding::pack(FindingKind::Pack, *name, reason),
        Named::Point(id) => Finding::point(FindingKind::Manifest, *id, reason),
    }))
}

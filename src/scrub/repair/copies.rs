//! Bringing back whole files from a folder with a copy of the repository.

use super::super::VerifyError;
use super::super::audit::{Hashed, hash_file};
use super::super::finding::{FindingKind, Verdict};
use crate::fsio::{FileHandle, FileSystem, OpenMode};
use crate::progress::Progress;
use crate::store::{Repository, StoreError, WriterSession};
use crate::units::{Hex, MIB, ObjectName, PackName};
use sha2::{Digest, Sha256};
use std::collections::{BTreeSet, HashSet};
use std::path::Path;

/// Copies in whatever of the damaged and lost files is good in `folder`; gives back which.
pub(super) fn copy_in(
    repository: &Repository,
    session: &WriterSession,
    folder: &Path,
    damaged: &Verdict,
    progress: &Progress,
) -> Result<Vec<String>, VerifyError> {
    let mut copied = Vec::new();
    for finding in &damaged.findings {
        let is_named = matches!(
            finding.kind,
            FindingKind::Pack
                | FindingKind::LostPack
                | FindingKind::Manifest
                | FindingKind::LostPoint
                | FindingKind::Document
                | FindingKind::LostDocument
        );
        if is_named && copy_file(repository, session, folder, &finding.file, progress)? {
            copied.push(finding.file.clone());
        }
    }
    for pack in lost_packs(repository, folder, damaged)? {
        let file = format!("packs/{:02x}/{pack}", pack.0[0]);
        if !copied.contains(&file) && copy_file(repository, session, folder, &file, progress)? {
            copied.push(file);
        }
    }
    Ok(copied)
}

/// Packs of the copy that the repository has not, and that hold what points lack.
fn lost_packs(
    repository: &Repository,
    folder: &Path,
    damaged: &Verdict,
) -> Result<Vec<PackName>, VerifyError> {
    if damaged.wanted.is_empty() {
        return Ok(Vec::new());
    }
    let copy = repository.copy_at(folder);
    let there = match copy.list_packs() {
        Ok(packs) => packs,
        // A copy may have manifests only.
        Err(StoreError::File(error)) if error.not_found() => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let present: BTreeSet<PackName> =
        repository.list_packs()?.into_iter().map(|(name, _)| name).collect();
    // What lies below a lost node is not wanted yet; a pack with a part of the tree may be needed.
    let needed = |name: PackName| {
        copy.read_pack_record(name).is_ok_and(|record| {
            let holds = |wanted: &HashSet<ObjectName>| {
                record.entries.iter().any(|entry| wanted.contains(&entry.name))
            };
            holds(&damaged.wanted)
        })
    };
    let missing = there.into_iter().map(|(name, _)| name).filter(|name| !present.contains(name));
    Ok(missing.filter(|name| needed(*name)).collect())
}

/// Copies one file, if it is there and what its name says. It replaces what is damaged in one
/// step; nothing is lost by that, as it is the same file.
fn copy_file(
    repository: &Repository,
    session: &WriterSession,
    folder: &Path,
    file: &str,
    progress: &Progress,
) -> Result<bool, VerifyError> {
    let (fs, from) = (repository.file_system(), folder.join(file));
    let Some(name) = file.rsplit('/').next().and_then(|name| name.parse::<Hex<32>>().ok()) else {
        return Ok(false);
    };
    let mut on_bytes = |bytes| {
        progress.pace(bytes);
        Ok(progress.check()?)
    };
    match hash_file(fs.as_ref(), &from, &mut on_bytes)? {
        Hashed::Bytes(hash) if hash == name.0 => {}
        Hashed::Bytes(_) | Hashed::Gone | Hashed::Unreadable(_) => return Ok(false),
    }
    let written = session.create()?;
    let hash = copy_bytes(fs.as_ref(), &from, written.handle().as_ref(), progress)?;
    // It may have changed between the two.
    if hash != name.0 {
        return Ok(false);
    }
    let to = repository.layout().root().join(file);
    fs.create_dir_all(&crate::fsio::parent_dir(&to))?;
    written.publish_replacing(&to)?;
    Ok(true)
}

fn copy_bytes(
    fs: &dyn FileSystem,
    from: &Path,
    to: &dyn FileHandle,
    progress: &Progress,
) -> Result<[u8; 32], VerifyError> {
    let source = fs.open(from, OpenMode::Read)?;
    let mut buffer = vec![0; MIB as usize];
    let mut hash = Sha256::new();
    let mut at = 0;
    loop {
        let count = source.read_at(&mut buffer, at)?;
        if count == 0 {
            return Ok(hash.finalize().into());
        }
        hash.update(&buffer[..count]);
        to.write_all_at(&buffer[..count], at)?;
        at += count as u64;
        progress.pace(count as u64);
        progress.add_stored(count as u64);
    }
}

//! All files of a repository but its packs and manifests: what is named by its content has that
//! content, the header and the key slots are as they were written, and nothing else lies about.

use super::VerifyError;
use super::finding::{Finding, FindingKind};
use crate::catalog::DocumentFolder;
use crate::fsio::{DirEntry, FileHandle, FileKind, FileSystem, OpenMode};
use crate::store::{Layout, Repository, SlotProblem};
use crate::units::{Hex, MIB, PackName, PointId};
use sha2::{Digest, Sha256};
use std::path::Path;

/// Folders of documents that are named by the SHA-256 of their bytes.
const DOCUMENTS: [DocumentFolder; 3] = DocumentFolder::ALL;
/// What has its own rules, or is no content: temporary files and locks come and go, and file
/// systems make a `lost+found`.
const PASSED_OVER: [&str; 4] = ["tmp", "locks", "quarantine", "lost+found"];

/// Looks at all of them.
pub(super) fn audit(repository: &Repository) -> Result<Vec<Finding>, VerifyError> {
    let (fs, layout) = (repository.file_system().as_ref(), repository.layout());
    let mut findings = Vec::new();
    for entry in fs.list(layout.root())? {
        match entry.name.as_str() {
            "repository.json" => {
                let reason = repository.check_header_bytes()?;
                findings.extend(reason.map(|it| Finding::new(FindingKind::Header, entry.name, it)));
            }
            "keys" | "packs" | "points" => {}
            name if DOCUMENTS.iter().any(|folder| folder.name() == name) => {}
            name if PASSED_OVER.contains(&name) => {}
            _ => findings.push(foreign("", &entry)),
        }
    }
    check_all_documents(fs, layout, &mut findings)?;
    // Also when the folder is gone.
    tell_slots(repository.check_slots()?, &mut findings);
    foreign_files(fs, layout, &mut findings)?;
    Ok(findings)
}

/// Files in `packs/` and `points/` that cannot be packs or manifests.
pub(super) fn foreign_files(
    fs: &dyn FileSystem,
    layout: &Layout,
    findings: &mut Vec<Finding>,
) -> Result<(), VerifyError> {
    for entry in fs.list(&layout.points())? {
        let is_point = entry.name.parse().is_ok_and(|id: PointId| id.to_string() == entry.name);
        if !is_point || entry.kind != FileKind::File {
            findings.push(foreign("points/", &entry));
        }
    }
    for folder in fs.list(&layout.packs())? {
        if folder.kind != FileKind::Directory || folder.name.len() != 2 {
            findings.push(foreign("packs/", &folder));
            continue;
        }
        for entry in fs.list(&layout.packs().join(&folder.name))? {
            let pack = entry.name.parse::<PackName>().ok();
            let path = layout.packs().join(&folder.name).join(&entry.name);
            let is_pack = pack.is_some_and(|name| layout.pack(name) == path);
            if !is_pack || entry.kind != FileKind::File {
                findings.push(foreign(&format!("packs/{}/", folder.name), &entry));
            }
        }
    }
    Ok(())
}

fn foreign(folder: &str, entry: &DirEntry) -> Finding {
    let file = format!("{folder}{}", entry.name);
    Finding::new(FindingKind::Foreign, file, "afterimage puts no such file there")
}

/// What is wrong with the key slots. A change that is going on is no damage.
pub(super) fn tell_slots(problems: Vec<SlotProblem>, findings: &mut Vec<Finding>) {
    let lasting = problems.iter().filter(|it| !matches!(it, SlotProblem::Unfinished { .. }));
    findings.extend(lasting.map(|problem| {
        let file = match (problem.slot(), problem) {
            (Some(slot), _) => format!("keys/{slot}.json"),
            (None, SlotProblem::Foreign { name }) => format!("keys/{name}"),
            (None, _) => "keys/index.json".to_owned(),
        };
        let kind = match problem {
            SlotProblem::Foreign { .. } => FindingKind::Foreign,
            _ => FindingKind::Key,
        };
        Finding::new(kind, file, problem.to_string())
    }));
}

/// Documents of one folder, which may be missing.
fn check_documents(
    fs: &dyn FileSystem,
    layout: &Layout,
    folder: &str,
    findings: &mut Vec<Finding>,
) -> Result<(), VerifyError> {
    for entry in list_or_empty(fs, &layout.root().join(folder))? {
        let name = entry.name.parse::<Hex<32>>().ok().filter(|hex| hex.to_string() == entry.name);
        let Some(name) = name.filter(|_| entry.kind == FileKind::File) else {
            findings.push(foreign(&format!("{folder}/"), &entry));
            continue;
        };
        let file = format!("{folder}/{}", entry.name);
        match hash_file(fs, &layout.root().join(&file), &mut |_| Ok(()))? {
            Hashed::Bytes(hash) if hash == name.0 => {}
            // Removed meanwhile by whoever may.
            Hashed::Gone => {}
            Hashed::Bytes(_) => findings.push(Finding::new(
                FindingKind::Document,
                file,
                "its content does not match its name",
            )),
            Hashed::Unreadable(reason) => {
                findings.push(Finding::new(FindingKind::Document, file, reason));
            }
        }
    }
    Ok(())
}

/// All folders of documents.
pub(super) fn check_all_documents(
    fs: &dyn FileSystem,
    layout: &Layout,
    findings: &mut Vec<Finding>,
) -> Result<(), VerifyError> {
    DOCUMENTS.iter().try_for_each(|folder| check_documents(fs, layout, folder.name(), findings))
}

/// Names in a folder; none when it is not there.
pub(super) fn list_or_empty(
    fs: &dyn FileSystem,
    folder: &Path,
) -> Result<Vec<DirEntry>, VerifyError> {
    match fs.list(folder) {
        Err(error) if error.not_found() => Ok(Vec::new()),
        listed => Ok(listed?),
    }
}

/// Number and bytes of the files that were set apart.
pub(super) fn quarantined(
    fs: &dyn FileSystem,
    layout: &Layout,
) -> Result<(usize, u64), VerifyError> {
    let entries = list_or_empty(fs, &layout.quarantine())?;
    let files = entries.iter().filter(|entry| !entry.name.ends_with(".json"));
    Ok(files.fold((0, 0), |(count, bytes), entry| (count + 1, bytes + entry.len_bytes)))
}

/// What the bytes of a file come to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Hashed {
    Bytes([u8; 32]),
    Gone,
    /// The medium does not give them back.
    Unreadable(String),
}

/// Hashes a file of any length in bounded memory.
pub(super) fn hash_file(
    fs: &dyn FileSystem,
    path: &Path,
    on_bytes: &mut dyn FnMut(u64) -> Result<(), VerifyError>,
) -> Result<Hashed, VerifyError> {
    let handle = match fs.open(path, OpenMode::Read) {
        Ok(handle) => handle,
        Err(error) if error.not_found() => return Ok(Hashed::Gone),
        Err(error) => return Err(error.into()),
    };
    hash_handle(handle.as_ref(), on_bytes)
}

fn hash_handle(
    handle: &dyn FileHandle,
    on_bytes: &mut dyn FnMut(u64) -> Result<(), VerifyError>,
) -> Result<Hashed, VerifyError> {
    let mut buffer = vec![0; MIB as usize];
    let mut hash = Sha256::new();
    let mut at = 0;
    loop {
        match handle.read_at(&mut buffer, at) {
            Ok(0) => return Ok(Hashed::Bytes(hash.finalize().into())),
            Ok(count) => {
                hash.update(&buffer[..count]);
                at += count as u64;
                on_bytes(count as u64)?;
            }
            Err(error) if error.is_of_the_medium() => {
                return Ok(Hashed::Unreadable(error.to_string()));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

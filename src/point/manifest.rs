//! The manifest of a recovery point: a JSON document, sealed, named by the hash of its file.

use super::tree::TreeRef;
use crate::fsio;
use crate::store::{
    Damage, Repository, StoreError, WriterSession, document_format, open_document, seal_document,
};
use crate::units::{
    DISK_BYTES_MAX, DiskId, MachineId, Name, PointId, RepositoryId, RunId, Sequence, TreeName,
    readable,
};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;

const MAGIC: &[u8; 8] = b"AIPOINT\0";
/// Of a point whose disks were all read in full. A program that knows only this one reads it.
const FORMAT_FULL_READ: u32 = 1;
/// Of a point whose disks were read by what the first version with such points could know.
const FORMAT_CHANGES: u32 = 2;
/// Of every other point.
const FORMAT: u32 = 3;
/// A longer manifest was not written by afterimage.
const MANIFEST_BYTES_MAX: u64 = 4 * 1024 * 1024;
const DISKS_MAX: usize = 1024;

/// How well the content of a point fits together.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Consistency {
    /// As after a power cut at that instant.
    CrashConsistent,
    /// The machine's own software had written out what it held.
    ApplicationConsistent,
    /// The machine was off, or its disks were in no use.
    Offline,
}

/// How it was known what had changed since the point before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Provenance {
    /// Everything was read.
    FullRead,
    /// No file that the disk is read from was modified since the point before.
    Unmodified,
    /// What the point before was read from is the unmodified backing file now; what lies above it
    /// was read.
    Overlay,
    /// A list was handed over.
    List,
    /// A dirty bitmap of the running machine told.
    Bitmap,
    /// The blocks that two clones of the image share told.
    Reflink,
    /// The snapshots of the volume told.
    Snapshot,
}

impl Provenance {
    /// The first format of a point that can hold it.
    fn format(self) -> u32 {
        match self {
            Self::FullRead => FORMAT_FULL_READ,
            Self::Unmodified | Self::Overlay | Self::List => FORMAT_CHANGES,
            Self::Bitmap | Self::Reflink | Self::Snapshot => FORMAT,
        }
    }
}

/// A disk in a point.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskEntry {
    /// Its name in the settings.
    pub name: Name,
    /// Its identity through all points.
    pub id: DiskId,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// Root of its tree; absent when it holds only zeros.
    pub root: Option<TreeName>,
    /// How its changes were known.
    pub provenance: Provenance,
}

/// A file of the machine's definition that travels in the point.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Its file name.
    pub name: Name,
    /// Its length in bytes.
    pub size_bytes: u64,
    /// Root of its tree; absent when it is empty or holds only zeros.
    pub root: Option<TreeName>,
}

/// A recovery point, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The repository that it belongs to.
    pub repository: RepositoryId,
    /// The machine's name in the settings.
    pub machine: Name,
    /// The machine's identity through all points.
    pub machine_id: MachineId,
    /// Position in the machine's history.
    pub sequence: Sequence,
    /// The point before it, which may have been removed since.
    pub parent: Option<PointId>,
    /// The instant that it holds.
    pub time: jiff::Timestamp,
    /// How well it fits together.
    pub consistency: Consistency,
    /// The disks.
    pub disks: Vec<DiskEntry>,
    /// The machine's definition.
    pub definition: Vec<FileEntry>,
    /// The run that made it.
    pub run: RunId,
    /// The host that made it.
    pub host: String,
    /// The version of afterimage that made it.
    pub version: String,
}

/// A manifest with its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    /// Its name.
    pub id: PointId,
    /// Its content.
    pub manifest: Manifest,
}

impl DiskEntry {
    /// The disk's content.
    pub fn tree(&self) -> TreeRef {
        TreeRef { root: self.root, size_bytes: self.size_bytes }
    }
}

impl FileEntry {
    /// The file's content.
    pub fn tree(&self) -> TreeRef {
        TreeRef { root: self.root, size_bytes: self.size_bytes }
    }
}

impl Manifest {
    /// The disk with this name.
    pub fn disk(&self, name: &Name) -> Option<&DiskEntry> {
        self.disks.iter().find(|disk| &disk.name == name)
    }

    /// All trees of the point, of disks and of the definition.
    pub fn trees(&self) -> impl Iterator<Item = TreeRef> + '_ {
        let definition = self.definition.iter().map(FileEntry::tree);
        self.disks.iter().map(DiskEntry::tree).chain(definition)
    }

    /// The format that it is written in: the first one that can hold it.
    fn format(&self) -> u32 {
        let formats = self.disks.iter().map(|disk| disk.provenance.format());
        formats.max().unwrap_or(FORMAT_FULL_READ)
    }

    /// Whether it can be one of this repository, wherever it was read.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(crate) fn check(&self, repository: RepositoryId) -> Result<(), String> {
        let names: BTreeSet<&Name> = self.disks.iter().map(|disk| &disk.name).collect();
        let files: BTreeSet<&Name> = self.definition.iter().map(|file| &file.name).collect();
        let largest = self.trees().map(|tree| tree.size_bytes).max().unwrap_or(0);
        if self.repository != repository {
            Err(format!("it belongs to the repository {}", self.repository))
        } else if names.len() != self.disks.len() || files.len() != self.definition.len() {
            Err("a name stands in it twice".to_owned())
        } else if self.disks.len() > DISKS_MAX || self.definition.len() > DISKS_MAX {
            Err("it has too many disks".to_owned())
        } else if largest > DISK_BYTES_MAX {
            Err(format!("a disk of {largest} bytes is impossible"))
        } else {
            Ok(())
        }
    }
}

/// A point with its name, which does not exist yet: what must be durable before it can be made so
/// now.
#[derive(Debug)]
pub struct PreparedPoint {
    point: Point,
    bytes: Vec<u8>,
}

impl PreparedPoint {
    /// The name that it will have.
    pub fn id(&self) -> PointId {
        self.point.id
    }

    /// Makes the point durable. When this returns, the point is acknowledged; before the rename
    /// within, it does not exist.
    ///
    /// # Errors
    /// When it cannot be written; the repository is then as it was.
    pub fn commit(
        self,
        repository: &Repository,
        session: &WriterSession,
    ) -> Result<Point, StoreError> {
        let file = session.create()?;
        file.handle().write_all_at(&self.bytes, 0)?;
        file.publish(&repository.layout().point(self.point.id))?;
        Ok(self.point)
    }
}

/// Makes a point durable, with nothing before it.
///
/// # Errors
/// As [`prepare_point`] and [`PreparedPoint::commit`].
pub fn commit_point(
    repository: &Repository,
    session: &WriterSession,
    manifest: Manifest,
) -> Result<Point, StoreError> {
    prepare_point(repository, manifest)?.commit(repository, session)
}

/// Seals a manifest, which gives the point its name. Nothing is written.
///
/// # Errors
/// When the sealed manifest does not come back as it was.
pub fn prepare_point(
    repository: &Repository,
    manifest: Manifest,
) -> Result<PreparedPoint, StoreError> {
    let json = serde_json::to_vec(&manifest).map_err(|_| StoreError::MemoryFault)?;
    let bytes = seal_document(repository.keys(), MAGIC, manifest.format(), &json)?;
    let id = PointId(Sha256::digest(&bytes).into());
    let same = decode(repository, bytes.clone()).is_ok_and(|decoded| decoded == manifest);
    if !same {
        return Err(StoreError::MemoryFault);
    }
    Ok(PreparedPoint { point: Point { id, manifest }, bytes })
}

/// Reads a point.
///
/// # Errors
/// [`StoreError::Damaged`] when it is missing or not what its name says.
pub fn load_point(repository: &Repository, id: PointId) -> Result<Point, StoreError> {
    let damaged = |reason: String| Damage::Manifest { point: id, reason };
    let path = repository.layout().point(id);
    let bytes = fsio::read_whole(repository.file_system().as_ref(), &path, MANIFEST_BYTES_MAX)
        .map_err(|error| match error.not_found() {
            true => damaged("it is missing".to_owned()).into(),
            false if error.is_damage() => damaged(error.to_string()).into(),
            false => StoreError::from(error),
        })?;
    if PointId(Sha256::digest(&bytes).into()) != id {
        return Err(damaged("its content does not match its name".to_owned()).into());
    }
    let manifest = decode(repository, bytes).map_err(damaged)?;
    Ok(Point { id, manifest })
}

fn decode(repository: &Repository, mut bytes: Vec<u8>) -> Result<Manifest, String> {
    let format = match document_format(&bytes) {
        Some(format @ (FORMAT_FULL_READ | FORMAT_CHANGES)) => format,
        _ => FORMAT,
    };
    let json = open_document(repository.keys(), MAGIC, format, &mut bytes)?;
    let manifest: Manifest = serde_json::from_slice(json).map_err(readable)?;
    if manifest.format() != format {
        return Err(format!("what it says of how it was read is not of format {format}"));
    }
    manifest.check(repository.keys().repository())?;
    Ok(manifest)
}

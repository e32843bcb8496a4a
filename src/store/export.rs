//! One file with all that is needed, beside a key, to open a repository: header, index and slots,
//! as they are; and putting back from it what was lost.
//!
//! Invariant: nothing in it is readable without a key. What is put back never takes the place of
//! something good, and never brings back a slot that the index does not list.

use super::header::{HEADER_BYTES_MAX, Header};
use super::keyring::lock;
use super::slots::{self, Files, Index, IndexState, SLOT_BYTES_MAX, digest, read_index};
use super::{
    Encryption, KeyringError, Keys, Layout, Repository, Secret, StoreError, WriterSession,
};
use crate::fsio::{self, FileSystem, OpenMode};
use crate::units::{Hex, RepositoryId, RunId, SlotId, readable};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const EXPORT_FORMAT: u64 = 1;
const EXPORT_BYTES_MAX: u64 = 4 << 20;
/// Packs and points that are looked at for the identity of a repository without a header.
const FILES_ASKED_MAX: usize = 64;

/// Header, index and slots of a repository. The texts are those of the files.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyExport {
    format: u64,
    repository: RepositoryId,
    exported: jiff::Timestamp,
    header: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    index: Option<String>,
    slots: BTreeMap<SlotId, String>,
}

#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed {
    export: KeyExport,
    sha256: Hex<32>,
}

impl KeyExport {
    /// Collects what is good in a repository.
    ///
    /// # Errors
    /// When it is not encrypted, or cannot be read.
    pub fn of(repository: &Repository, now: jiff::Timestamp) -> Result<Self, StoreError> {
        let (fs, layout) = (repository.file_system().as_ref(), repository.layout());
        if !repository.keys().is_encrypted() {
            return Err(KeyringError::NotEncrypted { path: layout.root().to_owned() }.into());
        }
        let text = |path: &Path| {
            let bytes = fsio::read_whole(fs, path, HEADER_BYTES_MAX)?;
            let text = String::from_utf8(bytes).map_err(|error| {
                crate::fsio::FileError::new("read", path, std::io::Error::other(error))
            });
            Ok::<_, StoreError>(text?)
        };
        let index = match read_index(fs, layout, Some(repository.keys()))? {
            IndexState::Good(_) => Some(text(&layout.slot_index())?),
            IndexState::Missing | IndexState::Damaged(_) => None,
        };
        let mut slots = BTreeMap::new();
        for id in Files::read(fs, layout)?.good().into_keys() {
            slots.insert(id, text(&layout.slot(id))?);
        }
        let header = text(&layout.header())?;
        let repository = repository.header().id;
        Ok(Self { format: EXPORT_FORMAT, repository, exported: now, header, index, slots })
    }

    /// How many slots it has.
    pub fn slots(&self) -> usize {
        self.slots.len()
    }

    /// When it was made.
    pub fn exported(&self) -> jiff::Timestamp {
        self.exported
    }

    fn digest(&self) -> Result<Hex<32>, serde_json::Error> {
        Ok(Hex(Sha256::digest(serde_json::to_vec(self)?).into()))
    }

    /// Writes it to a new file, durably.
    ///
    /// # Errors
    /// An existing file is an error: it is never overwritten.
    pub fn write(self, fs: &Arc<dyn FileSystem>, to: &Path) -> Result<(), StoreError> {
        // It holds nothing that could fail to be written as JSON.
        let sha256 = self.digest().map_err(|_| StoreError::MemoryFault)?;
        let sealed = Sealed { export: self, sha256 };
        let mut text = serde_json::to_vec_pretty(&sealed).map_err(|_| StoreError::MemoryFault)?;
        text.push(b'\n');
        let mut temporary = to.as_os_str().to_owned();
        temporary.push(format!(".{}.tmp", SlotId::random().map_err(StoreError::Random)?));
        Ok(fsio::write_new(fs, temporary.into(), to, &text)?)
    }

    /// Reads an export.
    ///
    /// # Errors
    /// When it is none, or damaged.
    pub fn read(fs: &dyn FileSystem, path: &Path) -> Result<Self, StoreError> {
        let bytes = fsio::read_whole(fs, path, EXPORT_BYTES_MAX)?;
        Self::decode(&bytes).map_err(|reason| unfit(path, reason))
    }

    fn decode(bytes: &[u8]) -> Result<Self, String> {
        #[derive(serde::Deserialize)]
        struct Any {
            export: AnyExport,
        }
        #[derive(serde::Deserialize)]
        struct AnyExport {
            format: u64,
        }
        let any: Any = serde_json::from_slice(bytes).map_err(readable)?;
        let found = any.export.format;
        if found != EXPORT_FORMAT {
            return Err(format!(
                "it has format {found}, this version of afterimage reads {EXPORT_FORMAT}"
            ));
        }
        let Sealed { export, sha256 } = serde_json::from_slice(bytes).map_err(readable)?;
        if export.digest().map_err(|e| e.to_string())? != sha256 {
            return Err("it is damaged: its content does not match its digest".to_owned());
        }
        Ok(export)
    }

    /// The keys of the repository, if one of `secrets` opens one of the slots.
    fn unlock(&self, secrets: &[Secret]) -> Option<Keys> {
        let open = |secret| {
            self.slots
                .values()
                .find_map(|text| slots::open_text(text.as_bytes(), self.repository, secret))
        };
        let master = secrets.iter().find_map(open)?;
        Some(Keys::from_master(self.repository, &master))
    }
}

fn unfit(path: &Path, reason: impl Into<String>) -> StoreError {
    KeyringError::Export { path: path.to_owned(), reason: reason.into() }.into()
}

/// What was put back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PutBack {
    /// The files, from the repository's folder.
    pub files: Vec<PathBuf>,
    /// Whether a key was there to check the authentication codes with.
    pub is_checked: bool,
    /// Whether there was no index to go by, so that slots may be back that were removed since.
    pub without_index: bool,
}

/// Puts back into `root` what is missing or damaged of header, index and slots. What any of
/// `secrets` can check is checked first.
///
/// # Errors
/// When the export is of another repository, or does not hold what it should. Busy while the keys
/// are changed.
pub fn put_back(
    fs: &Arc<dyn FileSystem>,
    root: &Path,
    from: &Path,
    secrets: &[Secret],
) -> Result<PutBack, StoreError> {
    let export = KeyExport::read(fs.as_ref(), from)?;
    let layout = Layout::new(root.to_owned());
    if fs.stat(root)?.is_none() {
        return Err(StoreError::Missing { path: root.to_owned() });
    }
    let keys = export.unlock(secrets);
    check_header(&export, keys.as_ref(), from)?;
    let _alone = lock(fs.as_ref(), &layout)?;
    let run = RunId::random().map_err(StoreError::Random)?;
    let mut work = Work {
        session: WriterSession::begin(fs, &layout, run)?,
        fs: fs.as_ref(),
        layout: &layout,
        done: PutBack { is_checked: keys.is_some(), ..PutBack::default() },
    };
    fs.create_dir_all(&layout.slots())?;
    work.slots(&export, keys.as_ref(), from)?;
    // Last, as when a repository is created: without it there is none.
    work.header(&export, keys.as_ref(), from)?;
    Ok(work.done)
}

/// The header of the export belongs to it, as far as can be told.
fn check_header(export: &KeyExport, keys: Option<&Keys>, from: &Path) -> Result<(), StoreError> {
    let header = Header::decode(export.header.as_bytes(), from)?;
    if header.peek().id != export.repository {
        return Err(unfit(from, "its header is that of another repository"));
    }
    if header.peek().encryption == Encryption::None {
        return Err(unfit(from, "its header is that of a repository without keys"));
    }
    match keys {
        Some(keys) => header.check(keys, from).map(drop),
        None => Ok(()),
    }
}

struct Work<'a> {
    session: WriterSession,
    fs: &'a dyn FileSystem,
    layout: &'a Layout,
    done: PutBack,
}

impl Work<'_> {
    fn write(&mut self, path: PathBuf, text: &str) -> Result<(), StoreError> {
        let file = self.session.create()?;
        file.handle().write_all_at(text.as_bytes(), 0)?;
        file.publish_replacing(&path)?;
        let name = path.strip_prefix(self.layout.root()).unwrap_or(&path).to_owned();
        self.done.files.push(name);
        Ok(())
    }

    fn header(
        &mut self,
        export: &KeyExport,
        keys: Option<&Keys>,
        from: &Path,
    ) -> Result<(), StoreError> {
        let path = self.layout.header();
        if self.fs.stat(&path)?.is_some() {
            let text = fsio::read_whole(self.fs, &path, HEADER_BYTES_MAX)?;
            match Header::decode(&text, &path) {
                Ok(found) if found.peek().id != export.repository => {
                    return Err(unfit(from, "the repository in that folder is another one"));
                }
                Ok(found) => match keys {
                    None => return Ok(()),
                    Some(keys) if found.check(keys, &path).is_ok() => return Ok(()),
                    Some(_) => {}
                },
                Err(newer @ StoreError::NewerFormat { .. }) => return Err(newer),
                Err(_) => {}
            }
        }
        self.write(path, &export.header)
    }

    fn slots(
        &mut self,
        export: &KeyExport,
        keys: Option<&Keys>,
        from: &Path,
    ) -> Result<(), StoreError> {
        self.check_owner(export, from)?;
        let current = read_index(self.fs, self.layout, keys)?;
        let listed = match &current {
            IndexState::Good(index) => Some(&index.slots),
            IndexState::Missing | IndexState::Damaged(_) => None,
        };
        let good = Files::read(self.fs, self.layout)?.good();
        for (id, text) in &export.slots {
            let found = good.get(id);
            let wanted = match listed {
                // Only what is listed, and as it is listed.
                Some(listed) => {
                    let expected = listed.get(id);
                    found != expected && expected == Some(&digest(text.as_bytes()))
                }
                None => found.is_none(),
            };
            if wanted && text.len() as u64 <= SLOT_BYTES_MAX {
                self.write(self.layout.slot(*id), text)?;
            }
        }
        if listed.is_none() {
            self.done.without_index = true;
            self.index(export, keys)?;
        }
        Ok(())
    }

    /// A new index over all that is there; without a key, the exported one.
    fn index(&mut self, export: &KeyExport, keys: Option<&Keys>) -> Result<(), StoreError> {
        let text = match (keys, &export.index) {
            (Some(keys), _) => {
                let good = Files::read(self.fs, self.layout)?.good();
                let text = Index::new(export.repository, good).encode(keys);
                String::from_utf8(text.map_err(|_| StoreError::MemoryFault)?).ok()
            }
            (None, index) => index.clone(),
        };
        match text {
            Some(text) => self.write(self.layout.slot_index(), &text),
            None => Ok(()),
        }
    }

    /// Header, packs and points that are there are of the same repository.
    fn check_owner(&self, export: &KeyExport, from: &Path) -> Result<(), StoreError> {
        let other = || unfit(from, "the repository in that folder is another one");
        let path = self.layout.header();
        if let Ok(text) = fsio::read_whole(self.fs, &path, HEADER_BYTES_MAX)
            && let Ok(header) = Header::decode(&text, &path)
        {
            return if header.peek().id == export.repository { Ok(()) } else { Err(other()) };
        }
        for path in self.some_files()? {
            let mut begin = [0; 32];
            let read = self.fs.open(&path, OpenMode::Read)?.read_exact_at(&mut begin, 0);
            // One that was cut off says nothing, and is found when it is read.
            if read.is_ok() && begin[16..] != export.repository.0 {
                return Err(other());
            }
        }
        Ok(())
    }

    /// Some points and packs. The identity of their repository stands at byte 16 of both.
    fn some_files(&self) -> Result<Vec<PathBuf>, StoreError> {
        let list = |path: &Path| match self.fs.list(path) {
            Err(error) if error.not_found() => Ok(Vec::new()),
            other => other,
        };
        let mut files = Vec::new();
        let points = self.layout.points();
        for entry in list(&points)?.into_iter().take(FILES_ASKED_MAX) {
            files.push(points.join(entry.name));
        }
        for folder in list(&self.layout.packs())?.into_iter().take(FILES_ASKED_MAX) {
            let folder = self.layout.packs().join(folder.name);
            files.extend(list(&folder)?.into_iter().take(1).map(|entry| folder.join(entry.name)));
        }
        Ok(files)
    }
}

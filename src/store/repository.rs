//! A repository in a folder: creating, opening, listing.

use super::header::HEADER_BYTES_MAX;
use super::keys::SecretKey;
use super::pack::{
    PACK_BYTES_MAX, PACK_FOOTER_BYTES, PACK_HEADER_BYTES, PackFooter, PackRecord, damaged,
    decode_trailer,
};
use super::{
    Encryption, Header, Keys, Layout, ObjectIndex, ObjectReader, PackInspector, PackSink,
    PackWriter, RecoveryKey, Secret, StoreError, WriterSession, keyring, slots,
};
use crate::chunk::{CutParameters, Cutter};
use crate::fsio::{self, FileKind, FileLock, FileSystem, LockMode, OpenMode};
use crate::units::{Name, PackName, RepositoryId, RunId};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How a new repository is made.
#[derive(Debug)]
pub struct InitOptions<'a> {
    /// How disks are cut.
    pub cut: CutParameters,
    /// What opens it; `None` for no encryption.
    pub secret: Option<&'a Secret>,
    /// What opens it too, if anything is encrypted.
    pub recovery_key: Option<&'a RecoveryKey>,
    /// The time now.
    pub now: jiff::Timestamp,
}

/// An open repository.
#[derive(Debug)]
pub struct Repository {
    pub(super) fs: Arc<dyn FileSystem>,
    layout: Layout,
    header: Header,
    keys: Keys,
    compression_level: i32,
}

impl Repository {
    /// Creates a repository in `root`, a new or empty folder. The header is written last: without
    /// it there is no repository.
    ///
    /// # Errors
    /// When there is one already, or the folder holds something else. Busy while another process
    /// creates one there.
    pub fn init(
        fs: &Arc<dyn FileSystem>,
        root: &Path,
        options: &InitOptions<'_>,
    ) -> Result<RepositoryId, StoreError> {
        let layout = Layout::new(root.to_owned());
        check_empty(fs.as_ref(), &layout)?;
        // Two at once would take each other's slots for leftovers.
        let holder = Layout::holder("the creation of the repository");
        let lock = layout.keys_lock();
        let _alone = FileLock::try_take(fs.as_ref(), &lock, LockMode::Exclusive, &holder)?;
        check_empty(fs.as_ref(), &layout)?;
        let id = RepositoryId::random().map_err(StoreError::Random)?;
        for folder in [layout.packs(), layout.points(), layout.slots(), layout.temporary()] {
            fs.create_dir_all(&folder)?;
        }
        let run = RunId::random().map_err(StoreError::Random)?;
        let session = WriterSession::begin(fs, &layout, run)?;
        // There are no packs and no points: whatever these slots open, nothing needs it.
        slots::remove_all(fs.as_ref(), &layout)?;
        let (encryption, keys) = match options.secret {
            None => (Encryption::None, Keys::plain(id)),
            Some(secret) => {
                (Encryption::Aes256Gcm, keyring::first_slots(&session, id, secret, options)?)
            }
        };
        let header = Header {
            format: Header::format_of(&options.cut),
            id,
            created: options.now,
            encryption,
            cut: options.cut,
        };
        let text = header
            .encode(&keys)
            .map_err(|e| StoreError::Header { path: layout.header(), reason: e.to_string() })?;
        let file = session.create()?;
        file.handle().write_all_at(&text, 0)?;
        file.publish(&layout.header()).map_err(|error| match error.already_exists() {
            true => StoreError::Exists { path: root.to_owned() },
            false => error.into(),
        })?;
        Ok(id)
    }

    /// Opens the repository in `root`. `compression_level` is zstd's, for what is written.
    ///
    /// # Errors
    /// When there is none, it is of a newer format, or `secret` does not fit it.
    pub fn open(
        fs: &Arc<dyn FileSystem>,
        root: &Path,
        secret: Option<&Secret>,
        compression_level: i32,
    ) -> Result<Self, StoreError> {
        Ok(Self::open_with_master(fs, root, secret, compression_level)?.0)
    }

    /// As [`Repository::open`], with the master key of an encrypted one.
    pub(super) fn open_with_master(
        fs: &Arc<dyn FileSystem>,
        root: &Path,
        secret: Option<&Secret>,
        compression_level: i32,
    ) -> Result<(Self, Option<SecretKey>), StoreError> {
        let layout = Layout::new(root.to_owned());
        let path = layout.header();
        let text =
            fsio::read_whole(fs.as_ref(), &path, HEADER_BYTES_MAX).map_err(|error| match error
                .not_found()
            {
                true => Self::missing(fs.as_ref(), root),
                false => error.into(),
            })?;
        let unchecked = Header::decode(&text, &path)?;
        let (id, encryption) = (unchecked.peek().id, unchecked.peek().encryption);
        let (keys, master) = match (encryption, secret) {
            (Encryption::None, None) => (Keys::plain(id), None),
            (Encryption::Aes256Gcm, Some(secret)) => {
                let master = slots::unlock(fs.as_ref(), &layout, id, secret)?;
                (Keys::from_master(id, &master), Some(master))
            }
            (found, secret) => {
                return Err(StoreError::EncryptionDiffers {
                    path: root.to_owned(),
                    found: found.describe(),
                    configured: secret.map_or("\"none\"", Secret::describe),
                });
            }
        };
        let header = unchecked.check(&keys, &path)?;
        Ok((Self { fs: Arc::clone(fs), layout, header, keys, compression_level }, master))
    }

    /// Makes the names that were found in a folder of the repository durable, before anything is
    /// built on them: whoever made them may have been killed just before it did so.
    ///
    /// # Errors
    /// When the folder cannot be synced. A file system that cannot sync folders is none that the
    /// names were written on: it is a medium that is only read.
    pub fn sync_found(&self, folder: &Path) -> Result<(), StoreError> {
        match self.fs.sync_dir(folder) {
            Err(error) if error.source.kind() != std::io::ErrorKind::InvalidInput => {
                Err(error.into())
            }
            _ => Ok(()),
        }
    }

    /// Why nothing can be opened in `root`, which has no header.
    pub fn missing(fs: &dyn FileSystem, root: &Path) -> StoreError {
        let path = root.to_owned();
        match holds_content(fs, &Layout::new(path.clone())) {
            Ok(true) => StoreError::HeaderLost { path },
            // What cannot be listed is not there either.
            Ok(false) | Err(_) => StoreError::Missing { path },
        }
    }

    /// Its paths.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The file system that holds it.
    pub fn file_system(&self) -> &Arc<dyn FileSystem> {
        &self.fs
    }

    /// Its header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Its keys.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// zstd's level for what is written.
    pub fn compression_level(&self) -> i32 {
        self.compression_level
    }

    /// A cutter with its parameters and seed.
    pub fn cutter(&self) -> Cutter {
        Cutter::new(self.header.cut, self.keys.cut_seed())
    }

    /// Held exclusively while points are removed, shared while they are pinned.
    ///
    /// # Errors
    /// Busy while another process does what excludes `mode`.
    pub fn lock_prune(&self, mode: LockMode, work: &str) -> Result<FileLock, StoreError> {
        let path = self.layout.prune_lock();
        Ok(FileLock::try_take(self.fs.as_ref(), &path, mode, &Layout::holder(work))?)
    }

    /// Held by whatever adds points of `machine`: a `backup`, a `copy`.
    ///
    /// # Errors
    /// Busy while something else does.
    pub fn lock_machine(&self, machine: &Name, work: &str) -> Result<FileLock, StoreError> {
        // The note lies in the repository: it must not tell what the repository hides.
        let work = match self.keys.is_encrypted() {
            true => format!("a {work} of this machine"),
            false => format!("{work} of {machine}"),
        };
        let digest = self.keys.namer().chunk(machine.as_str().as_bytes());
        let (path, holder) = (self.layout.machine_lock(digest), Layout::holder(work));
        Ok(FileLock::try_take(self.fs.as_ref(), &path, LockMode::Exclusive, &holder)?)
    }

    /// The right to temporary files in it.
    ///
    /// # Errors
    /// When the temporary folder cannot be used.
    pub fn begin_writing(&self, run: RunId) -> Result<WriterSession, StoreError> {
        WriterSession::begin(&self.fs, &self.layout, run)
    }

    /// When the writer that has been at work for the longest began, by the clock of the file system,
    /// in nanoseconds since 1970; `None` when none is at work.
    ///
    /// # Errors
    /// When the temporary folder cannot be looked at.
    pub fn oldest_writer_ns(&self) -> Result<Option<i128>, StoreError> {
        WriterSession::oldest_ns(self.fs.as_ref(), &self.layout)
    }

    /// A writer of packs, which `sink` learns of.
    ///
    /// # Errors
    /// When the temporary folder cannot be used.
    pub fn writer<'r>(
        &'r self,
        sink: &'r dyn PackSink,
        run: RunId,
    ) -> Result<PackWriter<'r>, StoreError> {
        PackWriter::new(self, sink, run)
    }

    /// A reader of objects, which `index` finds.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn reader<'r>(
        &'r self,
        index: &'r dyn ObjectIndex,
    ) -> Result<ObjectReader<'r>, StoreError> {
        ObjectReader::new(self, index)
    }

    /// What is wrong with the bytes of the header; `None` when they are those that were written.
    ///
    /// # Errors
    /// When the file system fails.
    pub fn check_header_bytes(&self) -> Result<Option<String>, StoreError> {
        let written = self.header.encode(&self.keys).ok();
        match fsio::read_whole(self.fs.as_ref(), &self.layout.header(), HEADER_BYTES_MAX) {
            // What it says was checked when it was opened; white space may differ all the same.
            Ok(text) if Some(&text) == written.as_ref() => Ok(None),
            Ok(_) => Ok(Some("its bytes are not those that were written".to_owned())),
            Err(error) if error.not_found() => Ok(Some("it is missing".to_owned())),
            Err(error) => Err(error.into()),
        }
    }

    /// What reads whole packs and checks every byte.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn inspector(&self) -> Result<PackInspector<'_>, StoreError> {
        PackInspector::new(self)
    }

    /// The same repository, as it lies in another folder: a copy of its files.
    pub fn copy_at(&self, root: &Path) -> Self {
        Self {
            fs: Arc::clone(&self.fs),
            layout: Layout::new(root.to_owned()),
            header: self.header.clone(),
            keys: self.keys.clone(),
            compression_level: self.compression_level,
        }
    }

    /// Reads what lies in a pack from its trailer. The objects themselves are not read.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when it is missing, cut off or not sealed with these keys.
    pub fn read_pack_record(&self, name: PackName) -> Result<PackRecord, StoreError> {
        let path = self.layout.pack(name);
        let handle =
            self.fs.open(&path, OpenMode::Read).map_err(|error| match error.not_found() {
                true => damaged(name, "it is missing").into(),
                false => StoreError::from(error),
            })?;
        let medium = |error: fsio::FileError| match error.is_damage() {
            true => StoreError::from(damaged(name, error.to_string())),
            false => error.into(),
        };
        let bytes = handle.size()?;
        let least = (PACK_HEADER_BYTES + PACK_FOOTER_BYTES) as u64;
        if !(least..=PACK_BYTES_MAX).contains(&bytes) {
            return Err(damaged(name, format!("it has an impossible length, {bytes} bytes")).into());
        }
        let mut header = [0; PACK_HEADER_BYTES];
        handle.read_exact_at(&mut header, 0).map_err(medium)?;
        let mut footer = [0; PACK_FOOTER_BYTES];
        let footer_offset = bytes - PACK_FOOTER_BYTES as u64;
        handle.read_exact_at(&mut footer, footer_offset).map_err(medium)?;
        let footer = PackFooter::decode(&footer, bytes).map_err(|reason| damaged(name, reason))?;
        let mut trailer = vec![0; footer.trailer_len as usize];
        let trailer_offset = footer_offset - u64::from(footer.trailer_len);
        handle.read_exact_at(&mut trailer, trailer_offset).map_err(medium)?;
        let (header, entries) = decode_trailer(&header, &footer, &mut trailer, bytes, &self.keys)
            .map_err(|reason| damaged(name, reason))?;
        Ok(PackRecord { name, kind: header.kind, bytes, entries })
    }
}

/// Whether there are packs or points.
fn holds_content(fs: &dyn FileSystem, layout: &Layout) -> Result<bool, StoreError> {
    let list = |path: &Path| match fs.list(path) {
        Err(error) if error.not_found() => Ok(Vec::new()),
        other => other,
    };
    if !list(&layout.points())?.is_empty() {
        return Ok(true);
    }
    for folder in list(&layout.packs())? {
        let is_full = folder.kind == FileKind::Directory
            && !list(&layout.packs().join(&folder.name))?.is_empty();
        if is_full || folder.kind == FileKind::File {
            return Ok(true);
        }
    }
    Ok(false)
}

fn check_empty(fs: &dyn FileSystem, layout: &Layout) -> Result<(), StoreError> {
    let path: PathBuf = layout.root().to_owned();
    if fs.stat(&layout.header())?.is_some() {
        return Err(StoreError::Exists { path });
    }
    // A new repository in its place would have other keys, and its slots would go.
    if holds_content(fs, layout)? {
        return Err(StoreError::HeaderLost { path });
    }
    let known = ["packs", "points", "keys", "tmp", "locks"];
    match fs.stat(layout.root())? {
        None => Ok(()),
        // What an interrupted `init` leaves is taken up again.
        Some(_)
            if fs
                .list(layout.root())?
                .iter()
                .all(|e| known.contains(&e.name.as_str()) || e.name == "lost+found") =>
        {
            Ok(())
        }
        Some(_) => Err(StoreError::NotEmpty { path }),
    }
}

//! The hidden folder beside an image that holds its clones.
//!
//! Others may be able to write to the folder of the image, a guest's emulator for one. So nothing
//! beneath it is reached by its path: the hidden folder is opened once, must be this user's own, and
//! everything else happens within what was opened.

use super::CloneError;
use crate::capture::Mark;
use crate::fsio::{FileError, parent_dir};
use crate::units::{Name, RunId};
use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags};
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Its name.
pub(super) const FOLDER: &str = ".afterimage-clones";

/// More names than this are not looked at: then something else is wrong.
const NAMES_MAX: usize = 10_000;

/// An open folder of clones.
#[derive(Debug)]
pub(super) struct CloneFolder {
    path: PathBuf,
    folder: File,
}

impl CloneFolder {
    /// Opens the one beside `image`, whose links are resolved; it is made when it is missing, and
    /// durable when this returns.
    pub(super) fn beside(image: &Path) -> Result<Self, CloneError> {
        let path = parent_dir(image).join(FOLDER);
        let error = |action, e: rustix::io::Errno| FileError::new(action, &path, e);
        // Whoever keeps it last removes it when it is empty: it may go between two calls.
        for _ in 0..100 {
            match rustix::fs::mkdirat(CWD, &path, Mode::RWXU) {
                Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                Err(e) => return Err(error("create", e).into()),
            }
            if let Some(folder) = Self::open(&path)? {
                let above = parent_dir(&path);
                sync(&above, File::open(&above))?;
                return Ok(folder);
            }
        }
        Err(error("create", rustix::io::Errno::NOENT).into())
    }

    /// Opens the one at `path`; `None` when there is none.
    pub(super) fn open(path: &Path) -> Result<Option<Self>, CloneError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = match rustix::fs::openat(CWD, path, flags, Mode::empty()) {
            Ok(folder) => File::from(folder),
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP) => {
                return Err(CloneError::folder(path, "it is no folder"));
            }
            Err(e) => return Err(FileError::new("open", path, e).into()),
        };
        let metadata = folder.metadata().map_err(|e| FileError::new("look at", path, e))?;
        if metadata.uid() != rustix::process::geteuid().as_raw() {
            return Err(CloneError::folder(path, "it belongs to another user"));
        }
        if metadata.mode() & 0o022 != 0 {
            return Err(CloneError::folder(path, "others can write to it"));
        }
        Ok(Some(Self { path: path.to_owned(), folder }))
    }

    /// Path of the clone `name` in it.
    pub(super) fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A new file, for writing; once it is closed nobody but root writes to it.
    pub(super) fn create(&self, name: &str) -> Result<File, FileError> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.folder, name, flags, Mode::RUSR);
        file.map(File::from).map_err(|e| FileError::new("create", &self.path_of(name), e))
    }

    /// Opens a file in it for reading; `None` when it is missing or no plain file.
    pub(super) fn read(&self, name: &OsStr) -> Result<Option<File>, FileError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let error = |action, e: std::io::Error| FileError::new(action, &self.path.join(name), e);
        let file = match rustix::fs::openat(&self.folder, name, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::LOOP) => return Ok(None),
            Err(e) => return Err(error("open", e.into())),
        };
        let is_file = file.metadata().map_err(|e| error("look at", e))?.is_file();
        Ok(is_file.then_some(file))
    }

    /// Removes a file in it; it is no error when it is gone already.
    pub(super) fn remove(&self, name: &OsStr) -> Result<(), FileError> {
        match rustix::fs::unlinkat(&self.folder, name, AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(e) => Err(FileError::new("remove", &self.path.join(name), e)),
        }
    }

    /// Makes the names in it durable.
    pub(super) fn sync(&self) -> Result<(), FileError> {
        sync(&self.path, self.folder.try_clone())
    }

    /// The names of the clones that carry `mark`.
    pub(super) fn marked(&self, mark: &Mark) -> Result<Vec<String>, FileError> {
        let error = |e: rustix::io::Errno| FileError::new("list", &self.path, e);
        let mut found = Vec::new();
        for entry in Dir::read_from(&self.folder).map_err(error)?.take(NAMES_MAX) {
            let entry = entry.map_err(error)?;
            if let Ok(name) = entry.file_name().to_str()
                && carries(name, mark)
            {
                found.push(name.to_owned());
            }
        }
        Ok(found)
    }

    /// Removes the folder itself, if nothing is in it.
    pub(super) fn remove_if_empty(&self) {
        // It stays when it is in use, and that is no harm.
        let _ = rustix::fs::unlinkat(CWD, &self.path, AtFlags::REMOVEDIR);
    }
}

fn sync(path: &Path, folder: std::io::Result<File>) -> Result<(), FileError> {
    let synced = folder.and_then(|folder| folder.sync_all());
    synced.map_err(|e| FileError::new("sync", path, e))
}

/// The name of the clone that `run` makes: readable for people first, then what it is known by.
pub(super) fn clone_name(machine: &Name, disk: &Name, mark: &Mark, run: RunId) -> String {
    format!("{machine}.{disk}.{mark}.{run}")
}

/// Whether a clone of this name was made under `mark`.
pub(super) fn carries(name: &str, mark: &Mark) -> bool {
    let mut parts = name.rsplitn(3, '.');
    let run = parts.next().is_some_and(|run| run.parse::<RunId>().is_ok());
    run && parts.next() == Some(&mark.to_string()) && parts.next().is_some()
}

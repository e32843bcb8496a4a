//! The calls of the engine, on a simulated disk.

use super::handle::{SimulatedFile, dead, failed, stat_of};
use super::state::{Inode, Place, State};
use super::{SimulatedDisk, Step, Verdict};
use crate::fsio::{
    DirEntry, FileHandle, FileKind, FileStat, FileSystem, OpenMode, Result, parent_dir,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Room that is left, always.
const FREE_BYTES: u64 = 1 << 40;

impl SimulatedDisk {
    /// The director's word, where only some of its verdicts mean anything.
    pub(super) fn ask(&self, step: Step, action: &'static str, path: &Path) -> Result<Verdict> {
        match self.director.decide(step, path) {
            Verdict::Gone => Err(dead(action, path)),
            Verdict::Fail(errno) | Verdict::HalfWay(errno) => Err(failed(errno, action, path)),
            other => Ok(other),
        }
    }

    pub(super) fn permit(&self, step: Step, action: &'static str, path: &Path) -> Result<()> {
        self.ask(step, action, path).map(drop)
    }

    fn handle(&self, path: &Path, inode: Inode) -> Arc<dyn FileHandle> {
        Arc::new(SimulatedFile { disk: self.clone(), path: path.to_owned(), inode })
    }
}

fn file_at(state: &State, action: &'static str, path: &Path) -> Result<Inode> {
    match state.names.get(path) {
        Some(Place::File(inode)) => Ok(*inode),
        Some(Place::Folder) => Err(failed(libc::EISDIR, action, path)),
        None => Err(failed(libc::ENOENT, action, path)),
    }
}

fn check_folder(state: &State, action: &'static str, path: &Path) -> Result<()> {
    match state.names.get(path) {
        _ if state.is_folder(path) => Ok(()),
        Some(_) => Err(failed(libc::ENOTDIR, action, path)),
        None => Err(failed(libc::ENOENT, action, path)),
    }
}

fn check_free(state: &State, action: &'static str, path: &Path) -> Result<()> {
    match state.names.contains_key(path) {
        true => Err(failed(libc::EEXIST, action, path)),
        false => check_folder(state, action, &parent_dir(path)),
    }
}

impl FileSystem for SimulatedDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn FileHandle>> {
        let inode = if mode == OpenMode::CreateNew {
            self.permit(Step::Create, "create", path)?;
            let mut state = self.state();
            check_free(&state, "create", path)?;
            state.create(path, false)
        } else {
            self.permit(Step::Open, "open", path)?;
            file_at(&self.state(), "open", path)?
        };
        Ok(self.handle(path, inode))
    }

    fn rename_no_replace(&self, from: &Path, to: &Path) -> Result<()> {
        self.permit(Step::Rename, "rename to", to)?;
        let mut state = self.state();
        let inode = file_at(&state, "rename to", from)?;
        check_free(&state, "rename to", to)?;
        state.rename(from, to, inode);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.permit(Step::Rename, "rename to", to)?;
        let mut state = self.state();
        let inode = file_at(&state, "rename to", from)?;
        check_folder(&state, "rename to", &parent_dir(to))?;
        state.rename(from, to, inode);
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> Result<()> {
        self.permit(Step::Remove, "remove", path)?;
        let mut state = self.state();
        file_at(&state, "remove", path)?;
        state.remove(path);
        // Whoever holds its lock goes on holding one that nobody else finds, as with real files.
        let error = |error| crate::fsio::FileError::new("remove the lock of", path, error);
        self.locks.remove(path).map_err(error)
    }

    fn create_dir_all(&self, path: &Path) -> Result<()> {
        let parent = parent_dir(path);
        if path.parent().is_none() {
            return Ok(());
        }
        if self.state().is_folder(path) {
            return self.sync_dir(&parent);
        }
        self.create_dir_all(&parent)?;
        self.permit(Step::CreateFolder, "create", path)?;
        let mut state = self.state();
        // Another process may have been quicker.
        if !state.is_folder(path) {
            check_free(&state, "create", path)?;
            state.create_folder(path);
        }
        drop(state);
        self.sync_dir(&parent)
    }

    fn sync_dir(&self, path: &Path) -> Result<()> {
        // What waits goes on waiting when this fails: journals keep their order.
        self.permit(Step::SyncFolder, "sync", path)?;
        let mut state = self.state();
        check_folder(&state, "sync", path)?;
        state.sync_folder(path);
        Ok(())
    }

    fn list(&self, path: &Path) -> Result<Vec<DirEntry>> {
        self.permit(Step::List, "list", path)?;
        let state = self.state();
        check_folder(&state, "list", path)?;
        let below = state.names.range(path.to_owned()..).take_while(|(it, _)| it.starts_with(path));
        let entry = |(entry, place): (&PathBuf, &Place)| {
            let name = entry.file_name()?.to_string_lossy().into_owned();
            let (kind, len_bytes) = match place {
                Place::Folder => (FileKind::Directory, 0),
                Place::File(inode) => (FileKind::File, state.nodes.get(inode)?.seen.len() as u64),
            };
            (entry.parent() == Some(path)).then_some(DirEntry { name, kind, len_bytes })
        };
        Ok(below.filter_map(entry).collect())
    }

    fn stat(&self, path: &Path) -> Result<Option<FileStat>> {
        self.permit(Step::Look, "look at", path)?;
        let state = self.state();
        Ok(state.names.get(path).map(|place| match place {
            Place::Folder => stat_of(0, None),
            Place::File(inode) => stat_of(*inode, state.nodes.get(inode)),
        }))
    }

    fn lock_path(&self, path: &Path) -> Result<PathBuf> {
        self.permit(Step::Lock, "lock", path)?;
        let mut state = self.state();
        if state.file_at(path).is_none() {
            check_free(&state, "lock", path)?;
            state.create(path, true);
        }
        let error = |error| crate::fsio::FileError::new("create the lock of", path, error);
        let real = self.locks.file(path).map_err(error)?;
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create(true).truncate(false);
        options.open(&real).map(|_| real).map_err(error)
    }

    fn free_bytes(&self, path: &Path) -> Result<u64> {
        self.permit(Step::Look, "ask the free space of", path)?;
        Ok(FREE_BYTES)
    }
}

//! What is on the disk: what programs see, what is safe, and what waits between the two.
//!
//! Invariant: the safe part with all that waits applied in order is the seen part, but for files
//! of which a sync failed.

use crate::fsio::parent_dir;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Number of a file, whatever it is called.
pub type Inode = u64;

/// A nanosecond clock that stands still between operations begins here.
const FIRST_MOMENT_NS: i128 = 1_700_000_000_000_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    Folder,
    File(Inode),
}

/// A change of a file that waits for the file to be synced.
#[derive(Debug, Clone)]
pub enum Change {
    Data { offset: u64, bytes: Vec<u8> },
    Length(u64),
}

impl Change {
    /// What lies past the end is lost: the length that made room for it is a change of its own.
    pub fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Length(len) => content.resize(*len as usize, 0),
            Self::Data { offset, bytes } => {
                let from = (*offset as usize).min(content.len());
                let count = bytes.len().min(content.len() - from);
                content[from..from + count].copy_from_slice(&bytes[..count]);
            }
        }
    }
}

/// A change of a name that waits for its folder to be synced.
#[derive(Debug, Clone)]
pub enum NameChange {
    Set { path: PathBuf, inode: Inode, is_lock: bool },
    Rename { from: PathBuf, to: PathBuf, inode: Inode },
    Unset { path: PathBuf },
    Folder { path: PathBuf },
}

impl NameChange {
    fn is_in(&self, folder: &Path) -> bool {
        match self {
            Self::Set { path, .. } | Self::Unset { path } | Self::Folder { path } => {
                parent_dir(path) == folder
            }
            Self::Rename { to, .. } => parent_dir(to) == folder,
        }
    }

    pub fn apply(&self, names: &mut BTreeMap<PathBuf, Place>) {
        match self {
            Self::Set { path, inode, .. } => {
                names.insert(path.clone(), Place::File(*inode));
            }
            Self::Rename { from, to, inode } => {
                if names.get(from) == Some(&Place::File(*inode)) {
                    names.remove(from);
                }
                names.insert(to.clone(), Place::File(*inode));
            }
            Self::Unset { path } => {
                names.remove(path);
            }
            Self::Folder { path } => {
                names.insert(path.clone(), Place::Folder);
            }
        }
    }
}

/// One file.
#[derive(Debug, Clone, Default)]
pub struct File {
    pub seen: Arc<Vec<u8>>,
    pub safe: Arc<Vec<u8>>,
    pub waiting: Vec<Change>,
    pub mtime_ns: i128,
    pub safe_mtime_ns: i128,
}

impl File {
    fn change(&mut self, change: Change, now_ns: i128) {
        change.apply(Arc::make_mut(&mut self.seen));
        self.waiting.push(change);
        self.mtime_ns = now_ns;
    }

    fn sync(&mut self) {
        if !self.waiting.is_empty() {
            let safe = Arc::make_mut(&mut self.safe);
            self.waiting.drain(..).for_each(|change| change.apply(safe));
            // One copy serves both where nothing was forgotten.
            if self.safe == self.seen {
                self.safe = Arc::clone(&self.seen);
            }
        }
        self.safe_mtime_ns = self.mtime_ns;
    }
}

/// The whole disk.
#[derive(Debug, Clone, Default)]
pub struct State {
    pub names: BTreeMap<PathBuf, Place>,
    pub safe_names: BTreeMap<PathBuf, Place>,
    pub waiting_names: Vec<NameChange>,
    pub nodes: BTreeMap<Inode, File>,
    operations: u64,
}

impl State {
    /// A new moment for each change.
    fn now_ns(&mut self) -> i128 {
        self.operations += 1;
        FIRST_MOMENT_NS + i128::from(self.operations) * 1_000_000
    }

    pub fn file_at(&self, path: &Path) -> Option<Inode> {
        match self.names.get(path) {
            Some(Place::File(inode)) => Some(*inode),
            _ => None,
        }
    }

    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        Some(self.nodes.get(&self.file_at(path)?)?.seen.to_vec())
    }

    pub fn files(&self) -> Vec<PathBuf> {
        let is_file = |place: &Place| matches!(place, Place::File(_));
        self.names.iter().filter(|(_, it)| is_file(it)).map(|(path, _)| path.clone()).collect()
    }

    /// The root of everything is always there.
    pub fn is_folder(&self, path: &Path) -> bool {
        path.parent().is_none() || self.names.get(path) == Some(&Place::Folder)
    }

    pub fn create_folder(&mut self, path: &Path) {
        self.rename_waits(NameChange::Folder { path: path.to_owned() });
    }

    fn rename_waits(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.waiting_names.push(change);
    }

    pub fn create(&mut self, path: &Path, is_lock: bool) -> Inode {
        let now = self.now_ns();
        let inode = self.operations;
        let file = File { mtime_ns: now, safe_mtime_ns: now, ..File::default() };
        self.nodes.insert(inode, file);
        self.rename_waits(NameChange::Set { path: path.to_owned(), inode, is_lock });
        inode
    }

    pub fn rename(&mut self, from: &Path, to: &Path, inode: Inode) {
        let (from, to) = (from.to_owned(), to.to_owned());
        self.rename_waits(NameChange::Rename { from, to, inode });
    }

    pub fn remove(&mut self, path: &Path) {
        self.rename_waits(NameChange::Unset { path: path.to_owned() });
    }

    pub fn write(&mut self, inode: Inode, offset: u64, bytes: &[u8]) {
        let now = self.now_ns();
        let Some(file) = self.nodes.get_mut(&inode) else { return };
        let end = offset + bytes.len() as u64;
        if end > file.seen.len() as u64 {
            file.change(Change::Length(end), now);
        }
        file.change(Change::Data { offset, bytes: bytes.to_vec() }, now);
    }

    pub fn zero(&mut self, inode: Inode, offset: u64, len: u64) {
        let now = self.now_ns();
        let Some(file) = self.nodes.get_mut(&inode) else { return };
        let end = offset.saturating_add(len).min(file.seen.len() as u64);
        let bytes = vec![0; end.saturating_sub(offset) as usize];
        file.change(Change::Data { offset, bytes }, now);
    }

    pub fn resize(&mut self, inode: Inode, len: u64) {
        let now = self.now_ns();
        if let Some(file) = self.nodes.get_mut(&inode) {
            file.change(Change::Length(len), now);
        }
    }

    pub fn sync(&mut self, inode: Inode) {
        if let Some(file) = self.nodes.get_mut(&inode) {
            file.sync();
        }
    }

    /// What a failed sync leaves: the pages count as clean, and were never written. Lengths go on
    /// waiting: they are in the inode, which stays dirty.
    pub fn forget(&mut self, inode: Inode) {
        if let Some(file) = self.nodes.get_mut(&inode) {
            file.waiting.retain(|change| matches!(change, Change::Length(_)));
        }
    }

    /// Only clean pages go: where a sync failed, what is read next is what the medium has.
    pub fn drop_cache(&mut self, inode: Inode) {
        let Some(file) = self.nodes.get_mut(&inode) else { return };
        if file.waiting.iter().all(|change| matches!(change, Change::Length(_))) {
            let mut content = file.safe.to_vec();
            file.waiting.iter().for_each(|change| change.apply(&mut content));
            file.seen = Arc::new(content);
        }
    }

    pub fn sync_folder(&mut self, folder: &Path) {
        let (synced, mut waiting): (Vec<NameChange>, Vec<NameChange>) =
            self.waiting_names.drain(..).partition(|change| change.is_in(folder));
        for change in synced {
            change.apply(&mut self.safe_names);
            // The old name does not come back by way of an older change that still waits.
            if let NameChange::Rename { from, inode, .. } = &change {
                waiting.retain(|other| {
                    !matches!(other, NameChange::Set { path, inode: it, .. }
                        if path == from && it == inode)
                });
            }
        }
        self.waiting_names = waiting;
    }

    pub fn settle(&mut self) {
        self.nodes.values_mut().for_each(File::sync);
        self.safe_names = self.names.clone();
        self.waiting_names.clear();
    }

    pub fn waiting(&self) -> usize {
        let in_files: usize = self.nodes.values().map(|file| file.waiting.len()).sum();
        in_files + self.waiting_names.len()
    }

    /// What lies in folders that are gone is gone, and so are files that no name leads to.
    pub fn drop_nameless(&mut self) {
        // Folders stand before what is in them.
        let mut left = BTreeMap::new();
        for (path, place) in std::mem::take(&mut self.names) {
            let folder = parent_dir(&path);
            if folder.parent().is_none() || left.get(&folder) == Some(&Place::Folder) {
                left.insert(path, place);
            }
        }
        self.safe_names = left.clone();
        self.names = left;
        let names = &self.names;
        let named: std::collections::BTreeSet<Inode> = names
            .values()
            .filter_map(|place| match place {
                Place::File(inode) => Some(*inode),
                Place::Folder => None,
            })
            .collect();
        self.nodes.retain(|inode, _| named.contains(inode));
    }
}

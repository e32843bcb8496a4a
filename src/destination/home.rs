//! The folder of a replica's own files: superblock, journal and lock.
//!
//! Invariant: it is local to the images where that is possible, so that images which are moved
//! or restored together with their folder keep their truth beside them.

use super::target::TargetKind;
use crate::fsio::{FileKind, FileSystem, Result, parent_dir};
use crate::units::Name;
use std::path::{Path, PathBuf};

const SUPERBLOCK: &str = "superblock";
const JOURNAL: &str = "journal";
const LOCK: &str = "lock";
const TEMPORARY_SUFFIX: &str = ".tmp";

/// Name that `path` has while it is being written.
pub(super) fn temporary_path(path: &Path) -> PathBuf {
    let mut text = path.as_os_str().to_owned();
    text.push(TEMPORARY_SUFFIX);
    PathBuf::from(text)
}

/// The folder of one replica's own files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaHome {
    folder: PathBuf,
}

impl ReplicaHome {
    /// Where the files of `replica` are: in `journal_dir` when one is configured; else beside
    /// the first image; else, as a device or an export has no folder of its own,
    /// under `state_dir`.
    pub fn locate(
        state_dir: &Path,
        journal_dir: Option<&Path>,
        replica: &Name,
        first_target: &Path,
        kind: TargetKind,
    ) -> Self {
        let folder = match (journal_dir, kind) {
            (Some(dir), _) => dir.join(format!("{replica}.afterimage")),
            (None, TargetKind::Image) => {
                parent_dir(first_target).join(format!(".afterimage-{replica}"))
            }
            (None, TargetKind::Device | TargetKind::Export) => {
                state_dir.join("replicas").join(replica.as_str())
            }
        };
        Self { folder }
    }

    /// The folder itself. It must exist before a superblock or journal is created in it.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The superblock's file.
    pub fn superblock(&self) -> PathBuf {
        self.folder.join(SUPERBLOCK)
    }

    /// The journal's file.
    pub fn journal(&self) -> PathBuf {
        self.folder.join(JOURNAL)
    }

    /// The lock's file. Whoever creates, stores, stages, applies or sweeps holds it.
    pub fn lock(&self) -> PathBuf {
        self.folder.join(LOCK)
    }

    /// Removes what a crash left under a temporary name, and says what it was. A folder that is
    /// not there yet is clean. The caller holds the lock: a temporary file may be in use.
    pub fn sweep(&self, fs: &dyn FileSystem) -> Result<Vec<PathBuf>> {
        if fs.stat(&self.folder)?.is_none() {
            return Ok(Vec::new());
        }
        let mut removed = Vec::new();
        for entry in fs.list(&self.folder)? {
            let owner = entry.name.strip_suffix(TEMPORARY_SUFFIX);
            // Only names that this module gives: anything else in the folder is not ours.
            if entry.kind == FileKind::File && matches!(owner, Some(SUPERBLOCK | JOURNAL)) {
                let path = self.folder.join(&entry.name);
                fs.remove_file(&path)?;
                removed.push(path);
            }
        }
        Ok(removed)
    }

    /// Removes the journal when there is one, durably. Only for a journal that the superblock
    /// does not name (any more): one that it names is half of the replica's content.
    pub fn discard_journal(&self, fs: &dyn FileSystem) -> Result<()> {
        if fs.stat(&self.journal())?.is_some() {
            fs.remove_file(&self.journal())?;
            fs.sync_dir(&self.folder)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fsio::RealFileSystem;

    #[test]
    fn the_home_follows_the_configuration_then_the_image_then_the_state_folder() {
        let name: Name = "web01-standby".parse().unwrap();
        let state = Path::new("/var/lib/afterimage");
        let image = Path::new("/srv/standby/web01.raw");
        let locate = |dir, target, kind| ReplicaHome::locate(state, dir, &name, target, kind);
        let home = locate(None, image, TargetKind::Image);
        assert_eq!(home.journal(), Path::new("/srv/standby/.afterimage-web01-standby/journal"));
        let home = locate(None, Path::new("/dev/vg/web01"), TargetKind::Device);
        let expected = Path::new("/var/lib/afterimage/replicas/web01-standby/superblock");
        assert_eq!(home.superblock(), expected);
        let home = locate(Some(Path::new("/fast")), image, TargetKind::Image);
        assert_eq!(home.folder(), Path::new("/fast/web01-standby.afterimage"));
    }

    #[test]
    fn a_sweep_removes_only_its_own_temporary_files() {
        let folder = tempfile::tempdir().unwrap();
        let home = ReplicaHome { folder: folder.path().join("home") };
        assert!(home.sweep(&RealFileSystem).unwrap().is_empty());
        std::fs::create_dir(home.folder()).unwrap();
        let names = ["journal", "journal.tmp", "superblock", "superblock.tmp", "a.tmp", "lock"];
        for name in names {
            std::fs::write(home.folder().join(name), name).unwrap();
        }
        assert_eq!(home.sweep(&RealFileSystem).unwrap().len(), 2);
        home.discard_journal(&RealFileSystem).unwrap();
        home.discard_journal(&RealFileSystem).unwrap();
        let mut left: Vec<_> =
            RealFileSystem.list(home.folder()).unwrap().into_iter().map(|e| e.name).collect();
        left.sort();
        assert_eq!(left, ["a.tmp", "lock", "superblock"]);
    }
}

//! Where the parts of a repository lie in its folder.

use crate::fsio::LockHolder;
use crate::units::{ChunkName, HoldId, PackName, PointId, RemovalId, RunId, SlotId};
use std::path::{Path, PathBuf};

/// Paths of a repository in a folder.
#[derive(Debug, Clone)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The repository in `root`.
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The header.
    pub fn header(&self) -> PathBuf {
        self.root.join("repository.json")
    }

    /// The folder of key slots.
    pub fn slots(&self) -> PathBuf {
        self.root.join("keys")
    }

    /// A key slot.
    pub fn slot(&self, id: SlotId) -> PathBuf {
        self.slots().join(format!("{id}.json"))
    }

    /// The list of key slots.
    pub fn slot_index(&self) -> PathBuf {
        self.slots().join("index.json")
    }

    /// The folder of packs.
    pub fn packs(&self) -> PathBuf {
        self.root.join("packs")
    }

    /// The 256 folders of packs, by the first byte of their names.
    pub fn pack_folder(&self, first: u8) -> PathBuf {
        self.packs().join(format!("{first:02x}"))
    }

    /// A pack.
    pub fn pack(&self, name: PackName) -> PathBuf {
        self.pack_folder(name.0[0]).join(name.to_string())
    }

    /// The folder of manifests.
    pub fn points(&self) -> PathBuf {
        self.root.join("points")
    }

    /// A manifest.
    pub fn point(&self, id: PointId) -> PathBuf {
        self.points().join(id.to_string())
    }

    /// The folder of pins and locks of points.
    pub fn holds(&self) -> PathBuf {
        self.root.join("holds")
    }

    /// A pin or lock of a point.
    pub fn hold(&self, id: HoldId) -> PathBuf {
        self.holds().join(id.to_string())
    }

    /// The folder of lists of points that were removed on purpose.
    pub fn removed(&self) -> PathBuf {
        self.root.join("removed")
    }

    /// A list of points that were removed on purpose.
    pub fn removal(&self, id: RemovalId) -> PathBuf {
        self.removed().join(id.to_string())
    }

    /// The folder of lists of packs that are about to be removed.
    pub fn condemned(&self) -> PathBuf {
        self.root.join("condemned")
    }

    /// The folder of damaged files that were set apart.
    pub fn quarantine(&self) -> PathBuf {
        self.root.join("quarantine")
    }

    /// The folder of files under construction.
    pub fn temporary(&self) -> PathBuf {
        self.root.join("tmp")
    }

    /// A file under construction of one writer.
    pub fn temporary_file(&self, writer: RunId, number: u64) -> PathBuf {
        self.temporary().join(format!("{writer}-{number}.tmp"))
    }

    /// Held by a writer while its temporary files live.
    pub fn writer_lock(&self, writer: RunId) -> PathBuf {
        self.temporary().join(format!("{writer}.lock"))
    }

    /// Held for moments, while a writer begins or leftovers are swept.
    pub fn sweep_lock(&self) -> PathBuf {
        self.root.join("locks/sweep.lock")
    }

    /// Held shared by everything that uses the repository, exclusively by what removes from it.
    pub fn repository_lock(&self) -> PathBuf {
        self.root.join("locks/repository.lock")
    }

    /// Held exclusively by the one that removes points, shared by those who pin them: a pin that
    /// was acknowledged must not come too late.
    pub fn prune_lock(&self) -> PathBuf {
        self.root.join("locks/prune.lock")
    }

    /// Held exclusively while key slots are changed, or the repository is created.
    pub fn keys_lock(&self) -> PathBuf {
        self.root.join("locks/keys.lock")
    }

    /// Held exclusively by a backup of the machine whose name has this digest: in an encrypted
    /// repository the names themselves are secret.
    pub fn machine_lock(&self, digest: ChunkName) -> PathBuf {
        self.root.join(format!("locks/machine-{}.lock", digest.short()))
    }

    /// Note for a lock that is held for `work`.
    pub fn holder(work: impl Into<String>) -> LockHolder {
        LockHolder::this_process(work)
    }
}

//! Names of everything that a capture makes in QEMU. All carry the mark of who made it, so that the
//! next run finds what an earlier one of the same owner left, and leaves everything else alone.

use crate::units::{Hex, Name, RepositoryId, fill_random};
use sha2::{Digest, Sha256};
use std::path::Path;

const FIRST: &str = "afterimage";
/// Digits of the owner in names of nodes, of which QEMU takes 31 bytes.
const SHORT_DIGITS: usize = 8;
/// Most disks of a machine; their numbers have to fit into names of nodes.
pub(super) const DISKS_MAX: usize = 256;

/// Who captures a machine. Two owners may capture the same machine, and do not touch each other's
/// bitmaps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    owner: String,
}

impl Mark {
    /// The mark of an owner, by an identity that no other owner has and that never changes.
    pub fn new(owner: [u8; 16]) -> Self {
        Self { owner: Hex(owner).to_string() }
    }

    /// The mark of the backups of a machine to a repository.
    pub fn of_backups(repository: RepositoryId, machine: &Name) -> Self {
        let digest = Sha256::new().chain_update(repository.0).chain_update(machine.as_str());
        let mut owner = [0; 16];
        owner.iter_mut().zip(digest.finalize()).for_each(|(byte, from)| *byte = from);
        Self::new(owner)
    }

    /// How everything of this owner begins.
    pub(super) fn prefix(&self) -> String {
        format!("{FIRST}-{}-", self.owner)
    }

    /// How nodes of this owner begin.
    pub(super) fn node_prefix(&self) -> String {
        format!("{FIRST}-{}-", self.owner.get(..SHORT_DIGITS).unwrap_or(&self.owner))
    }

    /// The object that says that this owner froze the guest.
    pub(super) fn frozen(&self) -> String {
        format!("{}frozen", self.prefix())
    }

    /// The object that says that this owner started QEMU's NBD server.
    pub(super) fn serving(&self) -> String {
        format!("{}serving", self.prefix())
    }

    /// Whether a file's name says that it is a scratch file of this owner.
    pub(super) fn is_scratch(&self, path: &Path) -> bool {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
        name.starts_with(&self.prefix()) && name.ends_with(SCRATCH_END)
    }
}

const SCRATCH_END: &str = ".scratch";

/// One capture of an owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Capture {
    pub mark: Mark,
    id: String,
}

impl Capture {
    pub fn new(mark: Mark) -> std::io::Result<Self> {
        let mut id = [0; 8];
        fill_random(&mut id)?;
        Ok(Self { mark, id: Hex(id).to_string() })
    }

    /// The bitmap that records what is written to a disk from now on. It names the disk, so that
    /// disks that were exchanged do not find each other's.
    pub fn bitmap(&self, disk: &Name) -> String {
        format!("{}{}-{disk}", self.mark.prefix(), self.id)
    }

    /// The job and the export of a disk, by its number.
    pub fn job(&self, disk: usize) -> String {
        format!("{}{}-{disk}", self.mark.prefix(), self.id)
    }

    /// The job that makes the scratch image.
    pub fn create_job(&self) -> String {
        format!("{}{}-create", self.mark.prefix(), self.id)
    }

    /// The descriptor that is passed to QEMU, and the folder of the socket.
    pub fn socket(&self) -> String {
        format!("{}{}", self.mark.prefix(), self.id)
    }

    pub fn scratch_file(&self, disk: usize) -> String {
        format!("{}{}-{disk}{SCRATCH_END}", self.mark.prefix(), self.id)
    }

    /// The node of the scratch file.
    pub fn file_node(&self, disk: usize) -> String {
        format!("{}{}-{disk}f", self.mark.node_prefix(), self.short_id())
    }

    /// The node of the scratch image.
    pub fn scratch_node(&self, disk: usize) -> String {
        format!("{}{}-{disk}s", self.mark.node_prefix(), self.short_id())
    }

    fn short_id(&self) -> &str {
        self.id.get(..6).unwrap_or(&self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_and_carry_the_mark() {
        let capture = Capture::new(Mark::new([0xab; 16])).unwrap();
        let node = capture.scratch_node(DISKS_MAX - 1);
        assert!(node.len() <= 31 && node.starts_with("afterimage-abababab-"), "{node}");
        assert_ne!(node, capture.file_node(DISKS_MAX - 1));
        let file = capture.scratch_file(7);
        assert!(capture.mark.is_scratch(&Path::new("/srv").join(&file)), "{file}");
        let other = Mark::new([0xac; 16]);
        assert!(!other.is_scratch(Path::new(&file)));
        let disks: Vec<Name> = ["root", "data"].map(|it| it.parse().unwrap()).into();
        assert_ne!(capture.bitmap(&disks[0]), capture.bitmap(&disks[1]));
    }
}

//! Names of everything that a capture makes in QEMU. All carry the mark of who made it, so that the
//! next run finds what an earlier one of the same owner left, and leaves everything else alone.

use crate::capture::{CaptureUser, OwnerId};
use crate::units::{Hex, Name, fill_random};
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
    /// The mark of an installation, for one user of its captures.
    pub fn new(owner: OwnerId, user: CaptureUser<'_>) -> Self {
        let (kind, user) = match user {
            CaptureUser::Machine(name) => ("machine", name),
            CaptureUser::Replica(name) => ("replica", name),
        };
        let mut hash = Sha256::new();
        hash.update(owner.0);
        // No name holds a slash.
        hash.update(format!("{kind}/{user}"));
        let mut mark = [0; 16];
        mark.iter_mut().zip(hash.finalize()).for_each(|(byte, from)| *byte = from);
        Self { owner: Hex(mark).to_string() }
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

    /// The descriptor that is passed to QEMU. A new one takes the place of one that was left.
    pub(super) fn descriptor(&self) -> String {
        format!("{}socket", self.prefix())
    }

    /// Whether a file's name says that it is a scratch file of this owner.
    pub(super) fn is_scratch(&self, path: &Path) -> bool {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
        name.starts_with(&self.prefix()) && name.ends_with(SCRATCH_END)
    }
}

impl std::fmt::Display for Mark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.owner)
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

    /// The folder of the socket.
    pub fn socket_folder(&self) -> String {
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
pub(super) mod tests {
    use super::*;

    /// The mark of a machine's backups by some installation.
    pub fn mark(owner: u8) -> Mark {
        let machine = "web01".parse().unwrap();
        Mark::new(OwnerId([owner; 16]), CaptureUser::Machine(&machine))
    }

    #[test]
    fn names_fit_and_carry_the_mark() {
        let capture = Capture::new(mark(1)).unwrap();
        let owner = capture.mark.to_string();
        let node = capture.scratch_node(DISKS_MAX - 1);
        let prefix = format!("afterimage-{}-", &owner[..8]);
        assert!(node.len() <= 31 && node.starts_with(&prefix), "{node}");
        assert_ne!(node, capture.file_node(DISKS_MAX - 1));
        let file = capture.scratch_file(7);
        assert!(file.contains(&owner));
        assert!(capture.mark.is_scratch(&Path::new("/srv").join(&file)), "{file}");
        assert!(!mark(2).is_scratch(Path::new(&file)));
        let disks: Vec<Name> = ["root", "data"].map(|it| it.parse().unwrap()).into();
        assert_ne!(capture.bitmap(&disks[0]), capture.bitmap(&disks[1]));
    }

    #[test]
    fn a_replica_of_the_same_name_has_another_mark() {
        let name = "web01".parse().unwrap();
        assert_ne!(mark(1), Mark::new(OwnerId([1; 16]), CaptureUser::Replica(&name)));
    }
}

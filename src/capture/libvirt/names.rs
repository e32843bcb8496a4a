//! Names of everything that a capture makes around a domain. All carry the mark of who made it, so
//! that the next run finds what an earlier one of the same owner left, and leaves everything else
//! alone.

use crate::capture::QemuMark;
use crate::units::{Hex, fill_random};

const FIRST: &str = "afterimage";
/// Digits of the owner in names of files: the path of a socket has to fit into 107 bytes.
const SHORT_DIGITS: usize = 16;
const SCRATCH_END: &str = ".scratch";

/// How every checkpoint of an owner begins.
pub(super) fn checkpoint_prefix(mark: &QemuMark) -> String {
    format!("{FIRST}-{mark}-")
}

/// How every file of an owner begins.
pub(super) fn file_prefix(mark: &QemuMark) -> String {
    let mark = mark.to_string();
    format!("{FIRST}-{}-", mark.get(..SHORT_DIGITS).unwrap_or(&mark))
}

/// The file that says that this owner froze the guest.
pub(super) fn frozen(mark: &QemuMark) -> String {
    format!("{}frozen", file_prefix(mark))
}

/// One capture of an owner.
#[derive(Debug, Clone)]
pub(super) struct Capture {
    pub mark: QemuMark,
    id: String,
}

impl Capture {
    pub fn new(mark: QemuMark) -> std::io::Result<Self> {
        let mut id = [0; 6];
        fill_random(&mut id)?;
        Ok(Self { mark, id: Hex(id).to_string() })
    }

    /// The checkpoint that records what is written from now on.
    pub fn checkpoint(&self) -> String {
        format!("{}{}", checkpoint_prefix(&self.mark), self.id)
    }

    /// The socket, or the folder that it lies in.
    pub fn socket(&self) -> String {
        format!("{}{}", file_prefix(&self.mark), self.id)
    }

    /// The scratch file of a disk.
    pub fn scratch(&self, target: &str) -> String {
        format!("{}{}-{target}{SCRATCH_END}", file_prefix(&self.mark), self.id)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::capture::{CaptureUser, OwnerId};

    /// The mark of a machine's backups by some installation.
    pub fn mark(owner: u8) -> QemuMark {
        let machine = "web01".parse().unwrap();
        QemuMark::new(OwnerId([owner; 16]), CaptureUser::Machine(&machine))
    }

    #[test]
    fn names_carry_the_mark_and_leave_room_for_a_folder() {
        let (one, other) = (Capture::new(mark(1)).unwrap(), Capture::new(mark(1)).unwrap());
        assert_ne!(one.checkpoint(), other.checkpoint());
        assert!(one.checkpoint().starts_with(&checkpoint_prefix(&mark(1))));
        assert!(!one.checkpoint().starts_with(&checkpoint_prefix(&mark(2))));
        for file in [one.socket(), one.scratch("vda"), frozen(&mark(1))] {
            assert!(file.starts_with(&file_prefix(&mark(1))), "{file}");
            assert!(!file.starts_with(&file_prefix(&mark(2))), "{file}");
        }
        // `/var/lib/libvirt/qemu/domain-12345-` and 20 letters of the domain's name.
        assert!(56 + one.socket().len() <= 107);
    }
}

//! By what is known again what afterimage makes outside of its own folders.

use super::OwnerId;
use crate::units::{Hex, Name};
use sha2::{Digest, Sha256};
use std::fmt;

/// Says for whom something was made: which installation of afterimage, which disk of which machine or
/// replica. Two of them never take each other's for their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark(Hex<8>);

/// Who uses the captures of a disk. Each has captures of its own to build upon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CaptureUser<'a> {
    /// The backups of a machine.
    Machine(&'a Name),
    /// A replica that is fed without backups.
    Replica(&'a Name),
}

impl Mark {
    /// The mark of a disk for one user.
    pub fn new(owner: OwnerId, user: CaptureUser<'_>, disk: &Name) -> Self {
        let (kind, user) = match user {
            CaptureUser::Machine(name) => ("machine", name),
            CaptureUser::Replica(name) => ("replica", name),
        };
        let mut hash = Sha256::new();
        hash.update(owner.0);
        // No name holds a slash: two sequences of names never are the same text.
        hash.update(format!("{kind}/{user}/{disk}"));
        let digest: [u8; 32] = hash.finalize().into();
        let mut mark = [0; 8];
        mark.copy_from_slice(&digest[..8]);
        Self(Hex(mark))
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_counts() {
        let name = |text: &str| text.parse::<Name>().unwrap();
        let machine = |owner, machine, disk| {
            Mark::new(OwnerId([owner; 16]), CaptureUser::Machine(&name(machine)), &name(disk))
        };
        let replica = CaptureUser::Replica(&name("b"));
        let all = [
            machine(1, "b", "c"),
            machine(2, "b", "c"),
            machine(1, "c", "b"),
            machine(1, "bc", "d"),
            machine(1, "b", "cd"),
            Mark::new(OwnerId([1; 16]), replica, &name("c")),
        ];
        let all: Vec<String> = all.iter().map(Mark::to_string).collect();
        let distinct: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
        assert_eq!(machine(1, "b", "c").to_string(), all[0]);
        assert_eq!(all[0].len(), 16);
    }
}

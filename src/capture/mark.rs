//! By what is known again what afterimage makes outside of its own folders.

use crate::units::{Hex, Name};
use sha2::{Digest, Sha256};
use std::fmt;

/// Says for whom something was made: which installation of afterimage, which disk of which machine.
/// Two installations, or two machines with the same disk, never take each other's for their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark(Hex<8>);

impl Mark {
    /// The mark of a machine's disk. `owner` is the identity of this installation.
    pub fn new(owner: &[u8], machine: &Name, disk: &Name) -> Self {
        let mut hash = Sha256::new();
        for part in [&b"afterimage capture"[..], owner, machine.as_str().as_bytes()] {
            // The length too, so that no two sequences of parts are the same bytes.
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        hash.update(disk.as_str());
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
        let mark = |owner: &str, machine, disk| {
            Mark::new(owner.as_bytes(), &name(machine), &name(disk)).to_string()
        };
        let all = [mark("a", "b", "c"), mark("a", "c", "b"), mark("ab", "c", "d")];
        let more = [mark("a", "bc", "d"), mark("a", "b", "cd"), mark("x", "b", "c")];
        let all: Vec<&String> = all.iter().chain(&more).collect();
        let distinct: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
        assert_eq!(mark("a", "b", "c"), mark("a", "b", "c"));
        assert_eq!(all[0].len(), 16);
    }
}

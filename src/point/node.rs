//! A node: names of up to 256 leaves or nodes below it.
//!
//! ```text
//! 'N' u8 | level u8 | 1 bit for each child that is there, 32 bytes | their names, in order
//! ```
//!
//! Level 1 has leaves below it. A child that is not there stands for zeros.
//!
//! Invariant: a node without children is not stored.

use crate::units::{DIGEST_BYTES, TreeName};

/// Children of a node.
pub const FAN_OUT: usize = 256;
const MAGIC: u8 = b'N';
const BITMAP_BYTES: usize = FAN_OUT / 8;
/// The root over 2^64 regions is no higher.
const LEVEL_MAX: u8 = 8;

/// A decoded node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// [`FAN_OUT`] children.
    pub children: Vec<Option<TreeName>>,
}

impl Default for Node {
    fn default() -> Self {
        Self { children: vec![None; FAN_OUT] }
    }
}

impl Node {
    /// The encoded form, from which its name follows.
    pub fn encode(&self, level: u8) -> Vec<u8> {
        let mut bytes = vec![MAGIC, level];
        bytes.resize(2 + BITMAP_BYTES, 0);
        for (index, child) in self.children.iter().enumerate() {
            if let Some(name) = child {
                bytes[2 + index / 8] |= 1 << (index % 8);
                bytes.extend_from_slice(&name.0);
            }
        }
        bytes
    }

    /// Reads a node of this level.
    ///
    /// # Errors
    /// Names the invariant that it breaks.
    pub fn decode(bytes: &[u8], level: u8) -> Result<Self, &'static str> {
        if !(1..=LEVEL_MAX).contains(&level) {
            return Err("no node is of this level");
        }
        let rest = bytes.strip_prefix(&[MAGIC, level]).ok_or("it is no node of this level")?;
        let (bitmap, names) = rest.split_first_chunk::<BITMAP_BYTES>().ok_or("it was cut off")?;
        let (names, []) = names.as_chunks::<DIGEST_BYTES>() else {
            return Err("it was cut off");
        };
        let mut names = names.iter();
        let mut node = Self::default();
        for (index, child) in node.children.iter_mut().enumerate() {
            if bitmap[index / 8] & (1 << (index % 8)) != 0 {
                *child = Some(TreeName(*names.next().ok_or("children are missing")?));
            }
        }
        if names.next().is_some() {
            Err("it has too many children")
        } else if bitmap == &[0; BITMAP_BYTES] {
            // Else a few that point to each other would take for ever to walk, and hold nothing.
            Err("it has no children")
        } else {
            Ok(node)
        }
    }
}

/// Level of the root over `regions` regions: 0 for a single leaf.
pub(super) fn root_level(regions: u64) -> u8 {
    let mut level = 0;
    let mut reach: u128 = 1;
    while reach < u128::from(regions) {
        reach *= FAN_OUT as u128;
        level += 1;
    }
    level
}

/// Regions that a subtree of this level covers; saturates far above every disk.
pub(super) fn regions_below(level: u8) -> u64 {
    (FAN_OUT as u64).saturating_pow(u32::from(level))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_survives_its_encoding_and_only_at_its_level() {
        let mut node = Node::default();
        for index in [0, 7, 8, 255] {
            node.children[index] = Some(TreeName([index as u8; 32]));
        }
        let bytes = node.encode(3);
        assert_eq!(Node::decode(&bytes, 3), Ok(node));
        assert!(Node::decode(&bytes, 2).is_err());
        for len in 0..bytes.len() {
            assert!(Node::decode(&bytes[..len], 3).is_err(), "{len}");
        }
        assert!(Node::decode(&[&bytes[..], &[0; 32]].concat(), 3).is_err());
    }

    #[test]
    fn the_root_is_just_high_enough() {
        let levels: Vec<u8> = [0, 1, 2, 256, 257, 65536, 65537].map(root_level).to_vec();
        assert_eq!(levels, [0, 0, 1, 1, 2, 2, 3]);
        assert!(root_level(u64::MAX) <= LEVEL_MAX);
    }
}

//! A tree that differs from another one in a few leaves: what is above them is written anew, and
//! everything else is the other one's.

use super::node::{FAN_OUT, Node};
use super::path::TreePath;
use crate::store::StoreError;
use crate::units::{RegionIndex, TreeName};
use std::collections::BTreeMap;

/// What regions hold now: the names of their leaves; `None` for only zeros.
pub type ChangedLeaves = BTreeMap<RegionIndex, Option<TreeName>>;

/// Puts `changed` in the place of those leaves of `base`, and returns the root of the tree that
/// this gives, over as many regions; `None` when it holds only zeros. `store` keeps a node's bytes
/// and gives its name.
///
/// Invariant: the root is that of a tree which is built anew from all leaves.
///
/// # Errors
/// When a node of `base` is unknown or damaged, and the first error of `store`.
pub(super) fn graft(
    base: &mut TreePath<'_>,
    changed: ChangedLeaves,
    mut store: impl FnMut(&[u8]) -> Result<TreeName, StoreError>,
) -> Result<Option<TreeName>, StoreError> {
    let mut below: Vec<(u64, Option<TreeName>)> =
        changed.into_iter().map(|(region, leaf)| (region.0, leaf)).collect();
    for level in 1..=base.levels() {
        let mut above = Vec::new();
        for group in below.chunk_by(|one, next| one.0 / FAN_OUT as u64 == next.0 / FAN_OUT as u64) {
            let index = group[0].0 / FAN_OUT as u64;
            let mut node = base.node(level, index)?;
            for (child, name) in group {
                node.children[(child % FAN_OUT as u64) as usize] = *name;
            }
            let name = if is_empty(&node) { None } else { Some(store(&node.encode(level))?) };
            above.push((index, name));
        }
        below = above;
    }
    Ok(below.first().map_or(base.tree().root, |(_, root)| *root))
}

fn is_empty(node: &Node) -> bool {
    node.children.iter().all(Option::is_none)
}

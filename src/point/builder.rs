//! Building a tree from leaves that are done in almost any order, in bounded memory.

use super::node::{FAN_OUT, Node, regions_below, root_level};
use crate::units::{RegionIndex, TreeName};
use std::collections::{BTreeMap, BTreeSet};

/// Collects the leaves of one disk. Regions are begun in ascending order and may end in any
/// order; regions never begun hold zeros.
///
/// Invariant: only nodes with a region under work, or later ones, are held open; their number is
/// bounded by the number of regions under work.
#[derive(Debug, Default)]
pub struct TreeBuilder {
    under_work: BTreeSet<u64>,
    next: u64,
    open: BTreeMap<u64, Node>,
    closed: BTreeMap<u64, TreeName>,
}

/// A node that is complete and must be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClosedNode {
    index: u64,
    encoded: Vec<u8>,
}

impl ClosedNode {
    /// The node's bytes.
    pub fn encoded(&self) -> &[u8] {
        &self.encoded
    }
}

impl TreeBuilder {
    /// A region is under work from now on. Regions must begin in ascending order.
    pub fn begin(&mut self, region: RegionIndex) {
        debug_assert!(region.0 >= self.next);
        self.under_work.insert(region.0);
        self.next = region.0 + 1;
    }

    /// A region is done; `leaf` is `None` when it holds only zeros. Returns the nodes that are
    /// complete now: store each and tell its name with [`TreeBuilder::stored`].
    pub fn end(&mut self, region: RegionIndex, leaf: Option<TreeName>) -> Vec<ClosedNode> {
        self.under_work.remove(&region.0);
        if let Some(name) = leaf {
            let node = self.open.entry(region.0 / FAN_OUT as u64).or_default();
            node.children[(region.0 % FAN_OUT as u64) as usize] = Some(name);
        }
        let done = self.under_work.first().copied().unwrap_or(self.next);
        self.close_below(done / FAN_OUT as u64)
    }

    fn close_below(&mut self, limit: u64) -> Vec<ClosedNode> {
        let still_open = self.open.split_off(&limit);
        let closing = std::mem::replace(&mut self.open, still_open);
        closing
            .into_iter()
            .map(|(index, node)| ClosedNode { index, encoded: node.encode(1) })
            .collect()
    }

    /// A node was stored under `name`.
    pub fn stored(&mut self, node: &ClosedNode, name: TreeName) {
        self.closed.insert(node.index, name);
    }

    /// The root over `regions` regions, once all are done. `store` keeps a node's bytes and gives
    /// its name. `None`: the disk holds only zeros.
    ///
    /// # Errors
    /// The first error of `store`.
    pub fn finish<E>(
        mut self,
        regions: u64,
        mut store: impl FnMut(&[u8]) -> Result<TreeName, E>,
    ) -> Result<Option<TreeName>, E> {
        let root = root_level(regions);
        if root == 0 {
            // The only leaf is the root itself.
            return Ok(self.open.first_entry().and_then(|node| node.get().children[0]));
        }
        for node in self.close_below(u64::MAX) {
            let name = store(&node.encoded)?;
            self.closed.insert(node.index, name);
        }
        let mut level = self.closed;
        for height in 2..=root {
            let mut nodes: BTreeMap<u64, Node> = BTreeMap::new();
            for (index, name) in level {
                let node = nodes.entry(index / FAN_OUT as u64).or_default();
                node.children[(index % FAN_OUT as u64) as usize] = Some(name);
            }
            level = BTreeMap::new();
            for (index, node) in nodes {
                level.insert(index, store(&node.encode(height))?);
            }
        }
        debug_assert!(regions <= regions_below(root));
        Ok(level.into_values().next())
    }
}

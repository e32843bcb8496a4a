//! Going down one tree to one region after another. The nodes on the way to the last one are kept,
//! so that neighbours cost no second look.

use super::leaf::Leaf;
use super::node::{FAN_OUT, Node, regions_below, root_level};
use super::tree::{TreeReader, TreeRef};
use crate::chunk::CutParameters;
use crate::store::{ObjectIndex, ObjectReader, Repository, StoreError};
use crate::units::{RegionIndex, TreeName};

/// Reads leaves and nodes of one tree by their places. One for each thread.
#[derive(Debug)]
pub struct TreePath<'r> {
    objects: ObjectReader<'r>,
    cut: CutParameters,
    tree: TreeRef,
    /// The last node of each level, from 1 on, with its place among those of its level.
    nodes: Vec<Option<(u64, Node)>>,
}

impl<'r> TreePath<'r> {
    /// Reads `tree`, which is one of `repository`.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn new(
        repository: &'r Repository,
        index: &'r dyn ObjectIndex,
        tree: TreeRef,
    ) -> Result<Self, StoreError> {
        let cut = repository.header().cut;
        let levels = root_level(cut.region_count(tree.size_bytes));
        let nodes = vec![None; usize::from(levels)];
        Ok(Self { objects: repository.reader(index)?, cut, tree, nodes })
    }

    /// Level of the root: 0 where a single leaf is all of the tree.
    pub(super) fn levels(&self) -> u8 {
        self.nodes.len() as u8
    }

    /// The tree.
    pub(super) fn tree(&self) -> TreeRef {
        self.tree
    }

    /// The name of a region's leaf; `None` when it holds only zeros, or lies past the end.
    ///
    /// # Errors
    /// When something on the way is unknown or damaged.
    pub fn leaf_name(&mut self, region: RegionIndex) -> Result<Option<TreeName>, StoreError> {
        if self.levels() > 0 {
            self.go_down(1, region.0 / FAN_OUT as u64)?;
        }
        Ok(self.child(0, region.0))
    }

    /// The leaf of a region with its name; `None` when it holds only zeros.
    ///
    /// # Errors
    /// When something on the way is unknown or damaged.
    pub fn leaf(&mut self, region: RegionIndex) -> Result<Option<(TreeName, Leaf)>, StoreError> {
        let Some(name) = self.leaf_name(region)? else { return Ok(None) };
        let len = self.cut.region_len(region, self.tree.size_bytes);
        let leaf = TreeReader::new(&mut self.objects).leaf(name, len)?;
        Ok(Some((name, leaf)))
    }

    /// The node at the place `index` of those of `level`, from 1 on; one without children where
    /// there is none.
    ///
    /// # Errors
    /// When something on the way is unknown or damaged.
    pub(super) fn node(&mut self, level: u8, index: u64) -> Result<Node, StoreError> {
        self.go_down(level, index)?;
        let kept = self.nodes.get(usize::from(level) - 1).and_then(Option::as_ref);
        Ok(kept.map(|(_, node)| node.clone()).unwrap_or_default())
    }

    /// Reads what is not kept of the nodes from the root down to a place.
    fn go_down(&mut self, level: u8, index: u64) -> Result<(), StoreError> {
        for above in (level..=self.levels()).rev() {
            let place = index / regions_below(above - level);
            let slot = usize::from(above) - 1;
            if matches!(&self.nodes[slot], Some((known, _)) if *known == place) {
                continue;
            }
            let node = match self.child(above, place) {
                Some(name) => TreeReader::new(&mut self.objects).node(name, above)?,
                None => Node::default(),
            };
            self.nodes[slot] = Some((place, node));
        }
        Ok(())
    }

    /// The name of what stands at a place, by the node above it, which was read just now.
    fn child(&self, level: u8, index: u64) -> Option<TreeName> {
        match self.nodes.get(usize::from(level)) {
            Some(above) => {
                let (_, node) = above.as_ref()?;
                node.children[(index % FAN_OUT as u64) as usize]
            }
            None => self.tree.root.filter(|_| index == 0),
        }
    }
}

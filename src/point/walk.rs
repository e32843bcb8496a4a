//! Walking a tree object by object, as far down as a visitor wants.

use super::leaf::Span;
use super::node::{FAN_OUT, regions_below, root_level};
use super::tree::{TreeReader, TreeRef};
use crate::store::StoreError;
use crate::units::{ChunkName, RegionIndex, TreeName};

/// Learns what a walk meets, and says how far it goes.
pub trait TreeVisitor {
    /// Why a walk ends early.
    type Error: From<StoreError>;

    /// A leaf or node, before anything below it. `false`: nothing below it is read.
    ///
    /// # Errors
    /// Ends the walk.
    fn enter(&mut self, name: TreeName) -> Result<bool, Self::Error>;

    /// A chunk of the leaf that was entered last.
    ///
    /// # Errors
    /// Ends the walk.
    fn chunk(&mut self, name: ChunkName, len: u32) -> Result<(), Self::Error>;

    /// All below a leaf or node that was entered has been visited.
    ///
    /// # Errors
    /// Ends the walk.
    fn leave(&mut self, name: TreeName) -> Result<(), Self::Error>;
}

impl TreeReader<'_, '_> {
    /// Walks `tree`, the objects of each region before those of the next.
    ///
    /// # Errors
    /// When a tree object is unknown or damaged, and the first error of `visitor`.
    pub fn visit<V: TreeVisitor>(
        &mut self,
        tree: &TreeRef,
        visitor: &mut V,
    ) -> Result<(), V::Error> {
        let Some(root) = tree.root else { return Ok(()) };
        let level = root_level(self.cut().region_count(tree.size_bytes));
        self.visit_below(tree, root, level, 0, visitor)
    }

    fn visit_below<V: TreeVisitor>(
        &mut self,
        tree: &TreeRef,
        name: TreeName,
        level: u8,
        first: u64,
        visitor: &mut V,
    ) -> Result<(), V::Error> {
        if !visitor.enter(name)? {
            return Ok(());
        }
        if level == 0 {
            let len = self.cut().region_len(RegionIndex(first), tree.size_bytes);
            for span in self.leaf(name, len)?.spans {
                if let Span::Chunk { name, len } = span {
                    visitor.chunk(name, len)?;
                }
            }
        } else {
            let node = self.node(name, level)?;
            for (index, child) in (0..FAN_OUT as u64).zip(node.children) {
                let Some(child) = child else { continue };
                let below = first.saturating_add(index.saturating_mul(regions_below(level - 1)));
                self.visit_below(tree, child, level - 1, below, visitor)?;
            }
        }
        visitor.leave(name)
    }
}

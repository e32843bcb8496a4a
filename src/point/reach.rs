//! Everything that points refer to.
//!
//! Invariant: a subtree is passed over only when exactly that subtree was walked to its end
//! before; so an object that any point needs is always visited.

use super::manifest::Point;
use super::tree::{TreeReader, TreeRef};
use crate::store::{ObjectIndex, ObjectReader, Repository, StoreError};
use crate::units::{ObjectName, RegionIndex, TreeName};
use std::collections::HashSet;

/// Subtrees that are remembered; beyond that, walking one again costs only time. About 70 MiB.
const WALKED_MAX: usize = 1024 * 1024;

/// Walks the trees of points, each shared subtree once.
#[derive(Debug)]
pub struct Reach<'r> {
    objects: ObjectReader<'r>,
    walked: HashSet<TreeName>,
}

impl<'r> Reach<'r> {
    /// A walk that has seen nothing yet.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn new(repository: &'r Repository, index: &'r dyn ObjectIndex) -> Result<Self, StoreError> {
        Ok(Self { objects: repository.reader(index)?, walked: HashSet::new() })
    }

    /// Visits the names of all objects of `point` that were not visited before, some perhaps again.
    ///
    /// # Errors
    /// When a node or leaf is unknown or damaged: what lies below it is then not known.
    pub fn visit(
        &mut self,
        point: &Point,
        visit: &mut dyn FnMut(ObjectName),
    ) -> Result<(), StoreError> {
        let walked = point.manifest.trees().try_for_each(|tree| self.visit_tree(&tree, visit));
        if walked.is_err() {
            // What was begun was not walked to its end.
            self.walked.clear();
        }
        walked
    }

    fn visit_tree(
        &mut self,
        tree: &TreeRef,
        visit: &mut dyn FnMut(ObjectName),
    ) -> Result<(), StoreError> {
        if self.walked.len() > WALKED_MAX {
            self.walked.clear();
        }
        let cut = self.objects.repository().header().cut;
        let mut reader = TreeReader::new(&mut self.objects);
        let mut stack: Vec<(TreeName, u8, u64)> =
            tree.root.map(|root| (root, reader.root_level(tree), 0)).into_iter().collect();
        while let Some((name, level, first)) = stack.pop() {
            if !self.walked.insert(name) {
                continue;
            }
            visit(name.into());
            if level > 0 {
                // The first one last: they are stored, and best read, in ascending order.
                let children = reader.children(name, level, first)?.into_iter().rev();
                stack.extend(children.map(|(child, first)| (child, level - 1, first)));
            } else {
                let len = cut.region_len(RegionIndex(first), tree.size_bytes);
                reader.leaf(name, len)?.chunk_names().into_iter().for_each(&mut *visit);
            }
        }
        Ok(())
    }
}

//! Everything that points refer to.
//!
//! Invariant: a subtree is passed over only when exactly that subtree was walked to its end
//! before; so an object that any point needs is always visited.

use super::manifest::Point;
use super::tree::{TreeReader, TreeRef};
use super::walk::TreeVisitor;
use crate::store::{ObjectIndex, ObjectReader, Repository, StoreError};
use crate::units::{ChunkName, ObjectName, TreeName};
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
        let mut marks = Marks { walked: &mut self.walked, visit };
        TreeReader::new(&mut self.objects).visit(tree, &mut marks)
    }
}

struct Marks<'a> {
    walked: &'a mut HashSet<TreeName>,
    visit: &'a mut dyn FnMut(ObjectName),
}

impl TreeVisitor for Marks<'_> {
    type Error = StoreError;

    fn enter(&mut self, name: TreeName) -> Result<bool, StoreError> {
        let is_new = self.walked.insert(name);
        if is_new {
            (self.visit)(name.into());
        }
        Ok(is_new)
    }

    fn chunk(&mut self, name: ChunkName, _: u32) -> Result<(), StoreError> {
        (self.visit)(name.into());
        Ok(())
    }

    fn leave(&mut self, _: TreeName) -> Result<(), StoreError> {
        Ok(())
    }
}

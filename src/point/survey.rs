//! Which points, and which bytes of them, need what is damaged or gone: one walk over all trees,
//! which reads what they share only once.
//!
//! Invariant: whatever could not be read and fitted counts as harmed, never as whole.

use super::leaf::{Leaf, Span};
use super::node::{regions_below, root_level};
use super::tree::{TreeReader, TreeRef, misfit};
use crate::chunk::CutParameters;
use crate::extent::Extent;
use crate::store::Repository;
use crate::store::{Damage, Location, ObjectIndex, ObjectKind, ObjectReader, StoreError};
use crate::units::{ObjectName, PackName, TreeName};
use std::collections::{HashMap, HashSet};

/// What cannot be relied on.
#[derive(Debug, Clone, Default)]
pub struct Lost {
    /// Objects of which there is no good copy.
    pub objects: HashSet<ObjectName>,
    /// Packs of which nothing counts.
    pub packs: HashSet<PackName>,
}

impl Lost {
    fn holds(&self, name: ObjectName, index: &dyn ObjectIndex) -> Result<bool, StoreError> {
        if self.objects.contains(&name) {
            return Ok(true);
        }
        if self.packs.is_empty() {
            return Ok(false);
        }
        // An object that is known nowhere is found out by whoever looks for it.
        let copies = index.copies(name)?;
        Ok(!copies.is_empty() && copies.iter().all(|copy| self.packs.contains(&copy.pack)))
    }
}

/// A part of a tree. The same object may stand at the end of a disk and within another one, and
/// fit only one of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Subtree {
    name: TreeName,
    level: u8,
    /// Bytes of the disk that it covers.
    bytes: u64,
}

/// Walks trees and remembers what it has seen.
pub struct Survey<'r> {
    objects: ObjectReader<'r>,
    index: &'r dyn ObjectIndex,
    lost: &'r Lost,
    cut: CutParameters,
    /// Whether all below is whole.
    seen: HashMap<Subtree, bool>,
    /// Objects that were found to be of no use on the way: unknown, or not fitting.
    unfit: HashSet<ObjectName>,
    damages: Vec<Damage>,
}

impl std::fmt::Debug for Survey<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Survey").field("seen", &self.seen.len()).finish_non_exhaustive()
    }
}

impl<'r> Survey<'r> {
    /// A survey of trees of `repository`, in which `lost` is known to be of no use.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn new(
        repository: &'r Repository,
        index: &'r dyn ObjectIndex,
        lost: &'r Lost,
    ) -> Result<Self, StoreError> {
        Ok(Self {
            objects: repository.reader(index)?,
            index,
            lost,
            cut: repository.header().cut,
            seen: HashMap::new(),
            unfit: HashSet::new(),
            damages: Vec::new(),
        })
    }

    /// Whether all that `tree` needs is there: its nodes and leaves are read, its chunks are only
    /// looked up.
    ///
    /// # Errors
    /// When the repository or the index fails; damage is no error.
    pub fn is_whole(&mut self, tree: &TreeRef) -> Result<bool, StoreError> {
        match self.root(tree) {
            Some(root) => self.subtree(root),
            None => Ok(true),
        }
    }

    /// Visits the ranges of `tree` that cannot be read, with the object that each one lacks. Only
    /// for a tree that [`Survey::is_whole`] was asked about.
    ///
    /// # Errors
    /// As [`Survey::is_whole`].
    pub fn harms(
        &mut self,
        tree: &TreeRef,
        visit: &mut dyn FnMut(Extent, ObjectName),
    ) -> Result<(), StoreError> {
        match self.root(tree) {
            Some(root) => self.harms_below(root, 0, visit),
            None => Ok(()),
        }
    }

    /// Damage that was met on the way, of objects that nobody had named.
    pub fn damages(&self) -> &[Damage] {
        &self.damages
    }

    fn root(&self, tree: &TreeRef) -> Option<Subtree> {
        let level = root_level(self.cut.region_count(tree.size_bytes));
        tree.root.map(|name| Subtree { name, level, bytes: tree.size_bytes })
    }

    fn subtree(&mut self, at: Subtree) -> Result<bool, StoreError> {
        if let Some(&whole) = self.seen.get(&at) {
            return Ok(whole);
        }
        let whole = match (self.lost.holds(at.name.into(), self.index)?, at.level) {
            (true, _) => false,
            (false, 0) => self.leaf_is_whole(at)?,
            (false, _) => self.node_is_whole(at)?,
        };
        self.damages.extend(self.objects.take_faults());
        self.seen.insert(at, whole);
        Ok(whole)
    }

    fn node_is_whole(&mut self, at: Subtree) -> Result<bool, StoreError> {
        let Some(children) = self.children(at)? else { return Ok(false) };
        let mut whole = true;
        for (_, child) in children {
            // All of them: each damage below is to be met.
            whole &= self.subtree(child)?;
        }
        Ok(whole)
    }

    /// The children of a node with their offsets below it; `None` when it is of no use.
    fn children(&mut self, at: Subtree) -> Result<Option<Vec<(u64, Subtree)>>, StoreError> {
        let read = TreeReader::new(&mut self.objects).node(at.name, at.level);
        let Some(node) = self.usable(at.name, read)? else { return Ok(None) };
        let region_bytes = u64::from(self.cut.region_bytes);
        let child_bytes = regions_below(at.level - 1).saturating_mul(region_bytes);
        let mut children = Vec::new();
        for (index, name) in node.children.iter().enumerate() {
            let Some(name) = *name else { continue };
            let start = (index as u64).saturating_mul(child_bytes);
            if start >= at.bytes {
                let past = Err(misfit(at.name, "it reaches past the end of the disk"));
                return self.usable::<()>(at.name, past).map(|_| None);
            }
            let bytes = child_bytes.min(at.bytes - start);
            children.push((start, Subtree { name, level: at.level - 1, bytes }));
        }
        Ok(Some(children))
    }

    fn leaf(&mut self, at: Subtree) -> Result<Option<Leaf>, StoreError> {
        let read = TreeReader::new(&mut self.objects).leaf(at.name, at.bytes as u32);
        self.usable(at.name, read)
    }

    fn leaf_is_whole(&mut self, at: Subtree) -> Result<bool, StoreError> {
        let Some(leaf) = self.leaf(at)? else { return Ok(false) };
        let names = leaf.chunk_names();
        let mut located = self.index.locate(&names)?.into_iter();
        let mut whole = true;
        for span in &leaf.spans {
            let Span::Chunk { name, len } = *span else { continue };
            let name = ObjectName::from(name);
            let fits = |place: &Location| {
                place.entry.kind == ObjectKind::Chunk && place.entry.plain_len == len
            };
            let known = match located.next().flatten() {
                Some(place) if fits(&place) => true,
                Some(_) => self.index.copies(name)?.iter().any(fits),
                None => false,
            };
            if !known {
                self.unfit.insert(name);
            }
            whole &= known && !self.lost.holds(name, self.index)?;
        }
        Ok(whole)
    }

    /// What was read, unless that it could not be read is damage.
    fn usable<T>(
        &mut self,
        name: TreeName,
        read: Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        match read {
            Ok(value) => return Ok(Some(value)),
            Err(StoreError::Damaged(damage)) => {
                // Damage of copies is told by the reader.
                if self.unfit.insert(name.into()) && matches!(damage, Damage::Tree { .. }) {
                    self.damages.push(damage);
                }
            }
            Err(StoreError::Unknown { .. }) => {
                self.unfit.insert(name.into());
            }
            Err(error) => return Err(error),
        }
        Ok(None)
    }

    fn is_lost(&self, name: ObjectName) -> Result<bool, StoreError> {
        Ok(self.unfit.contains(&name) || self.lost.holds(name, self.index)?)
    }

    fn harms_below(
        &mut self,
        at: Subtree,
        start: u64,
        visit: &mut dyn FnMut(Extent, ObjectName),
    ) -> Result<(), StoreError> {
        if self.seen.get(&at) == Some(&true) {
            return Ok(());
        }
        let name = ObjectName::from(at.name);
        if self.is_lost(name)? {
            visit(Extent::between(start, start.saturating_add(at.bytes)), name);
            return Ok(());
        }
        if at.level > 0 {
            for (offset, child) in self.children(at)?.unwrap_or_default() {
                self.harms_below(child, start + offset, visit)?;
            }
            return Ok(());
        }
        let mut from = start;
        for span in self.leaf(at)?.unwrap_or_default().spans {
            let end = from + u64::from(span.len());
            if let Span::Chunk { name, .. } = span
                && self.is_lost(name.into())?
            {
                visit(Extent::between(from, end), name.into());
            }
            from = end;
        }
        Ok(())
    }
}

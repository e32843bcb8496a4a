//! Reading trees: the leaf of a region, and the regions in which two trees differ.

use super::leaf::Leaf;
use super::node::{FAN_OUT, Node, regions_below, root_level};
use crate::chunk::CutParameters;
use crate::store::{Damage, ObjectKind, ObjectReader, StoreError};
use crate::units::{RegionIndex, TreeName};

/// The whole content of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeRef {
    /// The root; `None` for only zeros.
    pub root: Option<TreeName>,
    /// Size of the disk in bytes.
    pub size_bytes: u64,
}

impl TreeRef {
    /// A disk of no bytes.
    pub const EMPTY: Self = Self { root: None, size_bytes: 0 };
}

/// A region whose leaves differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegionChange {
    /// The region.
    pub region: RegionIndex,
    /// Its leaf before; `None`: only zeros, or past the end.
    pub old: Option<TreeName>,
    /// Its leaf now; `None`: only zeros.
    pub new: Option<TreeName>,
}

/// Reads trees through an [`ObjectReader`].
#[derive(Debug)]
pub struct TreeReader<'a, 'r> {
    objects: &'a mut ObjectReader<'r>,
    cut: CutParameters,
}

impl<'a, 'r> TreeReader<'a, 'r> {
    /// Reads trees of the repository that `objects` reads.
    pub fn new(objects: &'a mut ObjectReader<'r>) -> Self {
        let cut = objects.repository().header().cut;
        Self { objects, cut }
    }

    /// How disks are cut in this repository.
    pub(super) fn cut(&self) -> &CutParameters {
        &self.cut
    }

    /// The leaf with this name, for a region of `region_len` bytes.
    ///
    /// # Errors
    /// When it is unknown, damaged, or does not fit the region.
    pub fn leaf(&mut self, name: TreeName, region_len: u32) -> Result<Leaf, StoreError> {
        let bytes = self.objects.tree_object(name, ObjectKind::Leaf)?;
        Leaf::decode(&bytes, region_len, &self.cut).map_err(|reason| misfit(name, reason))
    }

    pub(super) fn node(&mut self, name: TreeName, level: u8) -> Result<Node, StoreError> {
        let bytes = self.objects.tree_object(name, ObjectKind::Node)?;
        Node::decode(&bytes, level).map_err(|reason| misfit(name, reason))
    }

    /// The name of the leaf of `region`.
    ///
    /// # Errors
    /// When a node on the way is unknown or damaged.
    pub fn leaf_name(
        &mut self,
        tree: &TreeRef,
        region: RegionIndex,
    ) -> Result<Option<TreeName>, StoreError> {
        let regions = self.cut.region_count(tree.size_bytes);
        if region.0 >= regions {
            return Ok(None);
        }
        let mut at = tree.root;
        for level in (1..=root_level(regions)).rev() {
            let Some(name) = at else { return Ok(None) };
            let child = region.0 / regions_below(level - 1) % FAN_OUT as u64;
            at = self.node(name, level)?.children[child as usize];
        }
        Ok(at)
    }

    /// Visits the regions of `new` whose leaves differ from those of `old`, in ascending order,
    /// reading only the subtrees that differ. With [`TreeRef::EMPTY`] as `old`, visits every
    /// region that does not only hold zeros.
    ///
    /// # Errors
    /// When a node is unknown or damaged, and the first error of `visit`.
    pub fn differing<E: From<StoreError>>(
        &mut self,
        old: &TreeRef,
        new: &TreeRef,
        visit: &mut dyn FnMut(RegionChange) -> Result<(), E>,
    ) -> Result<(), E> {
        let new_regions = self.cut.region_count(new.size_bytes);
        let new_level = root_level(new_regions);
        let mut old_level = root_level(self.cut.region_count(old.size_bytes));
        let mut old_root = old.root;
        // A disk that shrank: only the first part of the old tree can still matter.
        while old_level > new_level {
            old_root = match old_root {
                Some(name) => self.node(name, old_level)?.children[0],
                None => None,
            };
            old_level -= 1;
        }
        let walk = Walk { regions: new_regions, old_level };
        self.walk(&walk, new_level, 0, old_root, new.root, visit)
    }

    fn walk<E: From<StoreError>>(
        &mut self,
        walk: &Walk,
        level: u8,
        first: u64,
        old: Option<TreeName>,
        new: Option<TreeName>,
        visit: &mut dyn FnMut(RegionChange) -> Result<(), E>,
    ) -> Result<(), E> {
        // A disk that grew: the old tree stands below the first children of the new one.
        let old_is_below = level > walk.old_level && first == 0 && old.is_some();
        if old == new && !old_is_below {
            return Ok(());
        }
        if first >= walk.regions {
            return match new {
                Some(name) => Err(misfit(name, "it lies past the end of the disk").into()),
                None => Ok(()),
            };
        }
        if level == 0 {
            return visit(RegionChange { region: RegionIndex(first), old, new });
        }
        let new_node = self.node_or_empty(new, level)?;
        let old_node = if old_is_below {
            let mut node = Node::default();
            node.children[0] = old;
            node
        } else {
            self.node_or_empty(old, level)?
        };
        for index in 0..FAN_OUT {
            let (old, new) = (old_node.children[index], new_node.children[index]);
            let below =
                first.saturating_add((index as u64).saturating_mul(regions_below(level - 1)));
            self.walk(walk, level - 1, below, old, new, visit)?;
        }
        Ok(())
    }

    fn node_or_empty(&mut self, name: Option<TreeName>, level: u8) -> Result<Node, StoreError> {
        name.map_or_else(|| Ok(Node::default()), |name| self.node(name, level))
    }
}

struct Walk {
    regions: u64,
    old_level: u8,
}

pub(super) fn misfit(name: TreeName, reason: &'static str) -> StoreError {
    Damage::Tree { object: name.into(), reason }.into()
}

//! What is left of a tree of which parts are damaged or gone.

use super::node::{regions_below, root_level};
use super::tree::{TreeReader, TreeRef};
use crate::extent::Extent;
use crate::store::StoreError;
use crate::units::{ObjectName, RegionIndex, TreeName};

/// A part of a tree, in ascending order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Branch {
    /// A region that holds data, and the name of its leaf. The leaf itself was not read.
    Leaf(RegionIndex, TreeName),
    /// Bytes of the disk that nothing can be said of, and the tree object that is missing.
    Lost(Extent, ObjectName),
}

/// Visits all of a disk that is not known to be zeros. What cannot be read is told instead of
/// ending the walk.
///
/// # Errors
/// When the repository fails in another way, and the first error of `visit`.
pub fn surviving<E: From<StoreError>>(
    reader: &mut TreeReader<'_, '_>,
    tree: &TreeRef,
    visit: &mut dyn FnMut(Branch) -> Result<(), E>,
) -> Result<(), E> {
    let Some(root) = tree.root else { return Ok(()) };
    let regions = reader.cut().region_count(tree.size_bytes);
    let walk = Walk { regions, size_bytes: tree.size_bytes };
    walk.below(reader, root_level(regions), 0, root, visit)
}

struct Walk {
    regions: u64,
    size_bytes: u64,
}

impl Walk {
    fn below<E: From<StoreError>>(
        &self,
        reader: &mut TreeReader<'_, '_>,
        level: u8,
        first: u64,
        name: TreeName,
        visit: &mut dyn FnMut(Branch) -> Result<(), E>,
    ) -> Result<(), E> {
        // What stands past the end of the disk is part of nothing.
        if first >= self.regions {
            return Ok(());
        }
        if level == 0 {
            return visit(Branch::Leaf(RegionIndex(first), name));
        }
        let node = match reader.node(name, level) {
            Ok(node) => node,
            Err(StoreError::Damaged(_) | StoreError::Unknown { .. }) => {
                let start = |region| reader.cut().region_start(RegionIndex(region));
                let end = first.saturating_add(regions_below(level)).min(self.regions);
                let lost = Extent::between(start(first), start(end).min(self.size_bytes));
                return visit(Branch::Lost(lost, name.into()));
            }
            Err(error) => return Err(error.into()),
        };
        for (index, child) in node.children.iter().enumerate() {
            let at = first.saturating_add((index as u64).saturating_mul(regions_below(level - 1)));
            if let Some(child) = child {
                self.below(reader, level - 1, at, *child, visit)?;
            }
        }
        Ok(())
    }
}

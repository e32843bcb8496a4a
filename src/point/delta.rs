//! The regions in which two trees differ, with their leaves.

use super::leaf::{Leaf, Span};
use super::tree::{TreeReader, TreeRef};
use crate::store::{ObjectIndex, Repository, StoreError};

/// A region that differs between two trees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeafChange {
    /// First byte of the region in its disk.
    pub start: u64,
    /// Length of the region in the new tree, in bytes.
    pub len: u32,
    /// What it held; `None`: only zeros, or it was past the end.
    pub old: Option<Leaf>,
    /// What it holds; `None`: only zeros.
    pub new: Option<Leaf>,
}

/// Visits the regions in which `new` differs from `old`, in ascending order, reading only the
/// subtrees and leaves that differ.
///
/// # Errors
/// When a tree object is unknown or damaged, and the first error of `visit`.
pub fn differing_leaves<E: From<StoreError>>(
    repository: &Repository,
    index: &dyn ObjectIndex,
    old: &TreeRef,
    new: &TreeRef,
    visit: &mut dyn FnMut(LeafChange) -> Result<(), E>,
) -> Result<(), E> {
    let cut = repository.header().cut;
    let mut nodes = repository.reader(index)?;
    let mut leaves = repository.reader(index)?;
    TreeReader::new(&mut nodes).differing::<E>(old, new, &mut |change| {
        let mut read = |name: Option<_>, disk_bytes| {
            let len = cut.region_len(change.region, disk_bytes);
            name.map(|name| TreeReader::new(&mut leaves).leaf(name, len)).transpose()
        };
        visit(LeafChange {
            start: cut.region_start(change.region),
            len: cut.region_len(change.region, new.size_bytes),
            old: read(change.old, old.size_bytes)?,
            new: read(change.new, new.size_bytes)?,
        })
    })
}

/// Bytes of a disk that are data: what it takes at most where holes take nothing.
///
/// # Errors
/// When a tree object is unknown or damaged.
pub fn data_bytes(
    repository: &Repository,
    index: &dyn ObjectIndex,
    tree: &TreeRef,
) -> Result<u64, StoreError> {
    let mut data = 0;
    differing_leaves::<StoreError>(repository, index, &TreeRef::EMPTY, tree, &mut |change| {
        let leaf = change.new.unwrap_or_default();
        let chunks = leaf.spans.iter().filter(|span| matches!(span, Span::Chunk { .. }));
        data += chunks.map(|span| u64::from(span.len())).sum::<u64>();
        Ok(())
    })?;
    Ok(data)
}

/// Bytes that a new image of a disk takes, as far as its tree tells. Zero blocks within chunks take
/// none: one part in sixteen allows for them.
///
/// # Errors
/// When a tree object is unknown or damaged.
pub fn thin_bytes(
    repository: &Repository,
    index: &dyn ObjectIndex,
    tree: &TreeRef,
) -> Result<u64, StoreError> {
    let data = data_bytes(repository, index, tree)?;
    Ok(data - data / 16)
}

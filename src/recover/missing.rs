//! What a restore had to leave out: the map beside the image, without which zeros that were never
//! there could not be told from true ones.

use super::RestoreError;
use super::restore::RestoreItem;
use crate::extent::Extent;
use crate::fsio::{FileSystem, parent_dir, write_replacing};
use crate::point::{Branch, Span, TreeReader, TreeRef, surviving};
use crate::store::{ObjectIndex, Repository, StoreError};
use crate::units::{Name, PointId};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What is missing in a restored disk or file of the definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// Its name.
    pub disk: Name,
    /// Ranges that read as zeros because the repository cannot give them back, in order.
    pub ranges: Vec<Extent>,
    /// The file that lists them; a device has none.
    pub map: Option<PathBuf>,
}

impl Missing {
    /// How many bytes.
    pub fn bytes(&self) -> u64 {
        self.ranges.iter().map(Extent::len).sum()
    }
}

/// The content of a map.
#[derive(serde::Serialize)]
struct Map<'a> {
    format: u64,
    disk: &'a Name,
    point: PointId,
    size_bytes: u64,
    missing_bytes: u64,
    ranges: Vec<Range>,
}

#[derive(serde::Serialize)]
struct Range {
    start: u64,
    end: u64,
}

/// Where the map of an image is: `root.raw.missing.json`.
pub(super) fn map_path(image: &Path) -> PathBuf {
    let mut path = image.as_os_str().to_owned();
    path.push(".missing.json");
    path.into()
}

/// Writes the map of an image in which something is missing, durably. The image gets its name only
/// then: it never stands without its map.
pub(super) fn write_map(
    fs: &Arc<dyn FileSystem>,
    point: PointId,
    item: &RestoreItem,
    missing: &[Extent],
) -> Result<(), RestoreError> {
    let path = map_path(&item.path);
    let ranges = missing.iter().map(|it| Range { start: it.start(), end: it.end() }).collect();
    let map = Map {
        format: 1,
        disk: &item.name,
        point,
        size_bytes: item.tree.size_bytes,
        missing_bytes: missing.iter().map(Extent::len).sum(),
        ranges,
    };
    let text = serde_json::to_vec_pretty(&map).unwrap_or_default();
    let mut temporary = path.clone().into_os_string();
    temporary.push(".partial");
    let temporary = PathBuf::from(temporary);
    // What an interrupted restore left.
    if fs.stat(&temporary)?.is_some() {
        fs.remove_file(&temporary)?;
    }
    Ok(write_replacing(fs, temporary, &path, &text)?)
}

/// Removes the map of the image that was there before, once the one in its place is durable.
pub(super) fn remove_map(fs: &dyn FileSystem, image: &Path) -> Result<(), RestoreError> {
    let path = map_path(image);
    if fs.stat(&path)?.is_some() {
        fs.remove_file(&path)?;
        fs.sync_dir(&parent_dir(&path))?;
    }
    Ok(())
}

/// Bytes of a disk that can still be read, as far as its tree tells.
pub(super) fn readable_bytes(
    repository: &Repository,
    index: &dyn ObjectIndex,
    tree: &TreeRef,
) -> Result<u64, StoreError> {
    let cut = repository.header().cut;
    let (mut nodes, mut leaves) = (repository.reader(index)?, repository.reader(index)?);
    let mut data = 0;
    surviving::<StoreError>(&mut TreeReader::new(&mut nodes), tree, &mut |branch| {
        let Branch::Leaf(region, name) = branch else { return Ok(()) };
        let len = cut.region_len(region, tree.size_bytes);
        match TreeReader::new(&mut leaves).leaf(name, len) {
            Ok(leaf) => {
                let chunks = leaf.spans.iter().filter(|span| matches!(span, Span::Chunk { .. }));
                data += chunks.map(|span| u64::from(span.len())).sum::<u64>();
                Ok(())
            }
            Err(StoreError::Damaged(_) | StoreError::Unknown { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    })?;
    Ok(data - data / 16)
}

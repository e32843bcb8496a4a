//! Reading what a tree holds: a whole region by its leaf, or any range of bytes.

use super::leaf::{Leaf, Span};
use super::tree::{TreeReader, TreeRef};
use crate::chunk::CutParameters;
use crate::store::{ObjectIndex, ObjectReader, Repository, StoreError, Wanted};
use crate::units::{RegionIndex, TreeName};

/// Reads the content of trees; every chunk is checked by its name. One for each thread.
#[derive(Debug)]
pub struct ContentReader<'r> {
    objects: ObjectReader<'r>,
    cut: CutParameters,
}

impl<'r> ContentReader<'r> {
    /// Reads trees of `repository`.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn new(repository: &'r Repository, index: &'r dyn ObjectIndex) -> Result<Self, StoreError> {
        Ok(Self { objects: repository.reader(index)?, cut: repository.header().cut })
    }

    /// Fills `buffer`, which is as long as the region, with what a leaf holds, and gives back how
    /// many bytes were read for it.
    ///
    /// # Errors
    /// When something is unknown or damaged.
    pub fn read_leaf(&mut self, name: TreeName, buffer: &mut [u8]) -> Result<u64, StoreError> {
        let len = u32::try_from(buffer.len()).unwrap_or(u32::MAX);
        let leaf = TreeReader::new(&mut self.objects).leaf(name, len)?;
        self.fill(&leaf, 0, buffer)
    }

    /// Fills `buffer` with what `tree` holds from the byte `start` on, and gives back how many
    /// bytes were read for it. What lies past the disk's end reads as zeros.
    ///
    /// # Errors
    /// When something is unknown or damaged.
    pub fn read_range(
        &mut self,
        tree: &TreeRef,
        start: u64,
        buffer: &mut [u8],
    ) -> Result<u64, StoreError> {
        let (mut at, mut read) = (start, 0);
        let mut rest = buffer;
        while !rest.is_empty() && at < tree.size_bytes {
            let region = RegionIndex(at / u64::from(self.cut.region_bytes));
            let region_len = self.cut.region_len(region, tree.size_bytes);
            let skip = (at - self.cut.region_start(region)) as u32;
            let (part, later) = rest.split_at_mut(rest.len().min((region_len - skip) as usize));
            let mut trees = TreeReader::new(&mut self.objects);
            match trees.leaf_name(tree, region)? {
                None => part.fill(0),
                Some(name) => {
                    let leaf = trees.leaf(name, region_len)?;
                    read += self.fill(&leaf, skip, part)?;
                }
            }
            at += part.len() as u64;
            rest = later;
        }
        rest.fill(0);
        Ok(read)
    }

    /// Fills `part` with what `leaf` holds from the byte `skip` on.
    fn fill(&mut self, leaf: &Leaf, skip: u32, part: &mut [u8]) -> Result<u64, StoreError> {
        part.fill(0);
        let end = u64::from(skip) + part.len() as u64;
        let (mut wanted, mut starts) = (Vec::new(), Vec::new());
        let mut start = 0;
        for span in &leaf.spans {
            let after = start + u64::from(span.len());
            if let Span::Chunk { name, len } = *span
                && after > u64::from(skip)
                && start < end
            {
                wanted.push(Wanted { name, len });
                starts.push(start);
            }
            start = after;
        }
        let mut read = 0;
        self.objects.chunks::<StoreError>(&wanted, |index, content| {
            let (Some(chunk_start), len) = (starts.get(index), content.len() as u64) else {
                return Ok(());
            };
            let from = (*chunk_start).max(u64::from(skip));
            let to = (chunk_start + len).min(end);
            let target = (from - u64::from(skip)) as usize..(to - u64::from(skip)) as usize;
            let source = (from - chunk_start) as usize..(to - chunk_start) as usize;
            part[target].copy_from_slice(&content[source]);
            read += len;
            Ok(())
        })?;
        Ok(read)
    }
}

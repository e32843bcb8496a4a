//! A disk of a point, read as a source is.
//!
//! Invariant: what cannot be read is data whose reading fails, never zeros.

use crate::extent::{Extent, push_joined};
use crate::fsio::{FileError, FileStat};
use crate::point::{Branch, Leaf, Span, TreeReader, TreeRef, surviving};
use crate::source::{Source, SourceError};
use crate::store::{ObjectIndex, ObjectReader, Repository, StoreError, Wanted};
use crate::units::{RegionIndex, TreeName};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// A tree as a disk.
pub struct TreeSource<'r> {
    repository: &'r Repository,
    size_bytes: u64,
    /// Leaves of the regions with data; `None` where the tree is damaged.
    leaves: BTreeMap<u64, Option<TreeName>>,
    reading: Mutex<Reading<'r>>,
}

struct Reading<'r> {
    objects: ObjectReader<'r>,
    last: Option<(u64, Leaf)>,
}

impl std::fmt::Debug for TreeSource<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TreeSource").field("leaves", &self.leaves.len()).finish_non_exhaustive()
    }
}

impl<'r> TreeSource<'r> {
    /// The disk with this content.
    ///
    /// # Errors
    /// When the repository fails. What is damaged in it shows when it is read.
    pub fn new(
        repository: &'r Repository,
        index: &'r dyn ObjectIndex,
        tree: &TreeRef,
    ) -> Result<Self, StoreError> {
        let mut objects = repository.reader(index)?;
        let mut leaves = BTreeMap::new();
        let region_bytes = u64::from(repository.header().cut.region_bytes);
        surviving::<StoreError>(&mut TreeReader::new(&mut objects), tree, &mut |branch| {
            match branch {
                Branch::Leaf(region, name) => drop(leaves.insert(region.0, Some(name))),
                Branch::Lost(extent, _) => {
                    let end = extent.end().div_ceil(region_bytes);
                    leaves.extend((extent.start() / region_bytes..end).map(|it| (it, None)));
                }
            }
            Ok(())
        })?;
        let reading = Mutex::new(Reading { objects, last: None });
        Ok(Self { repository, size_bytes: tree.size_bytes, leaves, reading })
    }

    fn error(&self, error: impl std::fmt::Display) -> SourceError {
        let path = self.repository.layout().root();
        FileError::new("read", path, std::io::Error::other(error.to_string())).into()
    }

    fn leaf(&self, reading: &mut Reading<'r>, region: u64) -> Result<Leaf, SourceError> {
        if let Some((known, leaf)) = &reading.last
            && *known == region
        {
            return Ok(leaf.clone());
        }
        let cut = self.repository.header().cut;
        let len = cut.region_len(RegionIndex(region), self.size_bytes);
        let leaf = match self.leaves.get(&region) {
            None => Leaf { spans: vec![Span::Hole { len }] },
            Some(None) => return Err(self.error("the tree of the point is damaged")),
            Some(Some(name)) => TreeReader::new(&mut reading.objects)
                .leaf(*name, len)
                .map_err(|error| self.error(error))?,
        };
        reading.last = Some((region, leaf.clone()));
        Ok(leaf)
    }

    /// Regions that `range` touches.
    fn regions(&self, range: Extent) -> std::ops::Range<u64> {
        let region_bytes = u64::from(self.repository.header().cut.region_bytes);
        range.start() / region_bytes..range.end().div_ceil(region_bytes)
    }

    fn start(&self, region: u64) -> u64 {
        self.repository.header().cut.region_start(RegionIndex(region))
    }
}

impl Source for TreeSource<'_> {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn next_data(&self, offset: u64) -> Result<Option<u64>, SourceError> {
        let region_bytes = u64::from(self.repository.header().cut.region_bytes);
        let next = self.leaves.range(offset / region_bytes..).next();
        let at = next.map(|(region, _)| self.start(*region).max(offset));
        Ok(at.filter(|at| *at < self.size_bytes))
    }

    fn data_extents(&self, range: Extent) -> Result<Vec<Extent>, SourceError> {
        let mut reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let mut data = Vec::new();
        for region in self.regions(range) {
            let mut at = self.start(region);
            for span in self.leaf(&mut reading, region)?.spans {
                let extent = Extent::between(at, at + u64::from(span.len()));
                if matches!(span, Span::Chunk { .. }) {
                    push_joined(&mut data, extent.intersection(range));
                }
                at = extent.end();
            }
        }
        Ok(data)
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), SourceError> {
        let range = Extent::between(offset, offset + buffer.len() as u64);
        let mut reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        buffer.fill(0);
        for region in self.regions(range) {
            let leaf = self.leaf(&mut reading, region)?;
            let (mut wanted, mut places) = (Vec::new(), Vec::new());
            let mut at = self.start(region);
            for span in leaf.spans {
                let extent = Extent::between(at, at + u64::from(span.len()));
                if let Span::Chunk { name, len } = span
                    && !extent.intersection(range).is_empty()
                {
                    wanted.push(Wanted { name, len });
                    places.push(extent);
                }
                at = extent.end();
            }
            let read = reading.objects.chunks::<StoreError>(&wanted, |index, content| {
                let common = places[index].intersection(range);
                let from = (common.start() - places[index].start()) as usize;
                let to = (common.start() - offset) as usize;
                let len = common.len() as usize;
                buffer[to..to + len].copy_from_slice(&content[from..from + len]);
                Ok(())
            });
            read.map_err(|error| self.error(error))?;
        }
        Ok(())
    }

    fn check_unchanged(&self) -> Result<(), SourceError> {
        Ok(())
    }

    fn description(&self) -> &'static str {
        "point"
    }

    fn files(&self) -> Vec<FileStat> {
        Vec::new()
    }
}

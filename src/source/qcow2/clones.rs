//! Where the disks in two clones of one image differ.

use super::super::error::SourceError;
use super::super::file::SourceFile;
use super::Qcow2Source;
use super::chain::{Layer, Qcow2Layer};
use super::map::{Content, Tables};
use crate::extent::{Extent, push_joined};

impl Qcow2Source {
    /// Opens the image in `file`, which is a clone.
    ///
    /// # Errors
    /// As [`Qcow2Source::open`]; also when it has a data file, which is not cloned with it.
    pub(in crate::source) fn open_clone(file: SourceFile) -> Result<Self, SourceError> {
        let opened = Self::open(file, false)?;
        match opened.layers.first() {
            Some(Layer::Qcow2(layer)) if layer.data_file.is_some() => {
                let what = "its data lies in another file, which a clone of it does not hold";
                let path = opened.path.clone();
                Err(SourceError::UnsupportedFeature { path, what: what.to_owned() })
            }
            _ => Ok(opened),
        }
    }

    /// Where this disk may differ from that of `old`, an earlier clone, when the files may differ in
    /// `differing` (sorted, disjoint); `None` when it is not known.
    pub(in crate::source) fn changed_since_clone(
        &self,
        old: &Self,
        differing: &[Extent],
    ) -> Result<Option<Vec<Extent>>, SourceError> {
        let (Some(was), Some(is)) = (old.only_layer(), self.only_layer()) else {
            return Ok(None);
        };
        // What the same bytes mean follows from the header.
        if was.header.cluster_bits != is.header.cluster_bits
            || was.header.compression != is.header.compression
        {
            return Ok(None);
        }
        let tables = |source: &'_ Self, layer: &'_ Qcow2Layer, start, end| {
            let Qcow2Layer { header, file, .. } = layer;
            Tables { header, file, cache: &source.tables, layer: 0 }.content_at(start, end)
        };
        let mut list = Vec::new();
        let common = old.size_bytes.min(self.size_bytes);
        let mut start = 0;
        while start < common {
            let (before, before_end) = tables(old, was, start, common)?;
            let (content, end) = tables(self, is, start, before_end)?;
            let range = Extent::between(start, end);
            match (before, content) {
                // Nothing stands behind either of them.
                (Content::Unallocated | Content::Zeros, Content::Unallocated | Content::Zeros) => {}
                (Content::Stored(from), Content::Stored(at)) if from == at => {
                    push_differing(&mut list, range, at, differing);
                }
                (Content::Compressed(from), Content::Compressed(at)) if from == at => {
                    let end = at.file_offset.saturating_add(at.bytes_max);
                    if differs(differing, Extent::between(at.file_offset, end)) {
                        push_joined(&mut list, range);
                    }
                }
                _ => push_joined(&mut list, range),
            }
            start = end;
        }
        push_joined(&mut list, Extent::between(common, self.size_bytes));
        Ok(Some(list))
    }

    fn only_layer(&self) -> Option<&Qcow2Layer> {
        match &self.layers[..] {
            [Layer::Qcow2(layer)] => Some(layer),
            _ => None,
        }
    }
}

/// The parts of `differing` that reach into `stored`.
fn parts_within(differing: &[Extent], stored: Extent) -> impl Iterator<Item = Extent> {
    let first = differing.partition_point(|it| it.end() <= stored.start());
    let parts = differing[first..].iter().take_while(move |it| it.start() < stored.end());
    parts.map(move |it| it.intersection(stored))
}

fn differs(differing: &[Extent], stored: Extent) -> bool {
    parts_within(differing, stored).next().is_some()
}

/// Appends those parts of `range`, which is stored from byte `at` of the file on, that differ there.
fn push_differing(list: &mut Vec<Extent>, range: Extent, at: u64, differing: &[Extent]) {
    let stored = Extent::between(at, at.saturating_add(range.len()));
    for part in parts_within(differing, stored) {
        let start = range.start() + (part.start() - at);
        push_joined(list, Extent::between(start, start + part.len()));
    }
}

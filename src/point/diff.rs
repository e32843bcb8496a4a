//! What must be done to a region that holds one leaf so that it holds another: a pure function.

use super::leaf::{Leaf, Span};
use crate::extent::{Extent, push_joined};
use crate::units::ChunkName;

/// A change of a region; offsets are in bytes from the region's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanChange {
    /// The chunk must be written.
    Write {
        /// Where.
        start: u32,
        /// What.
        name: ChunkName,
        /// Its length in bytes.
        len: u32,
    },
    /// The range must read as zeros.
    Zero {
        /// Where.
        start: u32,
        /// How much.
        len: u32,
    },
}

/// The changes that lead from `old` to `new`, in order. `None` for a leaf that is only zeros,
/// with the region's new length `region_len`. What lies past the end of `old` reads as zeros.
pub fn diff_spans(old: Option<&Leaf>, new: Option<&Leaf>, region_len: u32) -> Vec<SpanChange> {
    let empty = Leaf::default();
    let all_hole = Leaf { spans: vec![Span::Hole { len: region_len }] };
    let old_spans = positions(old.unwrap_or(&empty));
    let data = data_extents(&old_spans);
    let mut changes = Vec::new();
    let mut old_at = 0;
    for (start, span) in positions(new.unwrap_or(&all_hole)) {
        match span {
            Span::Chunk { name, len } => {
                while old_at < old_spans.len() && old_spans[old_at].0 < start {
                    old_at += 1;
                }
                if old_spans.get(old_at) != Some(&(start, span)) {
                    changes.push(SpanChange::Write { start, name, len });
                }
            }
            Span::Hole { len } => push_zeros(&mut changes, &data, start, len),
        }
    }
    changes
}

fn positions(leaf: &Leaf) -> Vec<(u32, Span)> {
    let mut start = 0;
    leaf.spans
        .iter()
        .map(|span| {
            let position = (start, *span);
            start += span.len();
            position
        })
        .collect()
}

fn data_extents(spans: &[(u32, Span)]) -> Vec<Extent> {
    let mut data = Vec::new();
    for (start, span) in spans {
        if let Span::Chunk { len, .. } = span {
            let start = u64::from(*start);
            push_joined(&mut data, Extent::between(start, start + u64::from(*len)));
        }
    }
    data
}

/// Zeros only where the old content was data.
fn push_zeros(changes: &mut Vec<SpanChange>, data: &[Extent], start: u32, len: u32) {
    let hole = Extent::between(u64::from(start), u64::from(start) + u64::from(len));
    let first = data.partition_point(|extent| extent.end() <= hole.start());
    for extent in data[first..].iter().take_while(|extent| extent.start() < hole.end()) {
        let common = extent.intersection(hole);
        changes.push(SpanChange::Zero { start: common.start() as u32, len: common.len() as u32 });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn content(leaf: &Leaf) -> Vec<u8> {
        let mut bytes = Vec::new();
        for span in &leaf.spans {
            let byte = match span {
                Span::Chunk { name, .. } => name.0[0],
                Span::Hole { .. } => 0,
            };
            bytes.extend(std::iter::repeat_n(byte, span.len() as usize));
        }
        bytes
    }

    fn leaf() -> impl Strategy<Value = Leaf> {
        prop::collection::vec((0_u8..4, 1_u32..6), 1..12).prop_map(|spans| Leaf {
            spans: spans
                .into_iter()
                .map(|(byte, len)| match byte {
                    0 => Span::Hole { len },
                    _ => Span::Chunk { name: ChunkName([byte; 32]), len },
                })
                .collect(),
        })
    }

    proptest! {
        #[test]
        fn applying_the_changes_to_the_old_content_gives_the_new_one(
            old in prop::option::of(leaf()),
            new in prop::option::of(leaf()),
            hole_len in 1_u32..20,
        ) {
            let new_len = new.as_ref().map_or(hole_len, |leaf| content(leaf).len() as u32);
            let mut region = old.as_ref().map(content).unwrap_or_default();
            region.resize(new_len as usize, 0);
            let mut last_end = 0;
            for change in diff_spans(old.as_ref(), new.as_ref(), new_len) {
                let (start, len, byte) = match change {
                    SpanChange::Write { start, name, len } => (start, len, name.0[0]),
                    SpanChange::Zero { start, len } => (start, len, 0),
                };
                prop_assert!(start >= last_end && len > 0);
                last_end = start + len;
                region[start as usize..last_end as usize].fill(byte);
            }
            let expected = new.as_ref().map_or(vec![0; new_len as usize], content);
            prop_assert_eq!(region, expected);
            if old == new && old.is_some() {
                prop_assert!(diff_spans(old.as_ref(), new.as_ref(), new_len).is_empty());
            }
        }
    }
}

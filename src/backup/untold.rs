//! What changed in a disk although nothing told of it: all of it was read, and where the new content
//! is another one than that of the point before, that must lie in what was told.

use super::base::Base;
use super::{BackupError, Context};
use crate::extent::{Extent, differing_blocks, outside, push_joined, whole_blocks};
use crate::point::{ContentReader, SpanChange, TreeRef, diff_spans, differing_leaves};
use crate::source::{Source, Untold};
use crate::units::{MIB, Name};

/// Compared at once, in bytes.
const PIECE_BYTES: u64 = MIB;

/// A disk that was read in full although it was told where it can have changed since `base`.
pub(super) struct Claim {
    /// Its place among the disks that were read.
    pub disk: usize,
    pub base: Base,
}

/// Holds what was told of a disk against what it holds now, `new`, which is in the repository.
pub(super) fn find(
    context: &Context<'_>,
    (name, source): (&Name, &dyn Source),
    base: &Base,
    new: &TreeRef,
) -> Result<Untold, BackupError> {
    let (repository, catalog) = (context.regions.repository, context.catalog);
    let mut suspects = Vec::new();
    differing_leaves::<BackupError>(repository, catalog, &base.tree, new, &mut |region| {
        context.regions.progress.check()?;
        for change in diff_spans(region.old.as_ref(), region.new.as_ref(), region.len) {
            let (SpanChange::Write { start, len, .. } | SpanChange::Zero { start, len }) = change;
            let start = region.start + u64::from(start);
            push_joined(&mut suspects, Extent::between(start, start + u64::from(len)));
        }
        Ok(())
    })?;
    let mut reader = ContentReader::new(repository, catalog)?;
    let mut untold = Untold::default();
    // Chunks reach further than what changed in them, and end anywhere: the bytes decide.
    for extent in outside(&whole_blocks(&suspects, source.size_bytes()), &base.changed) {
        let mut at = extent.start();
        while at < extent.end() {
            context.regions.progress.check()?;
            let end = ((at / PIECE_BYTES + 1) * PIECE_BYTES).min(extent.end());
            let piece = Extent::between(at, end);
            let mut old = vec![0; piece.len() as usize];
            reader.read_range(&base.tree, at, &mut old)?;
            let mut now = vec![0; piece.len() as usize];
            let read = source.read_exact_at(&mut now, at);
            read.map_err(|error| BackupError::source(name, error))?;
            // Both are read once more: that is no further progress.
            context.regions.progress.pace(2 * piece.len());
            compare(&mut untold, piece, &old, &now);
            at = end;
        }
    }
    Ok(untold)
}

fn compare(untold: &mut Untold, piece: Extent, old: &[u8], now: &[u8]) {
    for run in differing_blocks(piece.start(), old, now) {
        let start = piece.start() + run.start as u64;
        untold.add(Extent::between(start, start + run.len() as u64));
    }
}

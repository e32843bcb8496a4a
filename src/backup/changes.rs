//! Counting what changed since the point before, for the result. Nothing depends on it.

use super::Context;
use crate::point::{DiskEntry, Point, SpanChange, TreeRef, diff_spans, differing_leaves};
use crate::store::{Damage, StoreError};

/// Adds the bytes in which `disks` differ from the same disks of `parent` to the progress, and
/// gives back the damage that was met. It stops no backup: newer content is worth keeping, and
/// what the new point shares with a damaged one is found again when it is read.
pub(super) fn count(
    context: &Context<'_>,
    disks: &[DiskEntry],
    parent: Option<&Point>,
) -> Result<Vec<Damage>, StoreError> {
    let mut damages = Vec::new();
    for disk in disks {
        let old = parent
            .and_then(|point| point.manifest.disk(&disk.name))
            .map_or(TreeRef::EMPTY, DiskEntry::tree);
        // Where the old tree cannot be read, all of the disk counts as changed.
        for from in [old, TreeRef::EMPTY] {
            match changed_bytes(context, &from, &disk.tree()) {
                Ok(changed) => {
                    context.regions.progress.add_changed(changed);
                    break;
                }
                Err(StoreError::Damaged(damage)) => damages.push(damage),
                Err(StoreError::Unknown { .. }) if from != TreeRef::EMPTY => {}
                Err(error) => return Err(error),
            }
        }
    }
    damages.dedup();
    Ok(damages)
}

fn changed_bytes(context: &Context<'_>, old: &TreeRef, new: &TreeRef) -> Result<u64, StoreError> {
    let mut changed = 0;
    let (repository, catalog) = (context.regions.repository, context.catalog);
    differing_leaves::<StoreError>(repository, catalog, old, new, &mut |region| {
        for change in diff_spans(region.old.as_ref(), region.new.as_ref(), region.len) {
            let (SpanChange::Write { len, .. } | SpanChange::Zero { len, .. }) = change;
            changed += u64::from(len);
        }
        Ok(())
    })?;
    Ok(changed)
}

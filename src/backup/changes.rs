//! Counting what changed since the point before, for the result. Nothing depends on it.

use super::{BackupError, Context};
use crate::point::{DiskEntry, Point, SpanChange, TreeRef, diff_spans, differing_leaves};
use crate::store::StoreError;

/// Adds the bytes in which `disks` differ from the same disks of `parent` to the progress.
pub(super) fn count(
    context: &Context<'_>,
    disks: &[DiskEntry],
    parent: Option<&Point>,
) -> Result<(), BackupError> {
    for disk in disks {
        let old = parent
            .and_then(|point| point.manifest.disk(&disk.name))
            .map_or(TreeRef::EMPTY, DiskEntry::tree);
        let changed = match changed_bytes(context, &old, &disk.tree()) {
            // The old tree is damaged: all of the disk counts as changed. An error in the new one
            // shows again, and stops the backup.
            Err(_) if old != TreeRef::EMPTY => {
                changed_bytes(context, &TreeRef::EMPTY, &disk.tree())?
            }
            other => other?,
        };
        context.progress.add_changed(changed);
    }
    Ok(())
}

fn changed_bytes(context: &Context<'_>, old: &TreeRef, new: &TreeRef) -> Result<u64, BackupError> {
    let mut changed = 0;
    let (repository, catalog) = (context.repository, context.catalog);
    differing_leaves::<StoreError>(repository, catalog, old, new, &mut |region| {
        for change in diff_spans(region.old.as_ref(), region.new.as_ref(), region.len) {
            let (SpanChange::Write { len, .. } | SpanChange::Zero { len, .. }) = change;
            changed += u64::from(len);
        }
        Ok(())
    })?;
    Ok(changed)
}

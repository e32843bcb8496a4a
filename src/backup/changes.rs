//! Counting what changed since the point before, for the result. Nothing depends on it.

use super::{BackupError, Context};
use crate::point::{DiskEntry, Point, SpanChange, TreeReader, TreeRef, diff_spans};
use crate::store::{ObjectReader, StoreError};
use crate::units::TreeName;

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
    let cut = context.repository.header().cut;
    let mut leaves = context.repository.reader(context.catalog)?;
    let mut objects = context.repository.reader(context.catalog)?;
    let mut changed = 0;
    TreeReader::new(&mut objects).differing::<StoreError>(old, new, &mut |change| {
        let old_len = cut.region_len(change.region, old.size_bytes);
        let new_len = cut.region_len(change.region, new.size_bytes);
        let old_leaf = read_leaf(&mut leaves, change.old, old_len)?;
        let new_leaf = read_leaf(&mut leaves, change.new, new_len)?;
        for change in diff_spans(old_leaf.as_ref(), new_leaf.as_ref(), new_len) {
            changed += match change {
                SpanChange::Write { len, .. } | SpanChange::Zero { len, .. } => u64::from(len),
            };
        }
        Ok(())
    })?;
    Ok(changed)
}

fn read_leaf(
    objects: &mut ObjectReader<'_>,
    name: Option<TreeName>,
    region_len: u32,
) -> Result<Option<crate::point::Leaf>, StoreError> {
    name.map(|name| TreeReader::new(objects).leaf(name, region_len)).transpose()
}

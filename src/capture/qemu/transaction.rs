//! The instant of the capture: one transaction over all disks.

use super::Disk;
use super::bitmap::GRANULARITY_BYTES;
use super::export::CHANGES;
use super::names::Capture;
use crate::qmp::{Monitor, QmpError};
use serde_json::{Value, json};
use std::time::Duration;

/// Longest wait for the transaction: all writes that are on their way have to end.
const LIMIT: Duration = Duration::from_secs(60);

/// Carries it out, or nothing of it.
pub(super) fn run(
    monitor: &mut Monitor,
    capture: &Capture,
    disks: &[Disk],
) -> Result<(), QmpError> {
    let transaction = json!({ "actions": actions(capture, disks) });
    monitor.execute_within("transaction", transaction, LIMIT).map(drop)
}

/// What keeps the old content comes first, for all disks: from its preparation on each disk is
/// drained until the whole transaction is done, so that no write falls between the copy of a bitmap
/// and the content that belongs to it.
fn actions(capture: &Capture, disks: &[Disk]) -> Vec<Value> {
    let action = |kind: &str, data: Value| json!({ "type": kind, "data": data });
    let mut actions = Vec::new();
    for (number, disk) in disks.iter().enumerate() {
        let backup = json!({
            "job-id": capture.job(number), "device": disk.node.node_name,
            "target": capture.scratch_node(number), "sync": "none",
            // A job that ends by itself stays to say so.
            "auto-dismiss": false,
        });
        actions.push(action("blockdev-backup", backup));
    }
    for (number, disk) in disks.iter().enumerate() {
        let (node, scratch) = (&disk.node.node_name, capture.scratch_node(number));
        let new = json!({
            "node": node, "name": capture.bitmap(&disk.name), "granularity": GRANULARITY_BYTES,
            "persistent": disk.node.stores_bitmaps(),
        });
        actions.push(action("block-dirty-bitmap-add", new));
        let changes = json!({
            "node": scratch, "name": CHANGES, "granularity": GRANULARITY_BYTES, "disabled": true,
        });
        actions.push(action("block-dirty-bitmap-add", changes));
        if let Ok(base) = &disk.base {
            let merge = json!({
                "node": scratch, "target": CHANGES, "bitmaps": [{ "node": node, "name": base }],
            });
            actions.push(action("block-dirty-bitmap-merge", merge));
        }
    }
    actions
}

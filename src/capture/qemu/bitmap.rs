//! Which bitmap tells what changed, and which does not.
//!
//! Invariant: doubt means that none does, and then everything is read.

use super::names::Mark;
use super::nodes::Node;
use crate::source::DiskBase;

/// Bytes that a bit of our bitmaps stands for: QEMU's usual size of clusters.
pub(super) const GRANULARITY_BYTES: u64 = 64 * 1024;

/// The bitmap that was noted with the point before, if it recorded all that was written to the
/// disk since.
///
/// # Errors
/// Why it does not count, in words.
pub(super) fn usable<'a>(noted: &'a DiskBase, disk: &Node, mark: &Mark) -> Result<&'a str, String> {
    let DiskBase::Bitmap { name, granularity_bytes, size_bytes, .. } = noted else {
        return Err("it was not captured from a running QEMU before".to_owned());
    };
    if !name.starts_with(&mark.prefix()) {
        return Err(format!("the bitmap {name} was not made for this machine"));
    }
    if *size_bytes != disk.image.size_bytes {
        let is = disk.image.size_bytes;
        return Err(format!("its size changed from {size_bytes} to {is} bytes"));
    }
    let mut found = disk.bitmaps.iter().filter(|bitmap| bitmap.name == *name);
    let (Some(bitmap), None) = (found.next(), found.next()) else {
        return Err(format!(
            "its bitmap {name} is gone: it was removed, the disk is another one, or the machine \
             was started anew and its image cannot store bitmaps"
        ));
    };
    if bitmap.is_inconsistent {
        return Err(format!(
            "its bitmap {name} is inconsistent: the machine was cut off before it was stored"
        ));
    }
    if bitmap.is_busy {
        return Err(format!("its bitmap {name} is in use by somebody else"));
    }
    if !bitmap.is_recording {
        return Err(format!("its bitmap {name} was disabled by somebody else"));
    }
    if bitmap.granularity != *granularity_bytes || *granularity_bytes != GRANULARITY_BYTES {
        return Err(format!(
            "its bitmap {name} was replaced by somebody else: a bit stands for {} bytes",
            bitmap.granularity
        ));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::qemu::names::tests::mark;
    use serde_json::{Value, json};

    fn name() -> String {
        format!("{}x-root", mark(7).prefix())
    }

    fn disk(bitmaps: Value) -> Node {
        serde_json::from_value(json!({ "node-name": "disk0", "drv": "qcow2", "ro": false,
            "file": "/a", "dirty-bitmaps": bitmaps,
            "image": { "virtual-size": 1_048_576, "filename": "/a" } }))
        .unwrap()
    }

    fn bitmap(change: Value) -> Value {
        let mut bitmap = json!({ "name": name(), "granularity": GRANULARITY_BYTES, "count": 0,
            "recording": true, "busy": false, "persistent": true });
        for (key, value) in change.as_object().unwrap() {
            bitmap[key] = value.clone();
        }
        bitmap
    }

    fn noted(name: &str, granularity_bytes: u64, size_bytes: u64) -> DiskBase {
        let (name, node) = (name.to_owned(), "disk0".to_owned());
        DiskBase::Bitmap { name, node, granularity_bytes, size_bytes }
    }

    #[test]
    fn a_bitmap_counts_that_recorded_everything() {
        let (mark, noted) = (mark(7), noted(&name(), GRANULARITY_BYTES, 1 << 20));
        let disk = disk(json!([bitmap(json!({ "name": "other" })), bitmap(json!({}))]));
        assert_eq!(usable(&noted, &disk, &mark), Ok(name().as_str()));
    }

    #[test]
    fn every_doubt_is_told() {
        let good = || bitmap(json!({}));
        let cases = [
            (json!([]), "is gone"),
            (json!([good(), good()]), "is gone"),
            (json!([bitmap(json!({ "name": format!("{}x", name()) }))]), "is gone"),
            (json!([bitmap(json!({ "inconsistent": true }))]), "inconsistent"),
            (json!([bitmap(json!({ "busy": true }))]), "in use by somebody else"),
            (json!([bitmap(json!({ "recording": false }))]), "disabled"),
            (json!([bitmap(json!({ "granularity": 4096 }))]), "stands for 4096 bytes"),
        ];
        let (mark, other) = (mark(7), mark(8));
        for (bitmaps, expected) in cases {
            let noted = noted(&name(), GRANULARITY_BYTES, 1 << 20);
            let reason = usable(&noted, &disk(bitmaps), &mark).unwrap_err();
            assert!(reason.contains(expected), "{expected}: {reason}");
        }
        for (noted, mark, expected) in [
            (noted(&name(), GRANULARITY_BYTES, 1 << 20), &other, "not made for this machine"),
            (noted(&name(), GRANULARITY_BYTES, 1 << 21), &mark, "its size changed"),
            (noted(&name(), 4096, 1 << 20), &mark, "stands for 65536 bytes"),
            (DiskBase::Files { files: Vec::new() }, &mark, "not captured from a running"),
        ] {
            let reason = usable(&noted, &disk(json!([good()])), mark).unwrap_err();
            assert!(reason.contains(expected), "{expected}: {reason}");
        }
    }
}

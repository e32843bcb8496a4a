//! Bitmaps that QEMU stored with images.

use super::tools::*;
use crate::extent::{Extent, joined};
use crate::source::{ImageFormat, SourceSpec, StoredBitmap, open};
use std::path::Path;

const DISK_BYTES: u64 = 8 * 1024 * 1024 + 5 * 512;

fn stored(path: &Path, name: &str) -> Result<StoredBitmap, String> {
    let format = Some(ImageFormat::Qcow2);
    let spec = SourceSpec { path: path.to_owned(), format, must_be_device: false, quiesced: false };
    open(&spec).unwrap().stored_bitmap(name)
}

fn create(path: &Path, options: &str) {
    let size = DISK_BYTES.to_string();
    qemu_img(&format!("create -q -f qcow2 -o {options}"), &[path, size.as_ref()]);
}

fn bitmap(path: &Path, options: &str, name: &str) {
    qemu_img(&format!("bitmap {options}"), &[path, name.as_ref()]);
}

#[test]
fn a_bitmap_tells_exactly_what_was_written() {
    let folder = tempfile::tempdir().unwrap();
    for (layout, granularity) in
        [("cluster_size=512", 512), ("cluster_size=4k", 1024), ("cluster_size=64k", 65536)]
    {
        for seed in 0..4 {
            let path = folder.path().join(format!("{granularity}-{seed}.qcow2"));
            create(&path, layout);
            bitmap(&path, "--add -g 4096", "other");
            bitmap(&path, &format!("--add -g {granularity}"), "changes");
            let mut random = Random(seed + 1);
            let mut written = Vec::new();
            let mut commands = Vec::new();
            for _ in 0..random.below(30) {
                let from = random.below(DISK_BYTES / 512) * 512;
                let len = ((random.below(100) + 1) * 512).min(DISK_BYTES - from);
                commands.push(format!("write -P 7 {from} {len}"));
                let start = from / granularity * granularity;
                let end = (from + len).next_multiple_of(granularity).min(DISK_BYTES);
                written.push(Extent::between(start, end));
            }
            write(&path, &commands);
            let found = stored(&path, "changes").unwrap();
            assert_eq!(found.granularity_bytes, granularity);
            assert_eq!(found.extents, joined(written), "{layout}, seed {seed}");
        }
    }
}

#[test]
fn a_bitmap_in_doubt_does_not_count() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.qcow2");
    create(&path, "cluster_size=64k");
    let refused = |name: &str, reason: &str| {
        let told = stored(&path, name).unwrap_err();
        assert!(told.contains(reason), "{told}");
    };
    refused("a", "no bitmaps");
    bitmap(&path, "--add", "a");
    assert_eq!(stored(&path, "a").unwrap().extents, []);
    refused("b", "is gone");
    refused("", "is gone");
    bitmap(&path, "--disable", "a");
    refused("a", "disabled");
    bitmap(&path, "--enable", "a");
    // Killed while it has the image open: nothing says what was written.
    let writer = Writer::on(&path);
    drop(writer);
    refused("a", "inconsistent");
    // A program that knows no bitmaps clears this bit of the header.
    bitmap(&path, "--remove", "a");
    bitmap(&path, "--add", "a");
    assert!(stored(&path, "a").is_ok());
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[95] = 0;
    std::fs::write(&path, bytes).unwrap();
    refused("a", "no bitmaps");
}

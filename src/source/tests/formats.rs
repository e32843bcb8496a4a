//! Every feature of qcow2 that is read, against QEMU's own reading.

use super::tools::*;
use crate::source::SourceError;
use std::path::Path;

const DISK_BYTES: u64 = 8 * 1024 * 1024 + 5 * 512;

/// Random commands for qemu-io: data, zeros and discards, aligned and not.
pub(super) fn random_writes(random: &mut Random, disk_bytes: u64, count: usize) -> Vec<String> {
    let command = |random: &mut Random| {
        let align = [512, 4096, 65_536][random.below(3) as usize].min(disk_bytes);
        let offset = random.below(disk_bytes / align) * align;
        let len = (random.below(40) + 1) * align;
        let len = len.min(disk_bytes - offset) / 512 * 512;
        match random.below(8) {
            0 => format!("write -z {offset} {len}"),
            1 => format!("write -z -u {offset} {len}"),
            2 => format!("discard {offset} {len}"),
            _ => format!("write -P {} {offset} {len}", random.below(255) + 1),
        }
    };
    (0..count).map(|_| command(random)).collect()
}

fn create(options: &str, path: &Path) {
    qemu_img(&format!("create -q -f qcow2 -o {options}"), &[path, DISK_BYTES.to_string().as_ref()]);
}

#[test]
fn images_of_every_layout_read_as_qemu_reads_them() {
    let folder = tempfile::tempdir().unwrap();
    let layouts = [
        "compat=0.10",
        "compat=0.10,cluster_size=512",
        "cluster_size=512",
        "cluster_size=4k,refcount_bits=1",
        "cluster_size=64k",
        "cluster_size=2M",
        "extended_l2=on,cluster_size=16k",
        "extended_l2=on,cluster_size=128k",
        "extended_l2=on,cluster_size=2M",
        "compression_type=zstd,extended_l2=on",
        "preallocation=metadata",
        "preallocation=falloc,cluster_size=4k",
        "preallocation=metadata,extended_l2=on",
        "lazy_refcounts=on",
    ];
    for (layout, seed) in layouts.iter().flat_map(|layout| [1, 2].map(|seed| (layout, seed))) {
        let context = format!("{layout}, seed {seed}");
        let path = folder.path().join(format!("{layout}-{seed}.qcow2").replace(',', "+"));
        create(layout, &path);
        let mut random = Random(seed);
        // First, as QEMU compresses only clusters that hold nothing yet; an image whose clusters
        // were all allocated in advance has none.
        let mut commands = Vec::new();
        if !layout.contains("preallocation") {
            commands.extend(
                (0..3).map(|index| format!("write -c -P {} {} 2M", index + 65, index << 21)),
            );
        }
        commands.extend(random_writes(&mut random, DISK_BYTES, 25));
        write(&path, &commands);
        let expected = as_qemu_reads("qcow2", &path);
        let source = open_qcow2(&path).unwrap();
        assert_reads_as(&*source, &expected, &context);
        assert_eq!(source.description(), "qcow2 image");
    }
}

#[test]
fn compressed_images_read_as_what_was_compressed() {
    let folder = tempfile::tempdir().unwrap();
    let mut random = Random(77);
    // Text-like, random and empty stretches, so that clusters compress well, badly and not at all.
    let mut content = Vec::new();
    for _ in 0..12 {
        let len = random.below(400_000) as usize + 1;
        match random.below(3) {
            0 => content.extend(random.bytes(len)),
            1 => content.extend(b"the same again and again ".iter().cycle().take(len)),
            _ => content.resize(content.len() + len, 0),
        }
    }
    content.truncate(content.len() / 512 * 512);
    let raw = folder.path().join("content.raw");
    std::fs::write(&raw, &content).unwrap();
    for kind in ["zlib", "zstd"] {
        for layout in ["cluster_size=512", "cluster_size=64k", "cluster_size=2M", "extended_l2=on"]
        {
            let context = format!("{kind}, {layout}");
            let path = folder.path().join("compressed.qcow2");
            let options = format!("compression_type={kind},{layout}");
            qemu_img(&format!("convert -f raw -O qcow2 -c -o {options}"), &[&raw, &path]);
            assert_reads_as(&*open_qcow2(&path).unwrap(), &content, &context);
        }
    }
}

#[test]
fn an_external_data_file_is_read_in_place_of_the_image() {
    let folder = tempfile::tempdir().unwrap();
    for raw in ["off", "on"] {
        let (path, data) = (folder.path().join(raw), folder.path().join(format!("{raw}.data")));
        create(&format!("data_file={},data_file_raw={raw}", data.display()), &path);
        write(&path, &random_writes(&mut Random(5), DISK_BYTES, 30));
        // Its first cluster lies at offset 0 of the data file.
        write(&path, &["write -P 9 0 64k".to_owned()]);
        let expected = as_qemu_reads("qcow2", &path);
        assert_eq!(expected[0], 9);
        let source = open_qcow2(&path).unwrap();
        assert_reads_as(&*source, &expected, raw);
        assert_eq!(source.files().len(), 2);
        std::fs::remove_file(&data).unwrap();
        assert!(matches!(refused(&path), SourceError::File(_)));
    }
}

#[test]
fn snapshots_inside_an_image_do_not_hide_its_present() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk.qcow2");
    create("cluster_size=64k", &path);
    let mut random = Random(6);
    write(&path, &random_writes(&mut random, DISK_BYTES, 20));
    qemu_img("snapshot -c before", &[&path]);
    write(&path, &random_writes(&mut random, DISK_BYTES, 20));
    let expected = as_qemu_reads("qcow2", &path);
    assert_reads_as(&*open_qcow2(&path).unwrap(), &expected, "with a snapshot");
}

#[test]
fn several_threads_read_one_image_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk.qcow2");
    create("cluster_size=4k", &path);
    write(&path, &random_writes(&mut Random(8), DISK_BYTES, 60));
    let expected = as_qemu_reads("qcow2", &path);
    let source = open_qcow2(&path).unwrap();
    std::thread::scope(|scope| {
        for seed in 1..5 {
            let (source, expected) = (&source, &expected);
            scope.spawn(move || {
                let mut random = Random(seed);
                for _ in 0..200 {
                    let offset = random.below(DISK_BYTES) as usize;
                    let len = random.below(200_000).min(DISK_BYTES - offset as u64) as usize;
                    let mut buffer = vec![1; len];
                    source.read_exact_at(&mut buffer, offset as u64).unwrap();
                    assert!(buffer == expected[offset..offset + len], "seed {seed}, {offset}");
                }
            });
        }
    });
}

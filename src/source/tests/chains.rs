//! Backing files.

use super::formats::random_writes;
use super::tools::*;
use crate::extent::Extent;
use crate::source::{Evidence, FileIdentity, Source, SourceError};
use std::path::{Path, PathBuf};

const MIB: u64 = 1024 * 1024;

fn overlay(options: &str, backing: &str, backing_format: &str, path: &Path, bytes: u64) {
    let words = format!("create -q -f qcow2 -o {options} -F {backing_format} -b {backing}");
    qemu_img(&words, &[path, bytes.to_string().as_ref()]);
}

/// base.raw, then one image on the other, of the sizes given.
fn chain(folder: &Path, seed: u64, sizes: &[u64]) -> PathBuf {
    let mut random = Random(seed);
    let mut name = "base.raw".to_owned();
    let mut content = random.bytes(3 * MIB as usize);
    content[MIB as usize..2 * MIB as usize].fill(0);
    std::fs::write(folder.join(&name), content).unwrap();
    let layouts = ["cluster_size=64k", "extended_l2=on", "cluster_size=512", "cluster_size=2M"];
    for (index, bytes) in sizes.iter().enumerate() {
        let format = if index == 0 { "raw" } else { "qcow2" };
        let next = format!("layer{index}.qcow2");
        overlay(layouts[index % 4], &name, format, &folder.join(&next), *bytes);
        write(&folder.join(&next), &random_writes(&mut random, *bytes, 15));
        name = next;
    }
    folder.join(name)
}

#[test]
fn chains_of_larger_and_smaller_images_read_as_qemu_reads_them() {
    let shapes: [&[u64]; 5] = [
        &[3 * MIB],
        &[8 * MIB + 512],
        &[MIB + 1024],
        &[2 * MIB, 8 * MIB, 5 * MIB, 6 * MIB],
        &[9 * MIB, MIB, 9 * MIB, 512 * 3, 4 * MIB],
    ];
    for (index, sizes) in shapes.iter().enumerate() {
        let seed = index as u64 + 100;
        let folder = tempfile::tempdir().unwrap();
        let top = chain(folder.path(), seed, sizes);
        let expected = as_qemu_reads("qcow2", &top);
        let source = open_qcow2(&top).unwrap();
        assert_reads_as(&*source, &expected, &format!("{sizes:?}, seed {seed}"));
        assert_eq!(source.files().len(), sizes.len() + 1);
    }
}

/// The identities of a source's files, as of some time later.
fn identities(source: &dyn Source) -> Vec<FileIdentity> {
    let later = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(60);
    source.identities(later).unwrap()
}

#[test]
fn what_is_written_above_a_disk_that_was_read_before_covers_all_that_differs() {
    for (seed, sizes) in [
        (300, &[3 * MIB, 3 * MIB][..]),
        (301, &[3 * MIB, 3 * MIB, 3 * MIB, 3 * MIB]),
        (302, &[2 * MIB, 8 * MIB, 5 * MIB, 6 * MIB]),
        (303, &[9 * MIB, MIB, 9 * MIB, 512 * 3, 4 * MIB]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let top = chain(folder.path(), seed, sizes);
        let expected = as_qemu_reads("qcow2", &top);
        let source = open_qcow2(&top).unwrap();
        let now = identities(&*source);
        let unmodified = source.changed_since(&now).unwrap().unwrap();
        assert_eq!((unmodified.extents.len(), unmodified.evidence), (0, Evidence::Unmodified));
        for depth in 1..=sizes.len() {
            let changed = source.changed_since(&now[depth..]).unwrap().unwrap();
            assert_eq!(changed.evidence, Evidence::Overlay);
            // What the disk below holds, as far as both reach.
            let below = match sizes.len() - depth {
                0 => std::fs::read(folder.path().join("base.raw")).unwrap(),
                layer => {
                    let name = format!("layer{}.qcow2", layer - 1);
                    as_qemu_reads("qcow2", &folder.path().join(name))
                }
            };
            let is_inside = |at: usize| {
                changed.extents.iter().any(|it| (it.start()..it.end()).contains(&(at as u64)))
            };
            let size = expected.len().min(below.len());
            let block = 512;
            for at in (0..size).step_by(block) {
                let range = at..(at + block).min(size);
                if expected[range.clone()] != below[range] {
                    assert!(is_inside(at), "seed {seed}, depth {depth}: byte {at} is not told");
                }
            }
            assert!(changed.extents.windows(2).all(|pair| pair[0].end() < pair[1].start()));
            assert!(changed.extents.last().is_none_or(|it| it.end() <= source.size_bytes()));
        }
        // A base that was written to since: nothing is known.
        let mut written = now[1..].to_vec();
        written.reverse();
        assert_eq!(
            source.changed_since(&written).unwrap().map(|it| it.evidence),
            match written.len() {
                1 => Some(Evidence::Overlay),
                _ => None,
            }
        );
    }
}

#[test]
fn an_overlay_with_little_in_it_tells_little() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("base.raw");
    std::fs::write(&base, Random(1).bytes(8 * MIB as usize)).unwrap();
    let top = folder.path().join("top.qcow2");
    overlay("cluster_size=64k", "base.raw", "raw", &top, 8 * MIB);
    write(&top, &["write -P 7 1M 512".to_owned()]);
    let source = open_qcow2(&top).unwrap();
    let changed = source.changed_since(&identities(&*source)[1..]).unwrap().unwrap();
    assert_eq!(changed.extents, [Extent::between(MIB, MIB + 65_536)]);
}

#[test]
fn a_resized_overlay_shows_zeros_past_its_backing_file() {
    let folder = tempfile::tempdir().unwrap();
    let top = chain(folder.path(), 200, &[3 * MIB, 3 * MIB]);
    qemu_img("resize -q -f qcow2", &[&top, "6M".as_ref()]);
    let expected = as_qemu_reads("qcow2", &top);
    assert_reads_as(&*open_qcow2(&top).unwrap(), &expected, "larger");
    qemu_img("resize -q -f qcow2 --shrink", &[&top, "1M".as_ref()]);
    let expected = as_qemu_reads("qcow2", &top);
    assert_reads_as(&*open_qcow2(&top).unwrap(), &expected, "smaller");
}

#[test]
fn a_raw_backing_file_that_looks_like_qcow2_stays_raw() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("base");
    qemu_img("create -q -f qcow2", &[&base, "8M".as_ref()]);
    let top = folder.path().join("top.qcow2");
    overlay("cluster_size=64k", "base", "raw", &top, MIB);
    let source = open_qcow2(&top).unwrap();
    let mut magic = [0; 4];
    source.read_exact_at(&mut magic, 0).unwrap();
    assert_eq!(&magic, b"QFI\xfb");
    assert_reads_as(&*source, &as_qemu_reads("qcow2", &top), "raw that looks like qcow2");
}

#[test]
fn a_backing_file_of_unsaid_format_is_refused_with_the_command_that_says_it() {
    let folder = tempfile::tempdir().unwrap();
    qemu_img("create -q -f raw", &[&folder.path().join("base.raw"), "1M".as_ref()]);
    let top = folder.path().join("it's.qcow2");
    qemu_img("create -q -f qcow2", &[&top, "1M".as_ref()]);
    // Not even QEMU writes such images any more.
    qemu_img("rebase -u -F raw -b base.raw -f qcow2", &[&top]);
    let mut bytes = std::fs::read(&top).unwrap();
    let at = bytes.windows(4).position(|four| four == 0xe279_2aca_u32.to_be_bytes()).unwrap();
    bytes[at..at + 4].copy_from_slice(&0x0badf00d_u32.to_be_bytes());
    std::fs::write(&top, bytes).unwrap();
    let error = refused(&top);
    assert!(matches!(error, SourceError::BackingFormatMissing { .. }), "{error}");
    let message = error.to_string();
    assert!(message.contains("qemu-img rebase -u -b 'base.raw' -F FORMAT"), "{message}");
    assert!(message.contains(r"it'\''s.qcow2'"), "{message}");
}

#[test]
fn backing_files_that_are_no_local_raw_or_qcow2_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let top = folder.path().join("top.qcow2");
    qemu_img("create -q -f qcow2", &[&top, "1M".as_ref()]);
    for (format, name) in [
        ("raw", "nbd://localhost/disk"),
        ("raw", "json:{\"driver\":\"null-co\"}"),
        ("vmdk", "base.vmdk"),
    ] {
        qemu_img(&format!("rebase -u -f qcow2 -F {format} -b {name}"), &[&top]);
        let error = refused(&top);
        assert!(matches!(error, SourceError::BadReference { .. }), "{error}");
        assert!(error.to_string().contains("qemu-img rebase -u -b"), "{error}");
    }
    qemu_img("rebase -u -f qcow2 -F raw -b missing.raw", &[&top]);
    let error = refused(&top).to_string();
    assert!(error.contains("missing.raw"), "{error}");
}

#[test]
fn a_chain_that_bites_its_tail_or_never_ends_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = |index: usize| folder.path().join(format!("{index}.qcow2"));
    for index in 0..70 {
        qemu_img("create -q -f qcow2", &[&path(index), "1M".as_ref()]);
        if index > 0 {
            let below = index - 1;
            qemu_img(&format!("rebase -u -f qcow2 -F qcow2 -b {below}.qcow2"), &[&path(index)]);
        }
    }
    assert!(open_qcow2(&path(63)).is_ok());
    let error = refused(&path(64)).to_string();
    assert!(error.contains("more than 64"), "{error}");
    qemu_img("rebase -u -f qcow2 -F qcow2 -b 2.qcow2", &[&path(0)]);
    let error = refused(&path(2)).to_string();
    assert!(error.contains("on itself"), "{error}");
}

#[test]
fn a_running_writer_is_refused_on_its_image_but_not_on_the_one_behind_it() {
    let folder = tempfile::tempdir().unwrap();
    let top = chain(folder.path(), 300, &[2 * MIB, 2 * MIB]);
    let behind = folder.path().join("layer0.qcow2");
    let writer = Writer::on(&top);
    let error = refused(&top);
    assert!(matches!(&error, SourceError::InUse { path } if *path == top), "{error}");
    assert!(!error.is_permanent());
    open_qcow2(&behind).unwrap();
    drop(writer);

    let source = open_qcow2(&top).unwrap();
    for path in [&top, &behind] {
        let output = qemu_io("qcow2", path, &["write 0 512".to_owned()]);
        assert!(!output.status.success(), "{output:?}");
    }
    source.check_unchanged().unwrap();
    drop(source);
    let _writer = Writer::on(&behind);
    let error = refused(&top);
    assert!(matches!(&error, SourceError::InUse { path } if *path == behind), "{error}");
}

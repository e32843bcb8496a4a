//! Damaged and hostile images: an error or the right bytes, never a panic, never false zeros.

use super::formats::random_writes;
use super::tools::*;
use crate::extent::Extent;
use crate::source::{ImageFormat, Source, SourceError, SourceSpec, open};
use std::path::{Path, PathBuf};

const DISK_BYTES: u64 = 4 << 20;

fn image(folder: &Path, options: &str, seed: u64) -> PathBuf {
    let path = folder.join(format!("{seed}.qcow2"));
    let size = DISK_BYTES.to_string();
    qemu_img(&format!("create -q -f qcow2 -o {options}"), &[&path, size.as_ref()]);
    let mut commands = vec!["write -c -P 3 0 2M".to_owned()];
    commands.extend(random_writes(&mut Random(seed), DISK_BYTES, 25));
    write(&path, &commands);
    path
}

fn images(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let layouts = ["cluster_size=4k", "extended_l2=on,compression_type=zstd", "compat=0.10"];
    let made = layouts.iter().zip(1000..).map(|(options, seed)| {
        let path = image(folder, options, seed);
        let content = as_qemu_reads("qcow2", &path);
        (path, content)
    });
    made.collect()
}

fn open_quiesced(path: &Path) -> Result<Box<dyn Source>, SourceError> {
    open(&SourceSpec { quiesced: true, ..spec(path, Some(ImageFormat::Qcow2)) })
}

/// Reads what can be read; gives each 64 KiB that could.
fn read_all(source: &dyn Source) -> Vec<(u64, Vec<u8>)> {
    let end = source.size_bytes().min(2 * DISK_BYTES);
    let _ = source.next_data(0);
    let _ = source.data_extents(Extent::between(0, end));
    let blocks = (0..end).step_by(65_536).filter_map(|offset| {
        let mut buffer = vec![0xee; (end - offset).min(65_536) as usize];
        source.read_exact_at(&mut buffer, offset).ok().map(|()| (offset, buffer))
    });
    blocks.collect()
}

#[test]
fn flipped_bits_never_cause_a_panic() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("flipped");
    for (path, _) in images(folder.path()) {
        let bytes = std::fs::read(&path).unwrap();
        for seed in 1..=150 {
            println!("{path:?}, seed {seed}");
            let mut random = Random(seed);
            let mut flipped = bytes.clone();
            for _ in 0..random.below(6) + 1 {
                // Mostly where the header and the tables are.
                let limit = [112, 600, 400_000][random.below(3) as usize];
                let at = random.below(limit.min(bytes.len() as u64)) as usize;
                flipped[at] ^= 1 << random.below(8);
            }
            std::fs::write(&target, flipped).unwrap();
            if let Ok(source) = open_quiesced(&target) {
                read_all(&*source);
            }
        }
    }
}

#[test]
fn random_header_fields_never_cause_a_panic() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("mutated");
    for (path, _) in images(folder.path()) {
        let bytes = std::fs::read(&path).unwrap();
        for seed in 1..=200 {
            println!("{path:?}, seed {seed}");
            let mut random = Random(seed);
            let mut mutated = bytes.clone();
            let at = 4 + random.below(27) as usize * 4;
            let value: u32 = match random.below(4) {
                0 => u32::MAX,
                1 => 1 << random.below(32),
                2 => random.below(64) as u32,
                _ => random.below(1 << 32) as u32,
            };
            mutated[at..at + 4].copy_from_slice(&value.to_be_bytes());
            std::fs::write(&target, mutated).unwrap();
            if let Ok(source) = open_quiesced(&target) {
                read_all(&*source);
            }
        }
    }
}

#[test]
fn an_image_that_is_cut_off_never_reads_as_something_else() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("cut");
    for (path, content) in images(folder.path()) {
        let bytes = std::fs::read(&path).unwrap();
        let mut random = Random(4242);
        for _ in 0..40 {
            let len = random.below(bytes.len() as u64) as usize;
            std::fs::write(&target, &bytes[..len]).unwrap();
            let Ok(source) = open_quiesced(&target) else { continue };
            for (offset, block) in read_all(&*source) {
                let expected = &content[offset as usize..offset as usize + block.len()];
                assert!(block == expected, "{path:?} cut to {len} bytes, at {offset}");
            }
            if let Ok(extents) = source.data_extents(Extent::between(0, DISK_BYTES)) {
                assert_zeros_outside(&extents, &content, &format!("{path:?} cut to {len}"));
            }
        }
    }
}

/// The image at `path` with `bytes` written at `at`.
fn patched(path: &Path, at: usize, bytes: &[u8]) -> PathBuf {
    let mut content = std::fs::read(path).unwrap();
    content[at..at + bytes.len()].copy_from_slice(bytes);
    let target = path.with_extension("patched");
    std::fs::write(&target, content).unwrap();
    target
}

#[test]
fn header_fields_are_checked_before_they_are_believed() {
    let folder = tempfile::tempdir().unwrap();
    let path = image(folder.path(), "cluster_size=64k", 1);
    let refuse = |at: usize, bytes: &[u8]| refused(&patched(&path, at, bytes));
    let damaged = |at: usize, bytes: &[u8]| {
        let error = refuse(at, bytes);
        assert!(matches!(error, SourceError::Damaged { .. }), "{at}: {error}");
        assert!(error.to_string().contains("qemu-img check '"), "{error}");
    };
    damaged(0, b"NOPE");
    damaged(20, &8_u32.to_be_bytes());
    damaged(20, &63_u32.to_be_bytes());
    damaged(24, &(1_u64 << 50).to_be_bytes());
    damaged(36, &0_u32.to_be_bytes());
    damaged(36, &u32::MAX.to_be_bytes());
    damaged(40, &(1_u64 << 60).to_be_bytes());
    damaged(40, &1_u64.to_be_bytes());
    damaged(100, &4_u32.to_be_bytes());
    damaged(100, &0x00ff_fff8_u32.to_be_bytes());
    damaged(104, &[1]);
    let long_name = [&112_u64.to_be_bytes()[..], &2000_u32.to_be_bytes()].concat();
    damaged(8, &long_name);
    let name_far_away = [&(1_u64 << 40).to_be_bytes()[..], &8_u32.to_be_bytes()].concat();
    damaged(8, &name_far_away);
    let error = refuse(24, &u64::MAX.to_be_bytes());
    assert!(matches!(error, SourceError::TooLarge { .. }), "{error}");
    for version in [1_u32, 4] {
        let error = refuse(4, &version.to_be_bytes());
        assert!(matches!(error, SourceError::UnsupportedFeature { .. }), "{error}");
    }
    for (bits, command) in
        [(1_u64, "qemu-img check -r all '"), (2, "qemu-img check -r all '"), (32, "newer")]
    {
        let error = refuse(72, &bits.to_be_bytes());
        assert!(error.to_string().contains(command), "{error}");
        assert!(error.is_permanent());
    }
    let error = refuse(32, &2_u32.to_be_bytes());
    assert!(matches!(error, SourceError::Encrypted { .. }), "{error}");
}

#[test]
fn an_encrypted_image_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("luks.qcow2");
    let options = "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10";
    let words = format!("create -q -f qcow2 --object secret,id=s,data=x -o {options}");
    qemu_img(&words, &[&path, "1M".as_ref()]);
    let error = refused(&path);
    assert!(matches!(error, SourceError::Encrypted { .. }), "{error}");
}

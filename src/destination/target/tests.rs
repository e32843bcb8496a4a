use super::*;
use crate::fsio::RealFileSystem;
use crate::units::MIB;
use proptest::prelude::*;
use std::os::unix::fs::FileExt;
use std::process::Command;

fn open(path: &Path, access: TargetAccess) -> Result<Target, TargetError> {
    Target::open(&RealFileSystem, path, None, access)
}

fn content(target: &Target) -> Vec<u8> {
    let mut bytes = vec![0; target.size() as usize];
    target.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// A loop device over a file, detached when dropped.
struct Loop(PathBuf);

impl Loop {
    fn over(image: &Path) -> Self {
        let output = Command::new("losetup").args(["--find", "--show"]).arg(image).output();
        let output = output.expect("losetup (Debian package mount) is needed");
        assert!(output.status.success(), "this test needs root and loop devices: {output:?}");
        Self(PathBuf::from(String::from_utf8(output.stdout).unwrap().trim()))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("--detach").arg(&self.0).status();
    }
}

#[test]
fn a_target_is_what_stat_says_and_nothing_else_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk");
    let missing = open(&path, TargetAccess::Write).unwrap_err();
    assert!(matches!(missing, TargetError::Missing { .. }), "{missing}");
    let created = Target::create(&RealFileSystem, &path).unwrap();
    assert_eq!((created.kind(), created.size()), (TargetKind::Image, 0));
    let again = Target::create(&RealFileSystem, &path).unwrap_err();
    assert!(matches!(again, TargetError::Exists { .. }), "{again}");
    drop(created);
    let device = Some(TargetKind::Device);
    let wrong = Target::open(&RealFileSystem, &path, device, TargetAccess::Write).unwrap_err();
    assert!(wrong.to_string().contains("is an image file, a block device was expected"), "{wrong}");
    for other in [folder.path(), Path::new("/dev/null")] {
        let refused = open(other, TargetAccess::Read).unwrap_err();
        assert!(matches!(refused, TargetError::NotADisk { .. }), "{refused}");
    }
}

#[test]
fn an_open_target_is_claimed_until_it_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk");
    let writer = Target::create(&RealFileSystem, &path).unwrap();
    for access in [TargetAccess::Write, TargetAccess::Read] {
        let refused = open(&path, access).unwrap_err();
        assert!(matches!(refused, TargetError::Locked(_)), "{refused}");
    }
    open(&path, TargetAccess::ReadUnclaimed).unwrap();
    drop(writer);
    let readers = [TargetAccess::Read; 2].map(|access| open(&path, access).unwrap());
    open(&path, TargetAccess::Write).unwrap_err();
    drop(readers);
    open(&path, TargetAccess::Write).unwrap();
}

#[test]
fn nothing_is_read_or_written_past_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let target = Target::create(&RealFileSystem, &folder.path().join("disk")).unwrap();
    target.resize(10_000).unwrap();
    let past = |result: Result<(), TargetError>| {
        assert!(matches!(result, Err(TargetError::PastTheEnd { .. })), "{result:?}");
    };
    past(target.write_thin(9_999, b"xy", Background::Unknown).map(drop));
    past(target.write_thin(u64::MAX, b"xy", Background::Zeros).map(drop));
    past(target.zero(Extent::between(5_000, 10_001), Background::Unknown));
    past(target.read_exact_at(&mut [0; 2], 9_999));
    target.write_thin(9_998, b"xy", Background::Unknown).unwrap();
    assert_eq!(target.handle.size().unwrap(), 10_000);
}

#[test]
fn a_write_of_data_with_zero_blocks_allocates_no_more_than_the_sparse_original() {
    let folder = tempfile::tempdir().unwrap();
    let mut disk = vec![0_u8; 4 * MIB as usize];
    let original = std::fs::File::create(folder.path().join("original")).unwrap();
    original.set_len(disk.len() as u64).unwrap();
    for block in [0, 7, 8, 9, 300, 301, 700, 1023] {
        disk[block * 4096 + 100] = 1;
        original.write_all_at(&disk[block * 4096..][..4096], block as u64 * 4096).unwrap();
    }
    original.sync_all().unwrap();
    let allocated = std::os::unix::fs::MetadataExt::blocks(&original.metadata().unwrap()) * 512;
    for background in [Background::Zeros, Background::Unknown] {
        let target =
            Target::create(&RealFileSystem, &folder.path().join(format!("{background:?}")));
        let target = target.unwrap();
        target.resize(disk.len() as u64).unwrap();
        if background == Background::Unknown {
            target.handle.write_all_at(&vec![7; disk.len()], 0).unwrap();
            target.sync().unwrap();
        }
        let done = target.write_thin(0, &disk, background).unwrap();
        assert_eq!(done.data_bytes, 8 * 4096);
        assert_eq!(done.data_bytes + done.zero_bytes, disk.len() as u64);
        target.sync().unwrap();
        assert!(content(&target) == disk);
        let ours = target.handle.stat().unwrap().allocated_bytes;
        assert!(ours <= allocated, "{background:?}: {ours} bytes, the original has {allocated}");
    }
}

#[test]
fn an_image_is_recognised_until_someone_touches_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk");
    let target = Target::create(&RealFileSystem, &path).unwrap();
    target.resize(8192).unwrap();
    target.write_thin(0, b"content", Background::Zeros).unwrap();
    target.sync().unwrap();
    let before = target.identity().unwrap();
    drop(target);
    let now = || open(&path, TargetAccess::Write).unwrap().identity().unwrap();
    assert_eq!(before.matches(&now()), Ok(()), "opening and claiming is no change");
    let json = serde_json::to_string(&before).unwrap();
    assert_eq!(serde_json::from_str::<TargetIdentity>(&json).unwrap(), before);
    // File systems stamp by a clock that ticks every few milliseconds.
    std::thread::sleep(std::time::Duration::from_millis(20));
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(b"x", 0).unwrap();
    let change = before.matches(&now()).unwrap_err();
    assert!(change.to_string().contains("something else wrote to it"), "{change}");
    let mtime = std::time::SystemTime::UNIX_EPOCH
        + std::time::Duration::from_nanos(u64::try_from(before.mtime_ns).unwrap());
    file.set_modified(mtime).unwrap();
    let change = before.matches(&now()).unwrap_err();
    assert!(matches!(change.difference, Difference::Touched { .. }), "{change}");
    file.set_len(9000).unwrap();
    let change = before.matches(&now()).unwrap_err();
    assert!(matches!(change.difference, Difference::Size { was: 8192, now: 9000 }), "{change}");
    std::fs::rename(&path, folder.path().join("old")).unwrap();
    std::fs::File::create(&path).unwrap().set_len(8192).unwrap();
    let change = before.matches(&now()).unwrap_err();
    assert!(matches!(change.difference, Difference::Replaced { .. }), "{change}");
}

#[test]
fn a_device_is_written_claimed_and_recognised() {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image");
    std::fs::write(&image, vec![7; 2 * MIB as usize]).unwrap();
    let device = Loop::over(&image);
    let target = open(&device.0, TargetAccess::Write).unwrap();
    assert_eq!((target.kind(), target.size()), (TargetKind::Device, 2 * MIB));
    let refused = open(&device.0, TargetAccess::Write).unwrap_err();
    assert!(matches!(refused, TargetError::Claimed(_)), "{refused}");
    target.resize(MIB).unwrap();
    assert_eq!(target.size(), 2 * MIB, "a device keeps its size");
    let small = target.resize(2 * MIB + 1).unwrap_err();
    assert!(small.to_string().contains("2097152 bytes, the disk needs 2097153"), "{small}");
    let mut data = vec![1; 4096 * 3];
    data[4096..8192].fill(0);
    target.write_thin(4096, &data, Background::Unknown).unwrap();
    // Not whole sectors, which devices cannot discard.
    target.zero(Extent::between(MIB - 3, MIB + 1000), Background::Unknown).unwrap();
    target.sync().unwrap();
    let before = target.identity().unwrap();
    let mut expected = vec![7; 2 * MIB as usize];
    expected[4096..4096 * 4].copy_from_slice(&data);
    expected[MIB as usize - 3..MIB as usize + 1000].fill(0);
    assert!(content(&target) == expected);
    drop(target);
    let reopened = open(&device.0, TargetAccess::Read).unwrap();
    assert_eq!(before.matches(&reopened.identity().unwrap()), Ok(()));
    drop(reopened);
    let file = std::fs::OpenOptions::new().write(true).open(&device.0).unwrap();
    file.write_all_at(&[9; 512], 0).unwrap();
    file.sync_all().unwrap();
    let now = open(&device.0, TargetAccess::Read).unwrap().identity().unwrap();
    let change = before.matches(&now).unwrap_err();
    assert!(matches!(change.difference, Difference::Written { .. }), "{change}");
    let mut silent = before.clone();
    silent.activity = None;
    let change = before.matches(&silent).unwrap_err();
    assert!(matches!(change.difference, Difference::Unknown { .. }), "{change}");
    let mut rebooted = before.clone();
    rebooted.activity.as_mut().unwrap().boot_id = "another".to_owned();
    let change = before.matches(&rebooted).unwrap_err();
    assert!(matches!(change.difference, Difference::Unknown { .. }), "{change}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn a_thin_write_reads_back_on_any_background(
        old in any::<u8>(),
        offset in 0_u64..9000,
        blocks in proptest::collection::vec((any::<bool>(), 1_usize..9000), 0..6),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let target = Target::create(&RealFileSystem, &folder.path().join("disk")).unwrap();
        target.resize(70_000).unwrap();
        let mut expected = vec![old; 70_000];
        target.handle.write_all_at(&expected, 0).unwrap();
        let mut bytes = Vec::new();
        for (zeros, len) in blocks {
            bytes.resize(bytes.len() + len, if zeros { 0 } else { 7 });
        }
        target.write_thin(offset, &bytes, Background::Unknown).unwrap();
        expected[offset as usize..][..bytes.len()].copy_from_slice(&bytes);
        prop_assert!(content(&target) == expected);
    }
}

//! Which bitmaps count, and that everything is read where none does.

use super::lab::{DISKS, Lab};
use super::machine::{DATA_BYTES, ROOT_BYTES, run};
use afterimage::backup::BackupResult;
use afterimage::capture::{CaptureUser, OwnerId, QemuMark};
use afterimage::point::{Consistency, Provenance};
use serde_json::json;

/// What each disk should hold, by writes of a pattern.
struct Expected(Vec<Vec<u8>>);

impl Expected {
    fn new() -> Self {
        Self([ROOT_BYTES, DATA_BYTES].map(|bytes| vec![0; bytes as usize]).into())
    }

    /// Has the machine write, and remembers it.
    fn write(&mut self, lab: &Lab, disk: usize, pattern: u8, offset: u64, len: u64) {
        lab.machine.write(DISKS[disk], pattern, offset, len);
        let range = offset as usize..(offset + len) as usize;
        self.0[disk][range].fill(pattern);
    }

    #[track_caller]
    fn check(&self, lab: &Lab, made: &BackupResult) {
        for (disk, expected) in DISKS.iter().zip(&self.0) {
            let found = lab.world.restored(&made.point, disk);
            assert_eq!(found.len(), expected.len(), "{disk}");
            let differs = found.iter().zip(expected).position(|(a, b)| a != b);
            assert_eq!(differs, None, "{disk} differs");
        }
    }
}

fn provenances(made: &BackupResult) -> Vec<Provenance> {
    made.disks.iter().map(|disk| disk.provenance).collect()
}

const BITMAPS: [Provenance; 2] = [Provenance::Bitmap, Provenance::Bitmap];

/// A lab with one point, and what its disks hold.
fn begun() -> (Lab, Expected) {
    let (lab, mut expected) = (Lab::paused(), Expected::new());
    expected.write(&lab, 0, 1, 0, 1 << 20);
    expected.write(&lab, 1, 2, 65536, 131_072);
    let first = lab.backup();
    assert_eq!(provenances(&first), [Provenance::FullRead; 2]);
    expected.check(&lab, &first);
    (lab, expected)
}

/// The bitmap of a disk that the next backup would use.
fn bitmap(lab: &Lab, disk: &str) -> String {
    let end = format!("-{disk}");
    let found = lab.machine.bitmaps().into_iter().find(|name| name.ends_with(&end));
    found.unwrap_or_else(|| panic!("no bitmap of {disk}"))
}

/// The next backup reads a disk in full, says why, and is right; the one after it knows again.
#[track_caller]
fn expect_full(lab: &Lab, expected: &mut Expected, disk: usize, reason: &str) {
    expected.write(lab, disk, 9, 4 << 20, 65536);
    let made = lab.backup();
    assert_eq!(made.disks[disk].provenance, Provenance::FullRead);
    let told = made.disks[disk].in_full_because.clone().unwrap_or_default();
    assert!(told.contains(reason), "{told}");
    expected.check(lab, &made);
    expected.write(lab, disk, 11, 2 << 20, 65536);
    let next = lab.backup();
    assert_eq!(provenances(&next), BITMAPS);
    expected.check(lab, &next);
    assert_eq!(lab.machine.marked().len(), 2, "{:?}", lab.machine.marked());
}

#[test]
fn only_what_was_written_is_read_and_old_bitmaps_go() {
    let (lab, mut expected) = begun();
    for round in 0..4_u8 {
        expected.write(&lab, 0, 20 + round, u64::from(round) << 20, 4096);
        expected.write(&lab, 1, 30 + round, u64::from(round) * 100_352, 512);
        let made = lab.backup();
        assert_eq!(provenances(&made), BITMAPS);
        expected.check(&lab, &made);
        let marked = lab.machine.marked();
        assert_eq!(marked.len(), 2, "{marked:?}");
        // Without an agent nobody freezes the guest.
        assert_eq!(made.notes.len(), 1, "{:?}", made.notes);
    }
    let mut lab = lab;
    lab.read_everything = true;
    let full = lab.backup();
    assert_eq!(provenances(&full), [Provenance::FullRead; 2]);
    expected.check(&lab, &full);
}

#[test]
fn discarded_and_zeroed_blocks_are_changes() {
    let (lab, mut expected) = begun();
    lab.machine.qemu_io("root", "discard 0 512k");
    lab.machine.qemu_io("data", "write -z 65536 65536");
    expected.0[0][..512 << 10].fill(0);
    expected.0[1][65536..131_072].fill(0);
    let made = lab.backup();
    assert_eq!(provenances(&made), BITMAPS);
    expected.check(&lab, &made);
}

#[test]
fn a_backup_that_fails_keeps_the_bitmap_of_the_point_before() {
    let (lab, mut expected) = begun();
    expected.write(&lab, 0, 5, 3 << 20, 65536);
    let before = bitmap(&lab, "root");
    {
        let captured = lab.capture();
        assert_eq!(captured.disks().len(), 2);
        expected.write(&lab, 0, 6, 5 << 20, 65536);
    }
    assert_eq!(lab.machine.marked().len(), 2, "{:?}", lab.machine.marked());
    assert_eq!(bitmap(&lab, "root"), before);
    let made = lab.backup();
    assert_eq!(provenances(&made), BITMAPS);
    expected.check(&lab, &made);
}

#[test]
fn a_machine_that_was_restarted_keeps_the_bitmaps_of_its_qcow2_images_only() {
    let (mut lab, mut expected) = begun();
    expected.write(&lab, 0, 5, 3 << 20, 65536);
    lab.machine.restart();
    expected.write(&lab, 0, 6, 6 << 20, 65536);
    expected.write(&lab, 1, 7, 0, 65536);
    let made = lab.backup();
    assert_eq!(provenances(&made), [Provenance::Bitmap, Provenance::FullRead]);
    assert!(made.disks[1].in_full_because.as_ref().unwrap().contains("started anew"));
    expected.check(&lab, &made);
}

#[test]
fn a_bitmap_that_a_power_cut_made_inconsistent_does_not_count() {
    let (mut lab, mut expected) = begun();
    // Stored once, and then in use when the power went.
    lab.machine.restart();
    lab.machine.qemu_io("root", "flush");
    lab.machine.kill_and_restart();
    expect_full(&lab, &mut expected, 0, "inconsistent");
}

#[test]
fn a_bitmap_that_was_removed_does_not_count() {
    let (lab, mut expected) = begun();
    let bitmap = json!({ "node": lab.machine.node("root"), "name": bitmap(&lab, "root") });
    lab.machine.execute("block-dirty-bitmap-remove", bitmap);
    expect_full(&lab, &mut expected, 0, "is gone");
}

#[test]
fn a_bitmap_that_was_disabled_for_a_while_does_not_count() {
    let (lab, mut expected) = begun();
    let bitmap = json!({ "node": lab.machine.node("root"), "name": bitmap(&lab, "root") });
    lab.machine.execute("block-dirty-bitmap-disable", bitmap);
    expect_full(&lab, &mut expected, 0, "disabled");
}

#[test]
fn a_bitmap_that_was_replaced_does_not_count() {
    let (lab, mut expected) = begun();
    let (node, name) = (lab.machine.node("root"), bitmap(&lab, "root"));
    let bitmap = json!({ "node": node, "name": name });
    lab.machine.execute("block-dirty-bitmap-remove", bitmap);
    let other = json!({ "node": node, "name": name, "granularity": 4096 });
    lab.machine.execute("block-dirty-bitmap-add", other);
    expect_full(&lab, &mut expected, 0, "replaced");
}

#[test]
fn an_nbd_server_of_somebody_else_is_left_alone() {
    let (lab, mut expected) = begun();
    let (node, name) = (lab.machine.node("root"), bitmap(&lab, "root"));
    let socket = lab.machine.folder.join("foreign.sock");
    let address = json!({ "addr": { "type": "unix", "data": { "path": socket } } });
    lab.machine.execute("nbd-server-start", address);
    // QEMU exports only bitmaps that do not record.
    let bitmap = json!({ "node": node, "name": name });
    lab.machine.execute("block-dirty-bitmap-disable", bitmap);
    let export = json!({ "type": "nbd", "id": "foreign", "node-name": node, "bitmaps": [name] });
    lab.machine.execute("block-export-add", export);
    let error = lab.qemu_error();
    assert!(error.contains("NBD server is in use by another program"), "{error}");
    assert!(error.contains("foreign"), "{error}");
    // What is not ours is as it was, and of ours only the bitmaps are there.
    let exports = lab.machine.execute("query-block-exports", json!({}));
    assert_eq!(exports.as_array().unwrap().len(), 1);
    assert_eq!(lab.machine.marked().len(), 2, "{:?}", lab.machine.marked());
    lab.machine.execute("block-export-del", json!({ "id": "foreign" }));
    lab.machine.execute("nbd-server-stop", json!({}));
    expect_full(&lab, &mut expected, 0, "disabled");
}

#[test]
fn a_disk_that_was_resized_is_read_in_full() {
    let (lab, mut expected) = begun();
    let bytes = ROOT_BYTES + (1 << 20);
    let size = json!({ "node-name": lab.machine.node("root"), "size": bytes });
    lab.machine.execute("block_resize", size);
    expected.0[0].resize(bytes as usize, 0);
    expect_full(&lab, &mut expected, 0, "size changed");
}

#[test]
fn disks_that_were_exchanged_do_not_find_each_others_bitmaps() {
    let (mut lab, mut expected) = begun();
    lab.qemu.disks[0].device = "data-drive".to_owned();
    lab.qemu.disks[1].device = "root-node".to_owned();
    expected.0.swap(0, 1);
    let made = lab.backup();
    assert_eq!(provenances(&made), [Provenance::FullRead; 2]);
    expected.check(&lab, &made);
}

#[test]
fn bitmaps_jobs_and_files_of_others_are_left_alone() {
    let (mut lab, expected) = begun();
    let node = lab.machine.node("root");
    for name in ["backup-of-somebody", "afterimage-00000000000000000000000000000000-x-root"] {
        lab.machine.execute("block-dirty-bitmap-add", json!({ "node": node, "name": name }));
    }
    let file = lab.machine.folder.join("afterimage-00000000000000000000000000000000-x-0.scratch");
    std::fs::write(&file, "of another owner").unwrap();
    let made = lab.backup();
    expected.check(&lab, &made);
    let bitmaps = lab.machine.bitmaps();
    assert_eq!(bitmaps.len(), 4, "{bitmaps:?}");
    assert!(file.exists());
    // Another owner captures the same machine, and this one's bitmaps stay.
    let (owner, machine) = (OwnerId([5; 16]), lab.qemu.disks[0].name.clone());
    lab.qemu.mark = QemuMark::new(owner, CaptureUser::Machine(&machine));
    drop(lab.capture());
    assert_eq!(lab.machine.bitmaps().len(), 4);
}

#[test]
fn a_disk_that_is_not_there_is_told_with_what_there_is() {
    let mut lab = Lab::paused();
    lab.qemu.disks[0].device = "vda".to_owned();
    let error = lab.qemu_error();
    assert!(error.contains("no disk \"vda\"; it has"), "{error}");
    assert!(error.contains("root") && error.contains("data-drive"), "{error}");
    lab.qemu.disks[0].device = "data".to_owned();
    assert!(lab.qemu_error().contains("given for two disks"));
}

#[test]
fn a_machine_that_is_off_is_read_from_its_images_with_their_bitmaps() {
    let (mut lab, mut expected) = begun();
    expected.write(&lab, 0, 5, 3 << 20, 65536);
    expected.write(&lab, 1, 6, 3 << 20, 65536);
    lab.machine.stop();
    for _ in 0..2 {
        let made = lab.backup();
        assert_eq!(made.point.manifest.consistency, Consistency::Offline);
        assert_eq!(made.disks[0].provenance, Provenance::Bitmap);
        assert_eq!(made.notes, Vec::<String>::new());
        expected.check(&lab, &made);
    }
    // What is written from now on is told together with what was written before.
    lab.machine.start_again();
    expected.write(&lab, 0, 7, 6 << 20, 65536);
    let made = lab.backup();
    assert_eq!(made.disks[0].provenance, Provenance::Bitmap);
    expected.check(&lab, &made);
    let marked = lab.machine.marked();
    assert_eq!(marked.len(), 2, "{marked:?}");
}

#[test]
fn the_bitmap_of_a_machine_that_lost_its_power_does_not_count() {
    let (mut lab, mut expected) = begun();
    lab.machine.restart();
    expected.write(&lab, 0, 5, 3 << 20, 65536);
    lab.machine.qemu_io("root", "flush");
    lab.machine.kill();
    let made = lab.backup();
    assert_eq!(made.disks[0].provenance, Provenance::FullRead);
    assert!(made.disks[0].in_full_because.as_ref().unwrap().contains("inconsistent"));
    expected.check(&lab, &made);
}

#[test]
fn a_bitmap_that_an_image_stores_does_not_count_after_a_change_by_others() {
    let cases: [(&[&str], &str); 3] = [
        (&["bitmap", "--remove"], "no bitmaps"),
        (&["bitmap", "--disable"], "disabled"),
        (&["bitmap", "--remove", "--add", "-g", "4096"], "replaced"),
    ];
    for (change, reason) in cases {
        let (mut lab, mut expected) = begun();
        expected.write(&lab, 0, 5, 3 << 20, 65536);
        let name = bitmap(&lab, "root");
        lab.machine.stop();
        let image = lab.machine.folder.join("root.qcow2");
        run("qemu-img", &[change, &[image.to_str().unwrap(), &name]].concat());
        let made = lab.backup();
        assert_eq!(made.disks[0].provenance, Provenance::FullRead);
        let told = made.disks[0].in_full_because.clone().unwrap();
        assert!(told.contains(reason), "{told}");
        expected.check(&lab, &made);
    }
}

//! Whatever keeps changes from being known costs a full read, and whoever else works on the domain is
//! left alone.

use super::daemon::run;
use super::domain::{DOMAIN, Domain};
use super::lab::{Lab, name, provenances};
use afterimage::backup::BackupResult;
use afterimage::capture::{CaptureUser, Capturer, OwnerId, QemuMark};
use afterimage::extent::Extent;
use afterimage::point::{Consistency, Provenance};
use afterimage::source::Changed;
use std::os::unix::fs::FileExt;

const ALL: [Provenance; 3] = [Provenance::FullRead; 3];
const CHANGES: [Provenance; 3] = [Provenance::Bitmap, Provenance::Bitmap, Provenance::FullRead];

/// Whether some byte of a disk is as it was written.
#[track_caller]
fn check_byte(lab: &Lab, made: &BackupResult, disk: usize, offset: u64, expected: u8) {
    let images = lab.restored(&made.point, "restored");
    let mut byte = [0];
    std::fs::File::open(&images[disk]).unwrap().read_exact_at(&mut byte, offset).unwrap();
    assert_eq!(byte[0], expected, "disk {disk} at {offset}");
}

/// Where a disk changed since the last point, by a capture that comes to nothing.
fn told(lab: &Lab, disk: &str) -> Vec<Extent> {
    let (noted, disk) = (lab.noted(), name(disk));
    let held = lab.libvirt.capture(&noted).unwrap();
    match held.changed_since(&disk, &noted[&disk]).unwrap() {
        Changed::Known(changed) => changed.extents,
        Changed::Unknown(reason) => panic!("{reason:?}"),
    }
}

/// Why a disk was read in full.
fn because(made: &BackupResult, disk: usize) -> &str {
    made.disks[disk].in_full_because.as_deref().unwrap_or("")
}

fn ours(lab: &Lab) -> String {
    let mut names = lab.domain.checkpoints();
    names.retain(|name| name.starts_with("afterimage-"));
    assert_eq!(names.len(), 1, "{names:?}");
    names.remove(0)
}

#[test]
fn doubt_means_that_everything_is_read() {
    let lab = Lab::of(Domain::paused);
    lab.domain.write("vda", 1, 0, 65536);
    let first = lab.backup();
    assert_eq!(provenances(&first), ALL);
    assert_eq!(first.point.manifest.consistency, Consistency::CrashConsistent);
    assert!(first.notes.iter().any(|it| it.contains("was not frozen")), "{:?}", first.notes);
    lab.domain.write("vda", 2, 1 << 20, 4096);
    assert_eq!(told(&lab, "vda"), [Extent::new(1 << 20, 65536).unwrap()]);
    let second = lab.backup();
    assert_eq!(provenances(&second), CHANGES);
    check_byte(&lab, &second, 0, 1 << 20, 2);

    // The bitmap of one disk is gone: libvirt refuses, and takes the record of it as it is.
    lab.domain.break_checkpoint("vda", &ours(&lab));
    lab.domain.write("vda", 3, 2 << 20, 4096);
    let third = lab.backup();
    assert_eq!(provenances(&third), ALL);
    assert!(because(&third, 0).contains("missing or broken bitmap"), "{}", because(&third, 0));
    check_byte(&lab, &third, 0, 2 << 20, 3);
    assert_eq!(lab.domain.marked().len(), 1, "{:?}", lab.domain.marked());

    // So is the checkpoint.
    lab.domain.virsh(&["checkpoint-delete", DOMAIN, &ours(&lab)]);
    lab.domain.write("vdb", 4, 3 << 20, 4096);
    let fourth = lab.backup();
    assert_eq!(provenances(&fourth), ALL);
    assert!(because(&fourth, 1).contains("is gone"), "{}", because(&fourth, 1));
    check_byte(&lab, &fourth, 1, 3 << 20, 4);
    assert_eq!(provenances(&lab.backup()), CHANGES);

    // A capture that comes to nothing leaves what the next one needs.
    assert_eq!(told(&lab, "vdb"), []);
    assert_eq!(lab.domain.marked().len(), 1, "{:?}", lab.domain.marked());
    lab.domain.write("vdb", 5, 3 << 20, 4096);
    assert_eq!(told(&lab, "vdb"), [Extent::new(3 << 20, 65536).unwrap()]);
    let after = lab.backup();
    assert_eq!(provenances(&after), CHANGES);
    check_byte(&lab, &after, 1, 3 << 20, 5);
}

#[test]
fn disks_come_go_and_grow() {
    let lab = Lab::of(Domain::paused);
    lab.backup();
    lab.domain.virsh(&["blockresize", DOMAIN, "vdb", "32M"]);
    lab.domain.write("vdb", 6, 20 << 20, 4096);
    let grown = lab.backup();
    assert_eq!(provenances(&grown)[1], Provenance::FullRead);
    assert!(!because(&grown, 1).is_empty());
    assert_eq!(grown.point.manifest.disks[1].size_bytes, 32 << 20);
    check_byte(&lab, &grown, 1, 20 << 20, 6);

    let path = lab.domain.folder.join("vdd.qcow2");
    let path = path.to_str().unwrap();
    run("qemu-img", &["create", "-q", "-f", "qcow2", path, "8M"]);
    let attach = ["attach-disk", DOMAIN, path, "vdd", "--subdriver", "qcow2"];
    lab.domain.virsh(&attach);
    let more = lab.backup();
    let [vda, vdb, vdc, vdd] = provenances(&more).try_into().unwrap();
    assert_eq!([vda, vdb, vdc], CHANGES);
    assert_eq!(vdd, Provenance::FullRead);
    assert_eq!(lab.domain.marked().len(), 1, "{:?}", lab.domain.marked());
}

#[test]
fn another_programs_backup_is_left_alone() {
    let lab = Lab::of(Domain::paused);
    lab.backup();
    let folder = lab.domain.folder.join("theirs");
    std::fs::create_dir(&folder).unwrap();
    std::os::unix::fs::chown(&folder, Some(64055), Some(64055)).unwrap();
    let (xml, at) = (lab.domain.folder.join("backup.xml"), folder.display());
    let text = format!(
        "<domainbackup mode='pull'><server transport='unix' socket='{at}/nbd'/><disks>\
         <disk name='vda' backup='yes' type='file'><scratch file='{at}/scratch'/></disk>\
         </disks></domainbackup>"
    );
    std::fs::write(&xml, text).unwrap();
    lab.domain.virsh(&["backup-begin", DOMAIN, xml.to_str().unwrap()]);
    let error = lab.error();
    assert!(
        error.contains("another program's job works on the domain web01 (a backup)"),
        "{error}"
    );
    assert!(error.contains("virsh domjobinfo web01"), "{error}");
    assert!(lab.domain.virsh(&["backup-dumpxml", DOMAIN]).contains("theirs"));
    lab.domain.virsh(&["domjobabort", DOMAIN]);
    assert_eq!(provenances(&lab.backup()), CHANGES);
}

#[test]
fn another_installation_has_checkpoints_of_its_own() {
    let mut lab = Lab::of(Domain::paused);
    lab.backup();
    let machine = name("web01");
    let mark = lab.libvirt.mark.clone();
    lab.libvirt.mark = QemuMark::new(OwnerId([8; 16]), CaptureUser::Machine(&machine));
    // Its capture is cut off: nothing of the first one's goes with it.
    drop(lab.libvirt.capture(&afterimage::capture::Bases::new()).unwrap());
    assert_eq!(lab.domain.marked().len(), 1);
    lab.libvirt.mark = mark;
    assert_eq!(provenances(&lab.backup()), CHANGES);
}

#[test]
fn what_libvirt_refuses_is_told_and_nothing_is_left() {
    let mut lab = Lab::of(Domain::paused);
    lab.libvirt.scratch = Some(lab.domain.folder.join("missing"));
    assert!(lab.error().contains("scratch folder"), "{}", lab.error());
    lab.libvirt.scratch = None;
    lab.libvirt.domain = "nobody".to_owned();
    assert!(lab.error().contains("has no domain \"nobody\""), "{}", lab.error());
    lab.libvirt.domain = DOMAIN.to_owned();
    let uri = std::mem::replace(&mut lab.libvirt.uri, "qemu+unix:///system?socket=/nowhere".into());
    assert!(lab.error().contains("cannot be reached"), "{}", lab.error());
    lab.libvirt.uri = uri;
    assert_eq!(lab.domain.marked(), Vec::<String>::new());
}

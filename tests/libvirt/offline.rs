//! A domain that is shut off.

use super::domain::{DOMAIN, Domain};
use super::lab::{Lab, provenances};
use crate::common::let_it_settle;
use afterimage::capture::{Bases, Capturer};
use afterimage::point::{Consistency, Provenance};

#[test]
fn a_domain_that_is_shut_off_is_read_from_its_images() {
    let lab = Lab::of(Domain::shut_off);
    let_it_settle();
    let first = lab.backup();
    assert_eq!(provenances(&first), [Provenance::FullRead; 3]);
    assert_eq!(first.point.manifest.consistency, Consistency::Offline);
    assert_eq!(first.notes, ["disk sda is not captured: it is a cdrom"]);
    assert_eq!(provenances(&lab.backup()), [Provenance::Unmodified; 3]);

    // It runs for a while: its images tell nothing then, nor its checkpoints afterwards.
    lab.domain.virsh(&["start", "--paused", DOMAIN]);
    assert_eq!(provenances(&lab.backup()), [Provenance::FullRead; 3]);
    lab.domain.write("vda", 9, 1 << 20, 4096);
    lab.domain.virsh(&["destroy", DOMAIN]);
    let cut_off = lab.backup();
    assert_eq!(cut_off.point.manifest.consistency, Consistency::CrashConsistent);
    assert!(
        cut_off.notes.iter().any(|it| it.contains("not shut down properly")),
        "{:?}",
        cut_off.notes
    );
    assert_eq!(provenances(&cut_off)[0], Provenance::FullRead);
    let images = lab.restored(&cut_off.point, "restored");
    assert_eq!(std::fs::read(&images[0]).unwrap()[1 << 20], 9);
    // While it is read it cannot be started.
    let held = lab.libvirt.capture(&Bases::new()).unwrap();
    assert!(!lab.domain.daemon.try_virsh(&["start", "--paused", DOMAIN]).status.success());
    drop(held);
    lab.domain.virsh(&["start", "--paused", DOMAIN]);
    assert_eq!(provenances(&lab.backup()), [Provenance::FullRead; 3]);
    let left = lab.domain.marked();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn its_description_and_firmware_variables_travel_with_it() {
    let lab = Lab::of(Domain::shut_off);
    let (xml, nvram) =
        (lab.domain.folder.join("domain.xml"), lab.domain.folder.join("web01_VARS.fd"));
    std::fs::write(&nvram, "variables").unwrap();
    let text = lab.domain.virsh(&["dumpxml", DOMAIN]);
    let loader = format!(
        "<loader readonly='yes' type='pflash'>{0}</loader><nvram>{0}</nvram></os>",
        nvram.display()
    );
    std::fs::write(&xml, text.replacen("</os>", &loader, 1)).unwrap();
    lab.domain.virsh(&["define", xml.to_str().unwrap()]);
    let held = lab.libvirt.capture(&Bases::new()).unwrap();
    let [(first, description), (second, variables)] = held.definition() else {
        panic!("{:?}", held.definition());
    };
    assert_eq!((first.as_str(), second.as_str()), ("domain.xml", "nvram.fd"));
    assert!(String::from_utf8_lossy(description).contains("<name>web01</name>"));
    assert_eq!(variables, b"variables");
}

//! A real guest that writes all the time.

use super::daemon::run;
use super::domain::{DISKS, DOMAIN, Domain};
use super::lab::{Lab, provenances};
use afterimage::capture::{Bases, CaptureError, Captured, Capturer, LibvirtMachine};
use afterimage::point::{Consistency, Provenance};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Writes what the capture exports to files, every byte of it, before it is backed up.
#[derive(Debug)]
struct Dumping<'a> {
    libvirt: &'a LibvirtMachine,
    folder: PathBuf,
}

impl Capturer for Dumping<'_> {
    fn capture(&self, noted: &Bases) -> Result<Box<dyn Captured>, CaptureError> {
        let captured = self.libvirt.capture(noted)?;
        for (name, source) in captured.disks() {
            let mut file = std::fs::File::create(self.folder.join(name.as_str())).unwrap();
            let mut piece = vec![0; 4 << 20];
            for offset in (0..source.size_bytes()).step_by(piece.len()) {
                let len = (source.size_bytes() - offset).min(piece.len() as u64) as usize;
                source.read_exact_at(&mut piece[..len], offset).unwrap();
                file.write_all(&piece[..len]).unwrap();
            }
        }
        Ok(captured)
    }
}

/// The number that the guest wrote to a disk last.
pub fn count(image: &Path) -> u64 {
    let text = run("debugfs", &["-R", "cat /count", image.to_str().unwrap()]);
    text.split_whitespace().next().unwrap_or("0").parse().unwrap()
}

/// The file systems of a capture that was taken frozen are whole, and belong to one instant.
pub fn check_frozen(images: &[PathBuf]) -> u64 {
    for image in &images[..2] {
        run("e2fsck", &["-fn", image.to_str().unwrap()]);
    }
    let (root, data) = (count(&images[0]), count(&images[1]));
    assert!(root == data || root == data + 1, "{root} and {data} are of two instants");
    root
}

#[test]
fn points_of_a_guest_that_writes_equal_what_was_captured() {
    let lab = Lab::of(Domain::with_guest);
    lab.domain.virsh(&["checkpoint-create-as", DOMAIN, "of-somebody-else", "--diskspec", "vda"]);
    let mut counts = Vec::new();
    for round in 0..3 {
        let folder = lab.world.path(&format!("dump-{round}"));
        std::fs::create_dir(&folder).unwrap();
        let dumping = Dumping { libvirt: &lab.libvirt, folder: folder.clone() };
        let made = lab.try_backup(&dumping).unwrap();
        let [cdrom, raw] = made.notes.as_slice() else { panic!("{:?}", made.notes) };
        assert_eq!(cdrom, "disk sda is not captured: it is a cdrom");
        assert!(raw.starts_with("disk vdc is a raw image"), "{raw}");
        assert_eq!(made.point.manifest.consistency, Consistency::ApplicationConsistent);
        let how = if round == 0 { Provenance::FullRead } else { Provenance::Bitmap };
        assert_eq!(provenances(&made), [how, how, Provenance::FullRead]);
        let images = lab.restored(&made.point, "restored");
        for (disk, image) in DISKS.iter().zip(&images) {
            let dumped = folder.join(disk);
            let (dumped, image) = (dumped.to_str().unwrap(), image.to_str().unwrap());
            run("qemu-img", &["compare", "-f", "raw", "-F", "raw", dumped, image]);
        }
        counts.push(check_frozen(&images));
        let definition: Vec<&str> =
            made.point.manifest.definition.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(definition, ["domain.xml"]);
        let marked = lab.domain.marked();
        assert_eq!(marked.len(), 1, "{marked:?}");
        assert_eq!(lab.domain.checkpoints().len(), 2);
    }
    assert!(counts.windows(2).all(|pair| pair[0] < pair[1]), "it did not write: {counts:?}");
    assert!(lab.domain.checkpoints().iter().any(|it| it == "of-somebody-else"));
}
